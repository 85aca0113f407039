"""Tokens become weighted sparse rows, and sparse rows short dense ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sdk.base.types import Bools, Float32s, Float64s
from sdk.machine.decompositions import every_core, orthonormal, product, svd, well_conditioned
from sdk.models.content.tokens import Tokens

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfTransformer


@dataclass(frozen=True, eq=False)
class SparseRows:
    """A sparse matrix by rows as its arrays: SciPy, which is slow to load, is loaded where it is asked for whole.

    Attributes:
        data: (Z,) float32.
        indices: (Z,) columns, ascending within a row.
        indptr: (N + 1,) where each row begins.
        shape: N and the number of columns.
    """

    data: Float32s
    indices: NDArray[np.integer[Any]]
    indptr: NDArray[np.integer[Any]]
    shape: tuple[int, int]

    @classmethod
    def of(cls, matrix: csr_matrix) -> SparseRows:
        """Those of a matrix, which are not copied."""
        return cls(matrix.data, matrix.indices, matrix.indptr, matrix.shape)

    @cached_property
    def whole(self) -> csr_matrix:
        """As SciPy's."""
        from scipy.sparse import csr_matrix

        return csr_matrix((self.data, self.indices, self.indptr), self.shape)

    def row(self, place: int) -> tuple[NDArray[np.integer[Any]], Float32s]:
        """Columns and values of one row."""
        part = slice(*self.indptr[place : place + 2])
        return self.indices[part], self.data[part]

    @property
    def is_empty(self) -> Bools:
        """(N,) bool, which rows hold nothing."""
        return np.diff(self.indptr) == 0


def counts(tokens: Tokens, vocabulary: list[str], num_items: int) -> csr_matrix:
    """(num_items, len(vocabulary)) float64: the summed values of each known token in each title."""
    import pyarrow.compute as pc
    from scipy.sparse import csr_matrix

    column = pc.index_in(tokens.token, value_set=pa.array(vocabulary, pa.string()))
    known = column.is_valid().to_numpy(zero_copy_only=False)
    place = (tokens.row[known], column.drop_null().to_numpy())
    return csr_matrix((tokens.value[known], place), shape=(num_items, len(vocabulary)))  # sums repeated places


def smooth_idf(tokens: Tokens, vocabulary: list[str], num_items: int, *, soft: bool) -> Float64s:
    """Smooth idf, ``ln((1 + N) / (1 + df)) + 1``; 1 for soft buckets, where nearness alone counts."""
    if soft or not vocabulary:  # scikit-learn refuses a matrix without columns
        return np.ones(len(vocabulary))
    idf: Float64s = _weigher().fit(counts(tokens, vocabulary, num_items)).idf_
    return idf


def tfidf_block(tokens: Tokens, vocabulary: list[str], idf: Float64s, num_items: int, *, soft: bool) -> csr_matrix:
    """One field's unit rows: sublinear tf, ``1 + ln(count)``, times idf; soft buckets keep their values."""
    block = counts(tokens, vocabulary, num_items)
    if soft or not vocabulary:
        return unit_rows(block)
    weigher = _weigher()
    weigher.idf_ = idf
    return weigher.transform(block, copy=False)


def _weigher() -> TfidfTransformer:
    from sklearn.feature_extraction.text import TfidfTransformer

    return TfidfTransformer(sublinear_tf=True)


def unit_rows(matrix: csr_matrix) -> csr_matrix:
    """The same matrix, changed in place: every row that is not empty has length 1."""
    from sklearn.preprocessing import normalize

    return normalize(matrix, copy=False) if matrix.shape[1] else matrix


def joined(blocks: Mapping[str, csr_matrix], weights: Mapping[str, float], num_items: int) -> csr_matrix:
    """The blocks that have a weight side by side, as rows of length 1."""
    from scipy.sparse import csr_matrix, hstack

    weighted = [blocks[field] * np.sqrt(weight) for field, weight in weights.items()]
    whole = hstack(weighted, format="csr") if weighted else csr_matrix((num_items, 0))
    rows = unit_rows(whole).astype(np.float32)
    rows.sort_indices()
    return rows


@every_core()
def short_vectors(matrix: csr_matrix, dim: int, seed: int) -> Float32s:
    """(N, dim) float32: left singular vectors times singular values, by randomised SVD (Halko et al. 2011).

    The largest entry of each component is positive. Components past the matrix's rank are 0.
    """
    out = np.zeros((matrix.shape[0], dim), np.float32)
    width = min(dim, *matrix.shape)
    if width == 0:
        return out
    left, singular = _randomised_svd(matrix.astype(np.float64), width, seed)
    left = left[:, singular > 1e-6 * max(singular[0], 1e-6)]
    signs = np.sign(left[np.abs(left).argmax(axis=0), np.arange(left.shape[1])])
    out[:, : left.shape[1]] = left * signs * singular[: left.shape[1]]
    return out


def _randomised_svd(matrix: csr_matrix, width: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Left singular vectors (N, width) and singular values, from scikit-learn's draws and by as many power steps.

    All of it but one basis is as long as the matrix's shorter side, and torch's BLAS does what is dense.
    """
    wide = matrix.shape[0] < matrix.shape[1]
    short = matrix if wide else matrix.T.tocsr()
    long = short.T.tocsr()
    draws = np.random.RandomState(seed).normal(size=(short.shape[0], width + 10))
    basis = draws[:, : short.shape[0]]
    for _ in range(7):
        basis = well_conditioned(short @ (long @ basis))
    range_of = well_conditioned(well_conditioned(long @ basis))  # orthonormal to rounding, as Cholesky twice is
    inner = short @ range_of
    basis = orthonormal(inner)
    left, singular, right = svd(product(basis.T, inner))
    found = product(basis, left) if wide else product(range_of, right.T)
    return found[:, :width], singular[:width]
