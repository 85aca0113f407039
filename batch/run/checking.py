"""A staged night held to its gates: by what the workers' checks of its parts add up to, or in one pass over them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from batch.checks.audit import audit, judged
from batch.checks.expectations import expectations
from batch.checks.part_audit import AddedUp, PartAudit
from batch.checks.previous import previous_night
from batch.gates.figures import Figures
from batch.job.inputs import OpenedJob
from batch.job.job import Job
from batch.lists.writing import check_staged
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


def checked(
    job: Job, opened: OpenedJob, target: Target, records: Sequence[ShardRecord], added_up: AddedUp | None,
    by_log: float | None = None,
) -> Figures:  # fmt: skip
    """The night's figures, once every gate was passed.

    Args:
        job: the night.
        opened: its bundle, and what it asks for.
        target: where its parts are staged.
        records: of the parts.
        added_up: what the workers' checks add up to, as far as they left it; None where none were made.
        by_log: see ``judged_by_log``.

    Raises:
        QualityGateError: a gate failed.
        OutputError: a part is not as it was written, or cannot be read.
    """
    where, previous = target.describe(staging_of(job.run_date)), previous_night(target, job.run_date)
    if added_up is not None and added_up.is_whole(previous):
        return judged(added_up.sums, added_up.expected(by_log), previous, where)
    if added_up is not None:
        log.info("not every part was checked beside where it was written: all are checked here")
    with target.on_disk(staging_of(job.run_date)) as folder:
        check_staged(folder, records, where)
        return audit(folder, expectations(opened.bundle, job, opened.asked, judged=by_log), previous, where)
