"""The best users of each title: partial lists of each user shard, kept beside the journal, then merged exactly.

A title's audience needs every user's score. Each user shard leaves its own best users of every title, cut by title
shard, so that a title shard is merged from one small file of each user shard. The best of the whole are among the best
of the parts, by the same order: higher score first, then smaller user id. So neither the number of shards nor the order
in which they are made changes a byte.

Within ``--memory-mib`` a few titles are asked about at a time, where buffers for all of them would take more. A score's
bits depend on its user and its title alone, so titles can be asked about in any portions. Each portion costs another
look at the users of a shard; the users' own lists are then made in a pass of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batch.lists.parts import audience_table
from batch.store.layout import PARTIALS, journal_of
from batch.store.target import Target
from sdk.base import schema
from sdk.base.arrow_memory import reader_of
from sdk.base.errors import OutputError
from sdk.base.ids import rows_in
from sdk.base.types import IdArray, Int64s
from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN
from sdk.models.pair_form import PairForm
from sdk.scoring.engine import Engine
from sdk.scoring.kernels import LANES
from sdk.scoring.recommender import POPULAR, Audience, Recommender
from sdk.scoring.selection import buffer_size


def partial_name(title_shard: int, user_shard: int) -> str:
    """A partial list's file, relative to the journal's folder."""
    return f"{PARTIALS}/{title_shard:05d}/{user_shard:05d}.parquet"


def cut(table: pa.Table, shards: Sequence[IdArray]) -> list[pa.Table]:
    """A long form cut by title.

    Args:
        table: ``schema.ITEM_USERS`` with its ids' types, ascending by item_id.
        shards: the item_ids of each title shard, ascending, and the shards too.

    Returns:
        A table for each shard; rows of titles in no shard are left out.
    """
    if not shards:
        return []
    place = rows_in(np.concatenate(shards), table.column("item_id"))
    inside = table.filter(pa.array(place >= 0))
    edges = np.searchsorted(place[place >= 0], np.cumsum([0, *map(len, shards)]))
    return [inside.slice(first, last - first) for first, last in pairwise(edges.tolist())]


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
        parts: ``schema.ITEM_USERS`` with their ids' types each, at least one; a user stands in one part only.
        size: users of an audience at most.
    """
    table = pa.concat_tables(parts)
    item, user, score = _ascending(table["item_id"]), _ascending(table["user_id"]), table["score"].to_numpy()
    order = np.lexsort((user, -score, item))
    _, starts, sizes = np.unique(item[order], return_index=True, return_counts=True)
    rank = np.asarray(np.arange(len(item)) - np.repeat(starts, sizes) + 1, np.int32)
    kept = rank <= size
    table = table.take(pa.array(order[kept])).combine_chunks()
    return table.set_column(table.schema.get_field_index("rank"), schema.ITEM_USERS.field("rank"), pa.array(rank[kept]))


def _ascending(ids: pa.ChunkedArray) -> Int64s:
    """(N,) ints in the order of the ids: the ids themselves, or of texts their places among them."""
    if not pa.types.is_string(ids.type):
        return ids.to_numpy()
    texts = ids.dictionary_encode().unify_dictionaries().combine_chunks()
    order = pc.array_sort_indices(texts.dictionary).to_numpy()  # by bytes
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return np.asarray(rank[texts.indices.to_numpy()])


# within --memory-mib -------------------------------------------------------------------------------

_BYTES_EACH = 8 + 24
"""Of a buffer's entry: a score and a user row, and what merging the threads' buffers takes."""
_BYTES_A_TITLE = 24
LEAST_TITLES = 256


def titles_at_a_time(size: int, memory_mib: float | None, num_users: int, num_titles: int, threads: int) -> int:
    """How many titles' audiences fit into a budget together: all of them, or fewer, but at least 256.

    Args:
        size: users kept for a title.
        memory_mib: the budget; None sets none.
        num_users: users of a shard.
        num_titles: titles that are wanted.
        threads: each has buffers of its own.
    """
    if memory_mib is None:
        return num_titles
    each = threads * (buffer_size(size, num_users) * _BYTES_EACH + _BYTES_A_TITLE)
    strips = int(memory_mib * 2**20 / each) // LANES
    return min(max(strips * LANES, LEAST_TITLES), num_titles)


@dataclass(frozen=True, slots=True, eq=False)
class Slices:
    """The users of one shard, ready to be asked who of them wants which titles.

    Attributes:
        recommender: what scores.
        user_index: (B,) int64 user rows, ascending.
        seen: what each of them must not be given, aligned with ``user_index``.
        size: users of an audience.
        at_a_time: titles in one portion.
    """

    recommender: Recommender
    user_index: Int64s
    seen: Seen
    size: int
    at_a_time: int

    def tables(self, shards: Sequence[IdArray]) -> Iterator[pa.Table]:
        """The shard's best users of each title, by title shard, one at a time.

        Args:
            shards: the item_ids of each title shard, ascending.

        Yields:
            ``schema.ITEM_USERS`` of each; only users whom the model knows stand in it.
        """
        known = np.flatnonzero(self.recommender.sources(self.user_index) != POPULAR)
        form = self.recommender.form
        if form is None or not len(known):
            layout = schema.with_ids(schema.ITEM_USERS, self.recommender.items.ids, self.recommender.users.ids)
            yield from (layout.empty_table() for _ in shards)
            return
        part = PairForm(form.users.take(self.user_index[known]), form.items, form.head)
        seen = self.seen.take(known)
        for shard in shards:
            starts = range(0, len(shard), self.at_a_time)
            portions = (shard[start : start + self.at_a_time] for start in starts)
            yield pa.concat_tables([self._portion(part, known, seen, ids) for ids in portions])

    def _portion(self, form: PairForm, known: Int64s, seen: Seen, item_ids: IdArray) -> pa.Table:
        """A few titles: an engine that holds these alone, so that nothing grows with the catalogue."""
        made_by = self.recommender
        rows = made_by.items.index_of(item_ids)
        items = form.items.take(np.concatenate([np.arange(FIRST_KNOWN), rows]))
        titles = PairForm(form.users, items, form.head)
        engine = Engine(titles, threads=made_by.threads, memory_mib=made_by.memory_mib)
        seen = seen.only(np.concatenate([np.arange(FIRST_KNOWN), rows]))
        _, best = engine.top_k_and_audience(np.arange(len(known)), seen, self.size)
        found = Audience(rows, self.user_index[known[best.item_index]], best.scores, best.lengths)
        return audience_table(made_by, self.user_index, found)
