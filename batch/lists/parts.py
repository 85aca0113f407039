"""Lists as Parquet parts: one row per (query, rank), written with the fixed options that make bytes repeat."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sdk.base import schema
from sdk.base.arrow_tables import long_form, named_by, real_places
from sdk.base.ids import rows_of
from sdk.base.types import Int64s
from sdk.scoring.recommender import Audience, Recommender

TEXTS = ["source", "user_id", "item_id", "similar_item_id"]
"""Columns of parts that may be strings, to be read as dictionaries: a tenth of the time that strings take."""


def audience_table(recommender: Recommender, user_index: Int64s, found: Audience) -> pa.Table:
    """An audience as ``schema.ITEM_USERS``, with the types of its ids.

    Args:
        recommender: what it was made by.
        user_index: (B,) int64, the user rows that it was made of, ascending.
        found: the audience.
    """
    real = real_places(found.lengths, found.user_index.shape[1])
    users = found.user_index[real]
    names, codes = np.unique(recommender.sources(user_index), return_inverse=True)
    item_ids, user_ids = recommender.items.ids, recommender.users.ids
    columns = named_by(item_ids, found.item_index), named_by(user_ids, users), found.scores[real]
    layout = schema.with_ids(schema.ITEM_USERS, item_ids, user_ids)
    return long_form(layout, real, *columns, names, codes[rows_of(user_index, users)])


def part_bytes(table: pa.Table, *, page_checksums: bool = False) -> bytes:
    """One part as a Parquet file; the same table gives the same bytes on the same package versions.

    Args:
        table: of one part.
        page_checksums: whether it holds checksums of its own: for what is read before anything checks its hash.
    """
    strings = [field.name for field in table.schema if pa.types.is_string(field.type)]
    sink, fixed = pa.BufferOutputStream(), {"row_group_size": 1 << 20, "use_dictionary": strings}
    if len(strings) > 1:  # of text ids, which a list repeats in every row
        fixed["dictionary_pagesize_limit"] = 1 << 26
    pq.write_table(table, sink, compression="zstd", write_page_checksum=page_checksums, **fixed)
    data: bytes = sink.getvalue().to_pybytes()
    return data
