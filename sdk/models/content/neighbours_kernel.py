"""The compiled inner loops of the neighbour search. Importing this module loads Numba."""

from __future__ import annotations

from heapq import heappop, heappush, heapreplace
from typing import Any

import numpy as np

from sdk.base.types import Float32s, Int32s, Int64s
from sdk.machine.compiled import compiled


@compiled
def _take_best(all_scores: Float32s, row: Int64s, score: Float32s) -> Any:
    """Read every score once, keeping the best in a heap whose top is the worst kept; set all scores back to 0."""
    heap: list[Any] = [(np.float32(0), np.int64(0))][:0]  # empty, but of a type
    for i in range(len(all_scores)):
        value = all_scores[i]
        all_scores[i] = 0
        if value > 0 and len(heap) < len(row):
            heappush(heap, (value, -i))
        elif value > 0 and value > heap[0][0]:  # rows ascend, so an equal score never wins
            heapreplace(heap, (value, -i))
    size = len(heap)
    for rank in range(size - 1, -1, -1):
        value, negative = heappop(heap)
        row[rank], score[rank] = -negative, value
    return size


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
        out_length[b] = _take_best(scores, out_row[b], out_score[b])
