"""Lists as Parquet parts: one row per (query, rank), written with the fixed options that make bytes repeat."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sdk.base import schema
from sdk.base.ids import rows_of
from sdk.base.types import Bools, Int32s, Int64s, TopK
from sdk.scoring.recommender import Audience, Recommender


def table_of(query_ids: Int64s, lists: TopK, layout: pa.Schema) -> pa.Table:
    """Long form of lists: query id, rank (1 = best), item id, score, source.

    Args:
        query_ids: (B,) int64, the id that each row of ``lists`` answers.
        lists: the lists.
        layout: ``schema.USER_ITEMS`` or ``schema.ITEM_ITEMS``.
    """
    real = _real(lists.lengths, lists.item_id.shape[1])
    names, codes = np.unique(lists.source, return_inverse=True)
    columns = query_ids, lists.item_id[real], lists.scores[real]
    return _long_form(layout, real, *columns, names, np.repeat(codes, lists.lengths))


def audience_table(recommender: Recommender, user_index: Int64s, found: Audience) -> pa.Table:
    """An audience as ``schema.ITEM_USERS``.

    Args:
        recommender: what it was made by.
        user_index: (B,) int64, the user rows that it was made of, ascending.
        found: the audience.
    """
    real = _real(found.lengths, found.user_index.shape[1])
    users = found.user_index[real]
    names, codes = np.unique(recommender.sources(user_index), return_inverse=True)
    columns = recommender.items.ids[found.item_index], recommender.users.ids[users], found.scores[real]
    return _long_form(schema.ITEM_USERS, real, *columns, names, codes[rows_of(user_index, users)])


def _real(lengths: Int32s, width: int) -> Bools:
    return np.asarray(np.arange(width) < lengths[:, None])


def _long_form(
    layout: pa.Schema, real: Bools, queries: Int64s, answers: Int64s, scores: NDArray[Any], *source: NDArray[Any]
) -> pa.Table:
    """What is real of (B, k) lists, row after row; ``source`` is the names there are, and each answer's of them."""
    names, codes = source
    rank = np.broadcast_to(np.arange(1, real.shape[1] + 1, dtype=np.int32), real.shape)[real]
    named = pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(names.astype(str)))
    columns = [np.repeat(queries, real.sum(axis=1)), rank, answers, scores, named.cast(pa.string())]
    return pa.table([pa.array(column) for column in columns], schema=layout)


def part_bytes(table: pa.Table, *, page_checksums: bool = False) -> bytes:
    """One part as a Parquet file; the same table gives the same bytes on the same package versions.

    Args:
        table: of one part.
        page_checksums: whether it holds checksums of its own: for what is read before anything checks its hash.
    """
    sink, fixed = pa.BufferOutputStream(), {"row_group_size": 1 << 20, "use_dictionary": ["source"]}
    pq.write_table(table, sink, compression="zstd", write_page_checksum=page_checksums, **fixed)
    data: bytes = sink.getvalue().to_pybytes()
    return data
