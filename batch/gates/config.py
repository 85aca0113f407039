"""Gates between a staged night and its readers: each holds one figure to one threshold. See docs/gates.md."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batch.gates.table import GATES, Bound, Gate, Reading
from sdk.base.config import from_json
from sdk.base.errors import ConfigError, QualityGateError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """The thresholds. The defaults let a retrained model on fresh data pass; docs/gates.md gives the reason of each.

    Attributes:
        depth: ranks of a list that count as its top, for ``overlap`` and ``sameness``.
        established_ratings: only users with at least this many ratings count for ``users.fallback``.
        min_rows: rows of all lists of a side together.
        max_missing: ids asked for without a list though something is left to list.
        max_unknown: rows that name a user or a title that the bundle does not know.
        max_rank_gaps: rows whose rank is not the one after the row before.
        max_rising_scores: rows that score above the row before them in the same list.
        max_repeats: rows that name a title again, and lists that stand in two places.
        max_not_finite: rows with a score that is NaN or infinite, or with a null.
        max_seen: rows that show a user a title which they have rated.
        max_self: rows that list a title as similar to itself.
        max_unasked: lists of ids that were not asked for.
        max_denied: rows that name what ``--allow``, ``--deny`` or ``--block`` keep back.
        max_wrong_lengths: lists longer than k or than what is left; on the users' side also shorter ones.
        min_length_ratio: mean list length over the previous night's, where k is the same.
        max_user_fallback: share of established users that are served by popularity.
        max_title_fallback: share of titles that are served by popularity.
        max_fallback_rise: how much either share may grow from one night to the next.
        max_flat_users: share of users' lists in which all scores are the same, fallback aside.
        max_flat_titles: the same of titles' lists.
        max_sameness: of the other users who could be shown a title of a top, the share who are, in the mean.
        max_title_sameness: the same of titles' lists.
        min_coverage: share of the catalogue that stands in at least one list.
        min_coverage_ratio: that share over the previous night's.
        max_gini: Gini index of how often each title is listed.
        min_evenness_ratio: 1 minus the Gini index, over the previous night's.
        min_kept: share of the previous night's lists that have one tonight.
        min_user_overlap: mean Jaccard index of a user's top and the previous night's.
        min_title_overlap: the same of titles' lists.
        max_drift: population stability index of the scores against the previous night's.
        min_auc: validation AUC of the ranker.
        max_auc_drop: how much it may fall from one night to the next.
    """

    depth: int = 10
    established_ratings: int = 5
    min_rows: int = 1
    max_missing: int = 0
    max_unknown: int = 0
    max_rank_gaps: int = 0
    max_rising_scores: int = 0
    max_repeats: int = 0
    max_not_finite: int = 0
    max_seen: int = 0
    max_self: int = 0
    max_wrong_lengths: int = 0
    max_unasked: int = 0
    max_denied: int = 0
    min_length_ratio: float = 0.5
    max_user_fallback: float = 0.5
    max_title_fallback: float = 0.8
    max_fallback_rise: float = 0.2
    max_flat_users: float = 0.1
    max_flat_titles: float = 0.95
    max_sameness: float = 0.6
    max_title_sameness: float = 0.6
    min_coverage: float = 0.0
    min_coverage_ratio: float = 0.5
    max_gini: float = 1.0
    min_evenness_ratio: float = 0.5
    min_kept: float = 0.8
    min_user_overlap: float = 0.1
    min_title_overlap: float = 0.2
    max_drift: float = 1.0
    min_auc: float = 0.5
    max_auc_drop: float = 0.03

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_number(field.name, getattr(self, field.name), whole=field.type == "int")


def _check_number(name: str, value: object, *, whole: bool) -> None:
    ok = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not ok or not math.isfinite(value) or value < 0:  # type: ignore[arg-type, operator]
        raise ConfigError(GateConfig.__name__, name, value, f"a {'whole ' if whole else ''}number, 0 or more")
    if name == "depth" and value == 0:
        raise ConfigError(GateConfig.__name__, name, value, "at least 1")


def read_config(path: Path) -> GateConfig:
    """Thresholds from a JSON object; those that it does not name keep their defaults.

    Raises:
        UsageError: the file cannot be read, is no JSON object, or names an unknown field or a value out of range.
    """
    try:
        values = json.loads(path.read_text("utf-8"))
    except PermissionError:
        raise  # an input that this account may not read: the command says so
    except (OSError, ValueError, RecursionError) as error:
        message = f"--gates {path}: not readable as JSON ({error}); give a file such as {{'min_user_overlap': 0.05}}"
        raise UsageError(message.replace("'", '"')) from error
    if not isinstance(values, dict):
        message = f"--gates {path}: got a {type(values).__name__}, expected a JSON object of thresholds"
        raise UsageError(message)
    return from_json(GateConfig, values)


NAMES = tuple(gate.name for gate in GATES)
_BY_NAME = {gate.name: gate for gate in GATES}


def check_skips(names: Sequence[str]) -> tuple[str, ...]:
    """Names as ``--skip-gate`` takes them, ``overlap`` for both sides or ``users.overlap`` for one; sorted, once each.

    Raises:
        UsageError: no gate has such a name.
    """
    known = {*NAMES, *(f"{side}.{gate.name}" for gate in GATES for side in gate.bounds)}
    for name in names:
        if name not in known:
            message = (
                f"--skip-gate: got {name!r}, expected one of {', '.join(NAMES)}, or one side's, such as users.overlap"
            )
            raise UsageError(message)
    return tuple(sorted(set(names)))


VERDICTS = ("passed", "failed", "skipped", "not compared")


@dataclass(frozen=True, slots=True)
class GateResult:
    """One line of the manifest.

    Attributes:
        name: side and gate, ``users.coverage``.
        passed: False stops the night, unless ``skipped``.
        got: the figure; None where there is nothing to compare with, or nothing that could fail.
        threshold: what it was held to, the strictest where there are several.
        at_most: whether the figure must not be above the threshold; else not below.
        meaning: what a failure may mean.
        note: the first offending row, or why nothing was compared.
        skipped: whether the night was published whatever the figure is.
        settings: of a failure, the settings that stand in the way, each with a value that lets the figure pass.
    """

    name: str
    passed: bool
    got: float | None
    threshold: float
    at_most: bool
    meaning: str
    note: str = ""
    skipped: bool = False
    settings: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls, line: Mapping[str, Any]) -> GateResult:
        """From a line of a manifest, also of an earlier release."""
        return cls(**{field.name: line[field.name] for field in dataclasses.fields(cls) if field.name in line})

    @property
    def verdict(self) -> str:
        """One of ``VERDICTS``; ``skipped`` is a failure that stopped nothing."""
        if self.got is None:
            return "not compared"
        return "passed" if self.passed else "skipped" if self.skipped else "failed"

    def describe(self) -> str:
        """The failure in words, with the ways past it."""
        gate = _BY_NAME[self.name.partition(".")[2]]
        where = f" ({self.note})" if self.note else ""
        limit = "at most" if self.at_most else "at least"
        got, threshold = _shown(self.got), _shown(self.threshold)
        got = repr(self.got) if got == threshold else got
        changes = " and ".join(f"{name} to {value!r}" for name, value in self.settings.items())
        return (
            f"{self.name}: {gate.measures}: got {got}, expected {limit} {threshold}{where}. "
            f"It may mean: {self.meaning}. If the lists are right, pass --skip-gate {self.name}"
            f"{f', or set {changes} in --gates FILE.json' if changes else ''}."
        )


class GatesFailedError(QualityGateError):
    """A night failed a gate that was not skipped.

    Args:
        message: each failure in words.
        checks: the night's figures with a line per gate, as a manifest would hold them.
    """

    def __init__(self, message: str, checks: Mapping[str, Any]) -> None:
        super().__init__(message, checks)
        self.message, self.checks = message, checks

    def __str__(self) -> str:
        return self.message


def _shown(value: float | None) -> str:
    return "nothing" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def judge(name: str, reading: Reading, config: GateConfig, skip: Collection[str] = ()) -> GateResult:
    """Hold a figure to every threshold of its gate.

    Args:
        name: side and gate, ``users.coverage``.
        reading: the figure, None where there is nothing to compare with; NaN fails.
        config: the settings.
        skip: gates that stop nothing.
    """
    side, _, gate_name = name.partition(".")
    gate, got, note = _BY_NAME[gate_name], reading.got, reading.note
    limits = _limits(gate.bounds[side], config, reading.past)
    if got is not None and _can_fail_nothing(gate, side, limits):
        got, note = None, reading.alone
    strictest = (min if gate.at_most else max)(limits.values())
    failing = [] if got is None else [b for b in limits if not _keeps(got, limits[b], at_most=gate.at_most)]
    movable = failing if got is not None and math.isfinite(got) else []  # no setting lets a NaN pass
    settings = {bound.setting: _enough(bound, got or 0.0, reading.past, at_most=gate.at_most) for bound in movable}
    skipped = name in skip or gate.name in skip
    return GateResult(name, not failing, got, strictest, gate.at_most, gate.means, note, skipped, settings)


def _limits(bounds: Sequence[Bound], config: GateConfig, past: float | None) -> dict[Bound, float]:
    """The thresholds that there are tonight."""
    found = {bound: bound.threshold(getattr(config, bound.setting), past) for bound in bounds}
    return {bound: limit for bound, limit in found.items() if limit is not None}


def _can_fail_nothing(gate: Gate, side: str, limits: Mapping[Bound, float]) -> bool:
    """Whether the thresholds of the previous night are missing, and what is left is the end of the scale."""
    if len(limits) == len(gate.bounds[side]):
        return False
    return all(limit >= 1 if gate.at_most else limit <= 0 for limit in limits.values())


def _keeps(got: float, limit: float, *, at_most: bool) -> bool:
    return got <= limit if at_most else got >= limit


def _enough(bound: Bound, got: float, past: float | None, *, at_most: bool) -> float:
    """A setting with which the figure passes: the least change in four digits, or else a little more."""
    value = bound.enough(got, 0.0 if past is None else past)
    if bound.setting in _WHOLE:
        return int(value)
    near = max(0.0, float(f"{value:.4g}"))
    if _keeps(got, bound.threshold(near, past) or 0.0, at_most=at_most):
        return near
    up = bound.setting.startswith("max_")
    value = max(value, _LEAST) if up or value >= _LEAST else 0.0
    value *= 1 + (_SLACK if up else -_SLACK)
    unit = 10.0 ** (math.floor(math.log10(value)) - 3) if value > 0 else 1.0
    return max(0.0, float(f"{(math.ceil if up else math.floor)(value / unit) * unit:.4g}"))


_WHOLE = {field.name for field in dataclasses.fields(GateConfig) if field.type == "int"}
_LEAST = 1e-12
_SLACK = 1e-6
"""So that a setting passes in spite of the last bits of a product or a difference."""


def agreed(results: Sequence[GateResult]) -> list[GateResult]:
    """The same, with one value for a setting that several failures name: the one with which all of them pass."""
    values: dict[str, float] = {}
    for name, value in ((n, v) for result in results if not result.skipped for n, v in result.settings.items()):
        values[name] = (max if name.startswith("max_") else min)(value, values.get(name, value))
    return [
        dataclasses.replace(
            result, settings={**result.settings, **{n: values[n] for n in result.settings if n in values}}
        )
        for result in results
    ]


def enforce(results: Sequence[GateResult], where: str, checks: Mapping[str, Any] | None = None) -> None:
    """Stop a night that failed.

    Args:
        results: every gate's.
        where: the staging folder, for the message.
        checks: the night's figures, for whoever reports on it.

    Raises:
        GatesFailedError: a gate failed that is not skipped; the message names each.
    """
    failed = [result for result in results if not result.passed and not result.skipped]
    if failed:
        lines = "".join(f"\n  {result.describe()}" for result in failed)
        message = (
            f"{where}: {len(failed)} of {len(results)} gates failed. Nothing was published; the staging folder is kept "
            f"for a look until the night is published.{lines}"
        )
        raise GatesFailedError(message, checks or {})


def to_manifest(results: Sequence[GateResult]) -> list[dict[str, Any]]:
    """One JSON object per gate, with its verdict: a gate that compared nothing did not pass."""
    return [{**dataclasses.asdict(result), "verdict": result.verdict} for result in results]


def count_verdicts(gates: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Verdict -> how many gates of a manifest had it."""
    found = Counter(GateResult.read(line).verdict for line in gates)
    return {name: found[name] for name in VERDICTS}
