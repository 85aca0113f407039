"""The closed form of the history model: item-to-item ridge regression, each title predicted without itself.

X (U, N) holds what each user rated, F (N, f) what is known of each title. A user's wish for title i is
``x_u @ b_i``, with ``b_i = beta_i + F theta_i``: a coefficient per title and one per title feature, all under the same
L2 penalty. That is ridge regression with the covariance C = I + F F' among a title's coefficients. As in EASE (Steck
2019, arXiv:1905.03375) title i's own coefficient is left out of its own regression. With A = inv(X C X' + penalty I)

    b_i = C X' A x_i / (1 - x_i' A x_i)   away from i,

by the rank-one update of Sherman and Morrison. Without features this is EASE exactly. The matrix to invert is as
large as the number of users or, by the identity of Woodbury, of titles: whichever is smaller.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from sdk.base.config import HistoryConfig
from sdk.base.progress import present
from sdk.base.types import Float32s, Float64s, Int64s
from sdk.machine import decompositions
from sdk.machine.decompositions import orthonormal, product
from sdk.models.history.matrices import discount

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_OVERSAMPLING, _POWER_STEPS, _ROUNDS = 32, 2, 2
NUM_STEPS = 1 + _POWER_STEPS * _ROUNDS
"""Of a fit whose settings are chosen, as its progress counts them: the regression, then those of the cut to a rank."""

Product: TypeAlias = Callable[[Float32s], Float32s]
Solve: TypeAlias = Callable[[float, float], "ItemRegression"]


@dataclass(frozen=True, slots=True, eq=False)
class ItemRegression:
    """A fitted (N, N) matrix B = M / leave_out, as products; only its entries off the diagonal mean anything.

    Attributes:
        times: (N, r) float32 to ``M @`` it.
        transposed_times: (N, r) float32 to ``M.T @`` it.
        predict: (B, N) sparse histories to dense float32 ``histories @ M``.
        leave_out: (N,) float64, above 0 and at most 1: ``1 - x_i' A x_i``, by which column i is divided.
        diagonal: (N,) float64, that of M.
    """

    times: Product
    transposed_times: Product
    predict: Callable[[csr_matrix], Float32s]
    leave_out: Float64s
    diagonal: Float64s

    def without_diagonal(self) -> ItemRegression:
        """The same matrix with 0 on its diagonal: a cut to a rank then spends nothing on a title's own column."""
        own = self.diagonal.astype(np.float32)[:, None]
        return ItemRegression(
            lambda values: self.times(values) - own * values,
            lambda values: self.transposed_times(values) - own * values,
            lambda histories: self.predict(histories) - np.asarray((histories.multiply(own.T)).toarray(), np.float32),
            self.leave_out,
            np.zeros_like(self.diagonal),
        )


def fit_regression(ratings: csr_matrix, features: Float32s, penalty: float, weight: float = 1.0) -> ItemRegression:
    """Solve the regression in the smaller of its two forms.

    Args:
        ratings: (U, N) sparse, X.
        features: (N, f) float32, F; f may be 0.
        penalty: above 0.
        weight: times F; 0 leaves it out.

    Raises:
        ScoreError: the penalty is too small for the matrix to be inverted.
    """
    return prepared(ratings, features)(penalty, weight)


def prepared(ratings: csr_matrix, features: Float32s) -> Solve:
    """``fit_regression`` with the inner products done: (penalty, weight) -> the regression, for several of them."""
    return (_by_users if ratings.shape[0] <= ratings.shape[1] else _by_items)(ratings, features)


def _by_users(ratings: csr_matrix, features: Float32s) -> Solve:
    from sdk.models.history.gram import gram, inverse, quadratic_forms

    profile = ratings @ features.astype(np.float64)
    products, alike = gram(ratings.T), product(profile, profile.T)
    single, told = ratings.astype(np.float32), profile.astype(np.float32)

    def solve(penalty: float, weight: float) -> ItemRegression:
        matrix, share = products + weight**2 * alike, np.float32(weight**2)
        matrix[np.diag_indices_from(matrix)] += penalty
        solved = inverse(matrix)
        leave_out = 1 - quadratic_forms(solved, ratings)
        between = solved.astype(np.float32)

        def times(values: Float32s) -> Float32s:
            inner = product(between, np.asarray(single @ values, np.float32))
            return np.asarray(single.T @ inner + share * product(features, product(told.T, inner)), np.float32)

        def transposed_times(values: Float32s) -> Float32s:
            inner = single @ values + share * product(told, product(features.T, values))
            return np.asarray(single.T @ product(between, np.asarray(inner, np.float32)), np.float32)

        def predict(histories: csr_matrix) -> Float32s:
            own = np.asarray(histories @ features, np.float32)
            inner = (histories @ single.T).toarray() + share * product(own, told.T)
            return np.asarray((single.T @ product(between, np.asarray(inner.T, np.float32))).T, np.float32)

        shared = np.einsum("if,if->i", features, single.T @ product(between, told))
        return ItemRegression(times, transposed_times, predict, leave_out, 1 - leave_out + share * shared)

    return solve


def _by_items(ratings: csr_matrix, features: Float32s) -> Solve:
    """With P = inv(X'X + penalty inv(C)): C X'AX = I - penalty P inv(C), and its diagonal of inv(C) times that."""
    from sdk.models.history.gram import gram, inverse

    products = gram(ratings)

    def solve(penalty: float, weight: float) -> ItemRegression:
        wide = weight * features.astype(np.float64)
        inner = decompositions.inverse(np.eye(wide.shape[1]) + wide.T @ wide)
        mapped = wide @ inner  # inv(C) = I - mapped @ wide.T, by Woodbury
        matrix = product(mapped, -penalty * wide.T)
        matrix[np.diag_indices_from(matrix)] += penalty
        matrix += products
        solved = inverse(matrix)
        shared = product(product(solved, wide), inner)
        solved -= product(shared, wide.T)  # P inv(C)
        spread = np.diagonal(solved) - np.einsum("if,fi->i", mapped, product(wide.T, solved))
        leave_out = np.einsum("if,if->i", mapped, wide) + penalty * spread
        solved *= -penalty
        solved[np.diag_indices_from(solved)] += 1
        single = solved.astype(np.float32)
        diagonal = np.diagonal(single).astype(np.float64)
        return ItemRegression(
            lambda values: product(single, values),
            lambda values: product(single.T, values),
            lambda histories: np.asarray(histories @ single, np.float32),
            leave_out,
            diagonal,
        )

    return solve


def low_rank(
    regression: ItemRegression, ratings: csr_matrix, column_weights: Float64s, rank: int, seed: int
) -> tuple[Float32s, Float32s]:
    """Factors V, Q (N, min(rank, N)) of ``V @ Q.T = B * column_weights``, but for the diagonal, which no list reads.

    What is kept are the scores X B of those who were learnt from, as well as a rank can: Q spans the best subspace of
    their rows and V = B Q. Any diagonal will do, so each round takes the one that the last cut would give by itself:
    the rank is spent on what lists read. By subspace iteration (Halko et al. 2011, arXiv:0909.4061, algorithm 4.4).
    A rank of as many as the users cuts nothing of their scores, one of as many as the titles nothing at all.

    Args:
        regression: as fitted.
        ratings: (U, N) sparse, X.
        column_weights: (N,) above 0.
        rank: at least 1.
        seed: of the first subspace.
    """
    bare, size = regression.without_diagonal(), ratings.shape[1]
    scale, single = (column_weights / bare.leave_out).astype(np.float32)[:, None], ratings.astype(np.float32)
    free: Float32s = np.zeros((size, 1), np.float32)

    def times(values: Float32s) -> Float32s:
        return np.asarray(bare.times(scale * values) + free * values, np.float32)

    def scores_back(scores: Float32s) -> Float32s:
        wishes = np.asarray(single.T @ scores, np.float32)
        return np.asarray(scale * bare.transposed_times(wishes) + free * wishes, np.float32)

    if rank >= size:
        eye = np.eye(size, dtype=np.float32)
        return times(eye), eye
    if rank >= ratings.shape[0]:
        basis = orthonormal(scores_back(np.eye(ratings.shape[0], dtype=np.float32)))
        return times(basis), basis
    basis = np.random.default_rng(seed).normal(size=(size, min(rank + _OVERSAMPLING, size))).astype(np.float32)
    for _ in range(_ROUNDS):
        for _ in range(_POWER_STEPS):
            basis = orthonormal(scores_back(np.asarray(single @ times(basis), np.float32)))
            present().advance()
        scores = np.asarray(single @ times(basis), np.float32)
        basis = product(basis, _rotation(scores))
        item_out = np.ascontiguousarray(basis[:, :rank])
        item_in = times(item_out)
        free = np.sum(item_in * item_out, axis=1, keepdims=True, dtype=np.float32)
    return item_in, item_out


def _rotation(scores: Float32s) -> Float32s:
    """(K, K) float32, of (U, K) columns onto their principal axes, the longest first."""
    return np.asarray(decompositions.svd(product(scores.T, scores).astype(np.float64))[2].T, np.float32)


def factors(
    regression: ItemRegression, ratings: csr_matrix, counts: Int64s, config: HistoryConfig
) -> tuple[Float32s, Float32s]:
    """``item_in`` and ``item_out`` of fitted titles with the given numbers of ratings, after the cut to a rank."""
    weights = discount(counts, config.item_exponent or 0.0)
    return low_rank(regression, ratings, weights, config.rank or len(counts), config.seed)


def extend(features: Float32s, fitted: Float32s, some: Float32s) -> Float32s:
    """Ridge regression of fitted titles' factors on their features, applied to other titles.

    For ``item_in`` this is what the model itself says of a title that it has no coefficient for.

    Args:
        features: (N, f) of the fitted titles.
        fitted: (N, r) their factors.
        some: (M, f) features of other titles.

    Returns:
        (M, r) float32.
    """
    wide = features.astype(np.float64)
    maps = decompositions.solve(
        np.eye(wide.shape[1]) + product(wide.T, wide), product(wide.T, fitted.astype(np.float64))
    )
    return np.asarray(product(some.astype(np.float64), maps), np.float32)
