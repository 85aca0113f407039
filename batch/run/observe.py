"""A night with its watchers: the report and the metrics file, which are written whether it is published or not."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batch.gates.config import GatesFailedError
from batch.job.job import Job
from batch.run.attempt import Attempt
from batch.run.night import run
from batch.run.outcome import Outcome
from batch.run.summary import Report
from batch.store.layout import report_of
from batch.store.places import open_target
from batch.store.publish import read_manifest
from sdk.base.errors import MarqueeError
from sdk.base.logs import facts, new_run_id
from sdk.base.rights import reason
from sdk.shell.cli import Terminated

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watching:
    """Who looks at a run; none of it changes a byte of the night.

    Attributes:
        run_id: of the log lines and the run record; None makes one.
        metrics_file: Prometheus' text format; None writes none.
        report: whether an HTML report is written.
    """

    run_id: str | None = None
    metrics_file: Path | None = None
    report: bool = True


def watched(job: Job, watching: Watching) -> Report:
    """Run a night, and tell its watchers how it ended.

    A report or a metrics file that cannot be written is a warning: it takes no night away.

    Raises:
        UsageError: the metrics file cannot be written where it is wanted; nothing was started.
        MarqueeError: as ``batch.run.night.run``; where gates failed, the message names the report.
    """
    if watching.metrics_file is not None:
        from batch.run.metrics_file import check_writable

        check_writable(watching.metrics_file)
    attempt = Attempt(watching.run_id or new_run_id())
    try:
        report = run(job, attempt)
    except GatesFailedError as error:
        told = _refused(job, attempt, error) if watching.report else error
        _measure(watching, attempt, exit_code=error.exit_code, checks=error.checks)
        raise told from error
    except BaseException as error:
        _measure(watching, attempt, exit_code=_exit_code(error))
        raise
    if watching.report:
        _published(job, attempt, report)
    if watching.metrics_file is not None:
        manifest = read_manifest(open_target(job.out), job.run_date) or {}
        _measure(watching, attempt, exit_code=0, checks=manifest.get("checks", {}), report=report)
    return report


def _exit_code(error: BaseException) -> int:
    if isinstance(error, MarqueeError):
        return error.exit_code
    return 130 if isinstance(error, KeyboardInterrupt) else 143 if isinstance(error, Terminated) else 1


def _published(job: Job, attempt: Attempt, report: Report) -> None:
    from batch.page.report_page import published_night, write_report

    target = open_target(job.out)
    if report.status == "already published" and target.read(report_of(job.run_date)) is not None:
        return

    def write() -> str:
        from sdk.bundles.bundle import load

        return write_report(published_night(target, job.run_date), load(job.bundle))

    _tried("the report", attempt, write)


def _refused(job: Job, attempt: Attempt, error: GatesFailedError) -> GatesFailedError:
    """The error with the report's path in its message."""
    from batch.page.report_page import refused_night, write_report

    record = {"run_id": attempt.run_id, "seconds": dict(attempt.stages.seconds)}

    def write() -> str:
        from sdk.bundles.bundle import load

        night = refused_night(open_target(job.out), job.run_date, error.checks, record, error.message)
        return write_report(night, load(job.bundle))

    place = _tried("the report", attempt, write)
    return error if place is None else GatesFailedError(f"{error}\n  Report: {place}", error.checks)


def _tried(what: str, attempt: Attempt, write: Callable[[], str]) -> str | None:
    """Write something that the night does not need: whatever goes wrong is a warning, as the night is decided."""
    try:
        with attempt.stages.time("reporting"):
            return write()
    except Exception as error:
        is_known = isinstance(error, OSError | MarqueeError)
        log.warning("%s was not written: %s", what, error, exc_info=not is_known, extra=facts(stage="reporting"))
        return None


def _measure(
    watching: Watching,
    attempt: Attempt,
    *,
    exit_code: int,
    checks: Mapping[str, Any] | None = None,
    report: Report | None = None,
) -> None:
    path = watching.metrics_file
    if path is None:
        return
    from batch.run.metrics_file import write_metrics

    outcome = Outcome(attempt, exit_code, time.time(), report, checks or {})
    try:
        write_metrics(path, outcome)
    except OSError as error:
        log.warning("%s: not written (%s)", path, reason(error), extra=facts(stage="metrics"))
