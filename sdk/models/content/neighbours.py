"""Exact nearest neighbours of sparse unit rows, by walking an inverted index.

For each query the products are added up column by column into one dense row of scores, which a heap of k then
reads once. That costs the sum over columns of (titles in the column)², wherever the matrix is wide: no pruning,
no sampling, no (num_items, num_items) matrix. The loops are compiled by Numba and run on all cores.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from sdk.base.types import BestRows, Bools, Int64s
from sdk.machine.device import usable_cores

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


_QUICK = 16  # rows that are asked about before compiled code is loaded: what they save is what loading it takes


class NeighbourIndex:
    """An inverted index over the rows of a matrix.

    Args:
        matrix: (N, F) float32 CSR with sorted indices and no negative value.
        listed: (N,) bool, the rows that may be found; None finds all. The others can still be asked about.
        asked: (N, F) likewise, the rows as they are asked for, where they are others than those that are found.
    """

    def __init__(self, matrix: csr_matrix, listed: Bools | None = None, asked: csr_matrix | None = None) -> None:
        self._rows = matrix if asked is None else asked
        self._columns = (matrix if listed is None else _only(matrix, listed)).T.tocsr()
        self._columns.sort_indices()
        self._quick = _QUICK

    def nearest(self, rows: Int64s, k: int, *, threads: int | None = None) -> BestRows:
        """The k rows of largest dot product with each given row, itself excluded, and only where it is above 0.

        Neither the number of threads nor the company of other queries changes a result.

        Args:
            rows: (B,) int64 row numbers, each in 0..N-1.
            k: list length, at least 1.
            threads: None takes every core this process may use.
        """
        found = BestRows.empty(len(rows), k)
        self._quick -= len(rows)
        if self._quick >= 0:
            for place, row in enumerate(rows.tolist()):
                self._fill_one(row, found, place)
            return found
        workers = max(1, min(threads or usable_cores(), len(rows)))
        edges = np.linspace(0, len(rows), workers + 1).astype(int)
        with ThreadPoolExecutor(workers) as pool:
            parts = [pool.submit(self._fill, rows, found, a, b) for a, b in pairwise(edges)]
            for part in parts:
                part.result()
        return found

    def _fill(self, rows: Int64s, found: BestRows, start: int, stop: int) -> None:
        from sdk.models.content.neighbours_kernel import nearest_rows

        x, y, part = self._rows, self._columns, slice(start, stop)
        arrays = (x.indptr, x.indices, x.data, y.indptr, y.indices, y.data)
        nearest_rows(*arrays, rows[part], found.row[part], found.scores[part], found.lengths[part])

    def _fill_one(self, row: int, found: BestRows, place: int) -> None:
        """What the compiled loops do, for one row, in the same order: nobody waits for compiled code to be loaded."""
        x, y = self._rows, self._columns
        scores = np.zeros(x.shape[0], np.float32)
        for at in range(x.indptr[row], x.indptr[row + 1]):
            part = slice(*y.indptr[x.indices[at] : x.indices[at] + 2])
            scores[y.indices[part]] += x.data[at] * y.data[part]  # each row stands once in a column
        scores[row] = 0
        best = np.argsort(-scores, kind="stable")[: found.row.shape[1]]
        best = best[scores[best] > 0]
        found.row[place, : len(best)], found.scores[place, : len(best)] = best, scores[best]
        found.lengths[place] = len(best)


def _only(matrix: csr_matrix, listed: Bools) -> csr_matrix:
    """The same matrix with the other rows empty."""
    kept = matrix.copy()
    kept.data *= np.repeat(listed, np.diff(matrix.indptr))
    kept.eliminate_zeros()
    return kept
