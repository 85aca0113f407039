"""How good each user's list is: one value per user, or one for the whole catalogue. Pure functions on arrays.

Lists come as a padded (U, w) integer array with ``lengths`` (U,) saying how many entries of each row are real (all of
them where it is None). The best item comes first. A value per user is
NaN where the user has nothing to measure; ``user_mean`` and ``intervals.mean_intervals`` leave those out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdk.base.ids import rows_of
from sdk.base.types import Bools, Float32s, Float64s, Int64s

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Lists: TypeAlias = NDArray[np.integer[Any]]
Lengths: TypeAlias = NDArray[np.integer[Any]] | None

_USERS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True, eq=False)
class RelevanceSets:
    """Which items are held out for each user, as pairs in any order.

    Attributes:
        user_row: (N,) int64, 0 to ``num_users`` - 1.
        item_ids: (N,) int64, no item twice within a user.
        num_users: U, with those who have none.

    Raises:
        ValueError: a user row is outside its range, the lengths differ, or a pair comes twice.
    """

    user_row: Int64s
    item_ids: Int64s
    num_users: int

    def __post_init__(self) -> None:
        user, item = self.user_row, self.item_ids
        if len(user) != len(item):
            raise ValueError(f"RelevanceSets: {len(user)} user rows but {len(item)} item ids")
        if len(user) and not (user.min() >= 0 and user.max() < self.num_users):
            raise ValueError(f"RelevanceSets: user rows must lie in 0 to {self.num_users - 1}, got up to {user.max()}")
        row = _repeated(user, item)
        if row is not None:
            raise ValueError(f"RelevanceSets: user row {user[row]} holds item {item[row]} twice")

    def __len__(self) -> int:
        return self.num_users

    @property
    def counts(self) -> Int64s:
        """(U,) int64: how many items each user has."""
        return np.bincount(self.user_row, minlength=self.num_users)


def _repeated(user: Int64s, item: Int64s) -> int | None:
    """The first row, by user and item, of a pair that comes twice."""
    order = np.lexsort((item, user))
    twice = (np.diff(user[order]) == 0) & (np.diff(item[order]) == 0)
    return int(order[int(twice.argmax())]) if twice.any() else None


def ndcg(recommended: Lists, relevant: RelevanceSets, k: int, *, lengths: Lengths = None) -> Float64s:
    """NDCG@k with binary gain and log2 discount (Järvelin and Kekäläinen 2002); the ideal holds min(k, n) hits.

    Args:
        recommended: U lists of item ids (see the module).
        relevant: n held-out items of each of the same U users.
        k: how far down each list is read, at least 1.
        lengths: (U,) real entries of each row of a padded array.

    Returns:
        (U,) float64, 0 to 1; NaN where nothing is held out.

    Raises:
        ValueError: k < 1, the numbers of users differ, or a list names an item twice.
    """
    hits, n = _hits(recommended, relevant, k, lengths)
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate(([np.nan], np.cumsum(discount)))
    return _summed(hits * discount[: hits.shape[1]]) / ideal[n]


def recall(recommended: Lists, relevant: RelevanceSets, k: int, *, lengths: Lengths = None) -> Float64s:
    """Recall@k over min(k, n), so that a perfect list reaches 1. Arguments, result and errors as ``ndcg``."""
    hits, n = _hits(recommended, relevant, k, lengths)
    return hits.sum(axis=1) / _nan_for_none(n)


def average_precision(recommended: Lists, relevant: RelevanceSets, k: int, *, lengths: Lengths = None) -> Float64s:
    """AP@k over min(k, n); its mean over users is MAP@k. Arguments, result and errors as ``ndcg``."""
    hits, n = _hits(recommended, relevant, k, lengths)
    precision = hits.cumsum(axis=1) / np.arange(1, hits.shape[1] + 1)
    return _summed(precision * hits) / _nan_for_none(n)


def hit_rate(recommended: Lists, relevant: RelevanceSets, k: int, *, lengths: Lengths = None) -> Float64s:
    """1 where any of the first k is held out for the user, else 0. Arguments, result and errors as ``ndcg``."""
    hits, n = _hits(recommended, relevant, k, lengths)
    return np.where(n > 0, hits.any(axis=1), np.nan)


def best_columns(scores: Float32s, k: int) -> Int64s:
    """(U, min(k, N)) int64 columns of the k highest of each row's (U, N) scores, best first."""
    width = min(k, scores.shape[1])
    some = np.argpartition(-scores, width - 1, axis=1)[:, :width]
    order = np.argsort(-np.take_along_axis(scores, some, axis=1), axis=1, kind="stable")
    return np.asarray(np.take_along_axis(some, order, axis=1), np.int64)


def user_mean(per_user_values: Float64s) -> float:
    """The mean over users that have a value.

    Raises:
        ValueError: every value is NaN, or there is none.
    """
    kept = per_user_values[~np.isnan(per_user_values)]
    if not len(kept):
        count = len(per_user_values)
        raise ValueError(f"user_mean: none of {count} users has a value; nothing was held out for any of them")
    return float(kept.mean())


def coverage(recommended: Lists, catalogue_size: int, *, lengths: Lengths = None) -> float:
    """Share of the catalogue that stands in at least one list.

    Raises:
        ValueError: the catalogue is empty, or smaller than the number of distinct items recommended.
    """
    items, real = _padded(recommended, lengths)
    distinct = len(np.unique(items[real]))
    if catalogue_size < max(1, distinct):
        raise ValueError(f"coverage: {distinct} distinct items recommended out of a catalogue of {catalogue_size}")
    return distinct / catalogue_size


def gini(recommended: Lists, catalogue_ids: Int64s, *, lengths: Lengths = None) -> float:
    """Gini index of how often each catalogue item is recommended: 0 all equally, 1 one item takes every place.

    Gunawardana and Shani 2015 (Recommender Systems Handbook, 'Coverage').

    Args:
        recommended: U lists of item ids.
        catalogue_ids: (I,) unique ids, at least two; items never recommended count as 0.
        lengths: (U,) real entries of each row of a padded array.

    Raises:
        ValueError: fewer than two catalogue items, nothing recommended, or an item outside the catalogue.
    """
    items, real = _padded(recommended, lengths)
    num_items = len(catalogue_ids)
    if num_items < 2 or not real.any():
        raise ValueError(f"gini: got {num_items} catalogue items, {int(real.sum())} recommendations; needs 2 and 1")
    counts = np.sort(np.bincount(_places_of(items[real], catalogue_ids), minlength=num_items))
    weights = 2 * np.arange(1, num_items + 1) - num_items - 1
    return float((weights * counts).sum() / ((num_items - 1) * counts.sum()))


def novelty(
    recommended: Lists,
    item_counts: NDArray[np.integer[Any]],
    num_users: int,
    *,
    catalogue_ids: Int64s,
    lengths: Lengths = None,
) -> Float64s:
    """Mean self-information of each list, bits: log2(num_users / users who rated the item) (Zhou et al. 2010).

    Args:
        recommended: U lists of item ids.
        item_counts: (I,) users who rated each item; an item that nobody rated counts as if one had.
        num_users: users in the training data, at least the largest count.
        catalogue_ids: (I,) unique item ids, one per row of ``item_counts``.
        lengths: (U,) real entries of each row of a padded array.

    Returns:
        (U,) float64; NaN for an empty list.

    Raises:
        ValueError: an item outside the catalogue, or a count above ``num_users``.
    """
    if num_users < 1 or (len(item_counts) and item_counts.max() > num_users):
        raise ValueError(f"novelty: got num_users={num_users}, expected at least 1 and at least the largest count")
    rows, real = _padded_rows(recommended, len(item_counts), catalogue_ids, lengths)
    bits = np.log2(num_users / np.maximum(item_counts, 1))
    return (bits[rows] * real).sum(axis=1) / _nan_for_none(real.sum(axis=1))


def intra_list_diversity(
    recommended: Lists,
    item_vectors: Float32s | csr_matrix,
    *,
    catalogue_ids: Int64s,
    lengths: Lengths = None,
) -> Float64s:
    """Mean cosine distance (1 - cosine) over the pairs of each list (Ziegler et al. 2005, 'intra-list similarity').

    Args:
        recommended: U lists of item ids.
        item_vectors: (I, D) float, dense or sparse, any length; a zero vector is at distance 1 from everything.
        catalogue_ids: (I,) unique item ids, one per row of ``item_vectors``.
        lengths: (U,) real entries of each row of a padded array.

    Returns:
        (U,) float64, 0 to 2; NaN for a list of fewer than two items.

    Raises:
        ValueError: an item outside the catalogue.
    """
    rows, real = _padded_rows(recommended, item_vectors.shape[0], catalogue_ids, lengths)
    starts = range(0, len(rows), _USERS_AT_ONCE)
    unit, summed = _unit_vectors(item_vectors), _summed_vectors
    parts = [summed(unit, rows[s : s + _USERS_AT_ONCE], real[s : s + _USERS_AT_ONCE]) for s in starts]
    size, whole = real.sum(axis=1), np.concatenate([np.empty(0), *parts])
    own = _squares(unit)[rows] * real  # a title with itself is no pair
    return np.clip(1 - (whole - own.sum(axis=1)) / _nan_for_none(size * (size - 1)), 0, 2)


def _unit_vectors(vectors: Float32s | csr_matrix) -> csr_matrix:
    """(I, D) float64 CSR: every row of length 1, or empty."""
    from scipy.sparse import csr_matrix, diags

    matrix = csr_matrix(vectors, dtype=np.float64)
    norms = np.sqrt(_squares(matrix))
    return diags(np.divide(1, norms, out=np.zeros(len(norms)), where=norms > 0)) @ matrix


def _squares(matrix: csr_matrix) -> Float64s:
    return np.asarray(matrix.multiply(matrix).sum(axis=1), np.float64).ravel()


def _summed_vectors(unit: csr_matrix, rows: Int64s, real: Bools) -> Float64s:
    """(U,) squared length of the sum of each list's vectors: the cosines of all pairs, a title with itself included."""
    from scipy.sparse import csr_matrix

    ends = np.concatenate(([0], np.cumsum(real.sum(axis=1))))
    named = rows[real]
    return _squares(csr_matrix((np.ones(len(named)), named, ends), (len(rows), unit.shape[0])) @ unit)


def _summed(gains: Float64s) -> Float64s:
    """(U,) sums of each row from left to right, so that padding behind a list never changes a bit."""
    return np.cumsum(gains, axis=1)[:, -1] if gains.shape[1] else np.zeros(len(gains))


def _nan_for_none(counts: Int64s) -> Float64s:
    return np.where(counts > 0, counts, np.nan)


def _hits(recommended: Lists, relevant: RelevanceSets, k: int, lengths: Lengths) -> tuple[Bools, Int64s]:
    """(U, <=k) whether each place is held out for its user, and (U,) min(k, n)."""
    if k < 1:
        raise ValueError(f"k: got {k}, expected at least 1")
    items, real = _padded(recommended, lengths)
    if len(items) != len(relevant):
        raise ValueError(f"lists of {len(items)} users, held-out items of {len(relevant)}; expected the same users")
    items, real = items[:, :k], real[:, :k]
    _refuse_repeats(items, real)
    return real & _named_in(items, relevant), np.minimum(relevant.counts, k)


def _named_in(items: Int64s, sets: RelevanceSets) -> Bools:
    """(U, w) bool, whether each entry of a padded array is one of its user's items."""
    known, code = np.unique(sets.item_ids, return_inverse=True)
    held = np.sort(sets.user_row * len(known) + code)
    place = rows_of(known, items)
    key = np.arange(len(items))[:, None] * len(known) + place
    return np.asarray((place >= 0) & (rows_of(held, key) >= 0))


def _refuse_repeats(items: Int64s, real: Bools) -> None:
    suspects = np.flatnonzero((np.diff(np.sort(items, axis=1), axis=1) == 0).any(axis=1))  # padding may repeat
    user, place = np.nonzero(real[suspects])
    item = items[suspects[user], place]
    row = _repeated(user, item)
    if row is not None:
        message = f"the list of user row {suspects[user[row]]} names item {item[row]} twice"
        raise ValueError(f"{message}; a hit would count double")


def _padded(recommended: Lists, lengths: Lengths) -> tuple[Int64s, Bools]:
    """(U, w) int64 item ids, and which of them are real."""
    items = recommended.astype(np.int64, copy=False)
    size = np.full(len(items), items.shape[1]) if lengths is None else np.asarray(lengths)
    if size.shape != (len(items),) or (size < 0).any() or (size > items.shape[1]).any():
        raise ValueError(f"lengths: expected ({len(items)},) values from 0 to {items.shape[1]}")
    return items, np.arange(items.shape[1]) < size[:, None]


def _padded_rows(recommended: Lists, num_items: int, catalogue_ids: Int64s, lengths: Lengths) -> tuple[Int64s, Bools]:
    """(U, w) catalogue rows, 0 where not real, and which are real."""
    items, real = _padded(recommended, lengths)
    if len(catalogue_ids) != num_items:
        raise ValueError(f"catalogue_ids: got {len(catalogue_ids)} ids for {num_items} items")
    rows = np.zeros(items.shape, np.int64)
    rows[real] = _places_of(items[real], catalogue_ids)
    return rows, real


def _places_of(items: Int64s, catalogue_ids: Int64s) -> Int64s:
    """(N,) int64 places of ids among unique ones in any order.

    Raises:
        ValueError: one is not among them.
    """
    order = np.argsort(catalogue_ids, kind="stable")
    at = rows_of(catalogue_ids[order], items)
    if (at < 0).any():
        missing = items[int((at < 0).argmax())]
        raise ValueError(f"item {missing} is recommended but not in the catalogue of {len(order)} items")
    return order[at]
