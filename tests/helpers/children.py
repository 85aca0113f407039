"""Work in a process of its own, begun by a server without threads: one that hangs says where it stood, and is ended."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from unittest import mock

_ALONE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.helpers.children_warm"])  # found from the project folder, where tests run
_HUNG = "Timeout ("
"""How faulthandler's report of a process that did not end in time begins."""


class Child:
    """``Child(work, *args)`` does it in another process, as a copy of one that has imported everything.

    Args:
        work: a function of a module; its exit code, or None for 0. What it raises is printed, and the code is 1.
        args: what it is given; must be picklable.
        limit_s: after so many seconds the process prints where each of its threads stands, and ends.
    """

    def __init__(self, work: Callable[..., int | None], *args: Any, limit_s: float = 60.0) -> None:
        descriptor, name = tempfile.mkstemp(prefix="marquee-child-")
        os.close(descriptor)
        self._said, self._limit_s = Path(name), limit_s
        with mock.patch.dict(os.environ, _ALONE):
            forkserver.ensure_running()
        self.process = _SERVER.Process(target=_become, args=(work, args, name, limit_s), daemon=True)
        self.process.start()

    def ends_within(self, seconds: float) -> bool:
        """Whether it ends so soon; waits for it as long."""
        self.process.join(seconds)
        return not self.process.is_alive()

    def end(self) -> tuple[int, str]:
        """Wait for it: its exit code, a signal's below 0, and all that was printed and logged."""
        hung = not self.ends_within(self._limit_s + 10)
        if hung:
            self.process.kill()
            self.process.join()
        code, said = self.process.exitcode, self._said.read_text(encoding="utf-8", errors="replace")
        self.process.close()
        self._said.unlink()
        assert not hung and _HUNG not in said, f"the child did not end in {self._limit_s} s\n{said}"  # noqa: PT018
        assert code is not None
        return code, said


def _become(work: Callable[..., int | None], args: tuple[Any, ...], said: str, limit_s: float) -> None:
    file = Path(said).open("w", encoding="utf-8", buffering=1)  # noqa: SIM115
    sys.stdout = sys.stderr = file
    faulthandler.dump_traceback_later(limit_s, exit=True, file=file)
    code: int | None = 1
    try:
        code = work(*args)
    except BaseException:
        traceback.print_exc()
    file.flush()
    os._exit(code or 0)
