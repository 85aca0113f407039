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
from sdk.base.types import Int32s, Int64s
from sdk.scoring.recommender import Audience, Recommender


def partial_name(title_shard: int, user_shard: int) -> str:
    """A partial list's file, relative to the journal's folder."""
    return f"{PARTIALS}/{title_shard:05d}/{user_shard:05d}.parquet"


def long_form(recommender: Recommender, user_index: Int64s, found: Audience) -> pa.Table:
    """An audience as ``schema.ITEM_USERS``.

    Args:
        recommender: what it was made by.
        user_index: (B,) int64, the user rows that it was made of, ascending.
        found: the audience.
    """
    lengths = found.lengths.astype(np.int64)
    real = np.arange(found.user_index.shape[1]) < lengths[:, None]
    rank = np.broadcast_to(np.arange(1, real.shape[1] + 1, dtype=np.int32), real.shape)[real]
    users = found.user_index[real]
    names, codes = np.unique(recommender.sources(user_index), return_inverse=True)
    source = pa.DictionaryArray.from_arrays(
        pa.array(codes[np.searchsorted(user_index, users)].astype(np.int32)), pa.array(names.astype(str))
    )
    items = np.repeat(recommender.items.ids[found.item_index], lengths)
    columns = [items, rank, recommender.users.ids[users], found.scores[real], source.cast(pa.string())]
    return pa.table([pa.array(column) for column in columns], schema=schema.ITEM_USERS)


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


def partial_bytes(table: pa.Table) -> bytes:
    """A partial list as Parquet, with checksums, since it is read again before anything checks its hash."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", use_dictionary=["source"], write_page_checksum=True)
    data: bytes = sink.getvalue().to_pybytes()
    return data


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
        message = (
            f"{target.describe(path)}: a partial list of users is missing or damaged ({error}). "
            "Nothing was published. Run the same command: what it belongs to is scored again."
        )
        raise OutputError(message) from error


def merge(parts: Sequence[pa.Table], size: int) -> pa.Table:
    """Each title's best users of all parts: by higher score, then smaller user id.

    Args:
        parts: ``schema.ITEM_USERS`` each, at least one; a user stands in one part only.
        size: users of an audience at most.
    """
    table = pa.concat_tables(parts)
    item, user, score = (table.column(name).to_numpy() for name in ("item_id", "user_id", "score"))
    order = np.lexsort((user, -score, item))
    rank = _ranks(item[order])
    kept = order[rank <= size]
    table = table.take(pa.array(kept)).combine_chunks()
    place = table.schema.get_field_index("rank")
    return table.set_column(place, schema.ITEM_USERS.field("rank"), pa.array(rank[rank <= size]))


def _ranks(items: Int64s) -> Int32s:
    """(N,) int32 places, from 1, within each run of equal items."""
    begins = np.append(True, items[1:] != items[:-1])[: len(items)]
    starts = np.flatnonzero(begins)
    return np.asarray(np.arange(len(items)) - np.repeat(starts, np.diff(np.append(starts, len(items)))) + 1, np.int32)
