"""Scaling of a night over worker processes of one machine, one thread each, against one process with one thread.

    python tests/benchmarks/cluster.py [--users 32768] [--titles 20000] [--users-per-part 2048] [--repeats 3]

Ratings are generated as in night.py, and one epoch of the DLRM is trained: this measures speed and memory. Every night
is a command of its own. The rounds alternate between the rows, so that a machine's other load falls on all alike; a
row shows medians. The nights' bytes are compared.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from night import ROOT, TRAIN, generate

from sdk.machine.blas import machine

DATE = "2026-11-23"
ROWS = {"one process": ("--threads", "1"), "1 worker": ("--threads", "1", "--workers", "1"),
        "2 workers": ("--threads", "2", "--workers", "2")}  # fmt: skip


def main() -> int:
    """Make a bundle, score it in every way, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=32_768)
    parser.add_argument("--titles", type=int, default=20_000)
    parser.add_argument("--per-user", type=int, default=40)
    parser.add_argument("--users-per-part", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="keep data and bundle here, and use those that are there")
    args = parser.parse_args()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        home = args.keep or Path(folder)
        bundle = make_bundle(home, args)
        print(f"load before: {os.getloadavg()}", flush=True)
        nights: dict[str, list[dict[str, Any]]] = {name: [] for name in ROWS}
        hashes = set()
        for _ in range(args.repeats):
            for name, options in ROWS.items():
                report, digest = night(bundle, home / "nights", args.users_per_part, options)
                nights[name].append(report)
                hashes.add(digest)
                print(f"{name}: {report['users_per_s']:,.0f} users/s, load {os.getloadavg()[0]:.1f}", flush=True)
        print(table(nights, bundle), flush=True)
        print(f"nights with different bytes: {len(hashes) - 1}; load after: {os.getloadavg()}")
    return len(hashes) - 1


def make_bundle(home: Path, args: argparse.Namespace) -> Path:
    """Generated ratings, and a bundle trained on them for one epoch."""
    data, bundle = home / "ml-generated", home / "bundle"
    if not data.exists():
        print(f"{generate(data, args.users, args.titles, args.per_user):,} ratings", flush=True)
    if not bundle.exists():
        code = TRAIN.format(data=str(data), model="dlrm", bundle=str(bundle))
        subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, check=True)
    return bundle


def night(bundle: Path, out: Path, users_per_part: int, options: tuple[str, ...]) -> tuple[dict[str, Any], str]:
    """One night's report with its wall time, and a hash over every file of it."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "batch.score", "--bundle", str(bundle), "--out", str(out), "--run-date", DATE,
               "--users-per-part", str(users_per_part), "--skip-gate", "users.sameness", "--json", "-q",
               *options]  # fmt: skip
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    report = json.loads(done.stdout) | {"wall": time.perf_counter() - start}
    digest = hashlib.sha256()
    for path in sorted((out / f"run_date={DATE}").rglob("*")):
        if path.is_file():
            digest.update(path.name.encode() + path.read_bytes())
            report["bytes"] = report.get("bytes", 0) + path.stat().st_size
    return report, digest.hexdigest()


def message_bytes(bundle: Path) -> int:
    """Bytes of one shard's task and of what a worker answers, as they are pickled."""
    sys.path.insert(0, str(ROOT))
    from batch.job.job import Job
    from batch.lists.shards import Shard
    from batch.lists.workers import Done, write_on_worker
    from batch.store.journal import ShardRecord

    task = (write_on_worker, Job(bundle=bundle, out="/nights", run_date=DATE), Shard("user_items", 0, 0, 1), "0" * 64)
    answer = Done(ShardRecord("user_items/part-00000.parquet", 1, 0, "0" * 64, 1), "0", 1.0)
    return len(pickle.dumps(task)) + len(pickle.dumps(answer))


def table(nights: dict[str, list[dict[str, Any]]], bundle: Path) -> str:
    """Medians of each row as Markdown; ratios are medians of each round's ratio."""
    base = [report["users_per_s"] for report in nights["one process"]]
    message = message_bytes(bundle)
    middle = statistics.median
    lines = ["| | shards | users/s | ratio (rounds) | titles/s | whole night, s | starting, s | peak MiB of a worker | "
             "to and from workers, KiB | written, MiB | bytes a row |", "|---|" + "---:|" * 10]  # fmt: skip
    for name, reports in nights.items():
        ratios = [report["users_per_s"] / one for report, one in zip(reports, base, strict=True)]
        workers = [max(r["worker_peak_memory_mib"].values(), default=r["peak_memory_mib"]) for r in reports]
        moved = message * reports[0]["parts"] / 1024 if "worker" in name else 0
        cells = [
            f"{reports[0]['parts']}",
            f"{middle([r['users_per_s'] for r in reports]):,.0f}",
            f"{middle(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
            f"{middle([r['titles_per_s'] for r in reports]):,.0f}",
            f"{middle([r['wall'] for r in reports]):.1f}",
            f"{middle([r['seconds']['preparing the model'] for r in reports]):.1f}",
            f"{middle(workers):,.0f}",
            f"{moved:.0f}",
            f"{reports[0]['bytes'] / 2**20:.0f}",
            f"{reports[0]['bytes_per_row']:.2f}",
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
