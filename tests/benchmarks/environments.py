"""Sets of packages side by side: loading, training, a night and serving, and whether the lists are the same.

    python tests/benchmarks/environments.py OLD/bin/python NEW/bin/python [MORE/bin/python ...] [--rounds 3]

Each interpreter runs this checkout's code with the packages of its own environment, every measurement in a process of
its own, and they take turns in each round, so a busy moment hits all. The first is the one that the ratios are against.
One bundle, trained by the first, is scored by all: its rows must be equal, and the exit code is 1 where they are not.
Serving is left out where the trial server is not installed. Data: MovieLens latest-small (MARQUEE_DATA).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sdk.machine.blas import kernels, machine

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("MARQUEE_DATA", ROOT.parent / "shared" / "data")) / "ml-latest-small"
PACKAGES = ("numpy", "pandas", "pyarrow", "scipy", "numba", "torch", "dask", "nvtabular")
NIGHT = "2026-01-01"


def about(work: Path) -> dict[str, Any]:
    """What the environment holds, and how fast NumPy's linear algebra is, by which kernels."""
    import numpy as np

    a = np.random.default_rng(0).random((2048, 2048), dtype=np.float32)
    seconds = statistics.median(_timed(lambda: a @ a) for _ in range(7))
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES},
            "kernels": kernels(), "gflop_s": 2 * 2048**3 / 1e9 / seconds}  # fmt: skip


def load(work: Path) -> dict[str, Any]:
    """Files to a validated data set."""
    from sdk.data.movielens import load as load_files

    return {"load s": _timed(lambda: load_files(str(DATA)))}


def train(work: Path) -> dict[str, Any]:
    """The whole command, with the features that every environment can fit."""
    bundle = work / f"bundle-{os.getpid()}"
    seconds = _timed(lambda: _command("sdk", "train", "--movielens", DATA, "--out", bundle, "--features", "builtin"))
    facts = json.loads((bundle / "bundle.json").read_text("utf-8"))
    auc = {row["model"]: row["auc"] for row in facts["metrics"]["test"]}
    if not (work / "bundle").exists():
        bundle.rename(work / "bundle")
    return {"train s": seconds, "test_auc": auc}


def night(work: Path) -> dict[str, Any]:
    """The whole command on the first one's bundle; the hashes are of the rows, and of the files."""
    import pyarrow.parquet as pq

    out = work / f"nightly-{os.getpid()}"
    asked = ("--bundle", work / "bundle", "--out", out, "--run-date", NIGHT, "--audience", 10)
    seconds = _timed(lambda: _command("batch.score", *asked))
    rows, files = hashlib.sha256(), hashlib.sha256()
    for path in sorted((out / f"run_date={NIGHT}").rglob("*.parquet")):
        files.update(path.read_bytes())
        table = pq.ParquetFile(path).read().combine_chunks()  # without the folder's run_date
        for name, column in zip(table.column_names, table.columns, strict=True):
            values = column.to_numpy()  # of text it holds addresses, which differ
            held = repr(values.tolist()).encode() if values.dtype == object else values.tobytes()
            rows.update(f"{name} {column.type} {len(column)}".encode() + held)
    return {"night s": seconds, "rows": rows.hexdigest()[:12], "files": files.hexdigest()[:12]}


def serve(work: Path) -> dict[str, Any]:
    """Median milliseconds of a request to the trial server, its client in the same environment."""
    if find_spec("pytriton") is None:
        return {}
    from export.client import Client
    from export.options import ExportOptions
    from export.repository import export_repository
    from export.server import ServerOptions, TritonServer
    from sdk.bundles.bundle import load as load_bundle

    bundle = load_bundle(work / "bundle")
    users, items = bundle.encoded_users.known_ids, bundle.encoded_items.known_ids
    export_repository(bundle.path, work / f"served-{os.getpid()}", ExportOptions(workflow="compiled"))
    with (
        TritonServer(work / f"served-{os.getpid()}", ServerOptions(poll_s=0)) as server,
        Client(server.http_url) as client,
    ):
        asks: dict[str, Callable[[int], object]] = {
            "rank ms": lambda i: client.rank(int(users[i]), items[:100]),
            "recommend ms": lambda i: client.recommend([int(users[i])], 100),
        }
        return {
            name: 1000 * statistics.median([_timed(lambda ask=ask, i=i: ask(i)) for i in range(300)][20:])  # type: ignore[misc]
            for name, ask in asks.items()
        }


TASKS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "about": about, "load": load, "train": train, "night": night, "serve": serve,
}  # fmt: skip
ONCE = ("about", "train")


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _command(*words: object) -> None:
    subprocess.run([sys.executable, "-m", *map(str, words), "--quiet"], check=True, stdout=subprocess.DEVNULL)


def ask(python: str, task: str, work: Path) -> dict[str, Any]:
    """One measurement in a process of this environment."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [python, __file__, "--task", task, "--work", str(work)], env=environment, stdout=subprocess.PIPE, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    """Measure all and print a table; 1 where the rows of one night differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pythons", nargs="*", metavar="PYTHON", help="interpreters of the environments")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--skip", action="append", default=[], choices=TASKS, help="leave a task out")
    parser.add_argument("--task", choices=TASKS, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.task:
        print(json.dumps(TASKS[args.task](args.work)))
        return 0
    found: list[list[dict[str, Any]]] = [[] for _ in args.pythons]
    with tempfile.TemporaryDirectory(prefix="marquee-environments-") as folder:
        for number in range(args.rounds):
            for task in [name for name in TASKS if name not in args.skip and (number == 0 or name not in ONCE)]:
                for python, results in zip(args.pythons, found, strict=True):
                    results.append(ask(python, task, Path(folder)))
    print(f"{machine()}; load {os.getloadavg()[0]:.1f}; median of {args.rounds}")
    for name in dict.fromkeys(key for results in found for one in results for key in one):
        columns = [[one[name] for one in results if name in one] for results in found]
        if name.endswith((" s", " ms")):
            medians = [statistics.median(column) if column else float("nan") for column in columns]
            print(f"{name:13s}", *(f"{m:10.2f} ({m / medians[0]:4.2f})" for m in medians))
        else:
            print(f"{name:13s}", *(str(column[0] if column else "") for column in columns), sep="  ")
    rows = {one["rows"] for results in found for one in results if "rows" in one}
    print("the rows of the night are", "the same in all" if len(rows) == 1 else f"DIFFERENT: {rows}")
    return int(len(rows) != 1)


if __name__ == "__main__":
    sys.exit(main())
