"""What a night will do, how much room and time it will take: worked out before anything is written."""

from __future__ import annotations

from dataclasses import dataclass

from batch.job import Job
from batch.layout import USER_ITEMS, night_of
from batch.shards import Shard, shards_of
from batch.target import open_target
from sdk.bundle import Bundle
from sdk.device import resolve_device


@dataclass(frozen=True, slots=True)
class Plan:
    """What a night will do.

    Attributes:
        model: the ranker; ``popular`` where the bundle holds none.
        num_users: users to be given a list.
        num_items: titles to be given a list, and to be ranked for every user.
        num_pairs: user-title pairs to be scored.
        user_parts: Parquet files of user lists.
        item_parts: Parquet files of title lists.
        max_user_rows: rows of user lists at most.
        max_item_rows: rows of title lists at most.
        night: where it will be published.
    """

    model: str
    num_users: int
    num_items: int
    num_pairs: int
    user_parts: int
    item_parts: int
    max_user_rows: int
    max_item_rows: int
    night: str


def plan(job: Job, bundle: Bundle) -> Plan:
    """What a job will do with a bundle, without doing it.

    Raises:
        UsageError: the bundle has no such model, or the device is not there.
    """
    resolve_device(job.device)
    num_users, num_items = bundle.users.num_rows, bundle.items.num_rows
    shards = job_shards(job, bundle)
    user_parts = sum(shard.side == USER_ITEMS for shard in shards)
    return Plan(
        model=bundle.resolve_model(job.model) or "popular",
        num_users=num_users,
        num_items=num_items,
        num_pairs=num_users * num_items,
        user_parts=user_parts,
        item_parts=len(shards) - user_parts,
        max_user_rows=num_users * min(job.k, num_items),
        max_item_rows=num_items * min(job.k, max(num_items - 1, 0)),
        night=open_target(job.out).describe(night_of(job.run_date)),
    )


def job_shards(job: Job, bundle: Bundle) -> tuple[Shard, ...]:
    """Every shard of a job, in the order in which one process works through them."""
    return shards_of(bundle.users.num_rows, bundle.items.num_rows, job.users_per_part)
