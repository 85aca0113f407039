"""One night, callable without a shell: plan, score, stage, check, publish."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from batch.checks.audit import audit, previous_night
from batch.checks.expectations import expectations, judged_by_log
from batch.checks.part_audit import AddedUp, write_and_check
from batch.gates.figures import FOLDERS, Figures
from batch.gates.judge import GatesFailedError
from batch.job.inputs import OpenedJob, open_job
from batch.job.job import Job
from batch.job.pins import pinned_inputs
from batch.lists.parts import part_bytes
from batch.lists.shards import Scorer, Shard
from batch.lists.taken import NOTHING, TakenOver, taken_over
from batch.lists.writing import Write, check_staged, write_shards, written_here
from batch.page.report_page import NightShown
from batch.page.trend import comparable
from batch.plan.night_plan import Estimate, Plan, check_room, estimate, job_shards, plan
from batch.run.checking import adding_up, by_parts
from batch.run.outcome import Attempt, Outcome, Report
from batch.store.clock import check_not_ahead
from batch.store.journal import Journal, ShardRecord
from batch.store.layout import COUNTS, ITEM_ITEMS, ITEM_USERS, LAYOUTS, STATES, USER_ITEMS, record_of, staging_of
from batch.store.nights import retain
from batch.store.places import open_target
from batch.store.publish import pointed, publish, read_manifest, recover
from batch.store.run_record import read_record, write_record
from batch.store.target import Target, write_failed
from sdk.base.errors import MarqueeError, OutputError, QualityGateError, ScoreError, UnusableFileError
from sdk.base.files import digest_of, sha256_of
from sdk.base.logs import details, facts
from sdk.base.rights import reason
from sdk.base.stages import peak_memory_mib
from sdk.base.traces import note, span
from sdk.bundles.fresh import FreshBundle

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


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """What stands in the staging folder, and how much of it this run made.

    Attributes:
        records: of every part, in the shards' order.
        scored: what this run made; the other parts stood there before.
        taken: what it took over from the night before.
        peaks: worker -> the most memory that it held, MiB.
        added_up: what the workers' checks add up to; None where the night was not made by workers.
    """

    records: Sequence[ShardRecord] = ()
    scored: Sequence[Shard] = ()
    taken: TakenOver = NOTHING
    peaks: Mapping[str, float] = field(default_factory=dict)
    added_up: AddedUp | None = None

    def total(self, what: str) -> dict[str, int]:
        """The sum of a field of the records, by side."""
        return {
            side: sum(getattr(each, what) for each in self.records if each.path.startswith(f"{side}/"))
            for side in LAYOUTS
        }

    def scored_lists(self, side: str) -> int:
        """How many lists of a side this run scored."""
        mine = {shard.name: shard.size for shard in self.scored if shard.side == side}
        return sum(mine.values()) - sum(each.taken for each in self.records if each.path in mine)

    @property
    def counts(self) -> dict[str, int]:
        """Rows and fallback lists of either side, as a manifest has them."""
        rows, fallback = self.total("rows"), self.total("fallback")
        return dict(zip(COUNTS, [*rows.values(), fallback[USER_ITEMS], fallback[ITEM_ITEMS]], strict=True))


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
    with night_span(job):
        return decide(job, attempt or Attempt()).published()


def night_span(job: Job) -> AbstractContextManager[None]:
    """The span of a night, to which ``decide`` adds what it finds out."""
    return span("night", run_date=job.run_date, k=job.k)


def decide(job: Job, attempt: Attempt) -> Outcome:
    """``run`` with all that those who watch a night look at; a night that its gates refused is an outcome, too.

    Raises:
        MarqueeError: as ``run`` raises it, but for gates that failed.
    """
    check_not_ahead(job.run_date, "--run-date", force=job.force)
    with _faults_explained(job):
        _refuse_second(job)
        night = _open(job, attempt)
        note(bundle=night.opened.sha256, model=night.planned.model, users=night.planned.num_users)
        with night.target.lock():
            recover(night.target)
            return _decide_locked(night)


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
        raise ScoreError(
            f"memory ran out ({error or 'no details'}). Nothing was published. Run again with a lower --memory-mib, "
            f"which keeps finished parts, or with fewer --users-per-part (now {job.users_per_part}), "
            "which makes them again."
        ) from error


def _decide_locked(night: Night) -> Outcome:
    job, target = night.job, night.target
    published = None if job.force else read_manifest(target, job.run_date)
    if published is not None and published["inputs"] != night.inputs:
        raise OutputError(f"{night.planned.night}: already published from other inputs; pass --force to replace it")
    try:
        if published is None:
            figures, written = _score_and_publish(night)
        else:
            figures, written = Figures.read(published), Written()
    except GatesFailedError as error:
        known = {"run_id": night.attempt.run_id, "seconds": dict(night.attempt.stages.seconds)}
        said = error.message.removeprefix(f"{target.describe(staging_of(job.run_date))}: ")
        return Outcome(_shown(night, error.figures, error.figures.to_json()["bundle"], known, said), error)
    if job.keep is not None:
        retain(target, job.keep, job.run_date)
    report = _report(night, figures, written, published)
    record = None if published is None else read_record(target, job.run_date)
    if record is None:
        record = asdict(report)
        write_record(target, job.run_date, record)
    note(rows=report.user_rows + report.item_rows + report.audience_rows, status=report.status)
    log.log(
        logging.INFO if report.not_latest is None else logging.WARNING,
        "night %s: %s%s, %d rows for users, %d for titles, %.0f users/s",
        report.run_date, report.status, f", but {report.not_latest}" if report.not_latest else "",
        report.user_rows, report.item_rows, report.users_per_s,
        extra=(details if report.not_latest is None else facts)(event="night", **asdict(report)),
    )  # fmt: skip
    return Outcome(_shown(night, figures, night.inputs, record), report)


def _shown(
    night: Night, figures: Figures, inputs: Mapping[str, Any], record: Mapping[str, Any], refusal: str | None = None
) -> NightShown:
    bundle = night.opened.bundle
    if isinstance(bundle, FreshBundle):  # as batch.report will open it
        bundle = bundle.trained if bundle.new_items is None else FreshBundle(bundle.trained, None, bundle.new_items)
    return NightShown(night.job.run_date, night.target, bundle, figures, inputs, record, refusal)


def _report(night: Night, figures: Figures, made: Written, published: Mapping[str, Any] | None) -> Report:
    planned, seconds = night.planned, night.attempt.stages.seconds
    to, counts = pointed(night.target, night.job.run_date), made.counts if published is None else published["counts"]
    users_per_s, titles_per_s = (
        round(made.scored_lists(side) / seconds[stage], 1)
        if seconds.get(stage) else 0.0
        for side, stage in ((USER_ITEMS, "scoring users"), (ITEM_ITEMS, "scoring titles"))
    )  # fmt: skip
    rows = sum(record.rows for record in made.records)
    return Report(
        night=planned.night, run_date=night.job.run_date, latest=to.latest, not_latest=to.not_latest,
        run_id=night.attempt.run_id, model=planned.model,
        status="published" if published is None else "already published", gate_verdicts=figures.verdicts,
        **{name: counts[name] for name in COUNTS}, asked=planned.asked, parts=planned.parts,
        resumed_parts=len(made.records) - len(made.scored),
        taken_over=made.total("taken"), not_taken_over=made.taken.why,
        bytes_per_row=round(sum(record.bytes for record in made.records) / rows, 3) if rows else 0.0,
        users_per_s=users_per_s, titles_per_s=titles_per_s,
        pairs_per_s=round(users_per_s * planned.num_candidates, 1), peak_memory_mib=round(peak_memory_mib(), 1),
        worker_peak_memory_mib=dict(sorted(made.peaks.items())),
        seconds={name: round(took, 3) for name, took in seconds.items()}, figures=comparable(figures),
    )  # fmt: skip


def _score_and_publish(night: Night) -> tuple[Figures, Written]:
    job, target, stages = night.job, night.target, night.attempt.stages
    journal = Journal(target, job.run_date, digest_of(night.inputs))
    journal.keep_refused()
    judged = None
    if job.judged is not None:
        with stages.time("judging"):
            judged = judged_by_log(night.opened.bundle, job)
    written = _write_lists(night, journal)
    with stages.time("checking"):
        try:
            figures = _checked(night, written, judged)
        except QualityGateError:
            with contextlib.suppress(OSError, OutputError):  # the refusal matters more
                journal.note_refusal()  # so that what is staged is kept, as the message promises
            raise
    with stages.time("publishing"):
        states = _write_states(night)
        publish(target, journal, _manifest(night, [*written.records, *states], written.counts, figures))
    return figures, written


def _checked(night: Night, written: Written, judged: float | None) -> Figures:
    """The figures of what is staged, once every gate was passed: by the parts' own checks, or in one pass over them."""
    job, target, staging = night.job, night.target, staging_of(night.job.run_date)
    previous = previous_night(target, job.run_date)
    if (found := by_parts(job, target, written.added_up, previous, judged)) is not None:
        return found
    with target.on_disk(staging) as folder:
        check_staged(folder, written.records, target.describe(staging))
        expected = expectations(night.opened.bundle, job, night.opened.asked, judged=judged)
        return audit(folder, expected, previous, target.describe(staging))


def _write_states(night: Night) -> list[ShardRecord]:
    """Leave what tells the next night whose lists stand still."""
    states = night.opened.states
    if not len(states):
        return []
    data = part_bytes(states)
    night.target.write(f"{staging_of(night.job.run_date)}/{STATES}", data)
    return [ShardRecord(STATES, len(states), 0, sha256_of(data), len(data))]


def _write_lists(night: Night, journal: Journal) -> Written:
    """Write what is not yet finished."""
    stages, shards = night.attempt.stages, job_shards(night.job, night.opened.asked)
    with stages.time("looking for finished parts"):
        done = journal.resume([shard.name for shard in shards])
    taken = NOTHING
    if len(done) < len(shards):
        with stages.time("looking for what stands"):
            taken = taken_over(night.job, night.opened)
            done = _usable(night, taken, journal, done)
    if done:
        values = facts(stage="looking for finished parts", resumed_parts=len(done), parts=len(shards))
        log.info("resuming: %d of %d parts are done", len(done), len(shards), extra=values)
    check_room(night.target, night.planned, sum(record.bytes for record in done.values()))
    todo = [shard for shard in shards if shard.name not in done]
    peaks: Mapping[str, float] = {}
    added_up = adding_up(night.job, night.opened, journal, done.values())
    with contextlib.ExitStack() as stack:
        if todo:
            with stages.time("preparing the model"):
                write, peaks = _writing(night, taken, journal, stack)
        for what, side in FOLDERS.items():
            if mine := [shard for shard in todo if shard.side == side]:
                each = night.planned.num_candidates if what == "users" else 0
                with stages.time(f"scoring {what}"):
                    for record in write_shards(write, mine, what, each):
                        done[record.path] = record
                        if added_up is not None:
                            added_up.take(record)
    return Written([done[shard.name] for shard in shards], todo, taken, peaks, added_up)


def _usable(
    night: Night, taken: TakenOver, journal: Journal, done: Mapping[str, ShardRecord]
) -> dict[str, ShardRecord]:
    """The finished parts, but for those of users that left no part of audiences, where audiences must be made."""
    if night.job.audience is None or ITEM_USERS in taken.sides:
        return dict(done)
    bare = {name for name, each in done.items() if name.startswith(f"{USER_ITEMS}/") and not each.partials}
    for name in bare:
        journal.forget(name)
    return {name: each for name, each in done.items() if name not in bare}


def _writing(
    night: Night, taken: TakenOver, journal: Journal, stack: contextlib.ExitStack
) -> tuple[Write, Mapping[str, float]]:
    """How shards are written, in this process or by a cluster's workers until the stack ends; their peak memory."""
    if not night.job.cluster.is_used:
        return written_here(Scorer(night.job, night.opened, taken), journal), {}
    from batch.lists.workers import worker_pool

    pool = stack.enter_context(worker_pool(night.job, night.inputs, journal, write_and_check))
    return pool.write, pool.peaks


def _manifest(
    night: Night, files: Sequence[ShardRecord], counts: Mapping[str, int], figures: Figures
) -> dict[str, Any]:
    """What is published beside the lists: nothing in it differs between two runs of the same inputs."""
    return {
        "run_date": night.job.run_date,
        "inputs": night.inputs,
        "counts": counts,
        "checks": figures.to_json(),
        "files": {record.path: record.sha256 for record in files},
        "bytes": {record.path: record.bytes for record in files},
        "rows": {record.path: record.rows for record in files},
        "run_record": f"../{record_of(night.job.run_date)}",
    }
