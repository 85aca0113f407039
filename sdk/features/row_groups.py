"""Some rows of a Parquet file, read by the row groups that they lie in: what is read grows with the rows, not the file.

The file is held open, so that what is read later is of the same file, whatever is put in its place meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sdk.base.types import Int64s


class HeldParquet:
    """A Parquet file that is held open; any number of threads may read it.

    Args:
        path: the file.

    Raises:
        OSError: it is absent or cannot be read.
        pa.ArrowException: it is no Parquet file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = pa.OSFile(str(path))
        file = pq.ParquetFile(self._file)
        self._metadata, self.schema = file.metadata, file.schema_arrow

    @property
    def num_rows(self) -> int:
        """Of the whole file."""
        return int(self._metadata.num_rows)

    @cached_property
    def _edges(self) -> Int64s:
        """(G + 1,) where each row group begins, and the end of the last."""
        sizes = [self._metadata.row_group(n).num_rows for n in range(self._metadata.num_row_groups)]
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    def take(self, rows: Int64s, columns: Sequence[str] | None = None) -> pa.Table:
        """Some rows.

        Args:
            rows: (B,) int64, ascending.
            columns: None reads all.
        """
        counts = np.histogram(rows, self._edges)[0] if len(rows) else np.zeros(len(self._edges) - 1, np.int64)
        found, ends = [self._nothing(columns)], np.concatenate([[0], np.cumsum(counts)])
        for group in np.flatnonzero(counts).tolist():
            places = rows[ends[group] : ends[group + 1]] - self._edges[group]
            found.append(_some(self._read(group, columns), places))
        return pa.concat_tables(found)

    def where(
        self, column: str, least: int, most: int, keep: Callable[[pa.Table], pa.Array], columns: Sequence[str]
    ) -> pa.Table:
        """The rows of which a column of whole numbers lies within bounds, as far as ``keep`` keeps them.

        A row group whose statistics lie outside is not read; one without statistics is.

        Args:
            column: by which the file is in order, if it is in any.
            least: the smallest value.
            most: the largest value.
            keep: gives (N,) bool of each row group's N rows.
            columns: what to read.
        """
        at, found = self.schema.get_field_index(column), [self._nothing(columns)]
        for group in range(self._metadata.num_row_groups):
            known = self._metadata.row_group(group).column(at).statistics
            if known is not None and known.has_min_max and not (known.min <= most and known.max >= least):
                continue
            table = self._read(group, columns)
            found.append(table.filter(keep(table)))
        return pa.concat_tables(found)

    def column(self, name: str) -> pa.ChunkedArray:
        """One column, whole."""
        groups = range(self._metadata.num_row_groups)
        return pa.concat_tables([self._nothing([name]), *(self._read(n, [name]) for n in groups)]).column(name)

    def _read(self, group: int, columns: Sequence[str] | None) -> pa.Table:
        chosen = None if columns is None else list(columns)
        return pq.ParquetFile(self._file, metadata=self._metadata).read_row_group(group, chosen, use_threads=False)

    def _nothing(self, columns: Sequence[str] | None) -> pa.Table:
        table = self.schema.empty_table()
        return table if columns is None else table.select(list(columns))


def _some(table: pa.Table, places: Int64s) -> pa.Table:
    """(B,) ascending places of a table; a view where they are one run."""
    if int(places[-1]) - int(places[0]) + 1 == len(places):
        return table.slice(int(places[0]), len(places))
    return table.take(pa.array(places))
