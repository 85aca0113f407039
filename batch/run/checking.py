"""A staged night held to its gates by what the workers' checks of its parts add up to."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from batch.checks.audit import judged
from batch.checks.part_audit import AddedUp, PartAudit
from batch.checks.previous import PreviousNight
from batch.gates.figures import Figures
from batch.job.inputs import OpenedJob
from batch.job.job import Job
from batch.store.journal import Journal, ShardRecord
from batch.store.layout import staging_of
from batch.store.target import Target

log = logging.getLogger(__name__)


def adding_up(job: Job, opened: OpenedJob, journal: Journal, done: Iterable[ShardRecord]) -> AddedUp | None:
    """What takes the workers' checks, with those of parts that are finished; None where the parts are read here."""
    auditor = PartAudit.of(job, opened) if job.cluster.is_used else None
    if auditor is None:
        return None
    found = AddedUp(auditor, journal)
    for record in done:
        found.take(record)
    return found


def by_parts(
    job: Job, target: Target, added_up: AddedUp | None, previous: PreviousNight | None, by_log: float | None = None
) -> Figures | None:
    """The night's figures, once every gate was passed; None where it takes one pass over all parts.

    Args:
        job: the night.
        target: where its parts are staged.
        added_up: what the workers' checks add up to, as far as they left it; None where none were made.
        previous: the night to compare with.
        by_log: see ``judged_by_log``.

    Raises:
        QualityGateError: a gate failed.
    """
    if added_up is None:
        return None
    if added_up.is_whole(previous):
        where = target.describe(staging_of(job.run_date))
        return judged(added_up.sums, added_up.expected(by_log), previous, where)
    log.info("not every part was checked beside where it was written: all are checked here")
    return None
