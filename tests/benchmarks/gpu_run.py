"""What the parts of the GPU benchmark share: sizes, the clock, and where figures go."""

from __future__ import annotations

import json
import logging
import platform
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from training import ITEMS_25M, USERS_25M

from sdk.machine.blas import machine
from sdk.models.pair_model import PairModel


@dataclass(frozen=True, slots=True)
class Size:
    """How much is generated and scored."""

    users: int = USERS_25M
    items: int = ITEMS_25M
    rows: int = 20_000_000
    held_out: int = 500_000
    batch: int = 65_536
    epochs: int = 3
    compared_rows: int = 300_000
    sampled_users: int = 1_000
    swept_users: int = 16_384
    k: int = 100
    copied_mib: int = 2_048
    product: int = 8_192


SMALL = Size(300, 200, 20_000, 4_000, 1_024, 2, 8_000, 50, 64, 10, 8, 256)


class OutOfTime(Exception):
    """A part took longer than it may."""


class Kept(logging.Handler):
    """Keeps what the library logs."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a warning, and which way scores are computed."""
        if record.levelno >= logging.WARNING or record.getMessage().startswith("scoring on"):
            self.lines.append(record.getMessage())


@dataclass(slots=True)
class Run:
    """What the parts share.

    Attributes:
        device: ``cuda`` or ``cpu``.
        size: of everything.
        ends: when no part is started or goes on any more, by the clock of ``time.perf_counter``.
        path: written after every part, so that a run that is stopped leaves what it has measured; or None.
        figures: what has been measured, by part.
        models: trained ones, by name.
    """

    device: str
    size: Size
    ends: float
    path: Path | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    models: dict[str, PairModel] = field(default_factory=dict)

    def part(self, name: str, work: Callable[[], Any], limit_s: float = 120) -> None:
        """Do one part in ``limit_s`` at most, and keep its figures or why there are none."""
        start = time.perf_counter()
        left = min(limit_s, self.ends - start)
        if left <= 0:
            self.figures[name] = {"skipped": "no time left"}
        else:
            self.figures[name] = self._done(work, left)
        self.figures[name]["part_s"] = round(time.perf_counter() - start, 2)
        if self.device == "cuda":
            self.figures[name]["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
        print(f"{name}: {json.dumps(self.figures[name])}", flush=True)
        self.write()

    def _done(self, work: Callable[[], Any], limit_s: float) -> dict[str, Any]:
        kept = Kept()
        logger = logging.getLogger("sdk")
        before = logger.level
        logger.addHandler(kept)
        logger.setLevel(logging.INFO)
        if self.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        try:
            with _at_most(limit_s):
                found: dict[str, Any] = work()
        except Exception as error:  # the others still run
            found = {"failed": f"{type(error).__name__}: {error}"[:2000]}
        finally:
            logger.removeHandler(kept)
            logger.setLevel(before)
        return found | ({"log": kept.lines} if kept.lines else {})

    def write(self) -> None:
        """Write the figures, where they are to be written."""
        if self.path is not None:
            self.path.write_text(json.dumps(self.figures, indent=2) + "\n", encoding="utf-8")

    def wait(self) -> None:
        """Until the device has done all it was asked."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], Any], repeats: int = 5) -> float:
        """The median time of some work; the first time is not counted."""
        taken = []
        for _ in range(repeats + 1):
            self.wait()
            start = time.perf_counter()
            work()
            self.wait()
            taken.append(time.perf_counter() - start)
        return statistics.median(taken[1:])

    def machine(self) -> dict[str, Any]:
        """What the figures were measured on."""
        name = torch.cuda.get_device_name() if self.device == "cuda" else platform.processor() or platform.machine()
        triton = sys.modules.get("triton")
        return {"device": self.device, "name": name, "torch": torch.__version__, "cuda": torch.version.cuda,
                "triton": getattr(triton, "__version__", None), "numpy": np.__version__,
                "python": platform.python_version(), "host": machine()}  # fmt: skip

    def limits(self) -> dict[str, float]:
        """Measured GB/s of a copy, and TFLOP/s of matrix products in float32 and bfloat16."""
        source = torch.zeros(self.size.copied_mib << 18, device=self.device)
        target = torch.empty_like(source)
        found = {"gb_s": 2 * 4 * len(source) / 1e9 / self.seconds(lambda: target.copy_(source))}
        for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
            square = torch.rand(self.size.product, self.size.product, device=self.device).to(dtype)
            seconds = self.seconds(lambda x=square: x @ x, repeats=3)
            found[f"tflop_s_{name}"] = 2 * self.size.product**3 / 1e12 / seconds
        return found


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise ``OutOfTime`` in what runs longer; work that the device has begun is waited for first."""

    def stop(*_: object) -> None:
        message = f"stopped after {seconds:.0f} s"
        raise OutOfTime(message)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds if seconds != float("inf") else 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
