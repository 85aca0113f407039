"""A range of nights, one after the other in one process: each is what would have been written on its day."""

from __future__ import annotations

import dataclasses
import datetime
import logging
from collections.abc import Callable, Iterator
from typing import Any

from batch.job import Job, check_date
from batch.layout import night_of
from batch.observe import Watching, watched
from batch.publish import read_manifest, recover
from batch.run import dry_run
from batch.summary import summary
from batch.target import open_target, write_failed
from sdk.errors import UsageError
from sdk.logs import facts

log = logging.getLogger(__name__)


def dates_between(first: str, last: str) -> list[str]:
    """Every date from the first to the last, both included.

    Raises:
        UsageError: one is no date, or the last is before the first.
    """
    for date in (first, last):
        check_date(date, "--backfill")
    start, stop = datetime.date.fromisoformat(first), datetime.date.fromisoformat(last)
    if stop < start:
        message = f"--backfill: got {first} to {last}, expected the earlier date first"
        raise UsageError(message)
    return [(start + datetime.timedelta(days=days)).isoformat() for days in range((stop - start).days + 1)]


def night_job(job: Job, date: str) -> Job:
    """The job of one night of a range: of newer ratings, those up to the end of that day count (UTC)."""
    return dataclasses.replace(job, run_date=date, ratings_until=None if job.ratings is None else date)


def backfill(job: Job, dates: list[str], watching: Watching) -> Iterator[dict[str, Any]]:
    """Score and publish each night that is not published yet; all of them where the job says ``force``.

    A published night is left as it is, whatever it was made from. The first failure ends the range: the nights before
    it stay published, and the same command goes on from there.

    Args:
        job: what the nights have in common; its ``run_date`` is not looked at.
        dates: the nights, in this order.
        watching: who looks at each of them.

    Yields:
        The values of each night, for the command's output.

    Raises:
        MarqueeError: a night failed, as ``run`` raises it.
    """
    return _each(job, dates, lambda night: summary(watched(night, watching)))


def planned_backfill(job: Job, dates: list[str]) -> Iterator[dict[str, Any]]:
    """What ``backfill`` would do, night by night; nothing is written."""
    return _each(job, dates, _planned)


def _planned(job: Job) -> dict[str, Any]:
    planned, estimated = dry_run(job)
    return {"run_date": job.run_date, "status": "to be scored", **summary(planned), **summary(estimated)}


def _each(job: Job, dates: list[str], work: Callable[[Job], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for date in dates:
        if not job.force and _is_published(job, date):
            log.info(
                "%s: published already; passed over", night_of(date), extra=facts(event="passed over", run_date=date)
            )
            yield {"night": open_target(job.out).describe(night_of(date)), "run_date": date, "status": "passed over"}
        else:
            yield work(night_job(job, date))


def _is_published(job: Job, date: str) -> bool:
    """Whether readers can see that night, whole.

    Raises:
        OutputError: something stands there that is no whole night.
    """
    try:
        return read_manifest(open_target(job.out), date) is not None
    except OSError as error:
        raise write_failed(job.out, error) from error


def finish_interrupted(job: Job) -> None:
    """Finish or undo what a killed run left half done, before nights are passed over.

    Raises:
        LockedError: another run is at work on the same output.
        OutputError: the output cannot be read or written.
    """
    target = open_target(job.out)
    try:
        with target.lock():
            recover(target)
    except OSError as error:
        raise write_failed(job.out, error) from error
