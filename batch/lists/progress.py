"""How far a stage is: a bar with the time left on a terminal, else a log line a part."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType
from typing import Any

from tqdm import tqdm

from sdk.base.logs import facts
from sdk.base.streams import is_terminal

log = logging.getLogger(__name__)


class Progress:
    """Counts the parts of one stage.

    Args:
        stage: its name, as the seconds of the run name it.
        unit: what is counted, in the plural: ``users``, ``titles`` or ``parts``.
        parts: parts to come.
        total: units to come.
        pairs_each: user-title pairs that one unit stands for; 0 leaves the rate of pairs out.
    """

    def __init__(self, stage: str, unit: str, *, parts: int, total: int, pairs_each: int = 0) -> None:
        self.stage, self.unit, self.parts, self.total, self.pairs_each = stage, unit, parts, total, pairs_each
        self.part = self.done = 0
        self.start = time.perf_counter()
        self.bar = tqdm(total=total, desc=stage, unit=f" {unit}", disable=not is_terminal(sys.stderr), leave=False)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()

    def step(self, size: int, **values: Any) -> None:
        """A part is done.

        Args:
            size: units in it.
            values: more facts for the log line.
        """
        self.part, self.done = self.part + 1, self.done + size
        self.bar.update(size)
        rate = self.done / max(time.perf_counter() - self.start, 1e-9)
        left = (self.total - self.done) / max(rate, 1e-9)
        pairs = {"pairs_per_s": round(rate * self.pairs_each, 1)} if self.pairs_each else {}
        log.log(
            logging.INFO if self.bar.disable else logging.DEBUG,  # lines would tear the bar
            "%s: part %d/%d, %d of %d, %.0f %s/s, %.0f s left",
            self.stage, self.part, self.parts, self.done, self.total, rate, self.unit, left,
            extra=facts(
                stage=self.stage, part=self.part, parts=self.parts, done=self.done, total=self.total,
                **{f"{self.unit}_per_s": round(rate, 1)}, seconds_left=round(left, 1), **pairs, **values,
            ),
        )  # fmt: skip
