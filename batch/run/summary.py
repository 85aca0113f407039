"""What a night did, in figures: for the command's output and for the run record."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from batch.gates.config import count_verdicts
from batch.run.attempt import Attempt
from batch.run.plan import Plan
from batch.store.journal import ShardRecord
from batch.store.layout import COUNTS, ITEM_ITEMS, ITEM_USERS, USER_ITEMS
from batch.store.publish import Pointed
from sdk.base.logs import facts
from sdk.base.stages import Stages, peak_memory_mib

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Report:
    """What a night did.

    Attributes:
        night: the published folder.
        run_date: the night.
        latest: the night that readers use now.
        not_latest: why that is another one, and what helps; None where it is this night.
        run_id: tells this run from others.
        model: what made the user lists, as in ``Plan``.
        status: ``published`` or ``already published``.
        gate_verdicts: verdict -> how many gates of the night had it.
        user_rows: rows of user lists.
        item_rows: rows of title lists.
        audience_rows: rows of audiences.
        fallback_users: users served by popularity.
        fallback_items: titles served by popularity.
        asked: what was counted in the files that the job names.
        parts: Parquet files of the night.
        resumed_parts: those of them that an earlier, interrupted run had finished.
        bytes_per_row: of the parts, 0 where nothing was written.
        users_per_s: users scored and written per second, 0 where nothing was scored.
        titles_per_s: the same of titles.
        pairs_per_s: user-title pairs scored per second.
        peak_memory_mib: the most memory that the process held.
        worker_peak_memory_mib: the same of each worker by its name; empty where there was none.
        seconds: stage -> seconds.
    """

    night: str
    run_date: str
    latest: str | None
    not_latest: str | None
    run_id: str
    model: str
    status: str
    gate_verdicts: Mapping[str, int]
    user_rows: int
    item_rows: int
    audience_rows: int
    fallback_users: int
    fallback_items: int
    asked: Mapping[str, int]
    parts: int
    resumed_parts: int
    bytes_per_row: float
    users_per_s: float
    titles_per_s: float
    pairs_per_s: float
    peak_memory_mib: float
    worker_peak_memory_mib: Mapping[str, float]
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Written:
    """What stands in the staging folder, and how much of it this run made.

    Attributes:
        records: of every part, in the shards' order.
        resumed_parts: parts that stood there before.
        scored_users: users scored by this run.
        scored_items: titles scored by this run.
        worker_peaks: worker -> the most memory that it held, MiB.
    """

    records: Sequence[ShardRecord]
    resumed_parts: int
    scored_users: int
    scored_items: int
    worker_peaks: Mapping[str, float] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """Rows and fallback lists of either side."""
        users, items, audiences = (
            [record for record in self.records if record.path.startswith(f"{side}/")]
            for side in (USER_ITEMS, ITEM_ITEMS, ITEM_USERS)
        )
        return {
            "user_rows": sum(record.rows for record in users),
            "item_rows": sum(record.rows for record in items),
            "audience_rows": sum(record.rows for record in audiences),
            "fallback_users": sum(record.fallback for record in users),
            "fallback_items": sum(record.fallback for record in items),
        }


NOTHING_WRITTEN = Written((), 0, 0, 0)


def report_of(
    planned: Plan, manifest: Mapping[str, Any], to: Pointed, status: str, attempt: Attempt, written: Written
) -> Report:
    """The report of a run.

    Args:
        planned: its plan.
        manifest: its night's.
        to: what readers use.
        status: ``published`` or ``already published``.
        attempt: its id, and what took how long.
        written: what this run wrote.
    """
    stages = attempt.stages
    users_per_s = _rate(written.scored_users, stages, "scoring users")
    rows = sum(record.rows for record in written.records)
    return Report(
        night=planned.night,
        run_date=manifest["run_date"],
        latest=to.latest,
        not_latest=to.not_latest,
        run_id=attempt.run_id,
        model=planned.model,
        status=status,
        gate_verdicts=count_verdicts(manifest["checks"].get("gates", ())),
        **{name: manifest["counts"][name] for name in COUNTS},
        asked=planned.asked,
        parts=planned.parts,
        resumed_parts=written.resumed_parts,
        bytes_per_row=round(sum(record.bytes for record in written.records) / rows, 3) if rows else 0.0,
        users_per_s=users_per_s,
        titles_per_s=_rate(written.scored_items, stages, "scoring titles"),
        pairs_per_s=round(users_per_s * planned.num_candidates, 1),
        peak_memory_mib=round(peak_memory_mib(), 1),
        worker_peak_memory_mib=dict(sorted(written.worker_peaks.items())),
        seconds={name: round(seconds, 3) for name, seconds in stages.seconds.items()},
    )


def _rate(count: int, stages: Stages, stage: str) -> float:
    seconds = stages.seconds.get(stage, 0.0)
    return round(count / seconds, 1) if seconds else 0.0


def log_night(report: Report) -> None:
    """One line that says what the run did, with every value of the report; a warning where readers do not get it."""
    log.log(
        logging.INFO if report.not_latest is None else logging.WARNING,
        "night %s: %s%s, %d rows for users, %d for titles, %.0f users/s",
        report.run_date, report.status, f", but {report.not_latest}" if report.not_latest else "",
        report.user_rows, report.item_rows, report.users_per_s,
        extra=facts(event="night", **asdict(report)),
    )  # fmt: skip


def summary(result: Any) -> dict[str, Any]:
    """A report, a plan or another of the command's results as plain JSON values."""
    values = asdict(result)
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}
