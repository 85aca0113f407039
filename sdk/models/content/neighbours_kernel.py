"""The compiled inner loops of the neighbour search. Importing this module loads Numba."""

from __future__ import annotations

from typing import Any

import numpy as np

from sdk.base.types import Float32s, Int32s, Int64s
from sdk.machine.compiled import compiled


@compiled
def _worse(row: Int64s, score: Float32s, a: Any, b: Any) -> bool:
    """Whether entry a ranks below entry b: a smaller score, or the same and a larger row."""
    if score[a] == score[b]:
        return row[a] > row[b]
    return score[a] < score[b]


@compiled
def _swap(row: Int64s, score: Float32s, a: Any, b: Any) -> None:
    row[a], row[b] = row[b], row[a]
    score[a], score[b] = score[b], score[a]


@compiled
def _sift_up(row: Int64s, score: Float32s, i: Any) -> None:
    while i > 0:
        parent = (i - 1) // 2
        if not _worse(row, score, i, parent):
            break
        _swap(row, score, i, parent)
        i = parent


@compiled
def _sift_down(row: Int64s, score: Float32s, size: Any) -> None:
    i = np.int64(0)
    while 2 * i + 1 < size:
        child = 2 * i + 1
        if child + 1 < size and _worse(row, score, child + 1, child):
            child += 1
        if not _worse(row, score, child, i):
            break
        _swap(row, score, i, child)
        i = child


@compiled
def _keep_best(all_scores: Float32s, row: Int64s, score: Float32s) -> Any:
    """Read every score once, keeping the best in a heap whose top is the worst kept; set all scores back to 0."""
    k, size = len(row), np.int64(0)  # a literal would be compiled for apart
    for i in range(len(all_scores)):
        value = all_scores[i]
        all_scores[i] = 0
        if value <= 0:
            continue
        if size < k:
            row[size], score[size] = i, value
            size += 1
            _sift_up(row, score, size - 1)
        elif value > score[0]:  # rows ascend, so an equal score never wins
            row[0], score[0] = i, value
            _sift_down(row, score, size)
    return size


@compiled
def _sort_heap(row: Int64s, score: Float32s, size: Any) -> None:
    """Best first: move the worst of the heap behind the rest, again and again."""
    for last in range(size - 1, 0, -1):
        _swap(row, score, 0, last)
        _sift_down(row, score, last)


@compiled
def nearest_rows(
    indptr: Int32s,
    indices: Int32s,
    data: Float32s,
    column_indptr: Int32s,
    column_indices: Int32s,
    column_data: Float32s,
    queries: Int64s,
    out_row: Int64s,
    out_score: Float32s,
    out_length: Int32s,
) -> None:
    """Fill the nearest rows of each query in place.

    Args:
        indptr: (N + 1,) of a CSR matrix (N, F) without negative values.
        indices: its column numbers.
        data: its values, float32.
        column_indptr: (F + 1,) of the same matrix by columns; row numbers ascend within a column.
        column_indices: its row numbers.
        column_data: its values, float32.
        queries: (B,) row numbers.
        out_row: (B, k), written up to each row's length.
        out_score: (B, k), written up to each row's length.
        out_length: (B,), written.
    """
    scores = np.zeros(len(indptr) - 1, np.float32)
    for b in range(len(queries)):
        query = queries[b]
        for i in range(indptr[query], indptr[query + 1]):
            column, weight = indices[i], data[i]
            for j in range(column_indptr[column], column_indptr[column + 1]):
                scores[column_indices[j]] += weight * column_data[j]
        scores[query] = 0
        out_length[b] = _keep_best(scores, out_row[b], out_score[b])
        _sort_heap(out_row[b], out_score[b], out_length[b])
