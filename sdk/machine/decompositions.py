"""Decompositions that do not end a training: where LAPACK's first way fails on a sound matrix, another one is taken.

LAPACK's divide and conquer (gesdd) now and then does not converge on matrices that its older ways take without ado, and
which matrices these are depends on the processor and on the number of threads. Where the first way works, its result is
given as it is.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdk.base.errors import ScoreError
from sdk.machine.device import usable_cores

log = logging.getLogger(__name__)
_DEPENDENT = 1e-5  # of the longest column's, what is left of one beside the others
_Way: TypeAlias = Callable[[], Sequence[NDArray[Any]]]


def svd(matrix: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """The thin singular value decomposition U (M, K), s (K,) falling, V' (K, N) of an (M, N) matrix, K = min(M, N).

    Raises:
        ScoreError: the matrix is not finite, or no way works.
    """
    from scipy import linalg

    older = functools.partial(linalg.svd, full_matrices=False, lapack_driver="gesvd", check_finite=False)
    left, singular, right = _first_that_works(
        "singular value decomposition", (matrix,),
        lambda: np.linalg.svd(matrix, full_matrices=False),
        lambda: older(matrix),
        lambda: older(matrix.astype(np.float64)),
        lambda: _svd_by_gram(matrix.astype(np.float64)),
    )  # fmt: skip
    return left, singular, right


@contextmanager
def every_core() -> Iterator[None]:
    """Let torch's and NumPy's operations take every core meanwhile, whatever this process set or was told by
    ``OMP_NUM_THREADS`` and its like: their last bits depend on it.
    """
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    with threadpool_limits(usable_cores(), "blas"):
        torch.set_num_threads(usable_cores())
        try:
            yield
        finally:
            torch.set_num_threads(before)


def product(left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    """``left @ right`` of dense matrices of one type, by torch's BLAS: NumPy's may not know the processor."""
    import torch

    return np.asarray((torch.from_numpy(left) @ torch.from_numpy(right)).numpy())  # a transpose is not copied


def orthonormal(columns: NDArray[Any]) -> NDArray[Any]:
    """(N, K) an orthonormal basis of what the columns of an (N, K) matrix span, K at most N."""
    import torch

    return np.asarray(torch.linalg.qr(torch.from_numpy(np.ascontiguousarray(columns)))[0].numpy())


def well_conditioned(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, K) columns that span what those of an (N, K) matrix do, for a power step: orthonormal but for rounding.

    By Cholesky, which takes a tenth of a QR decomposition's time; by that one where it would lose half of the digits.
    """
    import torch

    values = torch.from_numpy(columns)
    root, failed = torch.linalg.cholesky_ex(values.T @ values)
    size = root.diagonal()
    if int(failed) or not len(size) or not float(size.min()) > _DEPENDENT * float(size.max()):
        return orthonormal(columns)
    return np.asarray(torch.linalg.solve_triangular(root.T, values, upper=True, left=False).numpy())


def solve(matrix: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    """X (N, M) of ``matrix @ X = right``, for an (N, N) symmetric positive definite matrix.

    Raises:
        ScoreError: a number is not finite, or no way works.
    """
    wide = matrix.astype(np.float64)
    (found,) = _first_that_works(
        "system of equations", (matrix, right),
        lambda: (np.linalg.solve(matrix, right),),
        lambda: (np.linalg.solve(wide, right),),
        lambda: (_inverse_by_eigen(wide) @ right,),
    )  # fmt: skip
    return found


def inverse(matrix: NDArray[Any]) -> NDArray[Any]:
    """The inverse of an (N, N) symmetric positive definite matrix.

    Raises:
        ScoreError: a number is not finite, or no way works.
    """
    ways = (lambda: (np.linalg.inv(matrix),), lambda: (_inverse_by_eigen(matrix.astype(np.float64)),))
    return _first_that_works("inverse", (matrix,), *ways)[0]


def _first_that_works(name: str, given: Sequence[NDArray[Any]], *ways: _Way) -> Sequence[NDArray[Any]]:
    """The first result that is finite, in the type of what was given."""
    shape = " x ".join(f"{size:,}" for size in given[0].shape)
    if not all(np.isfinite(values).all() for values in given):
        message = f"{name} of a {shape} matrix: it holds a NaN or an infinity; look for ratings that are not finite"
        raise ScoreError(message)
    kind = np.result_type(*given)
    for number, way in enumerate(ways, start=1):
        try:
            found = way()
        except (np.linalg.LinAlgError, ValueError) as error:
            log.warning("%s of a %s matrix: way %d of %d fails (%s)", name, shape, number, len(ways), error)
            continue
        if all(np.isfinite(part).all() for part in found):
            return [part.astype(kind, copy=False) for part in found]
        log.warning("%s of a %s matrix: way %d of %d gives no finite numbers", name, shape, number, len(ways))
    message = f"{name} of a {shape} matrix: LAPACK fails in every way; train with one thread (OMP_NUM_THREADS=1)"
    raise ScoreError(message)


def _svd_by_gram(matrix: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """By the eigenvectors of the smaller of M M' and M' M; the other side's vectors are made orthonormal by QR."""
    if matrix.shape[0] < matrix.shape[1]:
        left, singular, right = _svd_by_gram(matrix.T)
        return right.T, singular, left.T
    vectors = np.ascontiguousarray(np.linalg.eigh(matrix.T @ matrix)[1][:, ::-1])
    left, triangle = np.linalg.qr(matrix @ vectors)
    singular = np.diagonal(triangle)
    signs = np.where(singular < 0, -1.0, 1.0)
    return left * signs, np.abs(singular), vectors.T


def _inverse_by_eigen(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Eigenvalues that rounding has made too small, or negative, count as the least that float64 can tell from 0."""
    values, vectors = np.linalg.eigh(matrix)
    least = len(values) * np.finfo(np.float64).eps * max(np.abs(values).max(initial=0), np.finfo(np.float64).tiny)
    found: NDArray[np.float64] = (vectors / np.maximum(values, least)) @ vectors.T
    return found
