"""From what one pass found to figures, and from figures to a line per gate."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from batch.checks.drift import SCORE_BINS, gini, jaccard, population_stability, score_histogram, tops
from batch.checks.side_audit import SideAudit, SideRules, layout_problem, take_apart
from batch.gates.config import GateConfig, GateResult, judge
from batch.gates.table import GATES, USERS, Facts
from sdk.base.errors import MarqueeError, OutputError
from sdk.base.types import Bools

log = logging.getLogger(__name__)


def side_figures(found: SideAudit) -> dict[str, Any]:
    """The figures of one side, after its last part; None where a figure means nothing."""
    found.finish()
    num_present = int(found.present.sum())
    shown = int((found.exposure > 0).sum())
    return {
        "queries": num_present,
        "rows": found.rows,
        "without_any_candidate": int((found.rules.expected & (found.rules.left <= 0) & ~found.present).sum()),
        "distinct_items_shown": shown,
        "mean_length": _share(found.rows, found.lists),
        "fallback": _share(found.fallback, found.lists),
        "established_fallback": _share(found.established_fallback, found.established),
        "flat": _share(found.flat_lists, found.model_lists),
        "sameness": found.sameness(),
        "coverage": _share(shown, len(found.exposure)),
        "gini": gini(found.exposure),
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def compare(
    found: SideAudit, previous: Iterable[tuple[str, pa.Table]] | None, note: str = "no previous night"
) -> dict[str, Any]:
    """``kept``, ``overlap`` and ``drift`` against the previous night's parts, and a ``note`` where there are none.

    Args:
        found: tonight's pass, finished.
        previous: the previous night's parts of this side; None where there is no such night.
        note: why there is none.
    """
    if previous is None:
        return _nothing(note)
    pass_ = _PreviousPass(found)
    try:
        for name, table in previous:
            pass_.add(name, table)
    except (MarqueeError, pa.ArrowException, OSError) as error:
        log.warning("the previous night cannot be read, so nothing is compared with it: %s", error)
        return _nothing("the previous night cannot be read")
    return pass_.figures()


def _nothing(note: str) -> dict[str, Any]:
    return {"kept": None, "overlap": None, "drift": None, "note": note}


class _PreviousPass:
    """One pass over the previous night's parts, beside tonight's tops."""

    def __init__(self, found: SideAudit) -> None:
        self.found = found
        self.lists = self.kept = 0
        self.jaccard = 0.0
        self.histogram = np.zeros(SCORE_BINS, dtype=np.int64)

    def add(self, name: str, table: pa.Table) -> None:
        rules = self.found.rules
        if problem := layout_problem(name, table, rules.layout):
            raise OutputError(problem)
        lists = take_apart(name, table, rules)
        gone = np.arange(len(lists.answer)) + len(rules.answers)  # titles that tonight's catalogue does not have
        answers = np.where(lists.answer < 0, gone, lists.answer)
        top = tops(lists.list_row, lists.rank, answers, len(lists.starts), rules.depth)
        both: Bools = (lists.query >= 0) & self.found.present[lists.query]
        self.lists += len(lists.starts)
        self.kept += int(both.sum())
        self.jaccard += float(jaccard(self.found.top[lists.query[both]], top[both]).sum())
        self.histogram += score_histogram(lists.score[~lists.fallback & np.isfinite(lists.score)])

    def figures(self) -> dict[str, Any]:
        return {
            "kept": _share(self.kept, self.lists),
            "overlap": self.jaccard / self.kept if self.kept else None,
            "drift": population_stability(self.histogram, self.found.histogram),
            "note": "" if self.lists else "the previous night has no lists",
        }


def verdicts(facts: Facts, config: GateConfig, skip: Collection[str]) -> list[GateResult]:
    """A line for every gate of a side, or of the bundle, in the table's order.

    Args:
        facts: what they look at.
        config: the thresholds.
        skip: gates that stop nothing.
    """
    mine = [gate for gate in GATES if facts.side in gate.bounds]
    return [judge(f"{facts.side}.{gate.name}", gate.figure(facts), config, skip) for gate in mine]


def unchecked(side: str, rules: SideRules) -> dict[str, str]:
    """The gates that no row can fail, since nothing was asked for that they could hold it to -> why."""
    found = {
        "seen": (rules.seen is None, "rated titles may be listed"),
        "denied": (rules.allowed is None and rules.blocked is None, "nothing was to be kept back"),
        "asked": (bool(rules.expected.all()), f"every {'user' if side == USERS else 'title'} was asked for"),
    }
    return {gate: why for gate, (nothing, why) in found.items() if nothing}
