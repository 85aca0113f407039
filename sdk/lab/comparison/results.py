"""What contenders reached: kept on disk, one file each, and one model set against another, user by user."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sdk.base.files import canonical
from sdk.base.types import Float64s, Int64s
from sdk.measure.evaluation_report import write_files
from sdk.metrics.intervals import ratio_intervals

_SAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Result:
    """What one contender reached on one task.

    Attributes:
        figures: metric -> value; None where it cannot be measured.
        intervals: metric -> 95 % bootstrap interval over users (lists only).
        settings: what a peer was tuned to; empty for ours.
        tried: settings that were measured on the validation part; 0 for ours.
        tuning_value: the best one's AUC or NDCG@10 there; None for ours and where there was nothing to choose.
        seconds: tuning, fitting and scoring; for ours also training the whole bundle.
        users: ids of the users measured (lists only).
        ndcg10: their values, in the same order.
        recall20: their values, in the same order.
    """

    figures: Mapping[str, float | None]
    intervals: Mapping[str, tuple[float, float]]
    settings: Mapping[str, Any]
    tried: int
    tuning_value: float | None
    seconds: float = 0.0
    users: tuple[int, ...] = ()
    ndcg10: tuple[float, ...] = ()
    recall20: tuple[float, ...] = ()

    def per_user(self, metric: str) -> tuple[Int64s, Float64s]:
        """A list result's user ids and their values of ``ndcg10`` or ``recall20``."""
        return np.array(self.users, np.int64), np.array(getattr(self, metric), np.float64)


def mean_of(results: Sequence[Result], figure: str) -> float | None:
    """The mean of a figure over tasks; None where it was not measured."""
    values = [result.figures.get(figure) for result in results]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) and known else None


@dataclass(frozen=True, slots=True)
class ResultStore:
    """Results by what they depend on: a file whose facts differ from the asked ones is as good as none.

    Attributes:
        folder: made when the first result is put in.
    """

    folder: Path

    def get(self, name: str, facts: Mapping[str, Any]) -> Result | None:
        """The result that was put under this name with equal facts; None where there is none, or it is damaged."""
        try:
            values = json.loads(self._path(name).read_text("utf-8"))
            if values.pop("facts") != _plain(facts):
                return None
            values["intervals"] = {name: tuple(pair) for name, pair in values["intervals"].items()}
            columns: dict[str, Any] = {name: tuple(values.pop(name)) for name in ("users", "ndcg10", "recall20")}
            return Result(**values, **columns)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def put(self, name: str, facts: Mapping[str, Any], result: Result) -> None:
        """Write a result aside and rename it, so that it is there whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        content = json.dumps({"facts": _plain(facts), **asdict(result)})
        write_files(self.folder, {self._path(name).name: content.encode()})

    def _path(self, name: str) -> Path:
        return self.folder / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.json"


def _plain(facts: Mapping[str, Any]) -> Any:
    """As JSON gives them back: tuples are lists."""
    return json.loads(canonical(facts))


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean difference of two models over the same lists.

    Attributes:
        mean: of the first model's value minus the second's, over all lists.
        low: lower end of the 95 % bootstrap interval over users.
        high: its upper end.
        num_users: users, each resampled with all lists of theirs.
        num_lists: lists, several for a user that several splits ask for.
    """

    mean: float
    low: float
    high: float
    num_users: int
    num_lists: int


def paired_difference(
    first: Sequence[tuple[Int64s, Float64s]], second: Sequence[tuple[Int64s, Float64s]]
) -> Difference:
    """Mean of first minus second, with a percentile bootstrap interval that resamples users.

    A user's lists from several splits are drawn together, since they are alike (cluster bootstrap, Davison and
    Hinkley 1997, section 3.8).

    Args:
        first: one (user ids, values) pair per split, each id once.
        second: the same splits and users, of the other model.

    Raises:
        ValueError: the users differ, or there are none.
    """
    if len(first) != len(second) or any(not np.array_equal(a, b) for (a, _), (b, _) in zip(first, second, strict=True)):
        message = "paired_difference: the two models were not measured on the same users"
        raise ValueError(message)
    user = np.concatenate([ids for ids, _ in first]) if first else np.zeros(0, np.int64)
    if not len(user):
        message = "paired_difference: no user to compare"
        raise ValueError(message)
    gaps = np.concatenate([a - b for (_, a), (_, b) in zip(first, second, strict=True)])
    users, row = np.unique(user, return_inverse=True)
    total, count = np.bincount(row, weights=gaps).astype(np.float64), np.bincount(row)
    ((low, high),) = ratio_intervals(total[:, None], count[:, None], _SAMPLES)
    return Difference(float(gaps.mean()), low, high, len(users), len(gaps))
