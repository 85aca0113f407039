"""Inner products of sparse columns and the inverse of their matrix, at the size of a catalogue, on every core.

Each entry is summed by one thread in the order of the rows, so the result does not depend on the number of threads.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from sdk.base.errors import ScoreError
from sdk.base.types import Float64s, Int32s, Int64s
from sdk.machine.compiled import compiled
from sdk.machine.device import usable_cores

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_Sides: TypeAlias = tuple[Int64s, Int32s, Float64s, Int64s, Int32s, Float64s]  # by title, then by user

_ROWS_AT_ONCE = 256
_TILE = 1024


def gram(ratings: csr_matrix) -> Float64s:
    """(N, N) float64 ``ratings.T @ ratings`` of a (U, N) sparse matrix, dense."""
    rows = ratings.tocsr()
    rows.sort_indices()
    columns = rows.tocsc()
    size = rows.shape[1]
    out = np.zeros((size, size))
    sides = (*_parts(columns), *_parts(rows))
    starts = range(0, size, _ROWS_AT_ONCE)
    with ThreadPoolExecutor(usable_cores()) as pool:  # the last strips hold the longest rows, so they come first
        list(pool.map(lambda start: _add_lower(sides, start, min(start + _ROWS_AT_ONCE, size), out), reversed(starts)))
    mirror_lower(out)
    return out


def quadratic_forms(matrix: Float64s, vectors: csr_matrix) -> Float64s:
    """(N,) float64 ``x @ matrix @ x`` of each column of an (R, N) sparse matrix, by a symmetric (R, R) one."""
    columns = _parts(vectors.tocsc())
    size = vectors.shape[1]
    out = np.zeros(size)
    starts = range(0, size, _ROWS_AT_ONCE)
    with ThreadPoolExecutor(usable_cores()) as pool:
        list(pool.map(lambda start: _add_forms(columns, start, min(start + _ROWS_AT_ONCE, size), matrix, out), starts))
    return out


@compiled
def _add_forms(
    columns: tuple[Int64s, Int32s, Float64s], first: int, last: int, matrix: Float64s, out: Float64s
) -> None:
    start, rows, weight = columns
    for column in range(first, last):
        total = 0.0
        for one in range(start[column], start[column + 1]):
            across = 0.5 * weight[one] * matrix[rows[one], rows[one]]
            for other in range(start[column], one):
                across += weight[other] * matrix[rows[one], rows[other]]
            total += 2 * weight[one] * across
        out[column] = total


def _parts(matrix: Any) -> tuple[Int64s, Int32s, Float64s]:
    return matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data.astype(np.float64)


@compiled
def _add_lower(sides: _Sides, first: int, last: int, out: Float64s) -> None:
    """Rows ``first`` to ``last`` of the lower triangle: each user of a title adds all of their titles up to it."""
    users_start, users, user_weight, items_start, items, item_weight = sides
    for item in range(first, last):
        for place in range(users_start[item], users_start[item + 1]):
            user, weight = users[place], user_weight[place]
            for other in range(items_start[user], items_start[user + 1]):
                if items[other] > item:
                    break
                out[item, items[other]] += weight * item_weight[other]


def mirror_lower(matrix: Float64s) -> None:
    """Copy the lower triangle of an (N, N) matrix onto the upper one, in place and in tiles."""
    for start in range(0, len(matrix), _TILE):
        stop = start + _TILE
        corner = matrix[start:stop, start:stop]
        lower = np.tril(corner)
        corner[:] = lower + np.tril(lower, -1).T
        for below in range(stop, len(matrix), _TILE):
            matrix[start:stop, below : below + _TILE] = matrix[below : below + _TILE, start:stop].T


def inverse(matrix: Float64s) -> Float64s:
    """The inverse of an (N, N) symmetric positive definite float64 matrix, by Cholesky and torch's BLAS.

    NumPy's may not know the processor, where torch's does. The matrix itself is given up.

    Raises:
        ScoreError: the matrix is not positive definite.
    """
    root = _cholesky(matrix)
    if root is None:  # rounding, perhaps
        size, diagonal = len(matrix), np.abs(matrix.diagonal())
        matrix[np.diag_indices(size)] += size * np.finfo(np.float64).eps * diagonal.max()
        root = _cholesky(matrix)
    if root is None:
        raise ScoreError(
            f"history model: the {len(matrix):,} x {len(matrix):,} matrix is not positive definite; "
            "raise HistoryConfig.penalty, and look for ratings that are not finite"
        )
    import torch

    eye = torch.from_numpy(matrix).copy_(torch.eye(len(matrix), dtype=torch.float64))
    half, cut = torch.linalg.solve_triangular(root, eye, upper=False), len(matrix) // 2
    below = half[cut:]  # half.T @ half, without the quarter of ``half`` that is 0
    out = below.T @ below
    out[:cut, :cut] += half[:cut, :cut].T @ half[:cut, :cut]
    return np.asarray(out.numpy())


def _cholesky(matrix: Float64s) -> Any:
    """The (N, N) lower triangle as a tensor; None where there is none."""
    import torch

    root, failed = torch.linalg.cholesky_ex(torch.from_numpy(matrix))
    return None if int(failed) or not bool(torch.isfinite(root.diagonal()).all()) else root  # a NaN reaches its row's
