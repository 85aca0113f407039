"""The audit of one night cut into fewer or more parts: in one pass, and by what the checks of its parts add up to.

    python tests/benchmarks/part_checks.py [--users 200000] [--items 2000] [--users-per-part 8192 2048 512]

A bundle is generated without training, and its night is made once by one process for each size of parts, with a night
before it to be compared with. Then, by one thread: every part checked on its own, as a worker does; the sums read and
added, as the driver does while parts are written; what is left to the driver's stage ``checking``; and the audit in one
pass, which that stage is without sums. Both give the same figures.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from batch.checks.audit import audit, judged
from batch.checks.expectations import expectations
from batch.checks.part_audit import AddedUp, PartAudit
from batch.checks.previous import previous_night
from batch.job.inputs import open_job
from batch.job.job import Job
from batch.job.pins import pinned_inputs
from batch.lists.shards import Scorer, store
from batch.plan.night_plan import job_shards
from batch.run.night import run
from batch.store.journal import Journal
from batch.store.places import open_target
from sdk.base.files import digest_of
from sdk.machine.blas import machine

ROOT = Path(__file__).resolve().parents[2]
SKIP = ("fallback", "sameness", "overlap", "drift")
GENERATE = (
    "import sys; from pathlib import Path; from generated_bundle import Sizes, write_generated; "
    "write_generated(Path(sys.argv[1]), Sizes(int(sys.argv[2]), int(sys.argv[3])))"
)


def main() -> int:
    """Generate, score, check in both ways, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--users-per-part", type=int, nargs="+", default=[8192, 2048, 512])
    args = parser.parse_args()
    print(machine(), flush=True)
    lines = ["| parts | rows | check of a part, ms | adding a part, ms | driver's stage, ms | one pass, ms |",
             "|---:|---:|---:|---:|---:|---:|"]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "helpers")])
        command = [sys.executable, "-W", "ignore", "-c", GENERATE, str(bundle), str(args.users), str(args.items)]
        subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": path})
        lines += [row(bundle, Path(folder) / f"nights-{size}", size) for size in args.users_per_part]
    print("\n" + "\n".join(lines))
    return 0


def row(bundle: Path, out: Path, size: int) -> str:
    """One line: a night in parts of one size."""
    run(Job(bundle=bundle, out=out, run_date="2026-11-22", threads=1, users_per_part=size, skip_gate=SKIP))
    job = Job(bundle=bundle, out=out, run_date="2026-11-23", threads=1, users_per_part=size, skip_gate=SKIP)
    opened = open_job(job)
    journal = Journal(open_target(out), job.run_date, digest_of(pinned_inputs(job, opened)))
    shards, scorer = job_shards(job, opened.asked), Scorer(job, opened)
    records = [store(journal, scorer.score(shard)) for shard in shards]
    auditor, previous = PartAudit.of(job, opened), previous_night(journal.target, job.run_date)
    assert auditor is not None
    seconds = [time.perf_counter()]
    for shard, record in zip(shards, records, strict=True):
        auditor.leave_sums(shard, record, journal)
    seconds.append(time.perf_counter())
    added = AddedUp(auditor, journal)
    for record in records:
        added.take(record)
    seconds.append(time.perf_counter())
    assert added.is_whole(previous)
    apart = judged(added.sums, added.expected(None), previous, "the night")
    seconds.append(time.perf_counter())
    whole = audit(out / journal.staging, expectations(opened.bundle, job, opened.asked), previous, "the night")
    seconds.append(time.perf_counter())
    assert apart == whole
    check, adding, stage, one_pass = ((b - a) * 1000 for a, b in pairwise(seconds))
    rows, parts = sum(record.rows for record in records), len(shards)
    return f"| {parts:,} | {rows:,} | {check / parts:.1f} | {adding / parts:.2f} | {stage:.0f} | {one_pass:.0f} |"


if __name__ == "__main__":
    sys.exit(main())
