"""Checks on a staged night, read back from its parts and held against the night before, before anybody sees it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batch.checks.drift import SCORE_BINS, jaccard, population_stability, score_histogram, tops
from batch.checks.expectations import Expectations
from batch.checks.part_layout import layout_problem, other_ids
from batch.checks.side_audit import PartLists, SideAudit, SideRules, share, take_apart
from batch.gates.figures import AUDIENCES, BUNDLE, FOLDERS, TITLES, USERS, Counted, Figures, GateResult, SideFigures
from batch.gates.judge import agreed, enforce, lines_of
from batch.gates.table import Facts, check_skips
from batch.lists.parts import TEXTS
from batch.store.layout import night_of
from batch.store.publish import last_published
from batch.store.target import Target
from sdk.base.arrow_memory import reader_of
from sdk.base.config import to_json
from sdk.base.errors import MarqueeError, OutputError
from sdk.base.progress import Progress
from sdk.base.types import Int32s

log = logging.getLogger(__name__)
Parts = Iterable[tuple[str, pa.Table]]
"""Parts as (name for messages, rows); strings may be dictionaries."""
SIDES = (USERS, TITLES)
"""The sides that are compared with the night before."""
_OTHER_IDS = "the previous night has ids of another type"
_COMPARED = frozenset({"kept", "overlap", "drift"})
"""The figures that lie between two nights."""


@dataclass(frozen=True, slots=True, eq=False)
class PreviousNight:
    """The published night that tonight is compared with.

    Attributes:
        run_date: the night.
        figures: what its manifest says.
        parts: side -> its parts.
    """

    run_date: str
    figures: Figures
    parts: Mapping[str, Parts]


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
    parts = {side: ((path, published_part(target, path)) for path in mine) for side, mine in paths.items()}
    return PreviousNight(date, Figures.read(manifest), parts)


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


def audit(
    staging: Path, expected: Expectations, previous: PreviousNight | None = None, where: str | None = None
) -> Figures:
    """Hold a staged night on this machine to every gate; see ``audit_parts``.

    Args:
        staging: the folder that holds ``user_items`` and ``item_items``.
        expected: what the night is held against.
        previous: the night to compare with; None where there is none.
        where: what messages call the night; None takes ``staging``.

    Raises:
        QualityGateError: a gate failed; the message names each.
        OutputError: a staged part cannot be read.
    """
    parts = {side: local_parts(staging / folder) for side, folder in FOLDERS.items()}
    return audit_parts(parts, expected, previous, where or str(staging))


def local_parts(folder: Path) -> Iterator[tuple[str, pa.Table]]:
    """The parts of one side in a folder on this machine, by name; empty where there are none.

    Raises:
        OutputError: a part cannot be read.
    """
    paths = sorted(folder.glob("part-*.parquet"))
    with Progress(f"checking {folder.name}", "parts", parts=len(paths), total=len(paths)) as progress:
        for path in paths:
            try:
                table = pq.read_table(path, partitioning=None, read_dictionary=TEXTS)
            except (pa.ArrowException, OSError) as error:
                raise OutputError(
                    f"{path}: not readable as Parquet ({error}). Nothing was published. Delete this staged part and "
                    "run the same command, which makes it again."
                ) from error
            yield f"{folder.name}/{path.name}", table
            progress.step(1, side=folder.name, shard=f"{folder.name}/{path.name}", rows=table.num_rows)


def audit_parts(
    parts: Mapping[str, Parts], expected: Expectations, previous: PreviousNight | None = None, where: str = "the night"
) -> Figures:
    """Hold a night to every gate, reading each part once, one at a time.

    Args:
        parts: side -> its parts, each read once.
        expected: what they are held against.
        previous: the night to compare with; its parts are read once, too.
        where: what messages call the night.

    Raises:
        QualityGateError: a gate failed; the message names each.
        UsageError: no gate has a name that is to be skipped.
    """
    skipped, before = check_skips(expected.skip), None if previous is None else previous.figures
    sides: dict[str, Any] = {}
    lines: list[GateResult] = []
    for side, rules in expected.rules.items():
        found = SideAudit(rules)
        for name, table in parts[side]:
            found.add(name, table)
        figures = _measured(found, previous)
        if getattr(figures, "note", "") == _OTHER_IDS:
            previous = before = None
        facts = Facts(
            side=side, tonight=figures, bundle=expected.bundle, config=expected.config, previous=before,
            why=getattr(figures, "note", ""), counts=found.wrong, first=found.first, unchecked=rules.unchecked,
            served=rules.served,
        )  # fmt: skip
        mine = lines_of(facts, skipped)
        apart = {line.name.partition(".")[2] for line in mine if line.got is None}
        sides[side] = dataclasses.replace(figures, **dict.fromkeys(apart & _COMPARED))  # of no meaning: taken back
        lines += mine
    lines += lines_of(Facts(side=BUNDLE, bundle=expected.bundle, config=expected.config, previous=before), skipped)
    night = Figures(
        **sides, bundle=expected.bundle, scope={side: expected.rules[side].scope for side in SIDES},
        thresholds=to_json(expected.config), skipped=skipped, previous=None if previous is None else previous.run_date,
        gates=agreed(lines),
    )  # fmt: skip
    enforce(night, where)
    return night


def _measured(found: SideAudit, previous: PreviousNight | None) -> Counted:
    """The figures of one side, after its last part; audiences are counted, not compared."""
    figures, rules = found.figures(), found.rules
    if rules.side == AUDIENCES:
        return Counted(queries=figures.queries, rows=figures.rows)
    if previous is None:
        return dataclasses.replace(figures, note="no previous night")
    if rules.scope != previous.figures.scope.get(rules.side, {}):
        why = "the previous night was asked for other ids, or had other rules or allowed items"
        return dataclasses.replace(figures, note=why)
    return _compared(found, figures, previous.parts[rules.side])


def _compared(found: SideAudit, figures: SideFigures, previous: Parts) -> SideFigures:
    """With ``kept``, ``overlap`` and ``drift``, by one pass over the previous night's parts, beside tonight's tops.

    Args:
        found: tonight's pass, finished.
        figures: what it found.
        previous: the previous night's parts of this side.
    """
    lists = kept = 0
    likeness, histogram = 0.0, np.zeros(SCORE_BINS, dtype=np.int64)
    try:
        for name, table in previous:
            if change := other_ids(table, found.rules.layout):
                log.warning("nothing is compared with the night before: %s: %s", name, change)
                return dataclasses.replace(figures, note=_OTHER_IDS)
            part, top = _previous_tops(name, table, found.rules)
            both = (part.query >= 0) & found.present[part.query]
            lists, kept = lists + len(part.starts), kept + int(both.sum())
            likeness += float(jaccard(found.top[part.query[both]], top[both]).sum())
            histogram += score_histogram(part.score[~part.fallback & np.isfinite(part.score)])
    except (MarqueeError, pa.ArrowException, OSError) as error:
        log.warning("the previous night cannot be read, so nothing is compared with it: %s", error)
        return dataclasses.replace(figures, note="the previous night cannot be read")
    drift, note = population_stability(histogram, found.histogram), "" if lists else "the previous night has no lists"
    return dataclasses.replace(figures, kept=share(kept, lists), overlap=share(likeness, kept), drift=drift, note=note)


def _previous_tops(name: str, table: pa.Table, rules: SideRules) -> tuple[PartLists, Int32s]:
    if problem := layout_problem(name, table, rules.layout):
        raise OutputError(problem)
    part = take_apart(name, table, rules)
    gone = np.arange(len(part.answer)) + len(rules.answers)  # items that tonight's catalogue does not have
    answers = np.where(part.answer < 0, gone, part.answer)
    return part, tops(part.list_row, part.rank, answers, len(part.starts), rules.depth)
