"""How many bytes a night will take, and how long: by the last run's record, or by a few lists made for the purpose."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from batch.job.inputs import OpenedJob
from batch.job.job import Job
from batch.lists.parts import part_bytes
from batch.lists.shards import Scorer, Shard
from batch.run.plan import Plan
from batch.store.layout import ITEM_ITEMS, USER_ITEMS
from batch.store.run_record import last_record
from batch.store.target import Target
from sdk.base.errors import OutputError

_BYTES_PER_ROW = 6.0
"""Before any run is recorded; lists of 100 take 5.2 to 5.7."""
_SAMPLE = 1024


@dataclass(frozen=True, slots=True)
class Rates:
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


def estimate(job: Job, opened: OpenedJob, planned: Plan, target: Target) -> Estimate:
    """A night's bytes and seconds, by the last run's rates or by rates measured now.

    Raises:
        BundleError: the bundle vanished.
        ScoreError: a score is NaN or infinite.
    """
    rates = recorded_rates(target, planned.model) or _measured_rates(job, opened, planned)
    seconds = planned.num_pairs / rates.pairs_per_s + planned.num_items / rates.titles_per_s
    size = math.ceil(planned.max_rows * rates.bytes_per_row)
    total = None if rates.other_s is None else round(seconds + rates.other_s, 3)
    size = math.ceil(planned.max_rows * rates.bytes_per_row)
    return Estimate(size, round(seconds, 3), total, target.free_bytes(), rates.basis)


def recorded_rates(target: Target, model: str) -> Rates | None:
    """The rates of the newest recorded run; None where there is none of this model that scored anything."""
    record = last_record(target)
    if record is None or record.get("model") != model:
        return None
    pairs, titles, size = (_positive(record, name) for name in ("pairs_per_s", "titles_per_s", "bytes_per_row"))
    if not (pairs and titles and size):
        return None
    return Rates(pairs, titles, size, _other_seconds(record), f"the run of {record.get('run_date')}")


def _other_seconds(record: Mapping[str, Any]) -> float:
    """What a recorded run took apart from scoring."""
    stages = record.get("seconds")
    found = stages if isinstance(stages, dict) else {}
    return sum(_positive(found, name) for name in found if not name.startswith("scoring "))


def _positive(record: Mapping[str, Any], name: str) -> float:
    value = record.get(name)
    return float(value) if isinstance(value, (int, float)) and 0 < value < math.inf else 0.0


def _measured_rates(job: Job, opened: OpenedJob, planned: Plan) -> Rates:
    scorer = Scorer(job, opened)
    user_seconds, user_bytes = _measure(scorer, Shard(USER_ITEMS, 0, 0, min(planned.num_users, _SAMPLE)))
    item_seconds, item_bytes = _measure(scorer, Shard(ITEM_ITEMS, 0, 0, min(planned.num_items, _SAMPLE)))
    users, items = min(planned.num_users, _SAMPLE), min(planned.num_items, _SAMPLE)
    return Rates(
        max(users * planned.num_candidates, 1) / user_seconds,
        max(items, 1) / item_seconds,
        max(user_bytes, item_bytes) or _BYTES_PER_ROW,
        None,
        f"{users} users and {items} titles scored for the purpose",
    )


def _measure(scorer: Scorer, shard: Shard) -> tuple[float, float]:
    """(seconds, bytes per row) of a shard, after one of a single query that compiles and warms up."""
    scorer.score(Shard(shard.side, 0, 0, min(1, shard.stop)))
    start = time.perf_counter()
    scored = scorer.score(shard)
    table = scored.table()
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
    free = target.free_bytes()
    rates = recorded_rates(target, planned.model)
    per_row = rates.bytes_per_row if rates else _BYTES_PER_ROW
    needed = math.ceil((planned.max_rows + planned.max_partial_rows) * per_row) - staged_bytes
    if free is not None and free < needed:
        message = (
            f"{target.location}: about {needed / 2**20:,.0f} MiB are needed, {free / 2**20:,.0f} MiB are free. "
            "Nothing was started. Free some room, give another --out, or a smaller --k."
        )
        raise OutputError(message)
