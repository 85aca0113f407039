"""The best users of each title: partial lists of each user shard, kept beside the journal, then merged exactly.

A title's audience needs every user's score. Each user shard leaves its own best users of every title, cut by title
shard, so that a title shard is merged from one small file of each user shard. The best of the whole are among the best
of the parts, by the same order: higher score first, then smaller user id. So neither the number of shards nor the order
in which they are made changes a byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batch.store.layout import PARTIALS, journal_of
from batch.store.target import Target
from sdk.base import schema
from sdk.base.arrow_memory import reader_of
from sdk.base.errors import OutputError
from sdk.base.types import Int64s


def partial_name(title_shard: int, user_shard: int) -> str:
    """A partial list's file, relative to the journal's folder."""
    return f"{PARTIALS}/{title_shard:05d}/{user_shard:05d}.parquet"


def cut(table: pa.Table, shards: Sequence[Int64s]) -> list[pa.Table]:
    """A long form cut by title.

    Args:
        table: ``schema.ITEM_USERS``, ascending by item_id.
        shards: the item_ids of each title shard, ascending, and the shards too.

    Returns:
        A table for each shard; rows of titles in no shard are left out.
    """
    items = table.column("item_id").to_numpy()
    inside = table.filter(pa.array(np.isin(items, np.concatenate([*shards, np.zeros(0, np.int64)]))))
    items = inside.column("item_id").to_numpy()
    edges = [(np.searchsorted(items, ids[0]), np.searchsorted(items, ids[-1], side="right")) for ids in shards]
    return [inside.slice(first, last - first) for first, last in edges]


def read_partials(target: Target, run_date: str, title_shard: int, user_shards: Iterable[int]) -> list[pa.Table]:
    """The partial lists of one title shard, of every user shard.

    Raises:
        OutputError: one is absent or damaged.
        OSError: one cannot be read.
    """
    return [_read(target, f"{journal_of(run_date)}/{partial_name(title_shard, n)}") for n in user_shards]


def _read(target: Target, path: str) -> pa.Table:
    data = target.read(path)
    try:
        if data is None:
            raise FileNotFoundError(path)
        return pq.read_table(reader_of(data), page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise OutputError(
            f"{target.describe(path)}: a partial list of users is missing or damaged ({error}). "
            "Nothing was published. Run the same command: what it belongs to is scored again."
        ) from error


def merge(parts: Sequence[pa.Table], size: int) -> pa.Table:
    """Each title's best users of all parts: by higher score, then smaller user id.

    Args:
        parts: ``schema.ITEM_USERS`` each, at least one; a user stands in one part only.
        size: users of an audience at most.
    """
    table = pa.concat_tables(parts)
    item, user, score = (table.column(name).to_numpy() for name in ("item_id", "user_id", "score"))
    order = np.lexsort((user, -score, item))
    _, starts, sizes = np.unique(item[order], return_index=True, return_counts=True)
    rank = np.asarray(np.arange(len(item)) - np.repeat(starts, sizes) + 1, np.int32)
    kept = rank <= size
    table = table.take(pa.array(order[kept])).combine_chunks()
    return table.set_column(table.schema.get_field_index("rank"), schema.ITEM_USERS.field("rank"), pa.array(rank[kept]))
