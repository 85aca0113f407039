"""SIGKILL at random moments, then the same command: the night's bytes are those of an undisturbed run.

MARQUEE_SOAK_KILLS sets how many kills; the seed is fixed, the moments are as random as the machine's load. Three
in four are counted from a finished part, drawn from all, so that every stage is met however fast the machine is.
"""

from __future__ import annotations

import collections
import hashlib
import json
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from children import Child
from night_files import DATE, debris, tree

from batch.score import main

KILLS = int(os.environ.get("MARQUEE_SOAK_KILLS", "20"))
NIGHT, STAGING, JOURNAL = f"run_date={DATE}", f".staging-{DATE}", f".journal-{DATE}"


LOOK_S = 0.001


class Answer(NamedTuple):
    killed: bool
    seconds: float


class Nights:
    """The command in processes of its own."""

    def __init__(self, bundle_path: Path) -> None:
        self.bundle_path = bundle_path

    def run(self, out: Path, *extra: str, kill_after: float | None = None, parts: int = 0) -> Answer:
        """Run the command; kill it so many seconds after that many parts are recorded."""
        argv = ["--bundle", str(self.bundle_path), "--out", str(out), "--run-date", DATE, "--k", "5",
                "--threads", "1", *extra]  # fmt: skip
        start = time.perf_counter()
        child = Child(main, argv)
        if kill_after is not None:
            while num_recorded(out / JOURNAL) < parts and not child.ends_within(LOOK_S):
                pass
            if not child.ends_within(kill_after):
                child.process.kill()
        code, said = child.end()
        assert code in (0, -signal.SIGKILL), said
        return Answer(code != 0, time.perf_counter() - start)


def num_recorded(journal: Path) -> int:
    """Finished parts that the journal names by now."""
    return sum(1 for _ in journal.rglob("part-*.parquet.json"))


@pytest.fixture
def nights(bundle_path: Path) -> Nights:
    return Nights(bundle_path)


def finished_parts(out: Path) -> dict[str, tuple[int, int]]:
    """Parts that are staged whole and recorded, by this test's own reading: name -> (inode, mtime)."""
    found = {}
    for path in (out / JOURNAL).rglob("part-*.parquet.json"):
        record = json.loads(path.read_text())
        part = out / STAGING / record["path"]
        if part.exists() and hashlib.sha256(part.read_bytes()).hexdigest() == record["sha256"]:
            found[record["path"]] = (part.stat().st_ino, part.stat().st_mtime_ns)
    return found


def moment(out: Path) -> str:
    """Where in its work a killed run was."""
    staging = out / STAGING
    if (out / f".publishing-{DATE}").exists():
        return "showing" if staging.exists() else "shown, not cleared up"
    if (staging / "manifest.json").exists():
        return "about to show"
    if not staging.exists():
        return "before the first part" if not (out / JOURNAL).exists() else "clearing up"
    return "between parts"


def identity(out: Path, name: str) -> tuple[int, int]:
    path = next(p for p in (out / STAGING / name, out / NIGHT / name) if p.exists())
    return path.stat().st_ino, path.stat().st_mtime_ns


@pytest.mark.slow
def test_killed_at_random_moments_a_night_ends_with_the_same_bytes(nights, tmp_path):
    many, few = ("--users-per-part", "3"), ("--users-per-part", "40")  # the second spends its time on publishing
    expected, seconds = {}, {}
    for size in (many, few):
        nights.run(tmp_path / size[1], *size)
        expected[size] = tree(tmp_path / size[1] / NIGHT)
        seconds[size] = nights.run(tmp_path / f"{size[1]}-again", *size).seconds
    draw, moments, kills, kept, completed = random.Random(11), collections.Counter(), 0, 0, 0
    while kills < KILLS:
        out, size = tmp_path / f"night-{completed}", (many, few)[completed % 2]
        replaced = completed % 4 >= 2
        if replaced:
            shutil.copytree(tmp_path / size[1], out)  # a night that is replaced, and may never be lost
        while True:
            before = finished_parts(out)
            delay, parts = draw.uniform(0.3, 1.0) * seconds[size], 0
            if kills % 4:
                num_parts = sum(name.endswith(".parquet") for name in expected[size])
                delay, parts = (
                    draw.uniform(0, 0.1) * seconds[size],
                    draw.randint(min(len(before) + 1, num_parts), num_parts),
                )
            moment_to_kill = {"kill_after": delay, "parts": parts} if kills < KILLS else {}
            answer = nights.run(out, *size, *(["--force"] if replaced else []), **moment_to_kill)
            assert {name: identity(out, name) for name in before} == before, "a finished part was made again"
            kept += len(before)
            if not answer.killed:
                break
            kills += 1
            moments[moment(out)] += 1
        assert tree(out / NIGHT) == expected[size]
        assert (out / "LATEST").read_text() == f"{DATE}\n"
        assert debris(out) == []
        shutil.rmtree(out)
        completed += 1
    assert kept > 0
    print(json.dumps({"kills": kills, "nights": completed, "parts kept over kills": kept, **moments}))
