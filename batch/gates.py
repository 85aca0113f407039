"""Gates between a staged night and its readers: each holds one figure to one threshold. See docs/gates.md."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdk.config import from_json
from sdk.errors import ConfigError, QualityGateError, UsageError

USERS, TITLES, AUDIENCES, BUNDLE = "users", "titles", "audiences", "bundle"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """The thresholds. The defaults let a retrained model on fresh data pass; docs/gates.md gives the reason of each.

    Attributes:
        depth: ranks of a list that count as its top, for ``overlap`` and ``sameness``.
        established_ratings: only users with at least this many ratings count for ``users.fallback``.
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


@dataclass(frozen=True, slots=True)
class Gate:
    """One rule.

    Attributes:
        name: what ``--skip-gate`` calls it.
        fields: the thresholds that move it, per side.
        at_most: whether the figure must not be above the threshold; else not below.
        measures: what the figure is.
        means: what a failure may mean.
    """

    name: str
    fields: Mapping[str, str]
    at_most: bool
    measures: str
    means: str


def _everywhere(field: str) -> dict[str, str]:
    return dict.fromkeys((USERS, TITLES, AUDIENCES), field)


def _gate(name: str, measures: str, means: str, **fields: str) -> Gate:
    return Gate(name, fields, next(iter(fields.values())).startswith("max_"), measures, means)


GATES = (
    _gate(
        "complete",
        "ids that should have a list and have none",
        "parts were lost, or scoring stopped early",
        **_everywhere("max_missing"),
    ),
    _gate(
        "known",
        "rows with ids that the bundle does not have",
        "the parts come from another bundle or are damaged",
        **_everywhere("max_unknown"),
    ),
    _gate(
        "ranks",
        "rows whose rank does not follow the one before",
        "rows were lost or parts are damaged",
        **_everywhere("max_rank_gaps"),
    ),
    _gate(
        "order",
        "rows that score above the row before them",
        "a list is not sorted: a defect, or damaged parts",
        **_everywhere("max_rising_scores"),
    ),
    _gate(
        "repeats",
        "titles named twice in a list, and lists that stand twice",
        "a part was written twice or is damaged",
        **_everywhere("max_repeats"),
    ),
    _gate(
        "finite",
        "rows with a score that is no finite number, or with a null",
        "the model diverged, or parts are damaged",
        **_everywhere("max_not_finite"),
    ),
    _gate(
        "lengths",
        "lists of another length than k and what is left to list allow",
        "lists were cut, or k is not what was asked",
        **_everywhere("max_wrong_lengths"),
    ),
    _gate(
        "asked",
        "lists that were not asked for",
        "the staged parts are of another run",
        **_everywhere("max_unasked"),
    ),
    _gate(
        "denied",
        "rows that name what was denied, not allowed or blocked",
        "a list of titles to keep back did not work",
        **_everywhere("max_denied"),
    ),
    _gate(
        "seen",
        "rows that show a user what they have rated",
        "the filter of rated titles did not work",
        users="max_seen",
        audiences="max_seen",
    ),
    _gate("itself", "titles listed as similar to themselves", "the content model is wrong", titles="max_self"),
    _gate(
        "length_ratio",
        "mean list length over the previous night's",
        "something takes titles out of the lists",
        users="min_length_ratio",
        titles="min_length_ratio",
    ),
    _gate(
        "fallback",
        "share served by popularity",
        "the model knows too few: lost training data, or too high a minimum of ratings",
        users="max_user_fallback",
        titles="max_title_fallback",
    ),
    _gate(
        "flat",
        "share of lists whose scores are all the same",
        "the model gives everything one score: not trained, or diverged",
        users="max_flat_users",
        titles="max_flat_titles",
    ),
    _gate(
        "sameness",
        "share of the other lists that hold a title of a top, of those that could",
        "everybody gets one list: personal taste is lost",
        users="max_sameness",
        titles="max_title_sameness",
    ),
    _gate(
        "coverage",
        "share of the catalogue that is listed anywhere",
        "half the catalogue is gone, or the lists shrank to a few titles",
        users="min_coverage",
        titles="min_coverage",
    ),
    _gate(
        "gini",
        "Gini index of how often each title is listed",
        "a few titles take most places",
        users="max_gini",
        titles="max_gini",
    ),
    _gate(
        "kept",
        "share of the previous night's ids that have a list tonight",
        "users or titles are gone from the data",
        users="min_kept",
        titles="min_kept",
    ),
    _gate(
        "overlap",
        "mean Jaccard index of the tops of both nights",
        "another or an untrained model, or mixed-up ids",
        users="min_user_overlap",
        titles="min_title_overlap",
    ),
    _gate(
        "drift",
        "population stability index of the scores against the previous night's",
        "scores of another scale: another model, or an option changed",
        users="max_drift",
        titles="max_drift",
    ),
    _gate("auc", "validation AUC of the ranker", "the ranker is no better than chance", bundle="min_auc"),
    _gate(
        "auc_drop",
        "fall of the validation AUC since the previous night",
        "training went wrong, or the new ratings are odd",
        bundle="max_auc_drop",
    ),
)
"""Every gate, in the order of the manifest."""

NAMES = tuple(gate.name for gate in GATES)
_BY_NAME = {gate.name: gate for gate in GATES}


def check_skips(names: Sequence[str]) -> tuple[str, ...]:
    """Names as ``--skip-gate`` takes them, ``overlap`` for both sides or ``users.overlap`` for one; sorted, once each.

    Raises:
        UsageError: no gate has such a name.
    """
    known = {*NAMES, *(f"{side}.{gate.name}" for gate in GATES for side in gate.fields)}
    for name in names:
        if name not in known:
            message = (
                f"--skip-gate: got {name!r}, expected one of {', '.join(NAMES)}, or one side's, such as users.overlap"
            )
            raise UsageError(message)
    return tuple(sorted(set(names)))


@dataclass(frozen=True, slots=True)
class GateResult:
    """One line of the manifest.

    Attributes:
        name: side and gate, ``users.coverage``.
        passed: False stops the night, unless ``skipped``.
        got: the figure; None where there is nothing to compare with.
        threshold: what it was held to.
        at_most: whether the figure must not be above the threshold; else not below.
        meaning: what a failure may mean.
        note: the first offending row, or why nothing was compared.
        skipped: whether the night was published whatever the figure is.
    """

    name: str
    passed: bool
    got: float | None
    threshold: float
    at_most: bool
    meaning: str
    note: str = ""
    skipped: bool = False

    def describe(self) -> str:
        """The failure in words, with the way past it."""
        gate = _BY_NAME[self.name.partition(".")[2]]
        field = gate.fields[self.name.partition(".")[0]]
        where = f" ({self.note})" if self.note else ""
        limit = "at most" if self.at_most else "at least"
        return (
            f"{self.name}: {gate.measures}: got {_shown(self.got)}, expected {limit} {_shown(self.threshold)}{where}. "
            f"It may mean: {self.meaning}. If the lists are right, pass --skip-gate {self.name}, "
            f"or set {field} in --gates FILE.json."
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


def judge(name: str, got: float | None, threshold: float, *, note: str = "", skip: Collection[str] = ()) -> GateResult:
    """Hold a figure to a threshold.

    Args:
        name: side and gate, ``users.coverage``.
        got: the figure; None passes, since there was nothing to compare with; NaN fails.
        threshold: what it must keep to.
        note: the first offending row, or why nothing was compared.
        skip: gates that stop nothing.
    """
    gate = _BY_NAME[name.partition(".")[2]]
    passed = got is None or (got <= threshold if gate.at_most else got >= threshold)
    skipped = name in skip or gate.name in skip
    return GateResult(name, passed, got, threshold, gate.at_most, gate.means, note, skipped)


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
            f"for a look.{lines}"
        )
        raise GatesFailedError(message, checks or {})


def to_manifest(results: Sequence[GateResult]) -> list[dict[str, Any]]:
    """One JSON object per gate."""
    return [dataclasses.asdict(result) for result in results]
