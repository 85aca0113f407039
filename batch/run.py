"""One night, callable without a shell: plan, score, stage, check, publish."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from batch.audit import audit
from batch.bundle_reading import OpenedBundle, open_bundle
from batch.job import Job
from batch.journal import Journal, ShardRecord
from batch.layout import ITEM_ITEMS, USER_ITEMS, record_of, staging_of
from batch.pins import digest_of, pinned_inputs
from batch.plan import Plan, job_shards, plan
from batch.publish import publish, read_manifest, recover
from batch.shards import Scorer
from batch.target import Target, open_target, write_failed
from batch.writing import check_staged, write_shards
from sdk.errors import OutputError, ScoreError
from sdk.stages import Stages, peak_memory_mib

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Report:
    """What a night did.

    Attributes:
        night: the published folder.
        run_date: the night.
        model: the ranker that made the user lists.
        status: ``published`` or ``already published``.
        user_rows: rows of user lists.
        item_rows: rows of title lists.
        fallback_users: users served by popularity.
        fallback_items: titles served by popularity.
        resumed_parts: parts that an earlier, interrupted run had finished.
        users_per_s: users scored per second, 0 where nothing was scored.
        peak_memory_mib: the most memory that the process held.
        seconds: stage -> seconds.
    """

    night: str
    run_date: str
    model: str
    status: str
    user_rows: int
    item_rows: int
    fallback_users: int
    fallback_items: int
    resumed_parts: int
    users_per_s: float
    peak_memory_mib: float
    seconds: Mapping[str, float]


def run(job: Job) -> Report:
    """Score a night and publish it; a night already published from the same inputs is left as it is.

    A run that was killed is taken up where it stopped: what is published is the same, byte for byte.

    Raises:
        BundleError: the bundle is absent, altered or of another version, or vanished.
        ScoreError: a score is NaN or infinite, or memory ran out.
        OutputError: the night cannot be written, or one from other inputs stands there and ``force`` is not given.
        QualityGateError: the lists failed the audit; nothing was published.
        LockedError: another run is at work on the same output.
    """
    stages, target = Stages(), open_target(job.out)
    with _faults_explained(job, target):
        with stages.time("loading the bundle"):
            opened = open_bundle(job.bundle)
            planned = plan(job, opened.bundle)
        with target.lock():
            recover(target)
            return _run_locked(job, opened, planned, target, stages)


@contextlib.contextmanager
def _faults_explained(job: Job, target: Target) -> Iterator[None]:
    """Turn what the system says into an error with an exit code and a remedy."""
    try:
        yield
    except OSError as error:
        raise write_failed(target.location, error) from error
    except MemoryError as error:
        message = (
            f"memory ran out ({error or 'no details'}). Nothing was published; finished parts are kept. Run again "
            f"with fewer --users-per-part (now {job.users_per_part}) or a lower --memory-mib."
        )
        raise ScoreError(message) from error


def _run_locked(job: Job, opened: OpenedBundle, planned: Plan, target: Target, stages: Stages) -> Report:
    inputs = pinned_inputs(job, opened)
    published = None if job.force else read_manifest(target, job.run_date)
    if published is not None:
        if published["inputs"] != inputs:
            message = f"{planned.night}: already published from other inputs; pass --force to replace it"
            raise OutputError(message)
        return _report(job, planned, published["counts"], "already published", stages)
    journal = Journal(target, job.run_date, digest_of(inputs))
    records, resumed = _write_lists(job, opened, journal, stages)
    counts = _counts(records)
    with stages.time("checking"), target.on_disk(staging_of(job.run_date)) as folder:
        check_staged(folder, records)
        checks = audit(folder, opened.bundle, job)
    manifest = _manifest(job, inputs, counts, checks, records)
    with stages.time("publishing"):
        publish(target, journal, manifest)
    return _report(job, planned, counts, "published", stages, resumed)


def _write_lists(job: Job, opened: OpenedBundle, journal: Journal, stages: Stages) -> tuple[Sequence[ShardRecord], int]:
    """Write what is not yet finished: (every part's record in order, how many were finished before)."""
    shards = job_shards(job, opened.bundle)
    with stages.time("looking for finished parts"):
        done = journal.resume([shard.name for shard in shards])
    if done:
        log.info("resuming: %d of %d parts are done", len(done), len(shards))
    resumed = len(done)
    with stages.time("preparing the model"):
        scorer = Scorer(job, opened)
    for side, what in ((USER_ITEMS, "users"), (ITEM_ITEMS, "titles")):
        with stages.time(f"scoring {what}"):
            todo = [shard for shard in shards if shard.side == side and shard.name not in done]
            done |= {record.path: record for record in write_shards(scorer, journal, todo, what)}
    return [done[shard.name] for shard in shards], resumed


def _counts(records: Sequence[ShardRecord]) -> dict[str, int]:
    """Rows and fallback lists of either side."""
    users = [record for record in records if record.path.startswith(f"{USER_ITEMS}/")]
    items = [record for record in records if record.path.startswith(f"{ITEM_ITEMS}/")]
    return {
        "user_rows": sum(record.rows for record in users),
        "item_rows": sum(record.rows for record in items),
        "fallback_users": sum(record.fallback for record in users),
        "fallback_items": sum(record.fallback for record in items),
    }


def _manifest(
    job: Job, inputs: Mapping[str, Any], counts: Mapping[str, int], checks: Any, records: Sequence[ShardRecord]
) -> dict[str, Any]:
    """What is published beside the lists: nothing in it differs between two runs of the same inputs."""
    return {
        "run_date": job.run_date,
        "inputs": inputs,
        "counts": counts,
        "checks": checks,
        "files": {record.path: record.sha256 for record in records},
        "bytes": {record.path: record.bytes for record in records},
        "rows": {record.path: record.rows for record in records},
        "run_record": f"../{record_of(job.run_date)}",
    }


def _report(
    job: Job, planned: Plan, counts: Mapping[str, int], status: str, stages: Stages, resumed: int = 0
) -> Report:
    scoring = stages.seconds.get("scoring users", 0.0)
    return Report(
        night=planned.night,
        run_date=job.run_date,
        model=planned.model,
        status=status,
        **{name: counts[name] for name in ("user_rows", "item_rows", "fallback_users", "fallback_items")},
        resumed_parts=resumed,
        users_per_s=round(planned.num_users / scoring, 1) if scoring else 0.0,
        peak_memory_mib=round(peak_memory_mib(), 1),
        seconds={name: round(seconds, 3) for name, seconds in stages.seconds.items()},
    )


def summary(report: Report | Plan) -> dict[str, Any]:
    """A report or a plan as plain JSON values."""
    values = asdict(report)
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}
