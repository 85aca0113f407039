"""Who likes what together: a part of look-alikes, and the yardstick of what content counts for.

together(a, b) = max(0, n_ab - n_a n_b / n) / (sqrt(n_a n_b) + shrink), with n_ab of n users who like both: how many
more they are than chance alone gives, so that what everybody likes is not like everything, beside the geometric mean
of who likes either, and less where few people vouch for it. Of a user with very many likes a random part counts, so
that one of them says no more than others and costs no more time.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sdk.base.streams import is_terminal
from sdk.base.types import Float32s, Int64s

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

TOGETHER = "together"
"""The ``source`` of a list of what is liked together with an item."""
LONGEST = 200
"""Most neighbours of an item that are kept."""
_MOST_LIKES = 200  # of one user
SHRINK = 10.0
"""Of the yardstick, and where nothing is chosen."""
_BLOCK = 256  # items whose neighbours are counted at once


class Likes(NamedTuple):
    """Who likes what, of the training part alone.

    Attributes:
        user: (N,) int64, any numbers that tell users apart.
        item: (N,) int64 rows of the items' table.
    """

    user: Int64s
    item: Int64s

    def thinned(self, seed: int = 0) -> Likes:
        """At most 200 likes of each user, by chance."""
        order = np.random.default_rng(seed).permutation(len(self.user))
        order = order[np.argsort(self.user[order], kind="stable")]
        user = self.user[order]
        first = np.flatnonzero(np.r_[True, user[1:] != user[:-1]]) if len(user) else np.zeros(0, np.int64)
        place = np.arange(len(user)) - np.repeat(first, np.diff(np.r_[first, len(user)]))
        kept = np.sort(order[place < _MOST_LIKES])
        return Likes(self.user[kept], self.item[kept])

    def matrix(self, num_items: int) -> csr_matrix:
        """(U, num_items) float32 of ones, a row for each user who likes something."""
        from scipy.sparse import csr_matrix

        users, row = np.unique(self.user, return_inverse=True)
        liked = csr_matrix((np.ones(len(row), np.float32), (row, self.item)), shape=(len(users), num_items))
        liked.data[:] = 1  # a pair that comes twice is one like
        return liked


def co_liked(liked: csr_matrix, items: Int64s, shrink: float = SHRINK) -> csr_matrix:
    """(B, N) float32, columns ascending: how much each of some items is liked together with others, itself left out.

    Args:
        liked: (U, N) of ones.
        items: (B,) columns.
        shrink: at least 0.
    """
    from scipy.sparse import csr_matrix

    count = np.asarray(liked.sum(axis=0), np.float64).ravel()
    both = csr_matrix(liked[:, items].T @ liked)
    row = np.repeat(np.arange(len(items)), np.diff(both.indptr))
    product = count[items[row]] * count[both.indices]
    more = np.maximum(both.data - product / liked.shape[0], 0) / (np.sqrt(product) + shrink)
    both.data = np.asarray(more * (both.indices != items[row]), np.float32)
    both.eliminate_zeros()
    both.sort_indices()
    return both


def neighbours(likes: Likes, items: Int64s, num_items: int, shrink: float = SHRINK) -> csr_matrix:
    """(num_items, num_items) float32: of each of some items the most of what is liked with it; other rows are empty.

    Equal ones: those of smaller rows are kept.

    Args:
        likes: who likes what.
        items: (B,) rows, ascending.
        num_items: of the whole catalogue.
        shrink: at least 0.
    """
    from scipy.sparse import csr_matrix
    from tqdm import tqdm

    liked = likes.thinned().matrix(num_items)
    columns, values, lengths = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)], np.zeros(num_items, np.int64)
    title, starts = "liked together", range(0, len(items), _BLOCK)
    for start in tqdm(starts, desc=title, unit=" blocks", leave=False, disable=not is_terminal(sys.stderr)):
        some = items[start : start + _BLOCK]
        found = co_liked(liked, some, shrink)
        for item, first, last in zip(some.tolist(), found.indptr, found.indptr[1:], strict=False):
            kept = first + _largest(found.data[first:last])
            columns.append(found.indices[kept])
            values.append(found.data[kept])
            lengths[item] = len(kept)
    parts = np.concatenate(values), np.concatenate(columns), np.concatenate([[0], np.cumsum(lengths)])
    return csr_matrix(parts, shape=(num_items, num_items))


def _largest(values: Float32s) -> Int64s:
    """The places of the 200 largest values, ascending; of equal ones the first."""
    if len(values) <= LONGEST:
        return np.arange(len(values))
    least = np.partition(values, -LONGEST)[-LONGEST]
    above, equal = np.flatnonzero(values > least), np.flatnonzero(values == least)
    return np.sort(np.concatenate([above, equal[: LONGEST - len(above)]]))
