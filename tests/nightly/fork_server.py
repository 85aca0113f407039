"""Runs the nightly command in processes that can be killed at any moment, without paying for the imports each time.

It reads one JSON line a request, ``{"argv": [...], "log": path, "journal": path, "parts": number, "kill_after":
seconds or null}``, forks a child that runs the command, waits until the journal holds so many parts, sends it SIGKILL
so many seconds later (null: never), and answers one line: killed, hung, code and seconds.
NUMBA_NUM_THREADS and its like must be 1: other threads would be missing in the children.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from batch.score import main

HUNG_S = 120.0
LOOK_S = 0.001


def num_recorded(journal: Path) -> int:
    """Finished parts that the journal names by now."""
    return sum(1 for _ in journal.rglob("part-*.parquet.json"))


def ends_within(watched: int, seconds: float) -> bool:
    """Whether the process of a pidfd ends so soon; waits for it as long."""
    return bool(select.select([watched], [], [], seconds)[0])


def run_child(argv: Sequence[str], log: str) -> None:
    """Become the command: its own output goes to the log, and no handler of this process runs on the way out."""
    with open(log, "ab", buffering=0) as file:  # noqa: PTH123
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    code = 99
    try:
        code = main(argv)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve_one(request: dict[str, object]) -> dict[str, object]:
    """Fork, wait for the end or for the moment to kill, and say what happened."""
    start = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        run_child(request["argv"], request["log"])  # type: ignore[arg-type]
    watched = os.pidfd_open(pid)
    moment, journal = request["kill_after"], Path(str(request["journal"]))
    ended = False
    while moment is not None and not ended and num_recorded(journal) < request["parts"]:  # type: ignore[operator]
        ended = ends_within(watched, LOOK_S)
    ended = ended or ends_within(watched, HUNG_S if moment is None else moment)  # type: ignore[arg-type]
    if not ended:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(watched)
    return {
        "killed": os.WIFSIGNALED(status),
        "hung": moment is None and not ended,
        "code": os.waitstatus_to_exitcode(status),
        "seconds": time.perf_counter() - start,
    }


if __name__ == "__main__":
    main(sys.argv[1:])  # once, so that every child finds the code loaded and compiled
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(serve_one(json.loads(line))), flush=True)
