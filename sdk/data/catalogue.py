"""Anybody's data set: interactions, and items and users where they are known, as a ``Dataset``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sdk.base import schema
from sdk.base.description import Description, Role
from sdk.base.paths import as_path
from sdk.base.types import Dataset, Interactions
from sdk.data.fingerprint import fingerprint
from sdk.data.validation import sorted_order


def dataset(interactions: str, *, name: str = "tables") -> Dataset:
    """A data set of one Parquet file with ``user_id``, ``item_id``, ``rating`` and ``timestamp``."""
    table = pq.read_table(as_path(interactions))
    users, user_key = _ascending(table["user_id"])
    items, item_key = _ascending(table["item_id"])
    rows = Interactions(
        user_key, item_key, table["rating"].to_numpy().astype(np.float32), table["timestamp"].to_numpy()
    )
    roles: Mapping[str, Role] = {"title": "ignore"}
    about = Description(items=roles, users={})
    items_table = pa.table({"item_id": items, "title": items.cast(pa.string())})
    users_table = pa.table({"user_id": users})
    items_table = items_table.cast(schema.table_layout("item_id", about, items_table.schema))
    users_table = users_table.cast(schema.table_layout("user_id", about, users_table.schema))
    digest = fingerprint(rows, items_table, users_table, sorted_order(rows.user_id, rows.item_id))
    return Dataset(name, rows, items_table, users_table, schema.REJECTS.empty_table(), digest, about)


def _ascending(column: pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
    known = pa.array(sorted(column.unique().to_pylist()))
    places = column.combine_chunks().dictionary_encode()
    rank = np.argsort(np.argsort(np.array(places.dictionary.to_pylist(), dtype=object)))
    keys = rank[places.indices.to_numpy()]
    return known, (known.to_numpy()[keys] if pa.types.is_integer(known.type) else keys.astype(np.int64))
