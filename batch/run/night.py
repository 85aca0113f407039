"""One night, callable without a shell: plan, score, stage, check, publish."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from batch.checks.audit import audit
from batch.checks.previous import previous_night
from batch.job.inputs import OpenedJob, open_job
from batch.job.job import Job
from batch.job.pins import pinned_inputs
from batch.lists.shards import Scorer
from batch.lists.writing import Write, check_staged, write_shards, written_here
from batch.run.attempt import Attempt
from batch.run.estimate import Estimate, check_room, estimate
from batch.run.plan import Plan, job_shards, plan
from batch.run.summary import NOTHING_WRITTEN, Report, Written, log_night, report_of
from batch.store.clock import check_not_ahead
from batch.store.journal import Journal
from batch.store.layout import ITEM_ITEMS, ITEM_USERS, USER_ITEMS, record_of, staging_of
from batch.store.nights import retain
from batch.store.places import open_target
from batch.store.publish import pointed, publish, read_manifest, recover
from batch.store.run_record import read_record, write_record
from batch.store.target import Target, write_failed
from sdk.base.errors import MarqueeError, OutputError, QualityGateError, ScoreError, UnusableFileError
from sdk.base.files import digest_of
from sdk.base.logs import facts
from sdk.base.rights import reason
from sdk.base.stages import Stages

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Night:
    """A job with everything that is settled before the first list is made.

    Attributes:
        job: the job.
        opened: its bundle.
        planned: its plan.
        target: where it is written.
        inputs: what its content depends on.
        attempt: the run's id, and what takes how long.
    """

    job: Job
    opened: OpenedJob
    planned: Plan
    target: Target
    inputs: Mapping[str, Any]
    attempt: Attempt

    @property
    def stages(self) -> Stages:
        """What takes how long."""
        return self.attempt.stages


def run(job: Job, attempt: Attempt | None = None) -> Report:
    """Score a night and publish it; a night already published from the same inputs is left as it is.

    A run that was killed is taken up where it stopped: what is published is the same, byte for byte.

    Args:
        job: the night.
        attempt: the run's id and stopwatch, for a caller that looks at them even where the run fails.

    Raises:
        UsageError: the night lies far ahead of the machine's date, and ``force`` is not given.
        BundleError: the bundle is absent, altered or of another version, or vanished.
        ScoreError: a score is NaN or infinite, or memory ran out.
        OutputError: the night cannot be written, or one from other inputs stands there and ``force`` is not given.
        QualityGateError: the lists failed the audit; nothing was published.
        LockedError: another run is at work on the same output.
    """
    check_not_ahead(job.run_date, "--run-date", force=job.force)
    with _faults_explained(job):
        _refuse_second(job)
        night = _open(job, attempt or Attempt())
        with night.target.lock():
            recover(night.target)
            return _run_locked(night)


def dry_run(job: Job) -> tuple[Plan, Estimate]:
    """What a job would do, and what it would take; nothing is written.

    Raises:
        UsageError: the night lies far ahead of the machine's date, and ``force`` is not given.
        BundleError: the bundle is absent, altered or of another version, or vanished.
    """
    check_not_ahead(job.run_date, "--run-date", force=job.force)
    with _faults_explained(job):
        night = _open(job, Attempt())
        return night.planned, estimate(job, night.opened, night.planned, night.target)


def _refuse_second(job: Job) -> None:
    """Look at the lock before a large bundle is read, so that a second run ends at once.

    Raises:
        LockedError: another run is at work on the same output.
    """
    target = open_target(job.out)
    if target.folders():
        with target.lock():
            pass


def _open(job: Job, attempt: Attempt) -> Night:
    target = open_target(job.out)
    if not target.lasts:
        log.warning("%s: in memory, so all that is written there is gone when this process ends", target.location)
    with attempt.stages.time("loading the bundle"):
        opened = open_job(job)
        planned = plan(job, opened)
    return Night(job, opened, planned, target, pinned_inputs(job, opened), attempt)


def _fault(job: Job, error: OSError) -> MarqueeError:
    """A file that this account may not read is an input, unless it lies in OUT or above it."""
    if isinstance(error, PermissionError) and error.filename is not None and "://" not in str(job.out):
        failed, out = Path(error.filename).absolute(), Path(job.out).absolute()
        if failed not in (out, *out.parents) and out not in failed.parents:
            why = f"it cannot be read: {reason(error)}"
            return UnusableFileError(failed, why, "Give this account the right to read it.")
    return write_failed(job.out, error)


@contextlib.contextmanager
def _faults_explained(job: Job) -> Iterator[None]:
    """Turn what the system says into an error with an exit code and a remedy."""
    try:
        yield
    except OSError as error:
        raise _fault(job, error) from error
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"):  # torch's, on a GPU
            raise
        message = (
            f"memory ran out ({error or 'no details'}). Nothing was published. Run again with a lower --memory-mib, "
            f"which keeps finished parts, or with fewer --users-per-part (now {job.users_per_part}), "
            "which makes them again."
        )
        raise ScoreError(message) from error


def _run_locked(night: Night) -> Report:
    job, target = night.job, night.target
    published = None if job.force else read_manifest(target, job.run_date)
    if published is not None and published["inputs"] != night.inputs:
        message = f"{night.planned.night}: already published from other inputs; pass --force to replace it"
        raise OutputError(message)
    manifest, written = (published, NOTHING_WRITTEN) if published is not None else _score_and_publish(night)
    if job.keep is not None:
        retain(target, job.keep, job.run_date)
    status, to = "published" if published is None else "already published", pointed(target, job.run_date)
    report = report_of(night.planned, manifest, to, status, night.attempt, written)
    if published is None or read_record(target, job.run_date) is None:
        write_record(target, job.run_date, asdict(report))
    log_night(report)
    return report


def _score_and_publish(night: Night) -> tuple[Mapping[str, Any], Written]:
    job, target, stages = night.job, night.target, night.stages
    journal = Journal(target, job.run_date, digest_of(night.inputs))
    journal.keep_refused()
    written = _write_lists(night, journal)
    staging = target.describe(staging_of(job.run_date))
    with stages.time("checking"), target.on_disk(staging_of(job.run_date)) as folder:
        check_staged(folder, written.records, staging)
        with _refusal_noted(journal):
            checks = audit(
                folder, night.opened.bundle, job,
                config=job.gates, skip=job.skip_gate, previous=previous_night(target, job.run_date),
                asked=night.opened.asked, where=staging,
            )  # fmt: skip
    manifest = _manifest(night, written, checks)
    with stages.time("publishing"):
        publish(target, journal, manifest)
    return manifest, written


@contextlib.contextmanager
def _refusal_noted(journal: Journal) -> Iterator[None]:
    """Where gates fail, have what is staged kept, as their message promises."""
    try:
        yield
    except QualityGateError:
        with contextlib.suppress(OSError, OutputError):  # the refusal matters more
            journal.note_refusal()
        raise


def _write_lists(night: Night, journal: Journal) -> Written:
    """Write what is not yet finished."""
    shards = job_shards(night.job, night.opened.asked)
    with night.stages.time("looking for finished parts"):
        done = journal.resume([shard.name for shard in shards])
    if done:
        values = facts(stage="looking for finished parts", resumed_parts=len(done), parts=len(shards))
        log.info("resuming: %d of %d parts are done", len(done), len(shards), extra=values)
    check_room(night.target, night.planned, sum(record.bytes for record in done.values()))
    todo = [shard for shard in shards if shard.name not in done]
    peaks: dict[str, float] = {}
    if todo:
        with contextlib.ExitStack() as stack:
            with night.stages.time("preparing the model"):
                write = stack.enter_context(_writing(night, journal, peaks))
            for side, what in ((USER_ITEMS, "users"), (ITEM_ITEMS, "titles"), (ITEM_USERS, "audiences")):
                mine = [shard for shard in todo if shard.side == side]
                if not mine:
                    continue
                each = night.planned.num_candidates if what == "users" else 0
                with night.stages.time(f"scoring {what}"):
                    done |= {record.path: record for record in write_shards(write, mine, what, each)}
    return Written(
        records=[done[shard.name] for shard in shards],
        resumed_parts=len(shards) - len(todo),
        scored_users=sum(shard.size for shard in todo if shard.side == USER_ITEMS),
        scored_items=sum(shard.size for shard in todo if shard.side == ITEM_ITEMS),
        worker_peaks=peaks,
    )


@contextlib.contextmanager
def _writing(night: Night, journal: Journal, peaks: dict[str, float]) -> Iterator[Write]:
    """How shards are written: in this process, or by the workers of a cluster, whose peak memory is noted."""
    if not night.job.cluster.is_used:
        yield written_here(Scorer(night.job, night.opened), journal)
        return
    from batch.lists.workers import worker_pool

    with worker_pool(night.job, night.inputs, journal) as pool:
        yield pool.write
        peaks |= pool.peaks


def _manifest(night: Night, written: Written, checks: Mapping[str, Any]) -> dict[str, Any]:
    """What is published beside the lists: nothing in it differs between two runs of the same inputs."""
    return {
        "run_date": night.job.run_date,
        "inputs": night.inputs,
        "counts": written.counts,
        "checks": checks,
        "files": {record.path: record.sha256 for record in written.records},
        "bytes": {record.path: record.bytes for record in written.records},
        "rows": {record.path: record.rows for record in written.records},
        "run_record": f"../{record_of(night.job.run_date)}",
    }
