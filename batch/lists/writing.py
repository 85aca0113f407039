"""Shards scored and written, here one after the other or wherever else, with the time left in the log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

from batch.lists.shards import Scorer, Shard, store
from batch.store.journal import Journal, ShardRecord
from batch.store.target import first_altered
from sdk.base.errors import OutputError
from sdk.base.progress import Progress

Write = Callable[[Sequence[Shard]], Iterator[tuple[Shard, ShardRecord]]]
"""Scores shards and writes their parts: each shard with its record, when its part is written."""


def written_here(scorer: Scorer, journal: Journal) -> Write:
    """Write in this process, in the shards' order: each part while the next is scored, so memory holds two."""
    return partial(_overlapped, scorer, journal)


def write_shards(write: Write, shards: Sequence[Shard], what: str, pairs_each: int) -> Iterator[ShardRecord]:
    """Have shards scored and their parts written; the records come as the parts are finished.

    Args:
        write: how.
        shards: those still to do.
        what: ``users`` or ``titles``, for the log.
        pairs_each: pairs that one of them stands for.

    Raises:
        ScoreError: a score is NaN or infinite.
        OSError: a part cannot be written; those before it are kept.
    """
    total = sum(shard.size for shard in shards)
    with Progress(f"scoring {what}", what, parts=len(shards), total=total, pairs_each=pairs_each) as progress:
        for shard, record in write(shards):
            progress.step(
                shard.size, side=shard.side, shard=record.path, shard_number=shard.number, rows=record.rows,
                fallback=record.fallback, bytes=record.bytes,
            )  # fmt: skip
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


def check_staged(folder: Path, records: Sequence[ShardRecord], where: str) -> None:
    """Hold every staged part to the sha256 that it had in memory when it was written.

    Args:
        folder: the staging folder, or what was fetched of it.
        records: of its parts.
        where: what messages call the folder.

    Raises:
        OutputError: a part changed on its way to the disk, or since.
    """
    bad = first_altered(folder, {record.path: record.sha256 for record in records})
    if bad is not None:
        raise OutputError(
            f"{where}/{bad}: changed since it was written. Nothing was published. "
            "Run the same command: this part is written again. Check the disk if it happens twice."
        )
