"""A night cut into shards: each one part, scored and written on its own, by any process that reads the bundle."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import pyarrow as pa

from batch.bundle_reading import OpenedBundle, open_bundle, reading
from batch.journal import Journal, ShardRecord
from batch.layout import ITEM_ITEMS, LAYOUTS, USER_ITEMS
from batch.parts import part_bytes, table_of
from batch.pins import digest_of, pinned_inputs
from batch.target import open_target
from sdk.types import Int64s, TopK

if TYPE_CHECKING:
    from batch.job import Job


@dataclass(frozen=True, slots=True)
class Shard:
    """The queries of one part. It is a few numbers: cheap to send to another process.

    Attributes:
        side: ``user_items`` or ``item_items``.
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


@dataclass(frozen=True, slots=True)
class Scored:
    """A shard's lists, not yet encoded.

    Attributes:
        shard: which.
        ids: (B,) int64, the queries.
        lists: their lists, row for row.
    """

    shard: Shard
    ids: Int64s
    lists: TopK


def shards_of(num_users: int, num_items: int, size: int) -> tuple[Shard, ...]:
    """Every shard of a night, users first.

    Args:
        num_users: users to be given a list.
        num_items: titles to be given a list.
        size: queries in one shard.
    """
    return tuple(
        Shard(side, number, start, min(start + size, total))
        for side, total in ((USER_ITEMS, num_users), (ITEM_ITEMS, num_items))
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

    def __init__(self, job: Job, opened: OpenedBundle) -> None:
        from sdk.scoring.seen import Seen

        bundle = opened.bundle
        self.job, self.bundle = job, bundle
        with reading(opened):
            self.recommender = bundle.recommender(
                job.model, threads=job.threads, memory_mib=job.memory_mib, device=job.device
            )
            users = len(bundle.encoded_users)
            self.seen = Seen.nothing(users) if job.include_seen else bundle.interactions.seen(users)
            self.content = bundle.content if "content" in bundle.info.models else None

    def score(self, shard: Shard) -> Scored:
        """A shard's lists.

        Raises:
            ScoreError: a score is NaN or infinite.
        """
        if shard.side == USER_ITEMS:
            table = self.bundle.encoded_users
            ids = table.known_ids[shard.start : shard.stop]
            index = table.index_of(ids)
            return Scored(shard, ids, self.recommender.recommend(index, self.seen.take(index), self.job.k))
        ids = self.bundle.encoded_items.known_ids[shard.start : shard.stop]
        return Scored(shard, ids, self.recommender.similar(self.content, ids, self.job.k))


def store(journal: Journal, scored: Scored) -> ShardRecord:
    """Encode a shard's lists, write the part to the staging folder, then its record to the journal.

    Raises:
        OSError: it cannot be written.
        OutputError: the same, where a store's client says it in its own way.
    """
    table: pa.Table = table_of(scored.ids, scored.lists, LAYOUTS[scored.shard.side])
    data = part_bytes(table)
    name = scored.shard.name
    journal.target.write(f"{journal.staging}/{name}", data)
    fallback = int((scored.lists.source == "popular").sum())
    record = ShardRecord(name, table.num_rows, fallback, hashlib.sha256(data).hexdigest(), len(data))
    journal.add(record)
    return record


def write_shard(job: Job, shard: Shard) -> ShardRecord:
    """Score one shard and write it: all that a worker in another process or on another machine does.

    It depends on the bundle, the options and the shard alone, and may be repeated. A worker keeps the model of
    its last job. The record carries the digest of the worker's own inputs, so one with another bundle or other
    package versions is noticed.

    Raises:
        BundleError: the bundle is absent, altered or of another version.
        ScoreError: a score is NaN or infinite.
        OSError: the part cannot be written.
    """
    scorer, digest = _scorer_of(job)
    return store(Journal(open_target(job.out), job.run_date, digest), scorer.score(shard))


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
    opened = open_bundle(job.bundle)
    return Scorer(job, opened), digest_of(pinned_inputs(job, opened))
