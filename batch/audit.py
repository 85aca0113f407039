"""Checks on a staged night, read back from its Parquet files, before anybody sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batch.job import Job
from sdk import schema
from sdk.bundle import Bundle
from sdk.errors import QualityGateError
from sdk.scoring.seen import Seen
from sdk.types import Int64s


def audit(staging: Path, bundle: Bundle, job: Job) -> dict[str, Any]:
    """Check that every user and title is there, ranks are dense, and no list repeats, breaks or shows a seen title.

    Returns:
        What was checked, with the figures, for the manifest.

    Raises:
        QualityGateError: a check failed; the message names the file and the first offending row.
    """
    seen = None if job.include_seen else bundle.interactions.seen(len(bundle.encoded_users))
    users = _audit_side(staging / "user_items", schema.USER_ITEMS, bundle.encoded_users.known_ids, bundle, seen)
    items = _audit_side(staging / "item_items", schema.ITEM_ITEMS, bundle.encoded_items.known_ids, bundle, None)
    return {"user_items": users, "item_items": items}


def _audit_side(folder: Path, layout: pa.Schema, expected: Int64s, bundle: Bundle, seen: Seen | None) -> dict[str, Any]:
    query, answer = layout.names[0], layout.names[2]
    present, shown = [], np.zeros(0, dtype=np.int64)
    for path in sorted(folder.glob("part-*.parquet")):
        table = pq.read_table(path, partitioning=None)
        if table.schema != layout:
            raise _failed(path, f"its columns are {table.schema.names}, expected {layout.names}")
        ids, answers = table.column(query).to_numpy(), table.column(answer).to_numpy()
        _check_lists(path, ids, table.column("rank").to_numpy(), answers, table.column("score").to_numpy())
        if seen is not None:
            _check_unseen(path, ids, answers, bundle, seen)
        elif query == "item_id" and (ids == answers).any():
            raise _failed(path, f"title {ids[ids == answers][0]} is listed as similar to itself")
        present.append(np.unique(ids))
        shown = np.union1d(shown, answers)
    got = np.concatenate(present) if present else shown
    empty = _check_complete(folder, got, expected, bundle, seen)
    return {"queries": len(got), "without_any_candidate": empty, "distinct_items_shown": len(shown)}


def _check_lists(path: Path, ids: Int64s, rank: Any, answers: Int64s, score: Any) -> None:
    if not np.isfinite(score).all():
        raise _failed(
            path, f"row {int(np.flatnonzero(~np.isfinite(score))[0])} has the score {score[~np.isfinite(score)][0]}"
        )
    starts = np.append(True, ids[1:] != ids[:-1])[: len(ids)]
    number = np.arange(len(ids)) - np.maximum.accumulate(np.where(starts, np.arange(len(ids)), 0)) + 1
    wrong = np.flatnonzero(rank != number)
    if len(wrong):
        raise _failed(path, f"row {wrong[0]} has rank {rank[wrong[0]]}, expected {number[wrong[0]]}")
    rising = np.flatnonzero((score[1:] > score[:-1]) & ~starts[1:])
    if len(rising):
        raise _failed(path, f"row {rising[0] + 1} scores above the row before it in the same list")
    order = np.lexsort((answers, ids))
    twice = np.flatnonzero((ids[order][1:] == ids[order][:-1]) & (answers[order][1:] == answers[order][:-1]))
    if len(twice):
        raise _failed(path, f"list {ids[order][twice[0]]} names title {answers[order][twice[0]]} twice")


def _check_unseen(path: Path, ids: Int64s, answers: Int64s, bundle: Bundle, seen: Seen) -> None:
    users = bundle.encoded_users.index_of(ids)
    items = bundle.encoded_items.index_of(answers)
    width = len(bundle.encoded_items)
    keys = np.repeat(np.arange(len(seen.indptr) - 1), np.diff(seen.indptr)) * width + seen.items
    bad = np.flatnonzero(np.isin(users * width + items, keys))
    if len(bad):
        raise _failed(path, f"user {ids[bad[0]]} is shown title {answers[bad[0]]}, which they have rated")


def _check_complete(folder: Path, got: Int64s, expected: Int64s, bundle: Bundle, seen: Seen | None) -> int:
    """Every id has a list, once, unless nothing is left to show it; the number of those."""
    if len(np.unique(got)) != len(got):
        raise _failed(folder, "an id's list is split over two parts")
    missing = np.setdiff1d(expected, got)
    if not len(missing):
        return 0
    num_items = bundle.items.num_rows
    if seen is not None:
        index = bundle.encoded_users.index_of(missing)
        left = num_items - (seen.indptr[index + 1] - seen.indptr[index])
    else:
        left = np.full(len(missing), num_items - 1)
    if (left > 0).any():
        raise _failed(folder, f"{int((left > 0).sum())} ids have no list, the first is {missing[left > 0][0]}")
    return len(missing)


def _failed(path: Path, reason: str) -> QualityGateError:
    return QualityGateError(f"{path}: {reason}. Nothing was published; the staging folder is kept for a look.")
