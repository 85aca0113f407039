"""How sure an order is: two models' values of the same users, set against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sdk.base.types import Float64s, Int64s
from sdk.metrics.intervals import ratio_intervals

_SAMPLES = 2000


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
    first: Sequence[tuple[Int64s, Float64s]],
    second: Sequence[tuple[Int64s, Float64s]],
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
