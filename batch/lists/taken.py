"""What tonight need not score: lists of the night before that stand still, taken over row by row.

A user's list follows from the bundle, the options, what may be listed, and their own state (``batch.job.states``):
where all of that is as it was, so are its rows, to the bit. Items' lists follow from all but the users. Any user may
enter an audience, so audiences stand where every user does, and with ``--audience`` users' lists stand only where these
do: what audiences are merged from is made with the users' lists. Nothing is taken from a part whose sha256 is not its
manifest's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batch.job.inputs import OpenedJob
from batch.job.job import Job
from batch.job.pins import pinned_inputs
from batch.lists.parts import TEXTS
from batch.store.layout import ITEM_ITEMS, ITEM_USERS, LAYOUTS, STATES, USER_ITEMS, night_of
from batch.store.places import open_target
from batch.store.publish import last_published
from batch.store.target import Target
from sdk.base.arrow_memory import reader_of
from sdk.base.errors import OutputError
from sdk.base.files import sha256_of
from sdk.base.ids import rows_in, rows_of
from sdk.base.types import IdArray, Int64s
from sdk.bundles.fresh import FreshBundle

_ELSEWHERE = {
    USER_ITEMS: {"ratings", "block", "items", "users_per_part", "audience"},
    ITEM_ITEMS: {
        "ratings",
        "block",
        "users",
        "repeat",
        "users_per_part",
        "audience",
        "include_seen",
        "rules",
        "explore",
    },
    ITEM_USERS: {"ratings", "block", "users_per_part"},
}
"""Side -> the inputs that may differ: its lists do not follow from them, or through the users' states alone."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """What stands of one shard.

    Attributes:
        asked: (Q,) the shard's queries.
        owner: (N,) int64, of each row the query's place in the shard, ascending.
        table: the rows; texts may be dictionaries.
        rest: (M,) int64 places of the queries that are to be scored, ascending.
        whole: the part's file, where all of it stands; then ``table`` has the columns that are counted alone.
    """

    asked: IdArray
    owner: Int64s
    table: pa.Table
    rest: Int64s
    whole: bytes | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """One side of the night before, as far as it stands.

    Attributes:
        target: where it lies.
        night: its folder.
        side: which.
        size: queries of its parts.
        total: how many it was asked about.
        files: its parts, in their order -> hex sha256.
        place: (Q,) int64, where tonight's queries stand among these; -1 for those that are to be scored.
    """

    target: Target
    night: str
    side: str
    size: int
    total: int
    files: Mapping[str, str]
    place: Int64s

    def without_damaged(self) -> Standing:
        """The same without what lies in parts that are not as they were published."""
        bad = [number for number, name in enumerate(self.files) if self._read(name) is None]
        gone = np.isin(self.place // self.size, bad)
        place = np.where(gone, -1, self.place)
        return replace(self, place=place)

    @property
    def rest(self) -> Int64s:
        """(M,) int64, the places of tonight's queries that are to be scored."""
        return np.flatnonzero(self.place < 0)

    def rows(self, asked: IdArray, start: int, stop: int) -> Rows | None:
        """What stands of a shard; None for nothing.

        Args:
            asked: tonight's queries.
            start: the shard's first one.
            stop: one past its last one.

        Raises:
            OutputError: a part was altered since it was looked at.
        """
        place = self.place[start:stop]
        stands = place >= 0
        if not stands.any():
            return None
        numbers = np.unique(place[stands] // self.size).tolist()
        first = numbers[0] * self.size
        whole = stands.all() and np.array_equal(place, np.arange(first, min(first + self.size, self.total)))
        if whole:
            data = self._sound(numbers[0])
            return Rows(asked[start:stop], place[:0], _table(data, ["rank", "source"]), place[:0], data)
        table = pa.concat_tables([_table(self._sound(number)) for number in numbers])
        owner = _owner(table, asked[start:stop])
        kept = (owner >= 0) & stands[owner]
        return Rows(asked[start:stop], owner[kept], table.filter(pa.array(kept)), np.flatnonzero(~stands))

    def _sound(self, number: int) -> bytes:
        name = list(self.files)[number]
        data = self._read(name)
        if data is None:
            raise OutputError(
                f"{self.target.describe(self.night)}/{name}: altered while it was taken over. "
                "Nothing was published. Run the same command: its lists are scored."
            )
        return data

    def _read(self, name: str) -> bytes | None:
        data = self.target.read(f"{self.night}/{name}")
        return data if data is not None and sha256_of(data) == self.files[name] else None


def _table(data: bytes, columns: list[str] | None = None) -> pa.Table:
    return pq.read_table(reader_of(data), columns=columns, read_dictionary=TEXTS, use_threads=False)


def _owner(table: pa.Table, asked: IdArray) -> Int64s:
    """(N,) int64: where each row's query stands among those asked about; -1 where it does not."""
    starts = np.flatnonzero(table["rank"].to_numpy() == 1)
    ids = table.column(0).take(pa.array(starts))
    plain = ids.cast(ids.type.value_type) if pa.types.is_dictionary(ids.type) else ids
    return np.repeat(rows_in(asked, plain), np.diff(np.append(starts, len(table))))


def woven(found: Rows, scored: pa.Table) -> pa.Table:
    """The rows that stand and those of the other queries, in the side's layout, in the queries' order."""
    order = pa.array(np.argsort(np.concatenate([found.owner, _owner(scored, found.asked)]), kind="stable"))
    both = pa.concat_tables([found.table.cast(scored.schema), scored])
    return pa.table([column.combine_chunks().take(order) for column in both.columns], schema=scored.schema)


@dataclass(frozen=True, slots=True, eq=False)
class TakenOver:
    """What is taken over from the night before.

    Attributes:
        sides: side -> what stands of it.
        why: why not everything is, in words; empty where it is.
    """

    sides: Mapping[str, Standing] = field(default_factory=dict)
    why: str = ""


NOTHING = TakenOver()


def taken_over(job: Job, opened: OpenedJob) -> TakenOver:
    """What of the night before stands tonight.

    A night that cannot be used is no fault: then everything is scored, and ``why`` says so.

    Raises:
        OSError: the output cannot be read.
    """
    if job.full:
        return TakenOver(why="--full")
    target = open_target(job.out)
    try:
        last = last_published(target, job.run_date)
        return TakenOver(why="no night before") if last is None else _from(job, opened, target, last)
    except (OutputError, pa.ArrowException, KeyError) as error:
        return TakenOver(why=f"the night before cannot be used: {error}")


def _from(job: Job, opened: OpenedJob, target: Target, last: Mapping[str, Any]) -> TakenOver:
    night, differing = night_of(last["run_date"]), _differing(pinned_inputs(job, opened), last["inputs"])
    was, sides, why = _pairs(_last_states(target, night, last["files"])), {}, []
    for side in (side for side in LAYOUTS if side != ITEM_USERS or job.audience is not None):
        if others := sorted(differing - _ELSEWHERE[side]):
            why.append(f"{side}: another {', '.join(others)}")
            continue
        total, place = _places(side, opened, was)
        files = {name: sha for name, sha in sorted(last["files"].items()) if name.startswith(f"{side}/")}
        found = Standing(target, night, side, last["inputs"]["users_per_part"], total, files, place)
        sides[side] = found.without_damaged()
        why += _missing(sides[side], place)
    if job.audience is not None and (ITEM_USERS not in sides or len(sides[ITEM_USERS].rest)):
        sides = {side: each for side, each in sides.items() if side == ITEM_ITEMS}
    return TakenOver(sides, "; ".join(why))


def _places(side: str, opened: OpenedJob, was: set[tuple[Any, str]]) -> tuple[int, Int64s]:
    """How many were asked about the night before, and where tonight's stand among them; -1 for who changed."""
    asked = opened.asked
    if side == ITEM_ITEMS:
        return len(asked.items), np.arange(len(asked.items))
    changed = {user for user, _ in was ^ _pairs(opened.states)}
    if side == ITEM_USERS:
        audiences = np.arange(len(asked.audience))
        return len(audiences), np.full_like(audiences, -1) if changed else audiences
    before, moved = _asked_before(opened, [user for user, _ in was]), np.sort(_like(asked.users, changed))
    return len(before), np.where(rows_of(moved, asked.users) >= 0, -1, rows_of(before, asked.users))


def _missing(found: Standing, before: Int64s) -> list[str]:
    """Why not all of a side stands, in words."""
    moved, damaged = int((before < 0).sum()), int(((found.place < 0) & (before >= 0)).sum())
    unlike = f"{found.side}: {moved} of {len(before)} have another history or other blocked items, or are new"
    lost = f"{found.side}: the parts of {damaged} lists are not as they were published"
    return [unlike] * bool(moved) + [lost] * bool(damaged)


def _differing(tonight: Mapping[str, Any], last: Mapping[str, Any]) -> set[str]:
    """The names of the inputs that are not the same, those of ``asked`` among them."""
    one, other = ({**inputs, **inputs["asked"], "asked": None} for inputs in (tonight, last))
    return {name for name in one | other if one.get(name) != other.get(name)}


def _asked_before(opened: OpenedJob, with_states: list[Any]) -> IdArray:
    """(U,) ids, ascending: who was asked for last night, where the same was asked for."""
    if "users" in opened.asked.pins:
        return opened.asked.users
    bundle = opened.bundle
    known = bundle.trained.encoded_users.known_ids if isinstance(bundle, FreshBundle) else opened.asked.source.ids
    return np.union1d(known, _like(known, with_states))


def _like(known: IdArray, some: Iterable[Any]) -> IdArray:
    """Ids in an array of the type of known ones."""
    return np.array(list(some), known.dtype)


def _last_states(target: Target, night: str, files: Mapping[str, str]) -> pa.Table | None:
    """The states of the night before; None where nobody had any.

    Raises:
        OutputError: they are not as they were published.
    """
    if STATES not in files:
        return None
    data = target.read(f"{night}/{STATES}") or b""
    if sha256_of(data) != files[STATES]:
        raise OutputError(f"{target.describe(night)}/{STATES}: altered since it was published")
    return pq.read_table(reader_of(data))


def _pairs(states: pa.Table | None) -> set[tuple[Any, str]]:
    return set() if states is None else set(zip(*(column.to_pylist() for column in states.columns), strict=True))
