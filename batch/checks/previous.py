"""The night before, which tonight's lists are held side by side with."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batch.checks.drift import overlaps, score_histogram, tops
from batch.checks.part_layout import layout_problem, other_ids
from batch.checks.side_audit import PartLists, SideAudit, SideRules, take_apart
from batch.checks.sums import NightsCompared
from batch.gates.figures import FOLDERS, TITLES, USERS, Figures
from batch.lists.parts import TEXTS
from batch.store.layout import night_of
from batch.store.publish import last_published
from batch.store.target import Target
from sdk.base.arrow_memory import reader_of
from sdk.base.errors import MarqueeError, OutputError
from sdk.base.files import digest_of
from sdk.base.types import Id, Int32s

log = logging.getLogger(__name__)
Parts = Iterable[tuple[str, pa.Table]]
"""Parts as (name for messages, rows); strings may be dictionaries."""
SIDES = (USERS, TITLES)
"""The sides that are compared with the night before."""
OTHER_IDS = "the previous night has ids of another type"
UNREADABLE = "the previous night cannot be read"


class PublishedParts:
    """The parts of one side of a published night, each read when it is asked for; their ids ascend from part to part.

    Args:
        target: where the night lies.
        paths: of its parts, in their order.
    """

    def __init__(self, target: Target, paths: Sequence[str]) -> None:
        self._target, self._paths = target, paths
        self._ends: dict[int, tuple[Id, Id]] = {}

    def __iter__(self) -> Iterator[tuple[str, pa.Table]]:
        return (self._read(number) for number in range(len(self._paths)))

    def around(self, above: Id | None, up_to: Id | None, share: float) -> Iterator[tuple[str, pa.Table]]:
        """The parts that may hold ids above the first and up to the second; None is no bound.

        Args:
            above: the first id; the parts before the one that ends above it are not wanted.
            up_to: the second id.
            share: of all parts, where the first wanted one is looked for first.

        Raises:
            OutputError: one that is looked at holds nothing, or cannot be read.
        """
        bound = up_to if above is None else above
        if self._paths and bound is not None and type(bound) is not type(self._last(0)):
            yield self._read(0)  # ids of another kind, which whoever compares will see
            return
        start = 0 if above is None else self._first_that_ends(above, int(share * len(self._paths)))
        for number in range(start, len(self._paths)):
            found = self._read(number)
            if up_to is not None and self._end_ids(number, found[1])[0] > up_to:  # type: ignore[operator]
                return
            yield found

    def _first_that_ends(self, above: Id, guess: int) -> int:
        """The first part whose last id lies above one: found in steps that double from a guess, then by halves."""
        low = high = min(guess, len(self._paths))
        step = 1
        while low > 0 and self._last(low - 1) > above:  # type: ignore[operator]
            low, step = max(low - step, 0), 2 * step
        step = 1
        while high < len(self._paths) and self._last(high) <= above:  # type: ignore[operator]
            high, step = min(high + step, len(self._paths)), 2 * step
        return bisect_right(range(len(self._paths)), above, low, high, key=self._last)

    def _last(self, number: int) -> Id:
        return (self._ends.get(number) or self._end_ids(number, self._read(number)[1]))[1]

    def _end_ids(self, number: int, table: pa.Table) -> tuple[Id, Id]:
        if not table.num_rows:
            raise OutputError(f"{self._target.describe(self._paths[number])}: holds no list")
        self._ends[number] = table.column(0)[0].as_py(), table.column(0)[-1].as_py()
        return self._ends[number]

    def _read(self, number: int) -> tuple[str, pa.Table]:
        return self._paths[number], published_part(self._target, self._paths[number])


@dataclass(frozen=True, slots=True, eq=False)
class PreviousNight:
    """The published night that tonight is compared with.

    Attributes:
        run_date: the night.
        figures: what its manifest says.
        parts: side -> its parts.
        digest: of its files; another night of the same date has another.
    """

    run_date: str
    figures: Figures
    parts: Mapping[str, Parts]
    digest: str = ""

    def is_like(self, rules: SideRules) -> bool:
        """Whether a side of it was asked for the same."""
        return rules.scope == self.figures.scope.get(rules.side, {})


def previous_night(target: Target, run_date: str) -> PreviousNight | None:
    """The night that readers use, if it is before this one; else the newest complete one before.

    So a night is held against what it replaces in readers' eyes, and a night that was rolled back is no yardstick.

    Returns:
        None where there is none, or where its manifest cannot be read: a warning says so, and nothing is compared.
    """
    try:
        manifest = last_published(target, run_date)
    except (OutputError, OSError) as error:
        log.warning("nothing is compared with the night before: %s", error)
        return None
    if manifest is None:
        return None
    date, names = manifest["run_date"], sorted(manifest["files"])
    paths = {side: [f"{night_of(date)}/{n}" for n in names if n.startswith(f"{FOLDERS[side]}/")] for side in SIDES}
    parts = {side: PublishedParts(target, mine) for side, mine in paths.items()}
    return PreviousNight(date, Figures.read(manifest), parts, digest_of(manifest["files"]))


def parts_of(target: Target, folder: str) -> list[str]:
    """The parts in a folder of one side, in their order."""
    return sorted(f"{folder}/{name}" for name in target.files(folder) if name.startswith("part-"))


def published_part(target: Target, path: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A part, whole in memory, so that it may lie on any store; its strings are dictionaries.

    Raises:
        OutputError: it is missing or cannot be read.
    """
    try:
        data = reader_of(target.read(path) or b"")
        return pq.read_table(data, columns=columns, read_dictionary=TEXTS)
    except (pa.ArrowException, OSError) as error:
        raise OutputError(f"{target.describe(path)}: missing or not readable as Parquet ({error})") from error


def compared(
    found: SideAudit, date: str, parts: Parts, within: tuple[Id | None, Id | None] = (None, None)
) -> NightsCompared:
    """Tonight's lists beside the previous night's, by one pass over its parts, beside tonight's tops.

    Args:
        found: tonight's pass over a side, or over one part of it.
        date: the previous night.
        parts: its parts of this side, or those that may hold somebody of tonight's part.
        within: only lists of ids above the first and up to the second count; None is no bound.
    """
    sums = NightsCompared.nothing(date, found.rules.depth)
    try:
        for name, table in parts:
            if change := other_ids(table, found.rules.layout):
                log.warning("nothing is compared with the night before: %s: %s", name, change)
                return _without(sums, OTHER_IDS)
            _add(sums, found, *_previous_tops(name, table, found.rules), within)
    except (MarqueeError, pa.ArrowException, OSError) as error:
        log.warning("the previous night cannot be read, so nothing is compared with it: %s", error)
        return _without(sums, UNREADABLE)
    return sums


def _without(sums: NightsCompared, note: str) -> NightsCompared:
    return NightsCompared(sums.run_date, np.zeros_like(sums.alike), note)


def _add(
    sums: NightsCompared, found: SideAudit, part: PartLists, top: Int32s, within: tuple[Id | None, Id | None]
) -> None:
    inside = np.ones(len(part.starts), np.bool_) if within == (None, None) else part.within(*within)
    both = inside & (part.query >= 0) & found.present[part.query]
    of_both = overlaps(found.top[part.query[both]], top[both])
    np.add.at(sums.alike, of_both, 1)
    sums.lists, sums.kept = sums.lists + int(inside.sum()), sums.kept + int(both.sum())
    usable = inside[part.list_row] & ~part.fallback & np.isfinite(part.score)
    sums.histogram += score_histogram(part.score[usable])


def _previous_tops(name: str, table: pa.Table, rules: SideRules) -> tuple[PartLists, Int32s]:
    if problem := layout_problem(name, table, rules.layout):
        raise OutputError(problem)
    part = take_apart(name, table, rules)
    gone = np.arange(len(part.answer)) + len(rules.answers)  # items that tonight's catalogue does not have
    answers = np.where(part.answer < 0, gone, part.answer)
    return part, tops(part.list_row, part.rank, answers, len(part.starts), rules.depth)
