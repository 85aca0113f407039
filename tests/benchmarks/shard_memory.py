"""Peak memory of a worker that scores, writes and checks a few shards, by the number of users that the bundle has.

    python tests/benchmarks/shard_memory.py --users 2000000 20000000 [--items 2000] [--shards 6] [--keep FOLDER]

A bundle is generated for each, without training: a history model of rank 15, about four ratings a user, and everything
that a bundle stores by user. One Dask worker process with one thread then makes shards from all over the users.
Seconds are the median of all but the first; what that takes longer is opening: every file's sha256 is checked then.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from batch.checks.part_audit import write_and_check
from batch.job.inputs import open_job
from batch.job.job import Job
from batch.job.pins import pinned_inputs
from batch.plan.night_plan import job_shards
from sdk.base.files import digest_of
from sdk.base.stages import peak_memory_mib
from sdk.machine.blas import machine
from sdk.machine.cluster import ClusterConfig, connect

ROOT = Path(__file__).resolve().parents[2]
DATE = "2026-11-23"
GENERATE = (
    "import sys; from pathlib import Path; from generated_bundle import Sizes, write_generated; "
    "write_generated(Path(sys.argv[1]), Sizes(int(sys.argv[2]), int(sys.argv[3])))"
)


def main() -> int:
    """Generate the bundles, score, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, nargs="+", default=[2_000_000])
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--shards", type=int, default=6)
    parser.add_argument("--keep", type=Path, help="keep the bundles here, and use those that are there")
    args = parser.parse_args()
    print(machine(), flush=True)
    lines = ["| users | ratings | files of users, MiB | shards of 8,192 | s a shard | opening, s | "
             "peak MiB of the worker | of the driver |", "|---:|---:|---:|---:|---:|---:|---:|---:|"]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for users in args.users:
            bundle = generated(args.keep or Path(folder), users, args.items)
            lines.append(row(bundle, Path(folder) / f"nights-{users}", args.shards))
            if args.keep is None:
                shutil.rmtree(bundle)
    print("\n" + "\n".join(lines))
    return 0


def generated(home: Path, users: int, items: int) -> Path:
    """A bundle of so many users; by a process of its own, whose memory is not measured."""
    bundle = home / f"generated-{users}-{items}"
    if not bundle.exists():
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "helpers")])
        command = [sys.executable, "-W", "ignore", "-c", GENERATE, str(bundle), str(users), str(items)]
        subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": path})
    return bundle


def row(bundle: Path, out: Path, num_shards: int) -> str:
    """One line: a worker's and this process's peak over some shards."""
    job = Job(bundle=bundle, out=out, run_date=DATE, threads=1)
    opened = open_job(job)
    digest = digest_of(pinned_inputs(job, opened))
    shards = [shard for shard in job_shards(job, opened.asked) if shard.side == "user_items"]
    chosen = [shards[n * (len(shards) - 1) // max(num_shards - 1, 1)] for n in range(num_shards)]
    seconds, peak = [], 0.0
    with connect(ClusterConfig(workers=1)) as client:
        for shard in chosen:
            start = time.perf_counter()
            done: Any = client.submit(write_and_check, job, shard, digest, pure=False).result()
            seconds.append(time.perf_counter() - start)
            peak = done.peak_memory_mib
    shutil.rmtree(out)
    size = sum((bundle / name).stat().st_size for name in ("users.parquet", "seen.parquet", "lists.npz")) / 2**20
    data = opened.bundle.info.data
    middle = sorted(seconds[1:])[len(seconds[1:]) // 2]
    cells = (data["num_users"], data["num_ratings"], round(size), len(chosen))
    ends = f"{middle:.2f} | {max(seconds[0] - middle, 0):.0f} | {peak:,.0f} | {peak_memory_mib():,.0f}"
    return f"| {' | '.join(f'{cell:,}' for cell in cells)} | {ends} |"


if __name__ == "__main__":
    sys.exit(main())
