"""What the history model is fitted on: checked columns, the matrix of histories, scaled features, weights of titles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdk.base.config import HistoryConfig
from sdk.base.errors import DataError
from sdk.base.types import Bools, Float32s, Float64s, Int64s
from sdk.data.splits import time_at
from sdk.features.tables import FIRST_KNOWN

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_DAY_S = 86_400
_MOST_HALVINGS = 60.0  # so that no weight becomes 0
_NOW = 0.999  # the share of the likes before which they age, so that one with a date to come ages no other
Index: TypeAlias = NDArray[np.integer[Any]]
Floats: TypeAlias = NDArray[np.floating[Any]]

_RANKS = (1024, 512, 256)
_BUDGET = 1e12  # multiplications for everybody's list
MAX_ROWS = 3000
"""Of the form by users: beyond their users, the largest sessions up to so many rows."""


def rating_matrix(user: Index, item: Index, values: Floats, shape: tuple[int, int]) -> csr_matrix:
    """The sparse matrix with these values, users by titles."""
    from scipy.sparse import csr_matrix

    return csr_matrix((values, (user, item)), shape)


def row_sums(matrix: csr_matrix) -> Float32s:
    """(U,) float32 sum of each row."""
    return np.asarray(matrix.sum(axis=1), np.float32)[:, 0]


def sessions(user: Index, timestamp: Int64s, gap_s: float) -> Int64s:
    """(N,) int64 number of each rating's session, from 0: a user's ratings with no longer pause than ``gap_s``."""
    order = np.lexsort((timestamp, user))
    pause = np.diff(timestamp[order]) > gap_s
    out = np.empty(len(user), np.int64)
    out[order] = np.cumsum(np.concatenate([[False], (np.diff(user[order]) != 0) | pause]))
    return out


def learnt_rows(
    columns: tuple[Index, Index, Floats],
    timestamp: Int64s | None,
    num_items: int,
    config: HistoryConfig,
    most_rows: int = MAX_ROWS,
) -> tuple[csr_matrix, csr_matrix]:
    """What the regression learns from: (U, N) float64 rows of users, and (R, N) of these and of their sessions.

    A user's rows count by (ratings + 1) to minus ``user_exponent``, the mean user's in full. What was rated together
    counts twice by the sessions' rows; one of a single rating says nothing that its user does not. Where the regression
    is solved by rows, and so takes as long as there are rows, only the largest sessions take part.

    Args:
        columns: (N,) users (any ids), titles and weights.
        timestamp: (N,) int64 seconds; None: there are no sessions.
        num_items: N, of titles.
        config: its ``user_exponent`` and ``session_gap_s`` count.
        most_rows: of users, and of sessions beyond them, where the regression is solved by rows.
    """
    from scipy.sparse import vstack

    user, item, values = columns
    row, size = np.unique(user, return_inverse=True, return_counts=True)[1:]
    factor = ((size + 1.0) / (size + 1.0).mean()) ** -config.user_exponent
    scaled = values.astype(np.float64) * factor[row]
    users = rating_matrix(row, item, scaled, (len(size), num_items))
    if timestamp is None or not config.session_gap_s:
        return users, users
    session = sessions(row, timestamp, config.session_gap_s)
    together = rating_matrix(session, item, scaled, (int(session.max(initial=-1)) + 1, num_items))
    length = np.diff(together.indptr)
    rows = np.flatnonzero(length > 1)
    if len(size) + len(rows) > most_rows and len(size) < num_items:
        rows = np.sort(rows[np.argsort(-length[rows], kind="stable")[: max(most_rows - len(size), 0)]])
    return users, vstack([users, together[rows]]).tocsr()


def halved(age_s: Int64s, half_life_days: float) -> Float64s:
    """(N,) float64, above 0 and at most 1, of (N,) int64 ages in seconds: half for every half-life; 1 below 0."""
    return np.exp2(-np.clip(age_s / (_DAY_S * half_life_days), 0, _MOST_HALVINGS))


def popularity(
    item: Index, counts: Int64s, num_users: int, config: HistoryConfig, timestamp: Int64s | None = None
) -> Float64s:
    """(N,) float64, what a title's share of likes adds to its score: of all of them, or rather of the later ones.

    Args:
        item: (L,) of all likes.
        counts: (N,) int64 ratings of each title.
        num_users: that have ratings.
        config: its popularity and ``item_exponent`` count.
        timestamp: (L,) int64 seconds of the likes; None: they do not age.
    """
    ages = None if timestamp is None or not config.popularity_half_life_days else timestamp
    weight = None if ages is None else _aged(ages, config.popularity_half_life_days or 0.0)
    total = len(item) if weight is None else float(weight.sum())
    share = np.bincount(item, weight, minlength=len(counts)) * (len(item) / max(total, 1.0) / num_users)
    return (config.popularity_weight or 0.0) * share * discount(counts, config.item_exponent or 0.0)


def _aged(timestamp: Int64s, half_life_days: float) -> Float64s:
    """(L,) float64 weights, halved every half-life before the latest thousandth, which weighs 1 whatever its date."""
    if not len(timestamp):
        return np.ones(0)
    return halved(time_at(timestamp, int((len(timestamp) - 1) * _NOW)) - timestamp, half_life_days)


def told_boost(told: Float32s, config: HistoryConfig) -> Float32s:
    """(U,) float32, how much more popularity counts for who has told little; ``told``: the sum of their weights."""
    return np.asarray(config.popularity_boost / (np.maximum(told, 0) + config.boost_titles), np.float32)


def discount(counts: Int64s, exponent: float) -> Float64s:
    """(N,) float64 factor of a title's scores: (ratings + 1) to minus ``exponent``."""
    return np.asarray((counts + 1.0) ** -exponent)


def rank_for(num_users: int, num_fitted: int, num_items: int) -> int:
    """The width of the dot path where the configuration leaves it open; measured in ``docs/research``.

    As many as the users or the fitted titles, which cuts nothing of the users' scores, but at most 1,024; less where
    scoring every user against every title with it is beyond a budget, and 256 at least.

    Args:
        num_users: learnt from.
        num_fitted: titles with coefficients of their own.
        num_items: of the whole catalogue.
    """
    affordable = next((rank for rank in _RANKS if num_users * num_items * rank <= _BUDGET), _RANKS[-1])
    return min(affordable, num_fitted, num_users)


def most_rated(counts: Int64s, limit: int) -> Int64s:
    """The rated rows, at most ``limit`` of them, ascending; of equally often rated ones the first."""
    order = np.argsort(-counts, kind="stable")[:limit]
    return np.sort(order[counts[order] > 0])


def scaled_features(features: Float32s | None, num_items: int) -> Float32s:
    """Centred over the known rows and with mean squared length 1; reserved rows are 0."""
    if features is None:
        return np.zeros((num_items, 0), np.float32)
    if features.ndim != 2 or len(features) != num_items or not np.isfinite(features).all():
        raise ValueError(f"item_features: got {features.shape}, expected ({num_items}, f) finite numbers")
    out = np.zeros(features.shape, np.float32)
    known = features[FIRST_KNOWN:].astype(np.float64)
    known -= known.mean(axis=0)
    length = np.sqrt((known**2).sum() / len(known))
    out[FIRST_KNOWN:] = known / (length if length > 0 else 1.0)
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
    known = is_known(user, item)
    if not known.any() and not may_be_empty:
        raise DataError(f"history: none of {len(user)} ratings is of a known user and title; give more ratings")
    pairs = user[known].astype(np.int64) * shape[1] + item[known]
    if len(np.unique(pairs)) < len(pairs):
        message = "history: a (user, item) pair comes twice; keep one rating of each"
        raise ValueError(message)
    return user[known], item[known], rating[known], None if timestamp is None else timestamp[known]


def is_known(user: Index, item: Index) -> Bools:
    """(N,) bool, which pairs are of a known user and item."""
    found: Bools = (user >= FIRST_KNOWN) & (item >= FIRST_KNOWN)
    return found


def check_rows(name: str, index: Index, size: int) -> None:
    """Refuse indices outside 0 to ``size`` with a ValueError."""
    if len(index) and not (index.min() >= 0 and index.max() < size):
        raise ValueError(f"history: {name} runs from {index.min()} to {index.max()}, expected 0 to {size - 1}")
