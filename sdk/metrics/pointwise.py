"""Pure functions that compare a label with a score per rated pair, and the values that hold what was measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdk.base.types import Bools, Float32s, Float64s, Int64s

Interval: TypeAlias = tuple[float, float]
Labels: TypeAlias = NDArray[np.generic]
Floats: TypeAlias = NDArray[np.floating[Any]]

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """What one pass over the training rows gave.

    Attributes:
        epoch: 1 for the first.
        train_loss: mean log loss on the training rows during the epoch, nats.
        auc: on the validation rows, after the epoch.
        log_loss: on the validation rows, nats.
        rows_per_s: training speed; shown to people, never compared between runs.
    """

    epoch: int
    train_loss: float
    auc: float
    log_loss: float
    rows_per_s: float


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One model's line in the table of results.

    Attributes:
        model: its name.
        auc: on the test rows.
        log_loss: on the test rows, nats; NaN where the scores are no logits.
        calibration_error: expected calibration error, 0 to 1; NaN where the scores are no logits.
        num_rows: test rows measured.
        note: anything a reader must know, or "".
        intervals: name of a figure above -> its 95 % interval over users; empty where none was asked for.
    """

    model: str
    auc: float
    log_loss: float
    calibration_error: float
    num_rows: int
    note: str = ""
    intervals: Mapping[str, Interval] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, float]:
        """The three figures by their names."""
        return {"auc": self.auc, "log_loss": self.log_loss, "calibration_error": self.calibration_error}


@dataclass(frozen=True, slots=True)
class SliceFigures:
    """What one model does on one part of the users or of the titles.

    Attributes:
        model: its name.
        part: the slice's name, or ``all``.
        num_users: users measured.
        num_rows: rows measured: test ratings, or held-out titles.
        values: name of a figure -> its value; one that too few rows would give is left out.
        intervals: name of a figure -> its 95 % interval over users, where one was asked for.
    """

    model: str
    part: str
    num_users: int
    num_rows: int
    values: Mapping[str, float]
    intervals: Mapping[str, Interval] = field(default_factory=dict)


def auc(labels: Labels, scores: Floats) -> float:
    """The chance that a positive row scores above a negative one; a tie counts half (Hanley and McNeil 1982).

    Exact, O(n log n). Needs one sorted copy of the scores plus a few MiB, so 25 million float32 rows cost 0.1 GiB.

    Args:
        labels: (N,) of 0 and 1, or bool.
        scores: (N,) float. Infinite scores are allowed.

    Raises:
        ValueError: the lengths differ, a label is neither 0 nor 1, a class is missing, or a score is NaN.
    """
    positive = _checked_labels("auc", labels, scores)
    negatives, positives = scores[~positive], scores[positive]
    negatives.sort()
    positives.sort()
    for name, part in (("positive", positives), ("negative", negatives)):
        if not len(part):
            raise ValueError(f"auc: no {name} label among {len(labels)} rows; it needs at least one of each class")
    half_wins = 0  # an integer, so the sum is exact
    for rows in _chunks(len(positives)):
        for side in ("left", "right"):
            half_wins += int(np.searchsorted(negatives, positives[rows], side=side).sum())
    return half_wins / (2 * len(positives) * len(negatives))


def sigmoid(logits: Floats) -> Float32s:
    """(N,) float32 probabilities of logits of any size."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)), dtype=np.float32)


def log_loss(labels: Labels, logits: Floats) -> float:
    """Mean negative log likelihood of the labels, nats; stable for logits of any size.

    Args:
        labels: (N,) of 0 and 1, or bool.
        logits: (N,) float.

    Raises:
        ValueError: there are no rows, the lengths differ, a label is neither 0 nor 1, or a logit is NaN.
    """
    positive = _checked_labels("log_loss", labels, logits)
    losses = []
    for rows in _chunks(len(positive)):
        z = logits[rows].astype(np.float64)
        losses.append(float(np.logaddexp(0.0, np.where(positive[rows], -z, z)).sum()))
    return math.fsum(losses) / len(positive)


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Predicted against observed shares in bins that hold about equally many rows.

    Attributes:
        edges: (n + 1,) float64, ascending; bin i holds ``edges[i] <= p < edges[i + 1]``, the last one its end too.
        mean_predicted: (n,) float64, mean probability of each bin.
        observed_share: (n,) float64, share of positive labels of each bin.
        counts: (n,) int64, rows of each bin, at least 1.
    """

    edges: Float64s
    mean_predicted: Float64s
    observed_share: Float64s
    counts: Int64s

    @property
    def expected_error(self) -> float:
        """Mean distance of observed from predicted, weighted by rows (Naeini et al. 2015, section 'ECE')."""
        gaps = np.abs(self.observed_share - self.mean_predicted)
        return float((gaps * self.counts).sum() / self.counts.sum())


def calibration(labels: Labels, probabilities: Floats, bins: int = 10) -> Calibration:
    """Bin rows by predicted probability, equally many per bin, and compare with what happened.

    Equal probabilities share a bin, so many ties give fewer bins than asked.

    Args:
        labels: (N,) of 0 and 1, or bool.
        probabilities: (N,) float, 0 to 1.
        bins: at most this many, at least 1.

    Raises:
        ValueError: bins < 1, no rows, the lengths differ, a label is neither 0 nor 1, or a probability is
            outside 0 to 1 or NaN.
    """
    positive = _checked_labels("calibration", labels, probabilities)
    if bins < 1:
        raise ValueError(f"calibration: got bins={bins}, expected at least 1")
    ordered = np.sort(probabilities)
    if ordered[0] < 0 or ordered[-1] > 1:
        raise ValueError(
            f"calibration: probabilities run from {ordered[0]} to {ordered[-1]}, expected 0 to 1; "
            "pass probabilities, not logits"
        )
    starts = np.unique(ordered[np.arange(bins) * len(ordered) // bins])
    which = np.searchsorted(starts, probabilities, side="right") - 1
    counts = np.bincount(which, minlength=len(starts))
    return Calibration(
        edges=np.append(starts, ordered[-1]).astype(np.float64),
        mean_predicted=np.bincount(which, weights=probabilities) / counts,
        observed_share=np.bincount(which, weights=positive) / counts,
        counts=counts.astype(np.int64),
    )


def _checked_labels(owner: str, labels: Labels, scores: Floats) -> Bools:
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise ValueError(f"{owner}: labels are {labels.shape}, scores {scores.shape}; expected two equal (N,)")
    if not len(labels):
        raise ValueError(f"{owner}: no rows; it needs at least one")
    positive: Bools = labels == 1
    wrong = ~positive & (labels != 0)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"{owner}: label {labels[row]} in row {row}, expected 0 or 1; compare ratings first")
    nan = np.isnan(scores)
    if nan.any():
        raise ValueError(f"{owner}: the score of row {int(nan.argmax())} is NaN ({int(nan.sum())} of {len(nan)} are)")
    return positive


def _chunks(total: int) -> Iterator[slice]:
    return (slice(start, start + _CHUNK) for start in range(0, total, _CHUNK))
