"""From what one pass found to figures, and from figures to a line per gate."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from batch.drift import SCORE_BINS, gini, jaccard, population_stability, score_histogram, tops
from batch.gates import AUDIENCES, BUNDLE, TITLES, USERS, GateConfig, GateResult, judge
from batch.side_audit import SideAudit, layout_problem, take_apart
from sdk.errors import MarqueeError, OutputError
from sdk.types import Bools

log = logging.getLogger(__name__)

ROW_GATES = {
    "complete": "max_missing",
    "known": "max_unknown",
    "ranks": "max_rank_gaps",
    "order": "max_rising_scores",
    "repeats": "max_repeats",
    "finite": "max_not_finite",
    "lengths": "max_wrong_lengths",
    "asked": "max_unasked",
    "denied": "max_denied",
}
"""Gates on every side that count rows or lists -> their threshold."""


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


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """Holds the figures of one night to thresholds.

    Attributes:
        config: the thresholds.
        skip: gates that stop nothing.
        checks: tonight's, as the manifest holds them.
        before: the previous night's; empty where there is none.
    """

    config: GateConfig
    skip: Collection[str]
    checks: Mapping[str, Any]
    before: Mapping[str, Any]

    def side(self, side: str, folder: str, found: SideAudit, *, served: bool) -> list[GateResult]:
        """Every gate of one side.

        Args:
            side: ``users`` or ``titles``.
            folder: its key in the checks.
            found: what its pass found.
            served: whether the bundle has a model for it.
        """
        past = self._past(folder)
        return [
            *self._row_gates(side, found),
            self._length_ratio(side, folder),
            self._fallback(side, folder, served=served),
            *self._shape_gates(side, folder),
            *self._spread_gates(side, folder, past),
            *self._change_gates(side, folder),
        ]

    def audiences(self, found: SideAudit) -> list[GateResult]:
        """Every gate of the audiences: they are counted, not compared."""
        return self._row_gates(AUDIENCES, found)

    def bundle(self) -> list[GateResult]:
        """The gates on the bundle's own quality."""
        tonight, past = self.checks[BUNDLE], self._past(BUNDLE)
        auc, past_auc = tonight["validation_auc"], past.get("validation_auc")
        note = _why_no_auc(tonight, "the bundle")
        drop_note = note or _why_not_comparable(tonight, past, ("data", "label_rule", "split"))
        drop_note = drop_note or _why_no_auc(past, "the previous night's bundle")
        return [
            self._judge("bundle.auc", auc, self.config.min_auc, note),
            self._judge("bundle.auc_drop", None if drop_note else past_auc - auc, self.config.max_auc_drop, drop_note),
        ]

    def _judge(self, name: str, got: float | None, threshold: float, note: str = "") -> GateResult:
        return judge(name, got, threshold, note=note, skip=self.skip)

    def _past(self, key: str) -> Mapping[str, Any]:
        past = self.before.get(key)
        return past if isinstance(past, Mapping) else {}

    def _row_gates(self, side: str, found: SideAudit) -> list[GateResult]:
        own = {"itself": "max_self"} if side == TITLES else {"seen": "max_seen"}
        return [
            self._judge(
                f"{side}.{gate}", found.problems.counts.get(gate, 0), getattr(self.config, field),
                found.problems.first.get(gate, ""),
            )
            for gate, field in {**ROW_GATES, **own}.items()
        ]  # fmt: skip

    def _length_ratio(self, side: str, folder: str) -> GateResult:
        note = _why_not_comparable(self.checks[BUNDLE], self._past(BUNDLE), ("k",))
        now, past = self.checks[folder]["mean_length"], _or(self._past(folder).get("mean_length"), 0.0)
        ratio = None if note or not now or not past else now / past
        return self._judge(f"{side}.length_ratio", ratio, self.config.min_length_ratio, note)

    def _fallback(self, side: str, folder: str, *, served: bool) -> GateResult:
        name = "established_fallback" if side == USERS else "fallback"
        got, past = self.checks[folder][name], self._past(folder).get(name)
        limit = self.config.max_user_fallback if side == USERS else self.config.max_title_fallback
        if not served and _or(past, 1.0) > limit:
            return self._judge(f"{side}.fallback", None, limit, "the bundle has no model for this side")
        return self._judge(f"{side}.fallback", got, min(limit, _or(past, 1.0) + self.config.max_fallback_rise))

    def _shape_gates(self, side: str, folder: str) -> list[GateResult]:
        figures, config = self.checks[folder], self.config
        flat, same = (
            (config.max_flat_users, config.max_sameness)
            if side == USERS
            else (config.max_flat_titles, config.max_title_sameness)
        )
        return [
            self._judge(f"{side}.flat", figures["flat"], flat),
            self._judge(f"{side}.sameness", figures["sameness"], same),
        ]

    def _spread_gates(self, side: str, folder: str, past: Mapping[str, Any]) -> list[GateResult]:
        figures, config = self.checks[folder], self.config
        coverage = max(config.min_coverage, config.min_coverage_ratio * _or(past.get("coverage"), 0.0))
        evenness = config.min_evenness_ratio * (1 - _or(past.get("gini"), 1.0))
        return [
            self._judge(f"{side}.coverage", figures["coverage"], coverage),
            self._judge(f"{side}.gini", figures["gini"], min(config.max_gini, 1 - evenness)),
        ]

    def _change_gates(self, side: str, folder: str) -> list[GateResult]:
        figures, config = self.checks[folder], self.config
        overlap = config.min_user_overlap if side == USERS else config.min_title_overlap
        other = _why_not_comparable(self.checks[BUNDLE], self._past(BUNDLE), ("model",)) if side == USERS else ""
        note = figures["note"]
        return [
            self._judge(f"{side}.kept", figures["kept"], config.min_kept, note),
            self._judge(f"{side}.overlap", figures["overlap"], overlap, note),
            self._judge(f"{side}.drift", None if other else figures["drift"], config.max_drift, note or other),
        ]


def _or(value: Any, otherwise: float) -> float:
    return float(value) if isinstance(value, (int, float)) else otherwise


def _why_no_auc(facts: Mapping[str, Any], whose: str) -> str:
    """Empty where there is a validation AUC to compare."""
    if isinstance(facts.get("validation_auc"), (int, float)):
        return ""
    return f"{whose} holds no ranker" if facts.get("model") is None else f"{whose} holds no validation AUC"


def _why_not_comparable(tonight: Mapping[str, Any], past: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    """Empty where all these facts are the same on both nights."""
    if not past:
        return "no previous night"
    other = [key for key in keys if tonight.get(key) != past.get(key)]
    return f"not comparable: the previous night has {other[0]} {past.get(other[0])!r}" if other else ""
