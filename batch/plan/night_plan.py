"""What a night will do, and the room and time that it will take: worked out before anything is written."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from batch.job.inputs import Asked, OpenedJob
from batch.job.job import Job
from batch.job.pins import ranked_by
from batch.lists.parts import part_bytes
from batch.lists.shards import Scorer, Shard, shards_of
from batch.store.layout import ITEM_ITEMS, USER_ITEMS, night_of
from batch.store.places import open_target
from batch.store.run_record import last_record
from batch.store.target import Target
from sdk.base.errors import OutputError
from sdk.machine.device import resolve_device

_BYTES_PER_ROW = 6.0
"""Before any run is recorded; lists of 100 take 5.2 to 5.7."""
_SAMPLE = 1024


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
    users, items, audiences = asked.num_users, len(asked.items), len(asked.audience)
    candidates = bundle.items.num_rows if asked.num_candidates is None else asked.num_candidates
    parts = [len(range(0, total, job.users_per_part)) for total in (users, items, audiences)]
    return Plan(
        model=ranked_by(job, bundle),
        num_users=users, num_items=items, num_candidates=candidates, num_audiences=audiences,
        num_pairs=users * candidates,
        user_parts=parts[0], item_parts=parts[1], audience_parts=parts[2],
        max_user_rows=users * min(job.k, candidates),
        max_item_rows=items * min(job.k, max(bundle.items.num_rows - 1, 0), candidates),
        max_audience_rows=audiences * min(job.audience or 0, users),
        max_partial_rows=audiences * min((job.audience or 0) * parts[0], users),
        asked=dict(asked.counts),
        night=open_target(job.out).describe(night_of(job.run_date)),
    )  # fmt: skip


def job_shards(job: Job, asked: Asked) -> tuple[Shard, ...]:
    """Every shard of a job, in the order in which one process works through them.

    Audiences come last: they are merged from what the shards of users leave.
    """
    return shards_of(asked.num_users, len(asked.items), job.users_per_part, len(asked.audience))


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a night will take.

    Attributes:
        estimated_bytes: of all parts together.
        estimated_s: seconds of scoring and writing.
        estimated_total_s: the same with loading, checking and publishing; None where no run is recorded.
        free_bytes: room left in the output; None where that is not known.
        basis: what the estimates rest on.
    """

    estimated_bytes: int
    estimated_s: float
    estimated_total_s: float | None
    free_bytes: int | None
    basis: str


class Rates(NamedTuple):
    """What the estimates rest on.

    Attributes:
        pairs_per_s: user-title pairs scored a second.
        titles_per_s: titles' lists made a second.
        bytes_per_row: of the Parquet parts.
        other_s: seconds of the stages before and after scoring; None where no run is recorded.
        basis: where they come from, in words.
    """

    pairs_per_s: float
    titles_per_s: float
    bytes_per_row: float
    other_s: float | None
    basis: str


def estimate(job: Job, opened: OpenedJob, planned: Plan, target: Target) -> Estimate:
    """A night's bytes and seconds, by the last run's record, or by a few lists made for the purpose.

    Raises:
        BundleError: the bundle vanished.
        ScoreError: a score is NaN or infinite.
    """
    rates = _recorded_rates(target, planned.model) or _measured_rates(job, opened, planned)
    seconds = planned.num_pairs / rates.pairs_per_s + planned.num_items / rates.titles_per_s
    size = math.ceil(planned.max_rows * rates.bytes_per_row)
    total = None if rates.other_s is None else round(seconds + rates.other_s, 3)
    return Estimate(size, round(seconds, 3), total, target.free_bytes(), rates.basis)


def _recorded_rates(target: Target, model: str) -> Rates | None:
    """The rates of the newest recorded run; None where there is none of this model that scored anything."""
    record = last_record(target)
    if record is None or record.get("model") != model:
        return None
    pairs, titles, size = (_positive(record.get(name)) for name in ("pairs_per_s", "titles_per_s", "bytes_per_row"))
    if not (pairs and titles and size):
        return None
    stages = record.get("seconds")
    found = stages if isinstance(stages, dict) else {}
    other = sum(_positive(took) for name, took in found.items() if not name.startswith("scoring "))
    return Rates(pairs, titles, size, other, f"the run of {record.get('run_date')}")


def _positive(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and 0 < value < math.inf else 0.0


def _measured_rates(job: Job, opened: OpenedJob, planned: Plan) -> Rates:
    scorer = Scorer(job, opened)
    users, items = min(planned.num_users, _SAMPLE), min(planned.num_items, _SAMPLE)
    user_seconds, user_bytes = _measure(scorer, Shard(USER_ITEMS, 0, 0, users))
    item_seconds, item_bytes = _measure(scorer, Shard(ITEM_ITEMS, 0, 0, items))
    pairs_per_s, titles_per_s = max(users * planned.num_candidates, 1) / user_seconds, max(items, 1) / item_seconds
    basis = f"{users} users and {items} titles scored for the purpose"
    return Rates(pairs_per_s, titles_per_s, max(user_bytes, item_bytes) or _BYTES_PER_ROW, None, basis)


def _measure(scorer: Scorer, shard: Shard) -> tuple[float, float]:
    """(seconds, bytes per row) of a shard, after one of a single query that compiles and warms up."""
    scorer.score(Shard(shard.side, 0, 0, min(1, shard.stop)))
    start = time.perf_counter()
    table = scorer.score(shard).table()
    size = len(part_bytes(table))
    return max(time.perf_counter() - start, 1e-6), size / max(table.num_rows, 1)


def check_room(target: Target, planned: Plan, staged_bytes: int) -> None:
    """Refuse to start a night that will not fit.

    Args:
        target: the output.
        planned: the night.
        staged_bytes: of parts that are finished already.

    Raises:
        OutputError: the room left is less than the estimate; the message names both.
    """
    free, rates = target.free_bytes(), _recorded_rates(target, planned.model)
    per_row = rates.bytes_per_row if rates else _BYTES_PER_ROW
    needed = math.ceil((planned.max_rows + planned.max_partial_rows) * per_row) - staged_bytes
    if free is not None and free < needed:
        raise OutputError(
            f"{target.location}: about {needed / 2**20:,.0f} MiB are needed, {free / 2**20:,.0f} MiB are free. "
            "Nothing was started. Free some room, give another --out, or a smaller --k."
        )
