"""Confidence intervals by resampling users, each with all of their rows: the percentile cluster bootstrap.

Efron and Tibshirani 1993, chapter 13; Davison and Hinkley 1997, section 3.8, for whole clusters. Rows of one user are
not independent, so users are drawn, not rows. A resampling is a weight per user, how often the user was drawn, so no
row is ever copied. Interval ends are rounded to six decimals: the drawing's own noise is far larger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdk.base.types import Bools, Float64s, Int64s
from sdk.metrics.pointwise import Calibration, Interval, sigmoid

Index: TypeAlias = NDArray[np.integer[Any]]
Floats: TypeAlias = NDArray[np.floating[Any]]

LEVEL = 0.95
MOST_SAMPLES, LEAST_SAMPLES = 1000, 100
_ROWS_VISITED = 200_000_000  # rows times resamplings of one AUC: some seconds
_DRAWS_AT_ONCE = 64


def samples_for(num_rows: int, at_most: int = MOST_SAMPLES) -> int:
    """Resamplings for so many rows: ``at_most`` up to 200,000 rows, fewer beyond, never under 100 (or ``at_most``)."""
    return min(at_most, max(LEAST_SAMPLES, _ROWS_VISITED // max(num_rows, 1)))


def draws(num_users: int, samples: int, seed: int = 0) -> Iterator[Int64s]:
    """Yield ``samples`` times (U,) int64: how often each user was drawn in ``num_users`` draws with replacement."""
    rng = np.random.default_rng(seed)
    for _ in range(samples):
        yield np.bincount(rng.integers(0, num_users, num_users), minlength=num_users)


def mean_intervals(values: Float64s, samples: int = MOST_SAMPLES, seed: int = 0) -> list[Interval]:
    """The 95 % interval of each column's mean over the users that have a value there.

    Args:
        values: (U, M) float64, one row per user; NaN where a user has nothing to measure.
        samples: resamplings, at least 1; all columns share them.
        seed: of the resampling.

    Returns:
        M intervals (low, high); NaN ends where a column holds no value.
    """
    known = ~np.isnan(values)
    return ratio_intervals(np.where(known, values, 0), known, samples, seed)


def ratio_intervals(sums: Float64s, counts: NDArray[Any], samples: int = MOST_SAMPLES, seed: int = 0) -> list[Interval]:
    """The 95 % interval of each column's sum over its count, of users who bring several values each.

    Args:
        sums: (U, M) float64, what each user adds to the M sums.
        counts: (U, M) how many values those are.
        samples: resamplings, at least 1; all columns share them.
        seed: of the resampling.
    """
    drawn = ((w @ sums, w @ counts) for w in _blocks(len(sums), samples, seed))
    parts = [np.divide(top, below, out=np.full(top.shape, np.nan), where=below > 0) for top, below in drawn]
    return _intervals(np.concatenate(parts))


def auc_interval(user: Index, labels: Index, scores: Floats, samples: int = MOST_SAMPLES, seed: int = 0) -> Interval:
    """The 95 % interval of ``metrics.auc`` over users.

    The rows are sorted once; a resampling is one pass over them, so it costs O(N).

    Args:
        user: (N,) integers, whose row each is.
        labels: (N,) of 0 and 1, both there.
        scores: (N,) float, no NaN.
        samples: resamplings, at least 1. One without both labels is left out.
        seed: of the resampling.
    """
    num_users, row = _compact(user)
    auc_by = weighted_auc(row, labels == 1, scores)
    return _intervals(np.array([[auc_by(weight)] for weight in draws(num_users, samples, seed)]))[0]


def likelihood_intervals(
    user: Index, labels: Index, logits: Floats, bins: Calibration, samples: int = MOST_SAMPLES, seed: int = 0
) -> tuple[Interval, Interval]:
    """The 95 % intervals of the log loss and of the expected calibration error over users.

    The bins of the calibration stay those of all rows, so both are sums over users. A calibration error cannot fall
    below 0, so its interval lies a little high where the model is well calibrated.

    Args:
        user: (N,) integers, whose row each is.
        labels: (N,) of 0 and 1.
        logits: (N,) float.
        bins: ``metrics.calibration`` of the same rows.
        samples: resamplings, at least 1.
        seed: of the resampling.
    """
    num_users, row = _compact(user)
    sums = _user_sums(row, num_users, labels, logits, bins)
    loss, error = [], []
    for weights in _blocks(num_users, samples, seed):
        drawn = weights @ sums
        loss.append(drawn[:, 0] / drawn[:, 1])
        error.append(np.abs(drawn[:, 2:]).sum(axis=1) / drawn[:, 1])
    low_high = _intervals(np.stack([np.concatenate(loss), np.concatenate(error)], axis=1))
    return low_high[0], low_high[1]


def weighted_auc(user: Int64s, positive: Bools, scores: Floats) -> Callable[[Int64s], float]:
    """What gives the AUC where every row counts as often as its user does; NaN where one label has no weight.

    Args:
        user: (N,) int64, 0 to U - 1, whose row each is.
        positive: (N,) bool.
        scores: (N,) float; the rows are sorted by them once.

    Returns:
        A function of (U,) int64 weights, at least 0.
    """
    order = np.argsort(scores, kind="stable")
    user, positive, scores = user[order], positive[order], scores[order]
    negatives, positives = scores[~positive], scores[positive]
    below, up_to = (np.searchsorted(negatives, positives, side=side) for side in ("left", "right"))
    negative_user, positive_user = user[~positive], user[positive]

    def auc(weight: Int64s) -> float:
        won, mine = np.concatenate(([0], np.cumsum(weight[negative_user]))), weight[positive_user]
        possible = 2 * int(mine.sum()) * int(won[-1])
        return int(mine @ (won[below] + won[up_to])) / possible if possible else float("nan")

    return auc


def _user_sums(row: Int64s, num_users: int, labels: Index, logits: Floats, bins: Calibration) -> Float64s:
    """(U, 2 + bins): each user's summed loss, rows, and per bin the labels' sum less the probabilities'."""
    z = logits.astype(np.float64)
    loss = np.logaddexp(0, np.where(labels == 1, -z, z))
    probability = sigmoid(logits)
    num_bins = len(bins.counts)
    which = np.clip(np.searchsorted(bins.edges, probability, side="right") - 1, 0, num_bins - 1)
    gaps = np.bincount(row * num_bins + which, labels - probability, num_users * num_bins)
    alone = (np.bincount(row, loss, num_users), np.bincount(row, minlength=num_users))
    return np.column_stack([*alone, gaps.reshape(num_users, num_bins)])


def _compact(user: Index) -> tuple[int, Int64s]:
    """How many different users there are, and (N,) int64 numbers from 0 for them."""
    users, row = np.unique(user, return_inverse=True)
    return len(users), row.astype(np.int64)


def _blocks(num_users: int, samples: int, seed: int) -> Iterator[Float64s]:
    """The same draws in blocks (<= 64, U) float64, so that many are weighed by one product."""
    drawn = draws(num_users, samples, seed)
    for start in range(0, samples, _DRAWS_AT_ONCE):
        size = min(_DRAWS_AT_ONCE, samples - start)
        yield np.stack([next(drawn) for _ in range(size)]).astype(np.float64)


def _intervals(resampled: Float64s) -> list[Interval]:
    """Of (S, M) figures; NaN ones are left out."""
    tails = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    out = []
    for column in resampled.T:
        kept = column[~np.isnan(column)]
        low, high = np.quantile(kept, tails) if len(kept) else (np.nan, np.nan)
        out.append((round(float(low), 6), round(float(high), 6)))
    return out
