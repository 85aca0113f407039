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
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sdk.base.config import HistoryConfig
from sdk.base.types import Float32s, Float64s, Int64s
from sdk.machine import decompositions
from sdk.models.history.matrices import discount

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_OVERSAMPLING = 32
_POWER_STEPS = 6

Product = Callable[[Float32s], Float32s]


@dataclass(frozen=True, slots=True, eq=False)
class ItemRegression:
    """A fitted (N, N) matrix B = M / leave_out, as products; only its entries off the diagonal mean anything.

    Attributes:
        times: (N, r) float32 to ``M @`` it.
        transposed_times: (N, r) float32 to ``M.T @`` it.
        leave_out: (N,) float64, above 0 and at most 1: ``1 - x_i' A x_i``, by which column i is divided.
        diagonal: (N,) float64, that of M.
    """

    times: Product
    transposed_times: Product
    leave_out: Float64s
    diagonal: Float64s

    def without_diagonal(self) -> ItemRegression:
        """The same matrix with 0 on its diagonal: a cut to a rank then spends nothing on a title's own column."""
        own = self.diagonal.astype(np.float32)[:, None]
        return ItemRegression(
            lambda values: self.times(values) - own * values,
            lambda values: self.transposed_times(values) - own * values,
            self.leave_out,
            np.zeros_like(self.diagonal),
        )


def fit_regression(ratings: csr_matrix, features: Float32s, penalty: float) -> ItemRegression:
    """Solve the regression in the smaller of its two forms.

    Args:
        ratings: (U, N) sparse, X.
        features: (N, f) float32, F; f may be 0.
        penalty: above 0.

    Raises:
        ScoreError: the penalty is too small for the matrix to be inverted.
    """
    return prepared(ratings, features)(penalty)


def prepared(ratings: csr_matrix, features: Float32s) -> Callable[[float], ItemRegression]:
    """``fit_regression`` with the inner products done: what remains takes a penalty, and may be asked for several."""
    return (_by_users if ratings.shape[0] <= ratings.shape[1] else _by_items)(ratings, features)


def _by_users(ratings: csr_matrix, features: Float32s) -> Callable[[float], ItemRegression]:
    from sdk.models.history.gram import gram, inverse

    profile = ratings @ features.astype(np.float64)
    kernel = gram(ratings.T) + profile @ profile.T
    single = ratings.astype(np.float32)

    def covary(values: Float32s) -> Float32s:
        return np.asarray(values + features @ (features.T @ values), np.float32)

    def solve(penalty: float) -> ItemRegression:
        matrix = kernel.copy()
        matrix[np.diag_indices_from(matrix)] += penalty
        solved = (inverse(matrix) @ ratings).astype(np.float32)  # A X
        leave_out = 1 - np.asarray(ratings.multiply(solved).sum(axis=0), np.float64).ravel()
        shared = np.einsum("if,fi->i", features, profile.astype(np.float32).T @ solved)
        return ItemRegression(
            lambda values: covary(single.T @ (solved @ values)),
            lambda values: np.asarray(solved.T @ (single @ covary(values)), np.float32),
            leave_out,
            1 - leave_out + shared,
        )

    return solve


def _by_items(ratings: csr_matrix, features: Float32s) -> Callable[[float], ItemRegression]:
    """With P = inv(X'X + penalty inv(C)): C X'AX = I - penalty P inv(C), and its diagonal of inv(C) times that."""
    from sdk.models.history.gram import gram, inverse

    products = gram(ratings)
    wide = features.astype(np.float64)
    inner = decompositions.inverse(np.eye(wide.shape[1]) + wide.T @ wide)
    mapped = wide @ inner  # inv(C) = I - mapped @ wide.T, by Woodbury

    def solve(penalty: float) -> ItemRegression:
        matrix = mapped @ (-penalty * wide.T)
        matrix[np.diag_indices_from(matrix)] += penalty
        matrix += products
        solved = inverse(matrix)
        shared = (solved @ wide) @ inner
        solved -= shared @ wide.T  # P inv(C)
        spread = np.diagonal(solved) - np.einsum("if,fi->i", mapped, wide.T @ solved)
        leave_out = np.einsum("if,if->i", mapped, wide) + penalty * spread
        solved *= -penalty
        solved[np.diag_indices_from(solved)] += 1
        product = solved.astype(np.float32)
        diagonal = np.diagonal(product).astype(np.float64)
        return ItemRegression(lambda values: product @ values, lambda values: product.T @ values, leave_out, diagonal)

    return solve


def low_rank(
    regression: ItemRegression,
    row_weights: Float64s,
    column_weights: Float64s,
    rank: int,
    seed: int,
    power_steps: int = _POWER_STEPS,
) -> tuple[Float32s, Float32s]:
    """The best factors V, Q (N, min(rank, N)) of ``V @ Q.T = B * column_weights``, rows counting by their weight.

    By subspace iteration (Halko et al. 2011, arXiv:0909.4061, algorithm 4.4). A rank of N or more cuts nothing.

    Args:
        regression: as fitted.
        row_weights: (N,) above 0; how much an error in the row counts.
        column_weights: (N,) above 0.
        rank: at least 1.
        seed: of the first subspace.
        power_steps: how often the subspace is refined, at least 0.
    """
    size = len(row_weights)
    right = (column_weights / regression.leave_out).astype(np.float32)[:, None]
    left = row_weights.astype(np.float32)[:, None]
    width = min(rank + _OVERSAMPLING, size)
    basis = np.random.default_rng(seed).normal(size=(size, width)).astype(np.float32)
    for _ in range(power_steps if width < size else 0):  # a subspace of full width needs no refining
        basis = _orthonormal(left * regression.times(right * basis))
        basis = _orthonormal(right * regression.transposed_times(left * basis))
    basis = _orthonormal(left * regression.times(right * basis))
    across = right * regression.transposed_times(left * basis)  # (N, width), the matrix's transpose in the basis
    outer, singular, inner = decompositions.svd(across)
    kept = min(rank, size)
    item_in = (basis @ inner[:kept].T) * singular[:kept] / left
    return np.ascontiguousarray(item_in, np.float32), np.ascontiguousarray(outer[:, :kept], np.float32)


def factors(
    regression: ItemRegression, counts: Int64s, config: HistoryConfig, power_steps: int = _POWER_STEPS
) -> tuple[Float32s, Float32s]:
    """``item_in`` and ``item_out`` of fitted titles with the given numbers of ratings, after the cut to a rank."""
    regression = regression if config.keeps_diagonal else regression.without_diagonal()
    weights = np.sqrt(counts + 1.0), discount(counts, config.item_exponent)
    return low_rank(regression, *weights, config.rank or len(counts), config.seed, power_steps)


def _orthonormal(columns: NDArray[Any]) -> Float32s:
    basis: Float32s = np.linalg.qr(columns)[0]
    return basis


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
    maps = decompositions.solve(np.eye(wide.shape[1]) + wide.T @ wide, wide.T @ fitted)
    return np.asarray(some @ maps, np.float32)
