"""Checks on a staged night, read back from its parts and held against the night before, before anybody sees it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batch.checks.expectations import Expectations
from batch.checks.previous import (
    OTHER_IDS,
    SIDES,
    Parts,
    PreviousNight,
    compared,
    parts_of,
    previous_night,
    published_part,
)
from batch.checks.side_audit import SideAudit, SideRules
from batch.checks.sums import SideSums
from batch.gates.figures import AUDIENCES, BUNDLE, FOLDERS, Counted, Figures, GateResult
from batch.gates.judge import agreed, enforce, lines_of
from batch.gates.table import Facts, check_skips
from batch.lists.parts import TEXTS
from sdk.base.config import to_json
from sdk.base.errors import OutputError
from sdk.base.progress import Progress

__all__ = ["PreviousNight", "audit", "audit_parts", "local_parts", "parts_of", "previous_night", "published_part"]
log = logging.getLogger(__name__)
_COMPARED = frozenset({"kept", "overlap", "drift"})
"""The figures that lie between two nights."""


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
    sums: dict[str, SideSums] = {}
    for side, rules in expected.rules.items():
        found = SideAudit(rules)
        for name, table in parts[side]:
            found.add(name, table)
        sums[side] = found.finish()
        apart = any(each.compared is not None and each.compared.note == OTHER_IDS for each in sums.values())
        if side in SIDES and previous is not None and previous.is_like(rules) and not apart:
            sums[side].compared = compared(found, previous.run_date, previous.parts[side])
    return judged(sums, expected, previous, where)


def judged(sums: Mapping[str, SideSums], expected: Expectations, previous: PreviousNight | None, where: str) -> Figures:
    """Hold what adds up to every gate.

    Args:
        sums: of each side.
        expected: what they are held against.
        previous: the night that was compared with.
        where: what messages call the night.

    Raises:
        QualityGateError: a gate failed; the message names each.
        UsageError: no gate has a name that is to be skipped.
    """
    skipped, sides = check_skips(expected.skip), dict[str, Any]()
    lines: list[GateResult] = []
    for side, rules in expected.rules.items():
        figures = measured(sums[side], rules, previous)
        if getattr(figures, "note", "") == OTHER_IDS:
            previous = None
        facts = Facts(
            side=side, tonight=figures, bundle=expected.bundle, config=expected.config,
            previous=None if previous is None else previous.figures, why=getattr(figures, "note", ""),
            counts=sums[side].wrong, first={gate: words for gate, (_, words) in sums[side].first.items()},
            unchecked=rules.unchecked, served=rules.served,
        )  # fmt: skip
        mine = lines_of(facts, skipped)
        apart = {line.name.partition(".")[2] for line in mine if line.got is None}
        sides[side] = dataclasses.replace(figures, **dict.fromkeys(apart & _COMPARED))  # of no meaning: taken back
        lines += mine
    before = None if previous is None else previous.figures
    lines += lines_of(Facts(side=BUNDLE, bundle=expected.bundle, config=expected.config, previous=before), skipped)
    night = Figures(
        **sides, bundle=expected.bundle, scope={side: expected.rules[side].scope for side in SIDES},
        thresholds=to_json(expected.config), skipped=skipped, previous=None if previous is None else previous.run_date,
        gates=agreed(lines),
    )  # fmt: skip
    enforce(night, where)
    return night


def measured(sums: SideSums, rules: SideRules, previous: PreviousNight | None) -> Counted:
    """The figures of one side; audiences are counted, not compared."""
    figures = sums.figures(rules.k, rules.depth)
    if rules.side == AUDIENCES:
        return Counted(queries=figures.queries, rows=figures.rows)
    if previous is not None and not previous.is_like(rules):
        why = "the previous night was asked for other ids, or had other rules or allowed items"
        return dataclasses.replace(figures, note=why)
    return dataclasses.replace(figures, **({"note": "no previous night"} if previous is None else sums.between()))
