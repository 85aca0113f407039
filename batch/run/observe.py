"""A night with its watchers: the report and the metrics file, which are written whether it is published or not."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from pathlib import Path

from batch.gates.judge import GatesFailedError
from batch.job.job import Job
from batch.page.report_page import write_report
from batch.run.metrics_file import check_writable, write_metrics
from batch.run.night import decide, night_span
from batch.run.outcome import Attempt, Outcome, Report
from batch.store.layout import report_of
from sdk.base.errors import MarqueeError
from sdk.base.logs import facts, new_run_id
from sdk.base.rights import reason
from sdk.bundles.tracking import MLflow
from sdk.shell.cli import Terminated

log = logging.getLogger(__name__)


def watched(
    job: Job, *, run_id: str | None = None, metrics_file: Path | None = None, with_report: bool = True,
    mlflow: MLflow | None = None,
) -> Report:  # fmt: skip
    """Run a night, and tell its watchers how it ended; none of it changes a byte of the night.

    A report or a metrics file that cannot be written is a warning: it takes no night away.

    Args:
        job: the night.
        run_id: of the log lines and the run record; None makes one.
        metrics_file: Prometheus' text format; None writes none.
        with_report: whether an HTML report is written.
        mlflow: told of a night that was made, published or refused.

    Raises:
        UsageError: the metrics file cannot be written where it is wanted; nothing was started.
        MarqueeError: as ``batch.run.night.run``; where gates failed, the message names the report.
    """
    if metrics_file is not None:
        check_writable(metrics_file)
    attempt, started = Attempt(run_id or new_run_id()), time.time()
    with night_span(job):
        try:
            outcome = decide(job, attempt)
        except BaseException as error:
            _measure(metrics_file, attempt, _exit_code(error))
            raise
        place, ended = _reported(outcome, attempt) if with_report else None, outcome.ended
        _measure(metrics_file, attempt, 0 if isinstance(ended, Report) else ended.exit_code, outcome)
        if mlflow is not None:
            _log(mlflow, outcome, started)
        if isinstance(ended, GatesFailedError) and place is not None:
            raise GatesFailedError(f"{ended}\n  Report: {place}", ended.figures) from ended
        return outcome.published()


def _exit_code(error: BaseException) -> int:
    if isinstance(error, MarqueeError):
        return error.exit_code
    return 130 if isinstance(error, KeyboardInterrupt) else 143 if isinstance(error, Terminated) else 1


def _reported(outcome: Outcome, attempt: Attempt) -> str | None:
    """Where the report lies; whatever goes wrong with it is a warning, as the night is decided."""
    night = outcome.shown
    if outcome.was_published and night.target.read(report_of(night.run_date)) is not None:
        return None
    try:
        with attempt.stages.time("reporting"):
            return write_report(night)
    except Exception as error:
        is_known = isinstance(error, OSError | MarqueeError)
        log.warning("the report was not written: %s", error, exc_info=not is_known, extra=facts(stage="reporting"))
        return None


def _measure(path: Path | None, attempt: Attempt, exit_code: int, outcome: Outcome | None = None) -> None:
    if path is None:
        return
    try:
        write_metrics(path, attempt, exit_code, outcome)
    except OSError as error:
        log.warning("%s: not written (%s)", path, reason(error), extra=facts(stage="metrics"))


def _log(mlflow: MLflow, outcome: Outcome, started: float) -> None:
    """One run of MLflow's for a night that this run made; what is staged for a refused night stays."""
    if outcome.was_published:
        return
    night, figures = outcome.shown, outcome.shown.figures
    sides = {"users": asdict(figures.users), "titles": asdict(figures.titles), "gates": figures.verdicts}
    date, failed = {"run_date": night.run_date}, not isinstance(outcome.ended, Report)
    name, params, found = f"night {night.run_date}", {**date, **night.inputs}, {**night.record, **sides}
    mlflow.log_run(name, params, found, date, started=started, failed=failed)
