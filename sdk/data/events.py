"""Interactions of any kind, validated: ratings on any scale, or events, of which each is a like of its weight.

Every row is kept, merged with others of its pair, passed over because it was not asked for, or set aside with its
file, number and reason; ``Loaded.counts`` says how many of each, and they add up. Nothing is done row by row in Python.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sdk.base import schema
from sdk.base.config import DataConfig
from sdk.base.description import Feedback
from sdk.base.errors import UnusableFileError, UsageError
from sdk.base.progress import Progress
from sdk.base.types import Bools, IdArray, Int64s, Interactions
from sdk.data.column_names import columns_of
from sdk.data.columns import numbers_of
from sdk.data.id_columns import UNKNOWN_ITEM, IdColumn
from sdk.data.merging import added_up, as_float32, capped, latest
from sdk.data.readers import OpenTable, TablePart, open_counted
from sdk.data.times import TimeReader
from sdk.data.validation import MAX_TIMESTAMP, check_share, rejects_table, sorted_order

_ENOUGH = 100_000  # rows set aside: where they are most of the rows, the rest is not read
_NOT_ABOVE_0 = "the weight is not above 0"
_LEAST = float(np.finfo(np.float32).tiny)
_NO_EVENT = "the event is missing"
_ROLE_OF = {
    "user id": "user_id", "item id": "item_id", "rating": "rating", "weight": "weight", "event": "event",
    "timestamp": "timestamp",
}  # fmt: skip
_ALL_ITEMS = "Give the whole catalogue, of the same ids; or leave --items out: then all items count."
_EXPECTED = {
    "user_id": "an id: a whole number from 0 on, or text", "item_id": "an id: a whole number from 0 on, or text",
    "rating": "a number, with a point, as 4.5", "weight": "a number above 0", "event": "what happened",
    "timestamp": "seconds since 1970, or a time as 2011-03-14 07:06:40",
}  # fmt: skip
_MAY_LACK = ("rating", "weight", "event", "timestamp")
_DEFAULT = DataConfig()
Faults = list[tuple[str, Bools]]
Known = Callable[[IdArray, IdArray, Interactions], Bools]


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """What a table of interactions held.

    Attributes:
        interactions: (N,) unique by (user, item). Keys are the ids where those are numbers, else places in ``user_id``
            and ``item_id``. Ratings are float32 as they came, or weights.
        user_id: (U,) int64 or object: who occurs, ascending.
        item_id: (I,) int64 or object: what occurs, ascending.
        order: (N,) int64, what sorts the pairs by user, then item; None where they are sorted.
        rejects: ``schema.REJECTS``, the rows that were set aside.
        counts: ``rows`` = ``kept`` + ``merged`` + ``rejected`` + ``other_events`` + ``later`` + ``known``, which is
            there where it was asked for; ``capped`` of the kept pairs weighed more than ``cap``.
        events: how often each event occurred among sound rows; empty where there is no column of events.
        feedback: ``explicit`` where there are ratings.
        has_times: whether the table says when; else all timestamps are 0.
        columns: role -> column that was read.
        cap: the most that a pair may weigh; None for ratings.
    """

    interactions: Interactions
    user_id: IdArray
    item_id: IdArray
    order: Int64s | None
    rejects: pa.Table
    counts: Mapping[str, int]
    events: Mapping[str, int]
    feedback: Feedback
    has_times: bool
    columns: Mapping[str, str]
    cap: float | None = None

    @property
    def scale(self) -> tuple[float, float]:
        """The least and the greatest rating or weight."""
        rating = self.interactions.rating
        return float(rating.min()), float(rating.max())


@dataclass(slots=True, eq=False)
class _Gathered:
    """What is gathered while a table is read."""

    rating: list[NDArray[np.float32]] = field(default_factory=list)
    timestamp: list[NDArray[Any]] = field(default_factory=list)
    seen: list[Bools] = field(default_factory=list)
    rejects: list[pa.Table] = field(default_factory=list)
    events: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("rows", "kept", "merged", "rejected", "other_events", "later"), 0)
    )


def read_interactions(
    given: Any,
    *,
    name: str = "interactions",
    columns: Mapping[str, str] | None = None,
    events: Mapping[str, float] | None = None,
    seen: Collection[str] = (),
    config: DataConfig = _DEFAULT,
    until: int = MAX_TIMESTAMP,
    items: IdArray | None = None,
    known: Known | None = None,
) -> Loaded:
    """Read and validate a table of interactions.

    Args:
        given: as ``readers.open_table`` takes it.
        name: what it is called in messages.
        columns: role (``column_names.ROLES``) -> column, where its name does not say it; "" for none. Of a CSV without
            a header columns are called ``1``, ``2`` …
        events: event -> weight of one, above 0; rows of other events are passed over. None: each counts 1. Ratings
            stay as they are.
        seen: events that take an item out of its user's lists; empty: all do.
        config: how many rows may be bad.
        until: seconds since 1970-01-01 UTC; later rows are passed over.
        items: ids of the items that there are; rows of others are set aside. None takes any.
        known: which sound rows are known already and passed over, given users, items, and the rows, whose keys are as
            ``Loaded`` has them. Asked only where the table has times.

    Raises:
        UsageError: it is no table, or the options do not fit it.
        DataError: columns are missing or ambiguous, or the table is damaged or holds no sound row.
        TooManyRejectsError: more rows are bad than the configuration allows.
    """
    told = dict(columns or {})
    source = open_counted(given, name, told)
    used = columns_of(source.where, source.columns, told)
    reader = _Reader(source, used, dict(events or {}), frozenset(seen), until, items)
    gathered = reader.read()
    rejects = pa.concat_tables([schema.REJECTS.empty_table(), *gathered.rejects])
    counts = gathered.counts
    check_share(source.where, rejects, counts["rows"], config, reader.remedies(rejects))
    if not counts["kept"]:
        problem, remedy = _nothing_left(counts, gathered.events), "Export it again, with its rows."
        raise UnusableFileError(source.where, problem, remedy)
    return reader.loaded(gathered, rejects, known)


def _nothing_left(counts: Mapping[str, int], events: Mapping[str, int]) -> str:
    if counts["other_events"]:
        return f"no row is of an event that --events names (it has {', '.join(list(events)[:12])})"
    return "every row is later than was asked for" if counts["later"] else "it holds no interaction"


class _Reader:
    def __init__(
        self, source: OpenTable, used: dict[str, str], events: dict[str, float], seen: frozenset[str], until: int,
        items: IdArray | None,
    ) -> None:  # fmt: skip
        self._source, self._used, self._weights, self._seen, self._until = source, used, events, seen, until
        self.feedback: Feedback = "explicit" if "rating" in used else "implicit"
        self._ids = [self._id_column("user_id", "user id"), self._id_column("item_id", "item id", items)]
        self._moments = TimeReader()
        self._check_options()

    def _id_column(self, role: str, what: str, among: IdArray | None = None) -> IdColumn:
        column = self._used[role]
        return IdColumn(what, self._source.where, column, untyped=column in self._source.untyped, among=among)

    def _check_options(self) -> None:
        if (self._weights or self._seen) and "event" not in self._used:
            option = "--events" if self._weights else "--seen"
            message = (
                f"{option}: {self._source.where} has no column of events that is known. Name it: --columns event=NAME"
            )
            raise UsageError(message)
        for event, weight in self._weights.items():
            if not (math.isfinite(weight) and weight > 0):
                message = (
                    f"--events: got {event}={weight:g}, expected a weight above 0. Leave out what should not count."
                )
                raise UsageError(message)
        if unknown := self._seen - self._weights.keys() if self._weights else None:
            message = (
                f"--seen: {min(unknown)} is not among the events of --events, which are {', '.join(self._weights)}"
            )
            raise UsageError(message)

    def read(self) -> _Gathered:
        found, ids = _Gathered(), [self._used["user_id"], self._used["item_id"]]
        ids += [self._used["event"]] if "event" in self._used else []
        with Progress(self._source.where, "rows", total=self._source.num_rows or 0) as progress:
            for part in self._source.parts(list(dict.fromkeys(self._used.values())), ids):
                self._take(part, found)
                progress.advance(part.rows.num_rows)
                bad = found.counts["rejected"]
                if bad > _ENOUGH and 2 * bad > found.counts["rows"]:
                    break
        return found

    def _take(self, part: TablePart, found: _Gathered) -> None:
        """Part the rows of one part into what is kept and what is not."""
        table, size = part.rows, part.rows.num_rows
        faults: Faults = []
        ids = []
        for column, role in zip(self._ids, ("user_id", "item_id"), strict=True):
            values, wrong = column.checked(table[self._used[role]])
            ids.append(values)
            faults += wrong
        rating, wrong = self._ratings(table)
        faults += wrong
        weight, takes_out, other, wrong = self._events(table, found)
        faults += wrong
        times, wrong = self._times(table)
        faults += wrong
        bad = _reject(part, faults, found)
        found.counts["rows"] += size + len(part.bad)
        later = (times > self._until) & ~bad & ~other
        other &= ~bad
        found.counts["other_events"] += int(other.sum())
        found.counts["later"] += int(later.sum())
        out = bad | other | later
        rows = ~out if out.any() else None
        found.counts["kept"] += size if rows is None else int(rows.sum())
        for column, values in zip(self._ids, ids, strict=True):
            column.keep(values, rows)
        value = rating if weight is None or self.feedback == "explicit" else rating * weight
        chosen = slice(None) if rows is None else rows
        found.rating.append(as_float32(value[chosen]))
        if "timestamp" in self._used:
            found.timestamp.append(times[chosen].astype(np.uint32))
        if self._seen:
            found.seen.append(takes_out[chosen])

    def _ratings(self, table: pa.Table) -> tuple[NDArray[np.float64], Faults]:
        role = "rating" if "rating" in self._used else "weight"
        if role not in self._used:
            return np.ones(len(table)), []
        column = table[self._used[role]]
        try:
            values, faults = numbers_of(column, role)
        except (TypeError, pa.ArrowException) as error:
            raise self._wrong_type(role, column) from error
        if role == "weight":
            missing = faults[0][1]
            if "event" in self._used:  # as Amazon Personalize has it: a value is of some events only
                values, faults = np.where(missing, 1.0, values), faults[1:]
            faults.append((_NOT_ABOVE_0, ~(values >= _LEAST) & ~(faults[0][1])))
        return values, faults

    def _times(self, table: pa.Table) -> tuple[Int64s, Faults]:
        if "timestamp" not in self._used:
            return np.zeros(len(table), np.int64), []
        column = table[self._used["timestamp"]]
        try:
            return self._moments.seconds(column)
        except (TypeError, pa.ArrowException) as error:
            raise self._wrong_type("timestamp", column) from error  # noqa: EM101

    def _wrong_type(self, role: str, column: pa.ChunkedArray) -> UnusableFileError:
        problem = f"column {self._used[role]!r} is {column.type}, which is no {role}"
        return UnusableFileError(self._source.where, problem, f"Name another one: --columns {role}=NAME")

    def _events(self, table: pa.Table, found: _Gathered) -> tuple[NDArray[np.float64] | None, Bools, Bools, Faults]:
        """Of each row: its event's weight, whether it takes the item out of lists, whether it is passed over."""
        none = np.zeros(len(table), np.bool_)
        if "event" not in self._used:
            return None, none, none, []
        column = table[self._used["event"]]
        if not pa.types.is_dictionary(column.type):
            if pa.types.is_nested(column.type):
                raise self._wrong_type("event", column)  # noqa: EM101
            column = column.cast(pa.string()).dictionary_encode()
        coded = column.unify_dictionaries().combine_chunks()
        coded = coded.chunk(0) if isinstance(coded, pa.ChunkedArray) else coded
        names = [str(name) for name in coded.dictionary.to_pylist()]
        places = coded.indices.fill_null(len(names)).to_numpy()
        for event, times in zip(names, np.bincount(places, minlength=len(names)), strict=False):
            found.events[event] = found.events.get(event, 0) + int(times)
        missing = places == len(names) if self._weights or self._seen else none
        out = np.array([*(name in self._seen for name in names), False])[places]
        if not self._weights:
            return None, out, none, [(_NO_EVENT, missing)]
        each = np.array([*(self._weights.get(name, 0.0) for name in names), 1.0])[places]
        return each, out, each == 0, [(_NO_EVENT, missing)]

    def remedies(self, rejects: pa.Table) -> dict[str, str]:
        """What mends each kind of reason, with the column and what stands in its first such row."""
        latest_first = (rejects[name].to_pylist()[::-1] for name in ("reason", "text"))
        found = {f"^{UNKNOWN_ITEM}$": _ALL_ITEMS}
        for reason, text in dict(zip(*latest_first, strict=True)).items():
            role = next((role for what, role in _ROLE_OF.items() if reason.startswith(f"the {what} ")), "")
            if column := self._used.get(role):
                option = f"--columns {role}=NAME" + f", or none: --columns {role}=" * (role in _MAY_LACK)
                found[f"^{re.escape(reason)}$"] = (
                    f"Column {column!r} holds {_held(text, column)}, expected {_EXPECTED[role]}. "
                    f"Mend it, or name another column: {option}."
                )
        return found

    def loaded(self, found: _Gathered, rejects: pa.Table, known: Known | None) -> Loaded:
        """All parts together, one row per pair."""
        (user_id, user), (item_id, item) = self._ids[0].finished(), self._ids[1].finished()
        rating = np.concatenate(found.rating)
        found.rating.clear()
        timestamp = np.zeros(len(rating), np.int64)
        if found.timestamp:
            timestamp = np.concatenate(found.timestamp, dtype=np.int64)
            found.timestamp.clear()
        seen = np.concatenate(found.seen) if found.seen else None
        pairs = Interactions(user, item, rating, timestamp, seen)
        counts = found.counts
        if known is not None and "timestamp" in self._used:
            again = known(user_id, item_id, pairs)
            counts["known"], pairs = int(again.sum()), pairs.take(~again)
        order = sorted_order(pairs.user_id, pairs.item_id)
        merge = latest if self.feedback == "explicit" else added_up
        merged, order = merge(pairs, order)
        counts["merged"], counts["kept"] = len(pairs) - len(merged), len(merged)
        merged, cap, counts["capped"] = capped(merged) if self.feedback == "implicit" else (merged, None, 0)
        if merged.seen is not None and merged.seen.all():
            merged = replace(merged, seen=None)
        return Loaded(
            merged, user_id, item_id, order, rejects, counts, dict(found.events), self.feedback,
            "timestamp" in self._used, self._used, cap,
        )  # fmt: skip


def _reject(part: TablePart, faults: Faults, found: _Gathered) -> Bools:
    """The rows of a part that have a fault; they join the rejects with those that could not be read."""
    size = part.rows.num_rows
    which = np.zeros(size, np.int8)
    for code, (_, mask) in enumerate(faults, 1):
        if mask.any():
            which[mask & (which == 0)] = code
    bad = which > 0
    rows = np.flatnonzero(bad)
    if len(rows) or part.bad:
        texts = part.rows.take(pa.array(rows)).to_pylist()
        reasons = (faults[code - 1][0] for code in which[rows].tolist())
        shown = (_shown(row) for row in texts)
        more = list(zip(part.numbers(rows).tolist(), reasons, shown, strict=True))
        found.rejects.append(rejects_table(part.file, sorted([*part.bad, *more])))
        found.counts["rejected"] += len(more) + len(part.bad)
    return bad


def _shown(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, default=str)


def _held(text: str, column: str) -> str:
    """What a row that was set aside holds in a column; its text may be cut short."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return repr(json.loads(text)[column])
    return text
