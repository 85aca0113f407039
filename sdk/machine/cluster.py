"""A Dask cluster for one run: worker processes started here, or a cluster that stands already."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import sys
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sdk.base.errors import OutputError, ScoreError, UsageError, how_to_get
from sdk.machine.device import resolve_device, versions_of

log = logging.getLogger(__name__)
T = TypeVar("T")

ANSWER_S = 20.0
"""How long a scheduler may take to answer."""
WORKERS_S = 120.0
"""How long the first worker, or the last one's successor, may take to come."""
LEAST_MEMORY_MIB = 512
MOST_WORKERS = 1024

_SETTINGS = {
    "distributed.scheduler.allowed-failures": 2,  # a task that costs three workers their life is given up
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,  # a paused worker keeps its model, so it would never go on
    "distributed.worker.memory.terminate": 0.95,
    "distributed.nanny.pre-spawn-environ.PYTHONWARNINGS": "ignore",
    "distributed.scheduler.http.routes": [],  # nothing is served over HTTP
    "distributed.worker.http.routes": [],
}
_FOR_MERLIN = {"dataframe.query-planning": False, "dataframe.convert-string": False}


@contextlib.contextmanager
def dask_for_merlin() -> Iterator[None]:
    """While open, Dask makes the DataFrames that Merlin knows, and neither's warnings are shown.

    Merlin and NVTabular are imported, and work, inside. What it sets of Dask's it puts back at its end:
    ``dataframe.convert-string`` is off, for Merlin's frames alone; ``dataframe.query-planning`` is off, which Dask
    reads once, when ``dask.dataframe`` is first imported, so a process that has used Merlin keeps Dask's legacy
    DataFrames. Dask before 2024.3 has no other ones, and nothing changes there.

    Raises:
        UsageError: this process has imported ``dask.dataframe`` already, with query planning on.
    """
    import dask

    if getattr(sys.modules.get("dask.dataframe"), "DASK_EXPR_ENABLED", False):
        message = (
            "dask.dataframe: was imported with query planning on before NVTabular was, which knows only the legacy "
            "DataFrames. Start Python anew with DASK_DATAFRAME__QUERY_PLANNING=False, or choose --features builtin."
        )
        raise UsageError(message)
    with warnings.catch_warnings(), dask.config.set(_FOR_MERLIN):
        warnings.simplefilter("ignore")
        yield


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """Where work is done: nowhere else, in ``workers`` processes of this machine, or on the cluster at ``address``.

    Attributes:
        workers: worker processes to start here and divide the work among; none unless given.
        address: of a Dask scheduler, ``tcp://HOST:PORT``, whose cluster divides the work; none unless given.
        worker_memory: most that one worker started here may hold, such as ``4GiB``; its share of all unless given.
    """

    workers: int | None = None
    address: str | None = None
    worker_memory: str | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.address is not None:
            message = "--workers and --dask: give one; the first starts workers here, the second uses a cluster's"
            raise UsageError(message)
        if self.workers is not None and not 1 <= self.workers <= MOST_WORKERS:
            bound = "at least 1" if self.workers < 1 else f"at most {MOST_WORKERS}"
            raise UsageError(f"--workers: got {self.workers}, expected {bound}")
        if self.address is not None and "://" not in self.address:
            raise UsageError(
                f"--dask: got {self.address!r}, expected a scheduler's address such as tcp://10.0.0.5:8786"
            )
        if self.is_used and importlib.util.find_spec("distributed") is None:
            message = f"--workers and --dask need Dask, which is not installed: {how_to_get('dask')}"
            raise UsageError(message)
        if self.worker_memory is not None:
            _check_memory(self.worker_memory, self.workers)

    @property
    def is_used(self) -> bool:
        """Whether work goes to other processes at all."""
        return self.workers is not None or self.address is not None


def _check_memory(text: str, workers: int | None) -> None:
    if workers is None:
        message = "--worker-memory: goes with --workers; the workers of a cluster have limits of their own"
        raise UsageError(message)
    from dask.utils import parse_bytes

    try:
        size = parse_bytes(text)
    except ValueError as error:
        raise UsageError(f"--worker-memory: got {text!r}, expected a size such as 4GiB") from error
    if size < LEAST_MEMORY_MIB * 2**20:
        expected = f"at least {LEAST_MEMORY_MIB}MiB: Python and its packages alone take most of that"
        raise UsageError(f"--worker-memory: got {text!r}, expected {expected}")


@contextlib.contextmanager
def connect(config: ClusterConfig, device: str = "cpu") -> Iterator[Any]:
    """A ``distributed.Client`` with at least one worker; workers started here end with the context.

    While it is open it is the default client, so NVTabular works on the cluster too.

    Args:
        config: it must be used.
        device: ``cuda`` gives each worker started here a GPU of its own.

    Raises:
        UsageError: a GPU a worker is asked for and cannot be had.
        OutputError: no scheduler answers, it is lost, or no worker is there.
        ScoreError: a task cost several workers their life, as a rule for want of memory.
    """
    from distributed import Client

    where = config.address or "the workers started here"
    with _quiet(), _losses_explained(where), contextlib.ExitStack() as stack:
        scheduler: Any = config.address or stack.enter_context(_local_cluster(config, device))
        try:
            client = stack.enter_context(Client(scheduler, timeout=ANSWER_S))
            client.wait_for_workers(config.workers or 1, timeout=WORKERS_S)
        except OSError as error:  # a TimeoutError is one
            raise OutputError(
                f"{where}: no Dask scheduler with a worker answers ({error or type(error).__name__}). "
                "What was published still stands. Start the cluster, or give --workers N, and run the same command."
            ) from error
        yield client


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask's own lines out of ours, but for its errors."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def _losses_explained(where: str) -> Iterator[None]:
    """Turn what Dask raises into an error with an exit code and a remedy."""
    from distributed import CancelledError, KilledWorker
    from distributed.comm.core import CommClosedError

    try:
        yield
    except (CancelledError, CommClosedError) as error:
        raise OutputError(
            f"{where}: the connection was lost ({type(error).__name__}: the scheduler ended, or the network failed). "
            "What was published still stands. Run the same command again: finished work is kept."
        ) from error
    except KilledWorker as error:
        raise ScoreError(
            f"{where}: {error.allowed_failures + 1} workers died of the same task, as a rule for want of memory. "
            "Nothing was published; finished work is kept. Run again with fewer workers, more --worker-memory, "
            "or a smaller task (--users-per-part)."
        ) from error


def _local_cluster(config: ClusterConfig, device: str) -> AbstractContextManager[Any]:
    """Worker processes of this machine, on its loopback address, each with one task at a time."""
    import dask

    options: dict[str, Any] = {
        "n_workers": config.workers, "threads_per_worker": 1, "host": "127.0.0.1", "silence_logs": logging.ERROR,
        "scheduler_kwargs": {"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        "memory_limit": config.worker_memory or "auto",
    }  # fmt: skip
    with dask.config.set(_SETTINGS):  # the nannies keep a copy
        if resolve_device(device) == "cuda":
            return _gpu_cluster(options)
        from distributed import LocalCluster

        return LocalCluster(processes=True, **options)


def _gpu_cluster(options: dict[str, Any]) -> AbstractContextManager[Any]:
    import torch

    found = torch.cuda.device_count()
    if options["n_workers"] > found:
        message = f"--workers: got {options['n_workers']}, expected at most {found}: each worker has a GPU of its own"
        raise UsageError(message)
    try:
        from dask_cuda import LocalCUDACluster
    except ImportError as error:
        raise UsageError(f"--workers on GPUs needs dask-cuda ({error}); install it, or give --device cpu") from error
    return LocalCUDACluster(**options)


def num_slots(client: Any) -> int:
    """How many tasks the cluster's workers take at a time."""
    return max(sum(client.nthreads().values()), 1)


@contextlib.contextmanager
def training_cluster(config: ClusterConfig, out: Path) -> Iterator[None]:
    """While open, NVTabular transforms on the cluster, if ``config`` names one.

    Args:
        config: which.
        out: the bundle's folder; NVTabular's files lie beside it, so every worker must see the folder above it.

    Raises:
        UsageError: a worker has other package versions.
        OutputError: a worker does not see the folder; or as ``connect`` raises it.
    """
    if not config.is_used:
        yield
        return
    with contextlib.ExitStack() as stack:
        with dask_for_merlin():  # workers started here keep a copy of the settings
            client = stack.enter_context(connect(config))
        _check_workers(client, out.absolute().parent)
        log.info("%d workers transform features", len(client.nthreads()))
        yield


_PACKAGES = ("marquee", "nvtabular", "merlin-core", "pandas", "numpy", "pyarrow", "dask")


def _look_around(folder: Path) -> tuple[dict[str, str], str]:
    """On a worker: its package versions, and the name of a file that it wrote to a folder."""
    with dask_for_merlin():  # a cluster's own workers have settings of their own
        import dask.dataframe  # noqa: F401
    probe = folder / new_probe()
    probe.touch()
    return versions_of(_PACKAGES), probe.name


def _check_workers(client: Any, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)

    def seen() -> set[str]:
        found = list(folder.glob(f"{PROBE}*"))
        for path in found:
            path.unlink()
        return {path.name for path in found}

    expected = versions_of(_PACKAGES)
    for address, versions in ask_workers(client, _look_around, (folder,), seen, str(folder), _SHARED).items():
        differing = {name: found for name, found in versions.items() if found != expected[name]}
        if differing:
            wanted = {name: expected[name] for name in differing}
            message = f"worker {address}: has {differing}, here are {wanted}. Give every worker the same environment."
            raise UsageError(message)


PROBE = ".worker-"
"""What the name of a file starts with that a worker writes to show that it can."""
_SHARED = "Give an --out that all workers share."


def new_probe() -> str:
    """A name for a worker's file that no other has."""
    return f"{PROBE}{uuid.uuid4().hex}"


def ask_workers(
    client: Any,
    look: Callable[..., tuple[T, str]],
    args: tuple[Any, ...],
    seen: Callable[[], set[str]],
    place: str,
    remedy: str,
) -> dict[str, T]:
    """Ask every worker, before any work, what it has, and whether what it writes is seen here.

    Args:
        client: of the cluster.
        look: what each worker does: it writes a file of a ``new_probe`` name, and returns what it has and that name.
        args: of ``look``.
        seen: the names of such files that are there; it deletes them.
        place: where they are written, for the message.
        remedy: what to do where that fails, for the message.

    Returns:
        Worker's address -> what it has.

    Raises:
        OutputError: a worker cannot write there, or writes to another place than is read here.
    """
    answers: dict[str, Any] = client.run(look, *args, on_error="return")
    probes = seen()
    for address, answer in answers.items():
        if isinstance(answer, BaseException):
            raise OutputError(f"worker {address}: cannot write to {place} ({answer}). {remedy}") from answer
        if answer[1] not in probes:
            raise OutputError(f"worker {address}: what it writes to {place} is not seen here. {remedy}")
    return {address: has for address, (has, _) in answers.items()}
