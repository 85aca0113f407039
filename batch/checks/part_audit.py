"""A part checked beside where it was written, by the worker that wrote it; the driver adds up what the checks leave.

What adds up (``sums``) lies beside the journal's records, by a key of all that it follows from: the part's bytes, the
night's inputs, the settings that count and the night before. Where a part has none under the key of tonight's driver,
or names somebody who is not of its shard, the night is audited in one pass, which sees all parts at once: so both give
the same figures. A night with audiences is audited in one pass, too, and one with newer ratings or new items.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batch.checks.expectations import Expectations, expectations, some_of
from batch.checks.previous import PreviousNight, PublishedParts, compared, previous_night
from batch.checks.side_audit import SideAudit, SideRules
from batch.checks.sums import SideSums
from batch.gates.figures import TITLES, USERS
from batch.job.inputs import OpenedJob
from batch.job.job import Job
from batch.lists.parts import TEXTS
from batch.lists.shards import Scorer, Shard, scorer_of
from batch.lists.workers import Done, write_on_worker
from batch.store.journal import Journal, ShardRecord, sums_name
from batch.store.layout import ITEM_ITEMS, USER_ITEMS
from batch.store.places import open_target
from sdk.base.arrow_memory import reader_of
from sdk.base.errors import OutputError, QualityGateError
from sdk.base.files import digest_of, sha256_of
from sdk.base.ids import plain_id
from sdk.base.types import Bools, Id
from sdk.bundles.some_users import StoredUsers
from sdk.features.tables import FIRST_KNOWN

log = logging.getLogger(__name__)
_SIDES = {USER_ITEMS: USERS, ITEM_ITEMS: TITLES}
_auditors: WeakKeyDictionary[Scorer, PartAudit | None] = WeakKeyDictionary()
_loading = threading.Lock()


def write_and_check(job: Job, shard: Shard, digest: str) -> Done:
    """On a worker: score and write one shard, check what was written, and leave what adds up.

    Raises:
        MarqueeError: as ``write_on_worker`` raises it.
        OSError: the same.
    """
    done = write_on_worker(job, shard, digest)
    with _loading:
        scorer = scorer_of(job)[0]
        if scorer not in _auditors:
            _auditors[scorer] = PartAudit.of(job, scorer.opened)
        auditor = _auditors[scorer]
    if auditor is not None:
        auditor.leave_sums(shard, done.record, Journal(open_target(job.out), job.run_date, digest))
    return done


class PartAudit:
    """Checks the parts of one job, each on its own.

    Args:
        job: the job.
        opened: its bundle, and what it asks for.
        source: of the bundle's users.
        previous: the night to compare with; None where there is none.
    """

    def __init__(self, job: Job, opened: OpenedJob, source: StoredUsers, previous: PreviousNight | None) -> None:
        self.job, self.asked, self.previous, self._source = job, opened.asked, previous, source
        self._nobody = source.some(np.zeros(0, np.int64))[0]
        self._titles = self.expected().rules[TITLES]

    @classmethod
    def of(cls, job: Job, opened: OpenedJob) -> PartAudit | None:
        """For a job whose parts can be checked on their own; None for others."""
        source = opened.asked.source
        if job.audience is not None or not isinstance(source, StoredUsers):
            return None
        return cls(job, opened, source, previous_night(open_target(job.out), job.run_date))

    def expected(self, judged: float | None = None) -> Expectations:
        """What the night is held against, without its users.

        Args:
            judged: see ``judged_by_log``.
        """
        found = expectations(self._nobody, self.job, self.asked.of(self._nobody), judged=judged)
        everybody = self.asked.num_users == self._source.num_users
        return replace(found, rules={**found.rules, USERS: replace(found.rules[USERS], all_asked=everybody)})

    @property
    def num_answers(self) -> int:
        """Items of the catalogue."""
        return len(self._titles.answers)

    def key(self, record: ShardRecord, digest: str) -> str:
        """16 hex digits of all that a part's sums follow from."""
        gates, before = self.job.gates, "" if self.previous is None else self.previous.digest
        return digest_of([record.sha256, digest, gates.depth, gates.established_ratings, before])[:16]

    def leave_sums(self, shard: Shard, record: ShardRecord, journal: Journal) -> None:
        """Read a part back, check it, and leave its sums beside its record; not where it is not as it was written.

        Raises:
            OSError: they cannot be written.
        """
        name = f"{journal.folder}/{sums_name(record.path, self.key(record, journal.digest))}"
        data = journal.target.read(f"{journal.staging}/{record.path}") or b""
        if journal.target.read(name) is None and sha256_of(data) == record.sha256:
            sums = self.sums(shard, pq.read_table(reader_of(data), read_dictionary=TEXTS))
            if sums is not None:
                journal.target.write(name, sums.to_bytes(), durable=False)

    def sums(self, shard: Shard, table: pa.Table) -> SideSums | None:
        """What a part adds up to; None where it takes all parts to tell.

        Args:
            shard: the part's.
            table: its rows.
        """
        rules = self._rules(shard)
        found = SideAudit(rules, shard.number)
        try:
            found.add(shard.name, table)
            sums = found.finish()
            if self.previous is not None and self.previous.is_like(rules):
                within = self._within(shard)
                parts = _around(self.previous, rules.side, within, shard.start / self._total(shard))
                sums.compared = compared(found, self.previous.run_date, parts, within)
        except (QualityGateError, OutputError, pa.ArrowException) as error:
            log.warning("%s is not checked on its own: %s", shard.name, error)
            return None
        return None if found.strangers else sums

    def _rules(self, shard: Shard) -> SideRules:
        """What a part is held against: its own queries alone are expected."""
        places = np.arange(shard.start, shard.stop)
        if shard.side == ITEM_ITEMS:
            mine = np.zeros(len(self._titles.queries) + FIRST_KNOWN, np.bool_)
            mine[self._nobody.encoded_items.index_of(self.asked.items[places])] = True
            own: Bools = mine[FIRST_KNOWN:]
            sampled = None if self._titles.sampled is None else self._titles.sampled & own
            return replace(self._titles, expected=own, sampled=sampled)
        bundle = self._source.some(self.asked.numbers(places))[0]
        rules = expectations(bundle, self.job, self.asked.of(bundle)).rules[USERS]
        return replace(rules, sampled=some_of(rules.expected, shard.start, self.asked.num_users))

    def _total(self, shard: Shard) -> int:
        return self.asked.num_users if shard.side == USER_ITEMS else len(self.asked.items)

    def _within(self, shard: Shard) -> tuple[Id | None, Id | None]:
        """The ids that a part answers for: above the last one before it, up to its own last one."""
        last = shard.stop == self._total(shard)
        return (
            self._id(shard, shard.start - 1) if shard.start else None,
            None if last else self._id(shard, shard.stop - 1),
        )

    def _id(self, shard: Shard, place: int) -> Id:
        if shard.side == ITEM_ITEMS:
            return plain_id(self.asked.items[place])
        bundle, rows = self._source.some(self.asked.numbers(np.array([place])))
        return plain_id(bundle.encoded_users.ids[rows[0]])


def _around(
    previous: PreviousNight, side: str, within: tuple[Id | None, Id | None], share: float
) -> Iterator[tuple[str, pa.Table]]:
    parts = previous.parts[side]
    assert isinstance(parts, PublishedParts)
    return parts.around(*within, share)


class AddedUp:
    """What the driver adds up while parts are written.

    Args:
        auditor: with the driver's night before.
        journal: of the night.
    """

    def __init__(self, auditor: PartAudit, journal: Journal) -> None:
        self._auditor, self._journal = auditor, journal
        self._bytes: dict[str, int] = {}
        self._complete = True
        self.sums = {side: SideSums.nothing(auditor.num_answers) for side in _SIDES.values()}

    def take(self, record: ShardRecord) -> None:
        """Add what a finished part left; without it, the night is audited in one pass."""
        name = sums_name(record.path, self._auditor.key(record, self._journal.digest))
        data = self._journal.target.read(f"{self._journal.folder}/{name}")
        self._bytes[record.path] = record.bytes
        try:
            sums = SideSums.of_bytes(data or b"")
        except ValueError:
            self._complete = False
            return
        self.sums[_SIDES[record.path.partition("/")[0]]].add(sums)

    def expected(self, judged: float | None) -> Expectations:
        """What the sums are held against."""
        return self._auditor.expected(judged)

    def is_whole(self, previous: PreviousNight | None) -> bool:
        """Whether every part was added, compared with this night before, and lies there in its size."""
        before = self._auditor.previous
        same = (None if before is None else before.digest) == (None if previous is None else previous.digest)
        staged = self._journal.target.files(self._journal.staging)
        return self._complete and same and {name: staged.get(name) for name in self._bytes} == self._bytes
