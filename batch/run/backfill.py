"""A range of nights, one after the other in one process: each is what would have been written on its day."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from batch.job.job import Job, check_date
from batch.run.night import dry_run
from batch.store.layout import night_of
from batch.store.nights import beyond_the_last
from batch.store.places import open_target
from batch.store.publish import read_manifest, recover
from batch.store.target import write_failed
from sdk.base.errors import UsageError
from sdk.base.logs import facts

log = logging.getLogger(__name__)


def dates_between(first: str, last: str) -> list[str]:
    """Every date from the first to the last, both included.

    Raises:
        UsageError: one is no date, or the last is before the first.
    """
    for date in (first, last):
        check_date(date, "--backfill")
    if last < first:
        raise UsageError(f"--backfill: got {first} to {last}, expected the earlier date first")
    end = np.datetime64(last) + np.timedelta64(1, "D")
    dates: list[str] = np.arange(np.datetime64(first), end).astype(str).tolist()
    return dates


def backfill(job: Job, dates: list[str], work: Callable[[Job], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Work on each night that is not published yet; on all of them where the job says ``force``.

    A published night is left as it is, whatever it was made from, and one that ``keep`` would delete is not made. The
    first failure ends the range: the nights before it stay published, and the same command goes on from there.

    Args:
        job: what the nights have in common; its ``run_date`` is not looked at.
        dates: the nights, in this order.
        work: scores and publishes one, or says what that would take.

    Yields:
        The values of each night, for the command's output.

    Raises:
        OutputError: something stands in a night's place that is no whole night.
        MarqueeError: a night failed, as ``run`` raises it.
    """
    for date, fate in _fates(job, dates).items():
        if fate == _TO_DO:  # of newer ratings, those up to the end of that day count (UTC)
            yield work(dataclasses.replace(job, run_date=date, ratings_until=None if job.ratings is None else date))
        else:
            log.info("%s: %s", night_of(date), fate, extra=facts(event=fate, run_date=date))
            yield {"night": open_target(job.out).describe(night_of(date)), "run_date": date, "status": fate}


def planned(job: Job) -> dict[str, Any]:
    """What scoring a night would take; nothing is written."""
    plan, estimate = dry_run(job)
    return {"run_date": job.run_date, "status": _TO_DO, **dataclasses.asdict(plan), **dataclasses.asdict(estimate)}


_TO_DO, _PASSED_OVER = "to be scored", "passed over"


def _fates(job: Job, dates: list[str]) -> dict[str, str]:
    """What becomes of each night of a range, settled before any work.

    Raises:
        OutputError: something stands in a night's place that is no whole night.
    """
    target = open_target(job.out)
    try:
        there = set() if job.force else {date for date in dates if read_manifest(target, date) is not None}
        beyond = [] if job.keep is None else beyond_the_last(job.keep, {*target.nights(), *dates}, target)
    except OSError as error:
        raise write_failed(job.out, error) from error
    fates = {date: _PASSED_OVER if date in there else _TO_DO for date in dates}
    left_out = [date for date in beyond if fates.get(date) == _TO_DO]
    if left_out:
        values = facts(event="left out", left_out=left_out, keep=job.keep)
        message = "%d of %d nights are left out, as --keep %d would delete them: %s to %s"
        log.warning(message, len(left_out), len(dates), job.keep, left_out[0], left_out[-1], extra=values)
    return fates | dict.fromkeys(left_out, f"left out, as --keep {job.keep} would delete it")


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
