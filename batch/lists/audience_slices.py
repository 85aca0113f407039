"""Audiences within ``--memory-mib``: a few titles at a time, where buffers for all of them would take more.

A score's bits depend on its user and its title alone, so titles can be asked about in any portions. Each portion costs
another look at the users of a shard; the users' own lists are then made in a pass of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from batch.lists.parts import audience_table
from sdk.base import schema
from sdk.base.ids import rows_of
from sdk.base.types import Int64s
from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN
from sdk.models.pair_form import PairForm
from sdk.scoring.engine import Engine
from sdk.scoring.kernels import LANES
from sdk.scoring.recommender import POPULAR, Audience, Recommender
from sdk.scoring.selection import buffer_size

_BYTES_EACH = 8 + 24
"""Of a buffer's entry: a score and a user row, and what merging the threads' buffers takes."""
_BYTES_A_TITLE = 24
_LEAST_TITLES = 256


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
    return min(max(strips * LANES, _LEAST_TITLES), num_titles)


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

    def tables(self, shards: Sequence[Int64s]) -> Iterator[pa.Table]:
        """The shard's best users of each title, by title shard, one at a time.

        Args:
            shards: the item_ids of each title shard, ascending.

        Yields:
            ``schema.ITEM_USERS`` of each; only users whom the model knows stand in it.
        """
        known = np.flatnonzero(self.recommender.sources(self.user_index) != POPULAR)
        form = self.recommender.form
        if form is None or not len(known):
            yield from (schema.ITEM_USERS.empty_table() for _ in shards)
            return
        part = PairForm(form.users.take(self.user_index[known]), form.items, form.head)
        seen = self.seen.take(known)
        for shard in shards:
            starts = range(0, len(shard), self.at_a_time)
            portions = (shard[start : start + self.at_a_time] for start in starts)
            yield pa.concat_tables([self._portion(part, known, seen, ids) for ids in portions])

    def _portion(self, form: PairForm, known: Int64s, seen: Seen, item_ids: Int64s) -> pa.Table:
        """A few titles: an engine that holds these alone, so that nothing grows with the catalogue."""
        made_by = self.recommender
        rows = made_by.items.index_of(item_ids)
        items = form.items.take(np.concatenate([np.arange(FIRST_KNOWN), rows]))
        titles = PairForm(form.users, items, form.head)
        engine = Engine(titles, threads=made_by.threads, memory_mib=made_by.memory_mib)
        _, best = engine.top_k_and_audience(np.arange(len(known)), _only(seen, rows), self.size)
        found = Audience(rows, self.user_index[known[best.item_index]], best.scores, best.lengths)
        return audience_table(made_by, self.user_index, found)


def _only(seen: Seen, rows: Int64s) -> Seen:
    """The pairs of some item rows (ascending), which become rows ``FIRST_KNOWN``, ``FIRST_KNOWN + 1``, ….."""
    num_users = len(seen.indptr) - 1
    users = np.repeat(np.arange(num_users), np.diff(seen.indptr))
    place = rows_of(rows, seen.items)
    here = place >= 0
    return Seen.build(users[here], FIRST_KNOWN + place[here], num_users)
