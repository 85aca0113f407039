"""What a night will do, how much room and time it will take: worked out before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from batch.job.inputs import Asked, OpenedJob
from batch.job.job import Job
from batch.job.pins import ranked_by
from batch.lists.shards import Shard, shards_of
from batch.store.layout import night_of
from batch.store.places import open_target
from sdk.machine.device import resolve_device


@dataclass(frozen=True, slots=True)
class Plan:
    """What a night will do.

    Attributes:
        model: the ranker; without one ``history``, or ``popular`` where the bundle holds neither.
        num_users: users to be given a list.
        num_items: titles to be given a list.
        num_candidates: titles to be ranked for every user.
        num_audiences: titles to be given an audience.
        num_pairs: user-title pairs to be scored.
        user_parts: Parquet files of user lists.
        item_parts: Parquet files of title lists.
        audience_parts: Parquet files of audiences.
        max_user_rows: rows of user lists at most.
        max_item_rows: rows of title lists at most.
        max_audience_rows: rows of audiences at most.
        max_partial_rows: rows, at most, of the lists that audiences are merged from; they go when the night is shown.
        asked: what was counted in the files that the job names.
        night: where it will be published.
    """

    model: str
    num_users: int
    num_items: int
    num_candidates: int
    num_audiences: int
    num_pairs: int
    user_parts: int
    item_parts: int
    audience_parts: int
    max_user_rows: int
    max_item_rows: int
    max_audience_rows: int
    max_partial_rows: int
    asked: Mapping[str, int]
    night: str

    @property
    def max_rows(self) -> int:
        """Rows of all parts at most."""
        return self.max_user_rows + self.max_item_rows + self.max_audience_rows

    @property
    def parts(self) -> int:
        """Parquet files in all."""
        return self.user_parts + self.item_parts + self.audience_parts


def plan(job: Job, opened: OpenedJob) -> Plan:
    """What a job will do with a bundle, without doing it.

    Raises:
        UsageError: the bundle has no such model, or the device is not there.
    """
    resolve_device(job.device)
    bundle, asked = opened.bundle, opened.asked
    users, items, audiences = len(asked.users), len(asked.items), len(asked.audience)
    candidates = bundle.items.num_rows if asked.num_candidates is None else asked.num_candidates
    parts = [len(range(0, total, job.users_per_part)) for total in (users, items, audiences)]
    return Plan(
        model=ranked_by(job, bundle),
        num_users=users,
        num_items=items,
        num_candidates=candidates,
        num_audiences=audiences,
        num_pairs=users * candidates,
        user_parts=parts[0],
        item_parts=parts[1],
        audience_parts=parts[2],
        max_user_rows=users * min(job.k, candidates),
        max_item_rows=items * min(job.k, max(bundle.items.num_rows - 1, 0), candidates),
        max_audience_rows=audiences * min(job.audience or 0, users),
        max_partial_rows=audiences * min((job.audience or 0) * parts[0], users),
        asked=dict(asked.counts),
        night=open_target(job.out).describe(night_of(job.run_date)),
    )


def job_shards(job: Job, asked: Asked) -> tuple[Shard, ...]:
    """Every shard of a job, in the order in which one process works through them.

    Audiences come last: they are merged from what the shards of users leave.
    """
    return shards_of(len(asked.users), len(asked.items), job.users_per_part, len(asked.audience))
