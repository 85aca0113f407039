"""What another policy's lists would have earned, from the rewards of lists that were drawn with known probabilities.

A list is drawn place by place, each item with a probability that depends on those above. What a place earns may depend
on its item and on those above, not on those below (the cascade assumption of McInerney et al. 2020, "Counterfactual
Evaluation of Slate Recommendations with Sequential Reward Interactions", section 3). So the weight of a place is the
product, down to it, of the target's probabilities over those of the log.

- ``ips``: the mean of weights times rewards (Horvitz and Thompson 1952; Swaminathan and Joachims 2015).
- ``snips``: place by place, divided by the mean weight (the same, "The Self-Normalized Estimator").
- ``dr``: a model of the rewards, and weights times what it misses (Dudik, Langford and Li 2011; for lists Kiyohara et
  al. 2022). It is right where either the probabilities or the model are.

Weights above a limit are cut to it, which lowers the variance and the estimate (Ionides 2008).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sdk.base.types import Bools, Float64s, Int64s

_NORMAL = 1.959963984540054  # of 95 %


@dataclass(frozen=True, slots=True, eq=False)
class LoggedLists:
    """Lists that were drawn and shown, and what they earned.

    Attributes:
        user: (N,) int64, whose; lists of one user are not independent.
        real: (N, k) bool, the places that there are.
        logged: (N, k) float64, log-probability of each place given those above, when it was drawn.
        target: (N, k) float64, the same under the target; -inf where it would never stand there.
        reward: (N, k) float64.
        model: (N, k) float64, what a model of the rewards expects of each place.
        expected: (N, k) float64, its mean over what the target would put there, given those above.
    """

    user: Int64s
    real: Bools
    logged: Float64s
    target: Float64s
    reward: Float64s
    model: Float64s
    expected: Float64s


@dataclass(frozen=True, slots=True)
class MeanReward:
    """A mean reward of a list, with its 95 % interval (normal, users being independent)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Estimates of a target's mean reward of a list.

    Attributes:
        logged: what the lists that were shown earned.
        ips: by inverse propensities; ``snips`` self-normalised; ``dr`` doubly robust.
        clip: the largest weight that was let stand.
        clipped: share of the places whose weight was cut.
        effective: (k,) float64, by place the effective number of lists (Kong 1992): that many unweighted ones would
            say as much.
    """

    logged: MeanReward
    ips: MeanReward
    snips: MeanReward
    dr: MeanReward
    clip: float
    clipped: float
    effective: Float64s


def judge(lists: LoggedLists, clip: float | None = None) -> Judged:
    """MeanReward what the target's lists would have earned.

    Args:
        lists: at least two lists.
        clip: the largest weight; None takes the square root of the number of lists (Ionides 2008, section 3).
    """
    limit = float(np.sqrt(len(lists.user))) if clip is None else clip
    ratio = np.where(lists.real, lists.target - lists.logged, 0.0)
    with np.errstate(over="ignore"):
        full = np.exp(np.cumsum(ratio, axis=1))
    weight = np.minimum(full, limit) * lists.real
    before = np.column_stack([np.ones(len(weight)), np.minimum(full, limit)[:, :-1]]) * lists.real
    gained, mean = weight * lists.reward, weight.mean(axis=0)
    rate = np.divide(gained.mean(axis=0), mean, out=np.zeros(len(mean)), where=mean > 0)
    moved = np.divide(weight * (lists.reward - rate), mean, out=np.zeros(weight.shape), where=mean > 0)
    robust = weight * (lists.reward - lists.model) + before * lists.expected
    squares = (weight**2).sum(axis=0)
    return Judged(
        logged=_mean(lists.user, (lists.reward * lists.real).sum(axis=1)),
        ips=_mean(lists.user, gained.sum(axis=1)),
        snips=_mean(lists.user, float((rate * lists.real.mean(axis=0)).sum()) + moved.sum(axis=1)),
        dr=_mean(lists.user, robust.sum(axis=1)),
        clip=limit,
        clipped=float((full > limit)[lists.real].mean()),
        effective=np.divide(weight.sum(axis=0) ** 2, squares, out=np.zeros(len(squares)), where=squares > 0),
    )


def _mean(user: Int64s, values: Float64s) -> MeanReward:
    """The mean of lists' values, with an interval whose unit is the user."""
    mean = float(values.mean())
    _, whose = np.unique(user, return_inverse=True)
    sums = np.bincount(whose, values - mean)
    half = _NORMAL * float(np.sqrt((sums**2).sum() * len(sums) / max(len(sums) - 1, 1))) / len(values)
    return MeanReward(mean, mean - half, mean + half)
