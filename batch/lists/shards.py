"""A night cut into shards: each one part, scored and written on its own, by any process that reads the bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch.job.inputs import OpenedJob, open_job, reading
from batch.job.pins import pinned_inputs
from batch.lists.audience import Slices, cut, merge, partial_name, read_partials, titles_at_a_time
from batch.lists.parts import audience_table, part_bytes
from batch.lists.taken import NOTHING, TakenOver, taken_over, woven
from batch.lists.user_parts import UserPart
from batch.store.journal import Journal, ShardRecord
from batch.store.layout import ITEM_ITEMS, ITEM_USERS, LAYOUTS, USER_ITEMS
from batch.store.places import open_target
from sdk.base.files import digest_of, sha256_of
from sdk.base.schema import with_ids
from sdk.base.types import IdArray, Int64s, TopK
from sdk.features.tables import FIRST_KNOWN
from sdk.machine.device import usable_cores
from sdk.scoring.recommender import POPULAR

if TYPE_CHECKING:
    from batch.job.job import Job
    from sdk.features.seen import Seen
    from sdk.scoring.again import Again
    from sdk.scoring.recommender import Recommender


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
    """A shard's lists, not yet encoded: that is left to whoever writes them.

    Attributes:
        shard: which.
        table: makes the lists in the side's layout.
        partials: file beside the journal's records -> the shard's part of some titles' audiences, as Parquet.
        taken: lists that were taken over from the night before.
        whole: the part's file, where it was taken over whole.
    """

    shard: Shard
    table: Callable[[], pa.Table]
    partials: Mapping[str, bytes] = field(default_factory=dict)
    taken: int = 0
    whole: bytes | None = None


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
        taken: what need not be scored; None scores everything.

    Raises:
        BundleError: a file of the bundle vanished, or the bundle was replaced while it was read.
        ScoreError: the model holds a NaN or an infinity.
    """

    def __init__(self, job: Job, opened: OpenedJob, taken: TakenOver = NOTHING) -> None:
        bundle, asked = opened.bundle, opened.asked
        self.job, self.opened, self.bundle, self.asked, self.standing = job, opened, bundle, asked, taken.sides
        with reading(bundle.path, opened.sha256):
            self.first = self._part(np.arange(min(job.users_per_part, asked.num_users)), None)[0]
            self.content = bundle.look_alikes(job.kind) if bundle.has_content else None
        self.k = min(job.k, len(bundle.encoded_items))  # buffers grow with it
        audience = 0 if ITEM_USERS in taken.sides else job.audience or 0
        self.audience = min(audience, asked.source.num_users + FIRST_KNOWN)
        if self.content is not None and asked.allowed is not None:
            self.content = self.content.listing(bundle.encoded_items.ids[asked.allowed])

    def _part(self, places: Int64s, like: Recommender | None) -> tuple[UserPart, Int64s]:
        """Some of those who get a list, by their places among these, and their rows in the part's table."""
        bundle, rows = self.asked.source.some(self.asked.numbers(places))
        if bundle is self.bundle:
            return self._whole, rows
        return UserPart.of(self.job, self.asked, bundle, like=like), rows

    @cached_property
    def _whole(self) -> UserPart:
        """All users at once, where they cannot be had apart; those alone who are to be scored have a history."""
        users = self.standing.get(USER_ITEMS)
        some = None if users is None else FIRST_KNOWN + self.asked.numbers(users.rest)
        return UserPart.of(self.job, self.asked, self.bundle, some)

    def score(self, shard: Shard) -> Scored:
        """A shard's lists. Audiences are merged from what the shards of users left, so these must be written before.

        Raises:
            ScoreError: a score is NaN or infinite.
            OutputError: what an audience is merged from is missing or damaged, or what is taken over was altered.
        """
        standing = self.standing.get(shard.side)
        found = None if standing is None else standing.rows(self._ids(shard.side), shard.start, shard.stop)
        if found is None:
            lists, partials = self._lists(shard, np.arange(shard.size))
            return Scored(shard, lists, partials)
        if found.whole is not None:
            return Scored(shard, lambda: found.table, taken=shard.size, whole=found.whole)
        lists, partials = self._lists(shard, found.rest)
        return Scored(shard, lambda: woven(found, lists()), partials, shard.size - len(found.rest))

    def _lists(self, shard: Shard, places: Int64s) -> tuple[Callable[[], pa.Table], Mapping[str, bytes]]:
        """What makes the lists of some of a shard's queries, in the side's layout, and their part of audiences."""
        rows = shard.start + places
        if not len(rows):
            ids, users = self.bundle.encoded_items.ids, self.first.bundle.encoded_users.ids
            asked = (users, ids) if shard.side == USER_ITEMS else (ids, users if shard.side == ITEM_USERS else ids)
            return with_ids(LAYOUTS[shard.side], *asked).empty_table, {}
        if shard.side == ITEM_USERS:
            return self._audience(shard), {}
        if shard.side == USER_ITEMS:
            return self._users(shard, rows)
        similar = self.first.recommender.similar
        return similar(self.content, self.asked.items[rows], self.k, self.asked.allowed).to_arrow, {}

    def _ids(self, side: str) -> IdArray:
        asked = self.asked
        return asked.users if side == USER_ITEMS else asked.items if side == ITEM_ITEMS else asked.audience

    def _users(self, shard: Shard, places: Int64s) -> tuple[Callable[[], pa.Table], Mapping[str, bytes]]:
        part, index = self._part(places, self.first.recommender)
        ids, items = part.bundle.encoded_users.ids[index], self.bundle.encoded_items.ids
        seen, again = part.seen.take(index), None if part.again is None else part.again.take(index)
        if not self.audience:
            lists = part.recommender.recommend_rows(index, seen, self.k, self.asked.allowed, again)
            return partial(lists.answering("user_id", ids).to_arrow, item_ids=items), {}
        lists, parts = self._with_audience(part.recommender, index, seen, again)
        encoded = (part_bytes(part, page_checksums=True) for part in parts)
        partials = {partial_name(n, shard.number): data for n, data in enumerate(encoded)}
        return partial(lists.answering("user_id", ids).to_arrow, item_ids=items), partials

    def _with_audience(
        self, recommender: Recommender, index: Int64s, seen: Seen, again: Again | None
    ) -> tuple[TopK, Iterable[pa.Table]]:
        """Users' lists, and their part of the titles' audiences by title shard: in one pass where memory allows it.

        Audiences are by the score alone: nothing rises there, so lists in which something does are made apart.
        """
        k, size, allowed = self.k, self.audience, self.asked.allowed
        title_shards = [self.asked.audience[other.start : other.stop] for other in self._shards(ITEM_USERS)]
        num_titles = self.asked.num_candidates or len(self.bundle.encoded_items)
        budget = (self.job.memory_mib, len(index), num_titles, self.job.threads or usable_cores())
        if again is None and titles_at_a_time(max(k, size), *budget) == num_titles:
            lists, found = recommender.recommend_with_audience(index, seen, k, size, allowed)
            return lists, cut(audience_table(recommender, index, found), title_shards)
        slices = Slices(recommender, index, seen, size, titles_at_a_time(size, *budget))
        return recommender.recommend_rows(index, seen, k, allowed, again), slices.tables(title_shards)

    def _audience(self, shard: Shard) -> Callable[[], pa.Table]:
        numbers = [other.number for other in self._shards(USER_ITEMS)]
        parts = read_partials(open_target(self.job.out), self.job.run_date, shard.number, numbers)
        merged = merge(parts, self.audience)
        return lambda: merged

    def _shards(self, side: str) -> list[Shard]:
        asked = self.asked
        every = shards_of(asked.num_users, len(asked.items), self.job.users_per_part, len(asked.audience))
        return [shard for shard in every if shard.side == side]


def store(journal: Journal, scored: Scored) -> ShardRecord:
    """Encode a shard's lists, write its partial lists and its part, then its record to the journal.

    Raises:
        OSError: it cannot be written.
        OutputError: the same, where a store's client says it in its own way.
    """
    for name, data in scored.partials.items():
        journal.target.write(f"{journal.folder}/{name}", data, durable=False)
    partials = {name: sha256_of(data) for name, data in scored.partials.items()}
    table = scored.table()
    data, name = scored.whole or part_bytes(table), scored.shard.name
    journal.target.write(f"{journal.staging}/{name}", data)
    counts = table.num_rows, _fallback(table), sha256_of(data), len(data), scored.taken
    record = ShardRecord(name, *counts, partials)
    journal.add(record)
    return record


def _fallback(table: pa.Table) -> int:
    """Lists that popularity made."""
    first = table["source"].filter(pc.equal(table["rank"], 1))
    return pc.sum(pc.equal(first, POPULAR)).as_py() or 0


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
    scorer, digest = scorer_of(job)
    journal = Journal(open_target(job.out), job.run_date, digest)
    return journal.finished(shard.name) or store(journal, scorer.score(shard))


@lru_cache(maxsize=1)
def scorer_of(job: Job) -> tuple[Scorer, str]:
    """The scorer of this process, until ``forget``, and the digest of all that the job's content depends on.

    Raises:
        BundleError: the bundle is absent, altered or of another version.
    """
    opened = open_job(job, counted=False)
    return Scorer(job, opened, taken_over(job, opened)), digest_of(pinned_inputs(job, opened))


def forget() -> None:
    """Let go of the model that this process keeps for ``write_shard``."""
    scorer_of.cache_clear()
