"""The thresholds of the gates: every setting with its default and its bounds, and the file that changes them."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path

from sdk.base.config import from_json
from sdk.base.errors import ConfigError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """The thresholds. The defaults let a retrained model on fresh data pass; docs/gates.md gives the reason of each.

    Attributes:
        depth: ranks of a list that count as its top, for ``overlap`` and ``sameness``.
        established_ratings: only users with at least this many ratings count for ``users.fallback``.
        min_rows: rows of all lists of a side together.
        max_missing: ids asked for without a list though something is left to list.
        max_unknown: rows that name a user or an item that the bundle does not know.
        max_rank_gaps: rows whose rank is not the one after the row before.
        max_rising_scores: rows that score above the row before them in the same list.
        max_repeats: rows that name an item again, and lists that stand in two places.
        max_not_finite: rows with a score that is NaN or infinite, or with a null.
        max_seen: rows that show a user an item which they have.
        max_rule_breaks: users' lists that do not keep to ``--rules``.
        max_self: rows that list an item as similar to itself.
        max_unasked: lists of ids that were not asked for.
        max_denied: rows that name what ``--allow``, ``--deny`` or ``--block`` keep back.
        max_wrong_lengths: lists longer than k or than what is left; on the users' side also shorter ones.
        min_length_ratio: mean list length over the previous night's, where k is the same.
        max_user_fallback: share of established users that are served by popularity.
        max_title_fallback: share of items that are served by popularity.
        max_fallback_rise: how much either share may grow from one night to the next.
        max_flat_users: share of users' lists in which all scores are the same, fallback aside.
        max_flat_titles: the same of items' lists; all of them may be, where items are told apart by one category, say.
        max_sameness: of the other users who could be shown an item of a top, the share who are, in the mean,
            against what one order for all would give.
        max_title_sameness: the same of items' lists.
        min_coverage: share of the catalogue that stands in at least one list.
        min_coverage_ratio: that share over the previous night's.
        max_gini: Gini index of how often each item is listed.
        min_evenness_ratio: 1 minus the Gini index, over the previous night's.
        min_kept: share of the previous night's lists that have one tonight.
        min_user_overlap: mean Jaccard index of a user's top and the previous night's.
        min_title_overlap: the same of items' lists.
        max_drift: population stability index of the scores against the previous night's.
        min_auc: validation AUC of the ranker.
        max_auc_drop: how much it may fall from one night to the next.
        min_judged: the upper end of what tonight's draws would have earned on ``--judged``, over what was earned there.
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
    max_rule_breaks: int = 0
    max_self: int = 0
    max_wrong_lengths: int = 0
    max_unasked: int = 0
    max_denied: int = 0
    min_length_ratio: float = 0.5
    max_user_fallback: float = 0.5
    max_title_fallback: float = 0.8
    max_fallback_rise: float = 0.2
    max_flat_users: float = 0.1
    max_flat_titles: float = 1.0
    max_sameness: float = 0.96
    max_title_sameness: float = 0.96
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
    min_judged: float = 0.95

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, whole = getattr(self, field.name), field.type == "int"
            ok = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
            if not ok or not math.isfinite(value) or value < 0:
                raise ConfigError(GateConfig.__name__, field.name, value, f"a {'whole ' * whole}number, 0 or more")
        if self.depth == 0:
            raise ConfigError(GateConfig.__name__, "depth", 0, "at least 1")


WHOLE = {field.name for field in dataclasses.fields(GateConfig) if field.type == "int"}
"""The settings that count."""


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
        raise UsageError(f"--gates {path}: got a {type(values).__name__}, expected a JSON object of thresholds")
    return from_json(GateConfig, values)
