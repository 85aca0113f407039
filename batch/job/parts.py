"""Lists as Parquet parts: one row per (query, rank), written with the fixed options that make bytes repeat."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sdk.base.types import Int64s, TopK


def table_of(query_ids: Int64s, lists: TopK, layout: pa.Schema) -> pa.Table:
    """Long form of lists: query id, rank (1 = best), item id, score, source.

    Args:
        query_ids: (B,) int64, the id that each row of ``lists`` answers.
        lists: the lists.
        layout: ``schema.USER_ITEMS`` or ``schema.ITEM_ITEMS``.
    """
    lengths = lists.lengths.astype(np.int64)
    real = np.arange(lists.item_id.shape[1]) < lengths[:, None]
    rank = np.broadcast_to(np.arange(1, lists.item_id.shape[1] + 1, dtype=np.int32), real.shape)[real]
    source = pa.DictionaryArray.from_arrays(*_dictionary(lists.source, lengths)).cast(pa.string())
    columns = [np.repeat(query_ids, lengths), rank, lists.item_id[real], lists.scores[real], source]
    return pa.table([pa.array(column) for column in columns], schema=layout)


def _dictionary(source: np.ndarray, lengths: Int64s) -> tuple[pa.Array, pa.Array]:  # type: ignore[type-arg]
    names, codes = np.unique(source, return_inverse=True)
    return pa.array(np.repeat(codes, lengths).astype(np.int32)), pa.array(names.astype(str))


def part_bytes(table: pa.Table) -> bytes:
    """One part as a Parquet file; the same table gives the same bytes on the same package versions."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=1 << 20, use_dictionary=["source"])
    data: bytes = sink.getvalue().to_pybytes()
    return data
