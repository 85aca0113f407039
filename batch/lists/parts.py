"""Lists as Parquet parts: one row per (query, rank), written with the fixed options that make bytes repeat."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sdk.base import schema
from sdk.base.arrow_tables import long_form, real_places
from sdk.base.ids import rows_of
from sdk.base.types import Int64s
from sdk.scoring.recommender import Audience, Recommender


def audience_table(recommender: Recommender, user_index: Int64s, found: Audience) -> pa.Table:
    """An audience as ``schema.ITEM_USERS``.

    Args:
        recommender: what it was made by.
        user_index: (B,) int64, the user rows that it was made of, ascending.
        found: the audience.
    """
    real = real_places(found.lengths, found.user_index.shape[1])
    users = found.user_index[real]
    names, codes = np.unique(recommender.sources(user_index), return_inverse=True)
    columns = recommender.items.ids[found.item_index], recommender.users.ids[users], found.scores[real]
    return long_form(schema.ITEM_USERS, real, *columns, names, codes[rows_of(user_index, users)])


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
