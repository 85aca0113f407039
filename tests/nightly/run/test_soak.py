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
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from night_files import DATE, debris, tree

ROOT = Path(__file__).resolve().parents[3]
KILLS = int(os.environ.get("MARQUEE_SOAK_KILLS", "20"))
NIGHT, STAGING, JOURNAL = f"run_date={DATE}", f".staging-{DATE}", f".journal-{DATE}"


class Nights:
    """The command in processes of its own, through the fork server."""

    def __init__(self, bundle_path: Path, home: Path) -> None:
        self.bundle_path, self.log = bundle_path, home / "log.txt"
        command = [sys.executable, str(Path(__file__).parents[1] / "fork_server.py"), *self.argv(home / "warm-up")]
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
        environment = os.environ | one | {"PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        stderr=subprocess.DEVNULL, env=environment)  # fmt: skip
        assert self.process.stdout is not None
        while (line := self.process.stdout.readline()) != "ready\n":
            assert line, "the fork server ended"

    def argv(self, out: Path, *extra: str) -> list[str]:
        return ["--bundle", str(self.bundle_path), "--out", str(out), "--run-date", DATE, "--k", "5",
                "--threads", "1", *extra]  # fmt: skip

    def run(self, out: Path, *extra: str, kill_after: float | None = None, parts: int = 0) -> dict[str, object]:
        """Run the command; kill it so many seconds after that many parts are recorded."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        request = {"argv": self.argv(out, *extra), "kill_after": kill_after, "parts": parts,
                   "journal": str(out / JOURNAL), "log": str(self.log)}  # fmt: skip
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer: dict[str, object] = json.loads(self.process.stdout.readline())
        assert not answer["hung"]
        assert answer["killed"] or answer["code"] == 0, self.log.read_text()[-3000:]
        return answer

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()


@pytest.fixture
def nights(bundle_path: Path, tmp_path: Path) -> Iterator[Nights]:
    server = Nights(bundle_path, tmp_path)
    yield server
    server.close()


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
        seconds[size] = nights.run(tmp_path / f"{size[1]}-again", *size)["seconds"]
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
            if not answer["killed"]:
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
