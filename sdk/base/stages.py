"""How long each stage of a run took, as a span, too, and the most memory the process has held."""

from __future__ import annotations

import contextlib
import logging
import re
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sdk.base.logs import facts
from sdk.base.progress import Progress
from sdk.base.traces import span

log = logging.getLogger(__name__)


class Stages:
    """A stopwatch for named stages.

    Attributes:
        seconds: stage name -> seconds, in the order they ran.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def time(self, name: str) -> Iterator[Progress]:
        """Time a stage, also one that fails; of one that does not, log a line with what it says of itself."""
        start = time.perf_counter()
        try:
            with span(name), Progress(name) as progress:
                yield progress
        finally:
            self.seconds[name] = seconds = time.perf_counter() - start
        peak = peak_memory_mib()
        values = facts(stage=name, seconds=round(seconds, 3), peak_memory_mib=round(peak, 1))
        memory = [f"peak memory {peak:.0f} MiB"] if log.isEnabledFor(logging.DEBUG) else []
        said = "".join(f", {words}" for words in [*progress.words, *memory])
        log.info("%s: %.1f s%s", name, seconds, said, extra=values)


def peak_memory_mib() -> float:
    """The most memory that this process has held, in MiB.

    Linux's ``VmHWM`` is that of this program alone; getrusage's, elsewhere, may be that of the process that started it.
    """
    with contextlib.suppress(OSError):
        if held := re.search(rb"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_bytes(), re.M):
            return int(held[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)
