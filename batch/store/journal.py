"""Which parts of a night are finished: one small record each, so that a killed night goes on where it stopped."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from batch.store.layout import PARTIALS, SUMS, journal_of, refused_of, staging_of
from batch.store.target import Target
from sdk.base.files import canonical, digest_of, sha256_of
from sdk.base.logs import facts

log = logging.getLogger(__name__)
_REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """One finished part.

    Attributes:
        path: the part's file, relative to the night's folder.
        rows: rows in it.
        fallback: queries in it that were served by popularity.
        sha256: of the file, hex.
        bytes: of the file.
        taken: queries in it whose lists were taken over from the night before.
        partials: files beside the records that were written with the part, each with its sha256.
    """

    path: str
    rows: int
    fallback: int
    sha256: str
    bytes: int
    taken: int = 0
    partials: Mapping[str, str] = field(default_factory=dict)


class Journal:
    """The records of one night. Each is a file of its own, written in one step: nothing is ever appended.

    Args:
        target: where the night is written.
        run_date: the night.
        digest: sha256 of everything that the night's content depends on; records of another one do not count.
    """

    def __init__(self, target: Target, run_date: str, digest: str) -> None:
        self.target, self.run_date, self.digest = target, run_date, digest
        self.folder, self.staging = journal_of(run_date), staging_of(run_date)

    def add(self, record: ShardRecord) -> None:
        """Record a finished part. A record that is lost costs its part's work, so it need not survive a power cut."""
        self.target.write(f"{self.folder}/{record.path}.json", _sealed(asdict(record), self.digest), durable=False)

    def finished(self, part: str) -> ShardRecord | None:
        """The record of a part that is finished and whole: a task that is given twice need not be done twice."""
        record = _opened(self.target.read(f"{self.folder}/{part}.json"), self.digest)
        return record if record is not None and record.path == part and self._is_whole(record) else None

    def forget(self, part: str) -> None:
        """A finished part is to be made again."""
        self.target.remove(f"{self.folder}/{part}.json")

    def note_refusal(self) -> None:
        """Note that what is staged failed its gates: it is kept for a look until the night is published."""
        self.target.write(f"{self.folder}/{_REFUSED}", self.digest.encode())

    def keep_refused(self) -> None:
        """Set what is staged aside where it is a refused night of other inputs: this one takes no part of it."""
        noted = self.target.read(f"{self.folder}/{_REFUSED}")
        if noted is None or noted == self.digest.encode():
            return
        if self.target.files(self.staging):
            aside = refused_of(self.run_date, sha256_of(noted)[:8])
            self.target.set_aside(self.staging, aside)
            place = self.target.describe(aside)
            values = facts(stage="looking for finished parts", refused=place)
            kept = "the refused night that was staged is of other inputs; kept until this one is published, as %s"
            log.warning(kept, place, extra=values)
        self.target.remove(f"{self.folder}/{_REFUSED}")

    def resume(self, expected: Sequence[str]) -> dict[str, ShardRecord]:
        """The finished parts, checked against what is staged; everything else that is staged or recorded is deleted.

        A part counts where its record is whole and of the same inputs, and its size and sha256 match, as well as
        those of its partial lists.

        Args:
            expected: every part that the night will have.

        Returns:
            Part -> record.
        """
        staged, found = self.target.files(self.staging), self.target.files(self.folder)
        partials = {name for name in found if name.startswith(f"{PARTIALS}/")}
        kept = {}
        sums = {name for name in found if name.startswith(f"{SUMS}/")}
        for name in sorted(found.keys() - partials - sums - {_REFUSED}):
            record = _opened(self.target.read(f"{self.folder}/{name}"), self.digest)
            part = name.removesuffix(".json")
            if record is not None and part == record.path and part in expected and self._is_staged(record, staged):
                kept[part] = record
            else:
                self.target.remove(f"{self.folder}/{name}")
        stray = sorted(staged.keys() - kept.keys())
        for name in stray:
            self.target.remove(f"{self.staging}/{name}")
        wanted = {name for record in kept.values() for name in record.partials}
        for name in (partials - wanted) | {name for name in sums if part_of_sums(name) not in kept}:
            self.target.remove(f"{self.folder}/{name}")
        if stray:
            values = facts(stage="looking for finished parts", deleted_files=len(stray))
            log.info("%d staged files are of other inputs, unfinished or damaged: deleted", len(stray), extra=values)
        return kept

    def _is_staged(self, record: ShardRecord, staged: Mapping[str, int]) -> bool:
        return staged.get(record.path) == record.bytes and self._is_whole(record)

    def _is_whole(self, record: ShardRecord) -> bool:
        files = {f"{self.staging}/{record.path}": record.sha256}
        files |= {f"{self.folder}/{name}": sha256 for name, sha256 in record.partials.items()}
        return all(sha256_of(self.target.read(name) or b"") == sha for name, sha in files.items())


def sums_name(part: str, key: str) -> str:
    """A file beside the records, with what the check of a part adds to the audit.

    Args:
        part: the part's file, relative to the night's folder.
        key: a hash of all that these numbers follow from.
    """
    return f"{SUMS}/{part}/{key}.npz"


def part_of_sums(name: str) -> str:
    """The part that such a file is of."""
    return name.removeprefix(f"{SUMS}/").rpartition("/")[0]


def _sealed(values: Mapping[str, Any], digest: str) -> bytes:
    body = {**values, "inputs": digest}
    return canonical({**body, "checksum": digest_of(body)})


def _opened(data: bytes | None, digest: str) -> ShardRecord | None:
    """A record, if it is whole and of these inputs."""
    try:
        values = json.loads(data or b"")
        checksum = values.pop("checksum")
        if digest_of(values) != checksum or values.pop("inputs") != digest:
            return None
        return ShardRecord(**values)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
