"""Shards scored one after the other in this process, each part written while the next is scored."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from batch.journal import Journal, ShardRecord
from batch.shards import Scorer, Shard, store
from sdk.bundle import sha256_of
from sdk.errors import OutputError
from sdk.logs import facts

log = logging.getLogger(__name__)


def write_shards(scorer: Scorer, journal: Journal, shards: Sequence[Shard], what: str) -> Iterator[ShardRecord]:
    """Score shards and write their parts; the records come in the shards' order, each when its part is written.

    At most one part waits while the next is scored, so memory holds two.

    Args:
        scorer: of the job.
        journal: of the night.
        shards: those still to do.
        what: ``users`` or ``titles``, for the log.

    Raises:
        ScoreError: a score is NaN or infinite.
        OSError: a part cannot be written; those before it are kept.
    """
    total = sum(shard.size for shard in shards)
    start = time.perf_counter()
    done = 0
    with tqdm(total=total, desc=what, unit=f" {what}", disable=not sys.stderr.isatty(), leave=False) as bar:
        for number, (shard, record) in enumerate(_overlapped(scorer, journal, shards), 1):
            done += shard.size
            bar.update(shard.size)
            _log_part(what, (number, len(shards)), (done, total), time.perf_counter() - start, record)
            yield record


def _overlapped(scorer: Scorer, journal: Journal, shards: Sequence[Shard]) -> Iterator[tuple[Shard, ShardRecord]]:
    """Write each part in a thread of its own while the next shard is scored."""
    with ThreadPoolExecutor(1, "writing") as pool:
        waiting: tuple[Shard, Future[ShardRecord]] | None = None
        for shard in shards:
            scored = scorer.score(shard)
            if waiting is not None:
                yield waiting[0], waiting[1].result()
            waiting = shard, pool.submit(store, journal, scored)
        if waiting is not None:
            yield waiting[0], waiting[1].result()


def _log_part(what: str, part: tuple[int, int], done: tuple[int, int], seconds: float, record: ShardRecord) -> None:
    rate = done[0] / max(seconds, 1e-9)
    left = (done[1] - done[0]) / rate
    values = facts(stage=f"scoring {what}", shard=record.path, rows=record.rows, bytes=record.bytes,
                   rate=round(rate, 1), seconds_left=round(left, 1))  # fmt: skip
    log.info(
        "%s: part %d/%d, %d of %d, %.0f %s/s, %.0f s left", what, *part, *done, rate, what, left, extra=values
    )  # fmt: skip


def first_altered(folder: Path, files: Mapping[str, str]) -> str | None:
    """The first part that is absent or has another sha256 than it should; None where all are whole.

    Args:
        folder: the night's.
        files: part -> hex sha256.
    """
    return next((n for n, sha in files.items() if not (folder / n).is_file() or sha256_of(folder / n) != sha), None)


def check_staged(folder: Path, records: Sequence[ShardRecord]) -> None:
    """Hold every staged part to the sha256 that it had in memory when it was written.

    Raises:
        OutputError: a part changed on its way to the disk, or since.
    """
    bad = first_altered(folder, {record.path: record.sha256 for record in records})
    if bad is not None:
        message = (
            f"{folder / bad}: changed since it was written. Nothing was published. "
            "Run the same command: this part is written again. Check the disk if it happens twice."
        )
        raise OutputError(message)
