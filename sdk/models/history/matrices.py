"""What the history model is fitted on: checked columns, the matrix of histories, scaled features, weights of titles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdk.base.errors import DataError
from sdk.base.types import Float32s, Float64s, Int64s
from sdk.features.tables import FIRST_KNOWN

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Index: TypeAlias = NDArray[np.integer[Any]]
Floats: TypeAlias = NDArray[np.floating[Any]]

_NARROW, _WIDE = 256, 512
_RICH = 2000
_BUDGET = 1e12  # multiplications: 2 billion pairs of width 512


def rating_matrix(user: Index, item: Index, values: Floats, shape: tuple[int, int]) -> csr_matrix:
    """The sparse matrix with these values, users by titles."""
    from scipy.sparse import csr_matrix

    return csr_matrix((values, (user, item)), shape)


def balanced(history: csr_matrix, exponent: float) -> csr_matrix:
    """Float64 rows of (U, N) histories, each times (ratings + 1) to minus ``exponent``; the mean user keeps theirs."""
    from scipy.sparse import diags

    size = np.diff(history.indptr) + 1.0
    return (diags((size / size.mean()) ** -exponent) @ history).tocsr().astype(np.float64)


def discount(counts: Int64s, exponent: float) -> Float64s:
    """(N,) float64 factor of a title's scores: (ratings + 1) to minus ``exponent``."""
    return np.asarray((counts + 1.0) ** -exponent)


def rank_for(num_users: int, num_fitted: int, num_items: int) -> int:
    """The width of the dot path where the configuration leaves it open; measured in ``docs/history_choice.md``.

    256, or 512 where there are enough users and titles for more tastes to be told apart, and where scoring every user
    against every title with it stays within a budget. Never more than the fitted titles.

    Args:
        num_users: learnt from.
        num_fitted: titles with coefficients of their own.
        num_items: of the whole catalogue.
    """
    is_rich = min(num_users, num_fitted) >= _RICH
    is_affordable = num_users * num_items * _WIDE <= _BUDGET
    return min(_WIDE if is_rich and is_affordable else _NARROW, num_fitted)


def most_rated(counts: Int64s, limit: int) -> Int64s:
    """The rated rows, at most ``limit`` of them, ascending; of equally often rated ones the first."""
    order = np.argsort(-counts, kind="stable")[:limit]
    return np.sort(order[counts[order] > 0])


def scaled_features(features: Float32s | None, num_items: int, weight: float) -> Float32s:
    """Centred over the known rows and with mean squared length ``weight ** 2``; reserved rows are 0."""
    if features is None or weight == 0:
        return np.zeros((num_items, 0), np.float32)
    if features.ndim != 2 or len(features) != num_items or not np.isfinite(features).all():
        raise ValueError(f"item_features: got {features.shape}, expected ({num_items}, f) finite numbers")
    out = np.zeros(features.shape, np.float32)
    known = features[FIRST_KNOWN:].astype(np.float64)
    known -= known.mean(axis=0)
    length = np.sqrt((known**2).sum() / len(known))
    out[FIRST_KNOWN:] = known * (weight / length if length > 0 else 0.0)
    return out


def known_ratings(
    columns: tuple[Index, Index, Floats],
    timestamp: Int64s | None,
    shape: tuple[int, int],
    *,
    may_be_empty: bool = False,
) -> tuple[Index, Index, Floats, Int64s | None]:
    """Users, titles, stars and times of the ratings of a known user and title.

    Args:
        columns: (N,) user rows, title rows and stars.
        timestamp: (N,) int64 seconds, or None.
        shape: numbers of user and of title rows.
        may_be_empty: whether there may be no such rating.

    Raises:
        DataError: none is, and ``may_be_empty`` is not given.
        ValueError: lengths differ, an index is out of range, a pair comes twice, or a rating is not finite.
    """
    user, item, rating = columns
    if not len(user) == len(item) == len(rating):
        raise ValueError(f"history: {len(user)} users, {len(item)} items, {len(rating)} ratings; expected as many")
    check_rows("user_index", user, shape[0])
    check_rows("item_index", item, shape[1])
    if not np.isfinite(rating).all():
        raise ValueError(f"history: rating {int(np.isfinite(rating).argmin())} is not finite")
    known = (user >= FIRST_KNOWN) & (item >= FIRST_KNOWN)
    if not known.any() and not may_be_empty:
        raise DataError(f"history: none of {len(user)} ratings is of a known user and title; give more ratings")
    pairs = user[known].astype(np.int64) * shape[1] + item[known]
    if len(np.unique(pairs)) < len(pairs):
        message = "history: a (user, item) pair comes twice; keep one rating of each"
        raise ValueError(message)
    return user[known], item[known], rating[known], None if timestamp is None else timestamp[known]


def check_rows(name: str, index: Index, size: int) -> None:
    """Refuse indices outside 0 to ``size`` with a ValueError."""
    if len(index) and not (index.min() >= 0 and index.max() < size):
        raise ValueError(f"history: {name} runs from {index.min()} to {index.max()}, expected 0 to {size - 1}")
