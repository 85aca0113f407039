"""Tokens become weighted sparse rows, and sparse rows short dense ones."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sdk.base.types import Float32s, Float64s
from sdk.machine.decompositions import svd
from sdk.models.content.tokens import Tokens

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfTransformer

log = logging.getLogger(__name__)


def counts(tokens: Tokens, vocabulary: list[str], num_items: int) -> csr_matrix:
    """(num_items, len(vocabulary)) float64: the summed values of each known token in each title."""
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
    """Left singular vectors (N, width) and singular values; scikit-learn's, or by the same steps where LAPACK fails."""
    from sklearn.utils.extmath import randomized_svd

    try:
        return randomized_svd(matrix, width, n_iter=7, random_state=seed)[:2]
    except np.linalg.LinAlgError as error:
        log.warning("randomised SVD of a %d x %d matrix fails (%s); going another way", *matrix.shape, error)
    basis = np.random.default_rng(seed).normal(size=(matrix.shape[1], min(width + 10, *matrix.shape)))
    for _ in range(7):
        basis = np.linalg.qr(matrix.T @ np.linalg.qr(matrix @ basis)[0])[0]
    basis = np.linalg.qr(matrix @ basis)[0]
    left, singular, _ = svd((matrix.T @ basis).T)
    return basis @ left[:, :width], singular[:width]
