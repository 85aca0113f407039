"""Shards scored by the workers of a Dask cluster: the driver hands them out, a few at a time, and collects records."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from batch.job.job import Job
from batch.job.pins import package_versions
from batch.lists.shards import Shard, forget, scorer_of, write_shard
from batch.store.journal import Journal, ShardRecord
from batch.store.places import open_target
from sdk.base.errors import BundleError, OutputError
from sdk.base.files import sha256_of
from sdk.base.logs import facts
from sdk.base.stages import peak_memory_mib
from sdk.bundles.bundle import INFO
from sdk.machine.cluster import PROBE, WORKERS_S, ask_workers, connect, new_probe, num_slots
from sdk.machine.device import resolve_device, usable_cores

log = logging.getLogger(__name__)

_LOOK_S = 5.0
_DRAIN_S = 600.0
_loading = threading.Lock()


@dataclasses.dataclass(frozen=True, slots=True)
class Done:
    """What a worker sends back for a shard.

    Attributes:
        record: of the part it wrote.
        worker: its name in the cluster.
        peak_memory_mib: the most memory that it has held.
    """

    record: ShardRecord
    worker: str
    peak_memory_mib: float


Task: TypeAlias = Callable[[Job, Shard, str], Done]


class WorkerPool:
    """The workers of a cluster, as a way to write shards.

    Args:
        client: of the cluster, ``distributed.Client``.
        job: as the workers shall see it.
        digest: of the driver's inputs; a worker with others is refused.
        task: what a worker does for a shard; None: ``write_on_worker``.

    Attributes:
        peaks: worker's name -> the most memory that it has held, MiB.
    """

    def __init__(self, client: Any, job: Job, digest: str, task: Task | None = None) -> None:
        self.client, self.job, self.digest, self._task = client, job, digest, task or write_on_worker
        self.peaks: dict[str, float] = {}
        self._known: frozenset[str] = frozenset()
        self._looked = self._seen_any = time.monotonic()

    def write(self, shards: Sequence[Shard]) -> Iterator[tuple[Shard, ShardRecord]]:
        """Have every shard scored and written; each comes with its record as it is finished, in any order.

        Twice as many shards as there are places are handed out at a time. Where one fails, the others that are out
        are waited for, so that nobody writes once the run has ended, and their parts are kept.

        Raises:
            MarqueeError: as the shard raised it.
            OSError: a part cannot be written.
            OutputError: no worker is left.
        """
        queue, pending = iter(shards), dict[Any, Shard]()
        try:
            self._fill(queue, pending)
            while pending:
                for future in self._finished(pending):
                    done: Done = future.result()
                    future.release()  # or the cluster would see to it that this answer outlives its worker
                    self.peaks[done.worker] = max(done.peak_memory_mib, self.peaks.get(done.worker, 0.0))
                    yield pending.pop(future), done.record
                self._fill(queue, pending)
        except Exception:
            self._drain(pending)
            raise

    def _fill(self, queue: Iterator[Shard], pending: dict[Any, Shard]) -> None:
        window = 2 * num_slots(self.client)
        while len(pending) < window and (shard := next(queue, None)) is not None:
            key = f"{self.job.run_date}/{shard.name}-{uuid.uuid4().hex[:8]}"
            future = self.client.submit(self._task, self.job, shard, self.digest, key=key, pure=False)
            pending[future] = shard

    def _finished(self, pending: Mapping[Any, Shard]) -> list[Any]:
        """Some finished ones; looks after the workers meanwhile."""
        from distributed import wait

        found: list[Any] = []
        while not found:
            with contextlib.suppress(TimeoutError):
                found = list(wait(list(pending), timeout=_LOOK_S, return_when="FIRST_COMPLETED").done)
            self._look()
        return found

    def _look(self) -> None:
        """Every few seconds: say which workers were lost, and give up where none has been there for long."""
        now = time.monotonic()
        if now - self._looked < _LOOK_S:
            return
        self._looked, workers = now, frozenset(self.client.nthreads())
        for address in sorted(self._known - workers):
            log.warning("worker %s is gone; its parts are made by another", address)
        self._known = workers
        if workers:
            self._seen_any = now
        elif now - self._seen_any > WORKERS_S:
            raise OutputError(
                f"no worker has been there for {WORKERS_S:.0f} s. Nothing was published; finished parts are kept. "
                "Start workers and run the same command."
            )

    def _drain(self, pending: Mapping[Any, Shard]) -> None:
        from distributed import wait

        with contextlib.suppress(Exception):
            wait(list(pending), timeout=_DRAIN_S)


@contextlib.contextmanager
def worker_pool(
    job: Job, inputs: Mapping[str, Any], journal: Journal, task: Task | None = None
) -> Iterator[WorkerPool]:
    """A cluster that is ready to write a night: each worker has the bundle, the packages and the output.

    Args:
        job: the night's, as the driver has it.
        inputs: what the driver's night depends on.
        journal: of the night.
        task: see ``WorkerPool``.

    Raises:
        BundleError: a worker has no such bundle, another one, or other package versions.
        OutputError: a worker cannot write where the driver reads, or the cluster is lost.
        ScoreError: a shard cost several workers their life.
    """
    with connect(job.cluster, job.device) as client:
        sent = _for_workers(job)
        check_workers(client, sent, inputs, journal)
        workers, slots = len(client.nthreads()), num_slots(client)
        counts = facts(stage="cluster", workers=workers, slots=slots)
        log.info("%d workers, %d shards at a time", workers, slots, extra=counts)
        yield WorkerPool(client, sent, journal.digest, task)
        with contextlib.suppress(OSError):
            client.run(forget)  # a cluster outlives the night: its workers need not keep the model
        _clear_staging(journal)


def _for_workers(job: Job) -> Job:
    """The job with absolute paths, and its threads divided among the workers started here.

    On a cluster that stands already a task has one thread unless ``--threads`` says more: Dask gives each of a
    worker's threads a task.
    """
    here = job.cluster.workers
    threads = max((job.threads or usable_cores()) // here, 1) if here else job.threads or 1
    out = job.out if "://" in str(job.out) else Path(job.out)
    values = {**{field.name: getattr(job, field.name) for field in dataclasses.fields(job)}, "out": out}
    paths: dict[str, Any] = {name: value.absolute() for name, value in values.items() if isinstance(value, Path)}
    return dataclasses.replace(job, **paths, threads=threads)


def check_workers(client: Any, job: Job, inputs: Mapping[str, Any], journal: Journal) -> None:
    """Hold every worker to what the driver has, before any work is done.

    Raises:
        BundleError: a worker has no such bundle, another one, or other package versions.
        OutputError: a worker cannot write to the output, or writes to another place than the driver reads.
    """

    def seen() -> set[str]:
        names = {name for name in journal.target.files(journal.folder) if name.startswith(PROBE)}
        for name in names:
            journal.target.remove(f"{journal.folder}/{name}")
        return names

    answers = ask_workers(client, look_around, (job, journal.folder), seen, str(job.out), _SHARED)
    for address, found in answers.items():
        for name, value in found.items():
            if value != inputs[name]:
                raise BundleError(f"worker {address}: {_differs(job, name, value, inputs[name])}")


_SHARED = "Give an --out that every worker and this process share: a shared folder, or a store such as s3://."


def _differs(job: Job, name: str, found: Any, expected: Any) -> str:
    if name == "bundle_sha256":
        problem = f"{job.bundle} {'is another bundle there' if found else 'holds no bundle there'}"
        return f"{problem}. Nothing was scored. Put the same bundle at the same path on every worker."
    if isinstance(found, dict):
        found = {name: value for name, value in found.items() if value != expected.get(name)}
        expected = {name: expected.get(name) for name in found}
    return f"{name} there {found}, here {expected}. Nothing was scored. Give every worker the same environment."


def look_around(job: Job, folder: str) -> tuple[dict[str, Any], str]:
    """On a worker: what it has of a job's inputs, and the name of a file that it wrote to the output.

    Raises:
        OSError: it cannot write there.
    """
    info, probe = job.bundle / INFO, new_probe()
    open_target(job.out).write(f"{folder}/{probe}", b"", durable=False)
    bundle = sha256_of(info) if info.is_file() else ""
    return {"bundle_sha256": bundle, "packages": package_versions(), "device": resolve_device(job.device)}, probe


def write_on_worker(job: Job, shard: Shard, digest: str) -> Done:
    """On a worker: score and write one shard.

    Raises:
        BundleError: the worker's bundle or packages are not the driver's.
        ScoreError: a score is NaN or infinite.
        OSError: the part cannot be written.
    """
    from distributed import get_worker

    worker = str(get_worker().name)
    with _loading:  # a worker with several threads loads the model once
        if scorer_of(job)[1] != digest:
            forget()  # kept from a bundle that was replaced since
        if scorer_of(job)[1] != digest:
            raise BundleError(
                f"worker {worker}: its bundle, files or packages are not those that this night began with. Nothing was "
                "published. Give it the same, restart it and run the same command: finished parts are kept."
            )
    return Done(write_shard(job, shard), worker, round(peak_memory_mib(), 1))


def _clear_staging(journal: Journal) -> None:
    """Delete what a killed worker left half written."""
    recorded = {name.removesuffix(".json") for name in journal.target.files(journal.folder)}
    for name in sorted(journal.target.files(journal.staging).keys() - recorded):
        journal.target.remove(f"{journal.staging}/{name}")
