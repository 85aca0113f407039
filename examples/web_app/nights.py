"""Published nights: which there are, what their manifests say, and one user's or one item's list out of millions.

A list is found by the minimum and maximum that Parquet keeps of every row group, so that only the group with the id
is read; groups that were read are kept, the least recently used go first.
"""

from __future__ import annotations

import json
import logging
import re
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sdk.base.ids import ids_in, is_text, rows_of
from sdk.base.types import Bools, Float32s, Id, IdArray, Int32s, Int64s

log = logging.getLogger("web_app")

DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_REFUSED = re.compile(r"refused-([0-9]{4}-[0-9]{2}-[0-9]{2})\.html")
_NIGHT = re.compile(r"run_date=([0-9]{4}-[0-9]{2}-[0-9]{2})")
_TEXT_BYTES = 80  # of a short str
_KEYS = {
    "user_items": ("user_id", "item_id"), "item_items": ("item_id", "similar_item_id"),
    "item_users": ("item_id", "user_id"),
}  # fmt: skip


class NightUnreadableError(Exception):
    """A published night is damaged: its manifest or a part cannot be read."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a list: the item (of an audience the user), its score, what made it, and whether it was drawn."""

    item_id: Id
    score: float
    source: str
    drawn: bool = False


@dataclass(frozen=True, slots=True)
class _Place:
    """One row group: its file, its number, and the smallest and largest key in it; None where it does not say."""

    path: Path
    group: int
    bounds: tuple[Any, Any] | None

    def may_hold(self, key: Id) -> bool:
        """Whether the group may have rows of this key."""
        return self.bounds is None or bool(self.bounds[0] <= key <= self.bounds[1])


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """A row group as arrays: K keys, where each one's rows start, and (N,) rows."""

    keys: IdArray
    starts: Int64s
    item_id: pa.Array
    score: Float32s
    source: Int32s
    names: list[str]
    drawn: Bools

    @property
    def size(self) -> int:
        texts = _TEXT_BYTES * len(self.keys) if is_text(self.keys) else 0
        return texts + sum(
            a.nbytes for a in (self.keys, self.starts, self.item_id, self.score, self.source, self.drawn)
        )

    def rows(self, key: Id, k: int) -> list[Row]:
        at = int(rows_of(self.keys, np.array(key, self.keys.dtype)))
        if at < 0:
            return []
        part = slice(self.starts[at], min(self.starts[at + 1], self.starts[at] + k))
        numbers = (each[part].tolist() for each in (self.score, self.source, self.drawn))
        columns = zip(self.item_id[part].to_pylist(), *numbers, strict=True)
        return [Row(item_id, score, self.names[code], drawn) for item_id, score, code, drawn in columns]


class Nights:
    """The nights of one output folder.

    Args:
        out: the folder that ``python -m batch.score`` publishes to; it may be absent.
        cache_mib: memory for row groups that were read.
    """

    def __init__(self, out: Path, cache_mib: int = 512) -> None:
        self.out, self._room = out, cache_mib << 20
        self._lock = Lock()
        self._groups: OrderedDict[tuple[_Place, int], _Group] = OrderedDict()
        self._places: dict[tuple[str, str], tuple[int, list[_Place]]] = {}

    def dates(self) -> list[str]:
        """Complete nights, the newest first."""
        folders = self.out.iterdir() if self.out.is_dir() else ()
        found = (match[1] for folder in folders if (match := _NIGHT.fullmatch(folder.name)))
        return sorted((date for date in found if self._is_complete(date)), reverse=True)

    def latest(self) -> str | None:
        """The night that readers should use; None where there is none."""
        try:
            date = (self.out / "LATEST").read_text("utf-8").strip()
        except (OSError, ValueError):
            return None
        return date if DATE.fullmatch(date) and self._is_complete(date) else None

    def manifest(self, date: str) -> dict[str, Any] | None:
        """What a night says of itself; None where there is no such complete night.

        Args:
            date: any text.

        Raises:
            NightUnreadableError: it is no JSON object.
        """
        if not DATE.fullmatch(date) or not self._is_complete(date):
            return None
        try:
            found = json.loads((self._folder(date) / "manifest.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise NightUnreadableError(f"The manifest of the night of {date} cannot be read.") from error
        if not isinstance(found, dict):
            raise NightUnreadableError(f"The manifest of the night of {date} is no JSON object.")
        return found

    def refused(self) -> list[str]:
        """Nights that failed their gates and were not published since, the newest first."""
        found = (
            match[1] for path in self.out.glob("reports/refused-*.html") if (match := _REFUSED.fullmatch(path.name))
        )
        return sorted((date for date in found if not self._is_complete(date)), reverse=True)

    def report(self, date: str) -> Path | None:
        """A night's report page, of a night that is not published its refusal's; None where there is none."""
        if not DATE.fullmatch(date):
            return None
        path = self.out / "reports" / f"{'run_date=' if self._is_complete(date) else 'refused-'}{date}.html"
        return path if path.is_file() else None

    def rows(self, date: str, side: str, key: Id, k: int) -> list[Row]:
        """One list, best first; empty where the night has none for this id.

        Args:
            date: a complete night.
            side: ``user_items``, ``item_items`` or ``item_users``.
            key: user_id or item_id.
            k: most rows to give.

        Raises:
            NightUnreadableError: a part is damaged.
        """
        try:
            stamp, places = self._places_of(date, side)
            groups = (self._group(place, stamp, side) for place in places if place.may_hold(key))
            return [row for group in groups for row in group.rows(key, k)][:k]  # a list may go on in the next group
        except (OSError, pa.ArrowException, KeyError) as error:
            raise NightUnreadableError(f"A part of the night of {date} cannot be read.") from error

    def warm(self) -> None:
        """Read the latest night as far as the cache has room, so that nobody waits for it.

        A night that cannot be read is left for its readers, who get a page that says so.
        """
        date = self.latest()
        try:
            for side in _KEYS if date else ():
                stamp, places = self._places_of(str(date), side)
                for place in places:
                    if self._held() > 0.9 * self._room:
                        return
                    self._group(place, stamp, side)
        except (OSError, pa.ArrowException, KeyError) as error:
            log.warning("the night of %s cannot be read: %s", date, error)

    def _held(self) -> int:
        return sum(kept.size for kept in self._groups.values())

    def _folder(self, date: str) -> Path:
        return self.out / f"run_date={date}"

    def _is_complete(self, date: str) -> bool:
        return (self._folder(date) / "_SUCCESS").is_file()

    def _places_of(self, date: str, side: str) -> tuple[int, list[_Place]]:
        """A night's row groups, read again when the night was replaced."""
        folder = self._folder(date)
        stamp = (folder / "manifest.json").stat().st_mtime_ns
        known = self._places.get((date, side))
        if known is None or known[0] != stamp:
            paths = sorted((folder / side).glob("part-*.parquet"))
            known = stamp, [place for path in paths for place in _places(path, _KEYS[side][0])]
            self._places[date, side] = known
        return known

    def _group(self, place: _Place, stamp: int, side: str) -> _Group:
        with self._lock:
            if (place, stamp) in self._groups:
                self._groups.move_to_end((place, stamp))
                return self._groups[place, stamp]
        group = _read(place, *_KEYS[side])
        with self._lock:
            self._groups[place, stamp] = group
            while len(self._groups) > 1 and self._held() > self._room:
                self._groups.popitem(last=False)
        return group


def _places(path: Path, key: str) -> list[_Place]:
    metadata = pq.read_metadata(path)
    column = metadata.schema.to_arrow_schema().get_field_index(key)
    found = []
    for group in range(metadata.num_row_groups):
        statistics = metadata.row_group(group).column(column).statistics
        known = statistics is not None and statistics.has_min_max
        found.append(_Place(path, group, (statistics.min, statistics.max) if known else None))
    return found


def _read(place: _Place, key: str, item: str) -> _Group:
    with pq.ParquetFile(place.path, read_dictionary=["source"]) as file:
        propensity = [name for name in file.schema_arrow.names if name == "propensity"]
        columns = [key, "rank", item, "score", "source", *propensity]
        table = file.read_row_group(place.group, columns=columns).combine_chunks()
    keys, rank = ids_in(table[key]), table["rank"].to_numpy()
    same = keys[1:] == keys[:-1]
    if not np.all(np.where(same, rank[1:] > rank[:-1], keys[1:] > keys[:-1])):  # never so in nights of batch.score
        table = table.sort_by([(key, "ascending"), ("rank", "ascending")]).combine_chunks()
        keys = ids_in(table[key])
        same = keys[1:] == keys[:-1]
    starts = np.flatnonzero(np.concatenate([[len(keys) > 0], ~same, [True]])) if len(keys) else np.zeros(1, np.int64)
    source = table["source"].combine_chunks()
    source = source.chunk(0) if isinstance(source, pa.ChunkedArray) else source
    items = table[item].combine_chunks()
    items = items.chunk(0) if isinstance(items, pa.ChunkedArray) else items
    drawn = table["propensity"].to_numpy() != 0 if propensity else np.zeros(len(keys), np.bool_)
    arrays = (items, table["score"].to_numpy(), source.indices.to_numpy())
    return _Group(keys[starts[:-1]], starts, *arrays, source.dictionary.to_pylist(), drawn)
