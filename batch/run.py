"""One night, callable without a shell: plan, score, stage, check, publish."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from batch.audit import audit
from batch.job import Job
from batch.parts import table_of, write_part
from batch.publish import publish, read_manifest, staging_for
from sdk import schema
from sdk.bundle import INFO, Bundle, load, sha256_of
from sdk.device import resolve_device
from sdk.errors import LockedError, OutputError
from sdk.stages import Stages, peak_memory_mib
from sdk.types import Int64s, TopK

if TYPE_CHECKING:
    from sdk.scoring.recommender import Recommender

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a night will do.

    Attributes:
        model: the ranker; ``popular`` where the bundle holds none.
        num_users: users to be given a list.
        num_items: titles to be given a list, and to be ranked for every user.
        num_pairs: user-title pairs to be scored.
        user_parts: Parquet files of user lists.
        item_parts: Parquet files of title lists.
        max_user_rows: rows of user lists at most.
        max_item_rows: rows of title lists at most.
        night: where it will be published.
    """

    model: str
    num_users: int
    num_items: int
    num_pairs: int
    user_parts: int
    item_parts: int
    max_user_rows: int
    max_item_rows: int
    night: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a night did.

    Attributes:
        night: the published folder.
        run_date: the night.
        model: the ranker that made the user lists.
        status: ``published``, ``already published`` or ``planned``.
        user_rows: rows of user lists.
        item_rows: rows of title lists.
        fallback_users: users served by popularity.
        fallback_items: titles served by popularity.
        users_per_s: users scored per second, 0 where nothing was scored.
        peak_memory_mib: the most memory that the process held.
        seconds: stage -> seconds.
    """

    night: str
    run_date: str
    model: str
    status: str
    user_rows: int
    item_rows: int
    fallback_users: int
    fallback_items: int
    users_per_s: float
    peak_memory_mib: float
    seconds: Mapping[str, float]


def plan(job: Job, bundle: Bundle) -> Plan:
    """What a job will do with a bundle, without doing it.

    Raises:
        UsageError: the bundle has no such model, or the device is not there.
    """
    resolve_device(job.device)
    num_users, num_items = bundle.users.num_rows, bundle.items.num_rows
    return Plan(
        model=bundle.resolve_model(job.model) or "popular",
        num_users=num_users,
        num_items=num_items,
        num_pairs=num_users * num_items,
        user_parts=-(-num_users // job.users_per_part),
        item_parts=-(-num_items // job.users_per_part),
        max_user_rows=num_users * min(job.k, num_items),
        max_item_rows=num_items * min(job.k, max(num_items - 1, 0)),
        night=str(job.night),
    )


def run(job: Job) -> Report:
    """Score a night and publish it; a night already published from the same inputs is left as it is.

    Raises:
        BundleError: the bundle is absent, altered or of another version.
        ScoreError: a score is NaN or infinite.
        OutputError: the night cannot be written, or one from other inputs stands there and ``force`` is not given.
        QualityGateError: the lists failed the audit; nothing was published.
        LockedError: another run is at work on the same output.
    """
    from filelock import FileLock, Timeout

    stages = Stages()
    with stages.time("loading the bundle"):
        bundle = load(job.bundle)
        planned = plan(job, bundle)
    _make_folder(job.out)
    try:
        with FileLock(job.out / ".lock", timeout=0):
            return _run_locked(job, bundle, planned, stages)
    except Timeout as error:
        message = f"{job.out}: another run is at work here; wait for it, or give another --out"
        raise LockedError(message) from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"{folder}: cannot be made ({error.strerror}); choose another --out"
        raise OutputError(message) from error


def _run_locked(job: Job, bundle: Bundle, planned: Plan, stages: Stages) -> Report:
    inputs = _inputs(job, bundle, planned)
    published = None if job.force else read_manifest(job.night)
    if published is not None:
        if published.get("inputs") != inputs:
            message = f"{job.night}: already published from other inputs; pass --force to replace it"
            raise OutputError(message)
        return _report(job, planned, published["counts"], "already published", stages)
    staging = staging_for(job.night)
    try:
        shutil.rmtree(staging, ignore_errors=True)
        counts = _write_lists(job, bundle, staging, stages)
        with stages.time("checking"):
            checks = audit(staging, bundle, job)
        with stages.time("publishing"):
            files = {p.relative_to(staging).as_posix(): sha256_of(p) for p in sorted(staging.rglob("*.parquet"))}
            manifest = {"run_date": job.run_date, "inputs": inputs, "counts": counts, "checks": checks, "files": files}
            publish(staging, job.night, manifest)
    except OSError as error:
        message = f"{error.filename or staging}: cannot be written ({error.strerror or error}); nothing was published"
        raise OutputError(message) from error
    return _report(job, planned, counts, "published", stages)


def _inputs(job: Job, bundle: Bundle, planned: Plan) -> dict[str, Any]:
    """Everything that a night's content depends on."""
    return {
        "bundle_sha256": sha256_of(bundle.path / INFO),
        "data": dict(bundle.info.data),
        "k": job.k,
        "model": planned.model,
        "include_seen": job.include_seen,
        "users_per_part": job.users_per_part,
        "packages": dict(bundle.info.packages),
        "format_version": 1,
    }


def _report(job: Job, planned: Plan, counts: Mapping[str, int], status: str, stages: Stages) -> Report:
    scoring = stages.seconds.get("scoring users", 0.0)
    return Report(
        night=str(job.night),
        run_date=job.run_date,
        model=planned.model,
        status=status,
        **{name: counts[name] for name in ("user_rows", "item_rows", "fallback_users", "fallback_items")},
        users_per_s=round(planned.num_users / scoring, 1) if scoring else 0.0,
        peak_memory_mib=round(peak_memory_mib(), 1),
        seconds={name: round(seconds, 3) for name, seconds in stages.seconds.items()},
    )


def _write_lists(job: Job, bundle: Bundle, staging: Path, stages: Stages) -> dict[str, int]:
    with stages.time("preparing the model"):
        recommender = bundle.recommender(job.model, threads=job.threads, memory_mib=job.memory_mib, device=job.device)
    with stages.time("scoring users"):
        user_rows, cold = _write_side(
            staging / "user_items", schema.USER_ITEMS, _user_lists(job, bundle, recommender),
            bundle.users.num_rows, "users", job,
        )  # fmt: skip
    with stages.time("scoring titles"):
        item_rows, bare = _write_side(
            staging / "item_items", schema.ITEM_ITEMS, _item_lists(job, bundle, recommender),
            bundle.items.num_rows, "titles", job,
        )  # fmt: skip
    return {"user_rows": user_rows, "item_rows": item_rows, "fallback_users": cold, "fallback_items": bare}


def _write_side(
    folder: Path, layout: pa.Schema, blocks: Iterator[tuple[Int64s, TopK]], total: int, what: str, job: Job
) -> tuple[int, int]:
    """Write blocks as parts while they are scored: (rows written, queries served by the fallback)."""
    folder.mkdir(parents=True)
    rows = fallback = done = 0
    num_parts = -(-total // job.users_per_part)
    start = time.perf_counter()
    with tqdm(total=total, desc=what, unit=f" {what}", disable=not sys.stderr.isatty(), leave=False) as bar:
        for number, (ids, lists) in enumerate(blocks):
            table = table_of(ids, lists, layout)
            write_part(table, folder / f"part-{number:05d}.parquet")
            rows, fallback, done = (
                rows + table.num_rows,
                fallback + int((lists.source == "popular").sum()),
                done + len(ids),
            )
            bar.update(len(ids))
            _log_part(what, number + 1, num_parts, done, total, time.perf_counter() - start)
    return rows, fallback


def _log_part(what: str, part: int, num_parts: int, done: int, total: int, seconds: float) -> None:
    rate = done / max(seconds, 1e-9)
    left = (total - done) / rate
    log.info("%s: part %d/%d, %d of %d, %.0f %s/s, %.0f s left", what, part, num_parts, done, total, rate, what, left)


def _user_lists(job: Job, bundle: Bundle, recommender: Recommender) -> Iterator[tuple[Int64s, TopK]]:
    from sdk.scoring.seen import Seen

    table = bundle.encoded_users
    seen = Seen.nothing(len(table)) if job.include_seen else bundle.interactions.seen(len(table))
    for ids in _blocks(table.known_ids, job.users_per_part):
        index = table.index_of(ids)
        yield ids, recommender.recommend(index, seen.take(index), job.k)


def _item_lists(job: Job, bundle: Bundle, recommender: Recommender) -> Iterator[tuple[Int64s, TopK]]:
    for ids in _blocks(bundle.encoded_items.known_ids, job.users_per_part):
        yield ids, recommender.similar(bundle.content if "content" in bundle.info.models else None, ids, job.k)


def _blocks(ids: Int64s, size: int) -> Iterator[Int64s]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def summary(report: Report | Plan) -> dict[str, Any]:
    """A report or a plan as plain JSON values."""
    values = asdict(report)
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}
