"""A night cut into shards: each one part, scored and written on its own, by any process that reads the bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import pyarrow as pa

from batch.job.bundle_reading import reading
from batch.job.inputs import OpenedJob, open_job
from batch.job.parts import part_bytes, table_of
from batch.job.pins import pinned_inputs
from batch.lists.audience import cut, long_form, merge, partial_bytes, partial_name, read_partials
from batch.lists.audience_slices import Slices, titles_at_a_time
from batch.store.journal import Journal, ShardRecord
from batch.store.layout import ITEM_ITEMS, ITEM_USERS, LAYOUTS, USER_ITEMS
from batch.store.places import open_target
from sdk.base.files import digest_of
from sdk.base.types import Int64s, TopK
from sdk.machine.device import usable_cores
from sdk.scoring.recommender import POPULAR

if TYPE_CHECKING:
    from batch.job.job import Job
    from sdk.features.seen import Seen


@dataclass(frozen=True, slots=True)
class Shard:
    """The queries of one part. It is a few numbers: cheap to send to another process.

    Attributes:
        side: ``user_items``, ``item_items`` or ``item_users``.
        number: of the part, from 0.
        start: first query, counted over the side's ids in ascending order.
        stop: one past the last query.
    """

    side: str
    number: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        """The part's file, relative to the night's folder."""
        return f"{self.side}/part-{self.number:05d}.parquet"

    @property
    def size(self) -> int:
        """How many queries it has."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """A shard's lists, not yet encoded.

    Attributes:
        shard: which.
        ids: (B,) int64, the queries.
        lists: their lists, row for row.
        partials: file beside the journal's records -> the shard's part of some titles' audiences, as Parquet.
    """

    shard: Shard
    ids: Int64s
    lists: TopK
    partials: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def fallback(self) -> int:
        """Lists that popularity made."""
        return int((self.lists.source == POPULAR).sum())

    def table(self) -> pa.Table:
        """The lists in the side's layout."""
        return table_of(self.ids, self.lists, LAYOUTS[self.shard.side])


@dataclass(frozen=True, slots=True, eq=False)
class Merged:
    """A shard of audiences, not yet encoded; the attributes are those of ``Scored`` that a part is written from.

    Attributes:
        shard: which.
        audiences: ``schema.ITEM_USERS``.
    """

    shard: Shard
    audiences: pa.Table
    fallback: int = 0
    partials: Mapping[str, bytes] = field(default_factory=dict)

    def table(self) -> pa.Table:
        """The audiences in the side's layout."""
        return self.audiences


def shards_of(num_users: int, num_items: int, size: int, num_audiences: int = 0) -> tuple[Shard, ...]:
    """Every shard of a night: users, titles, audiences.

    Args:
        num_users: users to be given a list.
        num_items: titles to be given a list.
        size: queries in one shard.
        num_audiences: titles to be given an audience.
    """
    return tuple(
        Shard(side, number, start, min(start + size, total))
        for side, total in ((USER_ITEMS, num_users), (ITEM_ITEMS, num_items), (ITEM_USERS, num_audiences))
        for number, start in enumerate(range(0, total, size))
    )


class Scorer:
    """Scores the shards of one job: everything that it needs of the bundle is read when it is made.

    Args:
        job: the job.
        opened: its bundle.

    Raises:
        BundleError: a file of the bundle vanished, or the bundle was replaced while it was read.
        ScoreError: the model holds a NaN or an infinity.
    """

    def __init__(self, job: Job, opened: OpenedJob) -> None:
        from sdk.features.seen import Seen

        bundle, asked = opened.bundle, opened.asked
        self.job, self.bundle, self.asked = job, bundle, asked
        with reading(opened):
            self.recommender = bundle.recommender(
                job.model, threads=job.threads, memory_mib=job.memory_mib, device=job.device
            )
            users = len(bundle.encoded_users)
            self.seen = asked.barred(Seen.nothing(users) if job.include_seen else bundle.interactions.seen(users))
            self.content = bundle.content if bundle.has_content else None
        self.k = min(job.k, len(bundle.encoded_items))  # buffers grow with it
        self.audience = min(job.audience or 0, len(bundle.encoded_users))
        self.recommender.keep(asked.allowed)
        if self.content is not None and asked.allowed is not None:
            self.content = self.content.listing(bundle.encoded_items.ids[asked.allowed])

    def score(self, shard: Shard) -> Scored | Merged:
        """A shard's lists. Audiences are merged from what the shards of users left, so these must be written before.

        Raises:
            ScoreError: a score is NaN or infinite.
            OutputError: what an audience is merged from is missing or damaged.
        """
        if shard.side == USER_ITEMS:
            return self._users(shard)
        if shard.side == ITEM_USERS:
            return self._audience(shard)
        ids = self.asked.items[shard.start : shard.stop]
        return Scored(shard, ids, self.recommender.similar(self.content, ids, self.k, self.asked.allowed))

    def _users(self, shard: Shard) -> Scored:
        ids = self.asked.users[shard.start : shard.stop]
        index = self.bundle.encoded_users.index_of(ids)
        args = (index, self.seen.take(index), self.k)
        if not self.audience:
            return Scored(shard, ids, self.recommender.recommend(*args, self.asked.allowed))
        lists, parts = self._with_audience(*args, self.audience)
        partials = {partial_name(n, shard.number): partial_bytes(part) for n, part in enumerate(parts)}
        return Scored(shard, ids, lists, partials)

    def _with_audience(self, index: Int64s, seen: Seen, k: int, size: int) -> tuple[TopK, Iterable[pa.Table]]:
        """Users' lists, and their part of the titles' audiences by title shard: in one pass where memory allows it."""
        recommender, allowed = self.recommender, self.asked.allowed
        title_shards = [self.asked.audience[other.start : other.stop] for other in self._shards(ITEM_USERS)]
        num_titles = len(self.bundle.encoded_items) if allowed is None else int(allowed.sum())
        budget = (self.job.memory_mib, len(index), num_titles, self.job.threads or usable_cores())
        if titles_at_a_time(max(k, size), *budget) == num_titles:
            lists, found = recommender.recommend_with_audience(index, seen, k, size, allowed)
            return lists, cut(long_form(recommender, index, found), title_shards)
        slices = Slices(recommender, index, seen, size, titles_at_a_time(size, *budget))
        return recommender.recommend(index, seen, k, allowed), slices.tables(title_shards)

    def _audience(self, shard: Shard) -> Merged:
        numbers = [other.number for other in self._shards(USER_ITEMS)]
        parts = read_partials(open_target(self.job.out), self.job.run_date, shard.number, numbers)
        return Merged(shard, merge(parts, self.audience))

    def _shards(self, side: str) -> list[Shard]:
        asked = self.asked
        every = shards_of(len(asked.users), len(asked.items), self.job.users_per_part, len(asked.audience))
        return [shard for shard in every if shard.side == side]


def store(journal: Journal, scored: Scored | Merged) -> ShardRecord:
    """Encode a shard's lists, write its partial lists and its part, then its record to the journal.

    Raises:
        OSError: it cannot be written.
        OutputError: the same, where a store's client says it in its own way.
    """
    partials = {}
    for partial, data in scored.partials.items():
        journal.target.write(f"{journal.folder}/{partial}", data, durable=False)
        partials[partial] = hashlib.sha256(data).hexdigest()
    table = scored.table()
    data = part_bytes(table)
    name = scored.shard.name
    journal.target.write(f"{journal.staging}/{name}", data)
    sha256 = hashlib.sha256(data).hexdigest()
    record = ShardRecord(name, table.num_rows, scored.fallback, sha256, len(data), partials)
    journal.add(record)
    return record


def write_shard(job: Job, shard: Shard) -> ShardRecord:
    """Score one shard and write it: all that a worker in another process or on another machine does.

    It depends on the bundle, the options and the shard alone, and may be repeated: a part that is finished already
    is not made again (a cluster repeats a task whose answer was lost with its worker). A worker keeps the model of its
    last job. The record carries the digest of the worker's own inputs, so one with another bundle or other
    package versions is noticed.

    Raises:
        BundleError: the bundle is absent, altered or of another version.
        ScoreError: a score is NaN or infinite.
        OSError: the part cannot be written.
    """
    scorer, digest = _scorer_of(job)
    journal = Journal(open_target(job.out), job.run_date, digest)
    return journal.finished(shard.name) or store(journal, scorer.score(shard))


def inputs_digest(job: Job) -> str:
    """Of everything that a job's content depends on, as this process has it: the digest of its scorer's inputs.

    Raises:
        BundleError: the bundle is absent, altered or of another version.
    """
    return _scorer_of(job)[1]


def forget() -> None:
    """Let go of the model that this process keeps for ``write_shard``."""
    _scorer_of.cache_clear()


@lru_cache(maxsize=1)
def _scorer_of(job: Job) -> tuple[Scorer, str]:
    opened = open_job(job)
    return Scorer(job, opened), digest_of(pinned_inputs(job, opened))
