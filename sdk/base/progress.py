"""How far a stage is: one live line on a terminal, else a log line a part for machines and one a minute for people."""

from __future__ import annotations

import logging
import math
import sys
import time
from contextvars import ContextVar
from threading import Event, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

from sdk.base.logs import details, facts
from sdk.base.printable import one_line
from sdk.base.streams import is_terminal

if TYPE_CHECKING:
    from tqdm import tqdm

log = logging.getLogger(__name__)
_TELL_EVERY_S = 60.0
_TICK_S = 1.0
_SCALED = ("rows", "B")
"""Units that come by the million, of which the live line says thousands."""
_PRESENT: ContextVar[Progress | None] = ContextVar("present", default=None)


def hold_up(words: str) -> None:
    """Say on the live line, if there is one, what the work waits for just now; nothing once it goes on."""
    live = Progress.live
    if live is not None and live.bar is not None:
        live.bar.set_postfix_str(words or live._beside)


def _tick(ended: Event) -> None:
    """Draw the live line anew each second: its clock shows that work goes on where nothing is counted for minutes."""
    while not ended.wait(_TICK_S):
        bar = Progress.live.bar if Progress.live is not None else None
        if bar is not None:
            with bar.get_lock():
                if not bar.disable:  # as it is once it was closed
                    bar.display()


def present() -> Progress:
    """That of the work that this belongs to; where nobody counts it, one that nobody sees."""
    return _PRESENT.get() or Progress("")


class Progress:
    """What is done of one stage. The live line is the innermost one's; an outer one has it back afterwards.

    Args:
        stage: its name, as the seconds of the run name it.
        unit: what is counted, in the plural: ``users``, ``titles`` or ``parts``; nothing where nothing is counted yet.
        parts: parts to come; 0 where what is counted does not come in parts.
        total: units to come.
        pairs_each: user-title pairs that one unit stands for; 0 leaves the rate of pairs out.

    Attributes:
        live: whose line the terminal shows, whichever thread asks.
        words: what the stage's closing line says of it.
        rounds: how often what is now done is done once more afterwards, as ``expect`` counts it.
    """

    live: ClassVar[Progress | None] = None

    def __init__(self, stage: str, unit: str = "", *, parts: int = 0, total: int = 0, pairs_each: int = 0) -> None:
        self.stage, self.unit, self.parts, self.total, self.pairs_each = stage, unit, parts, total, pairs_each
        self.part = self.done = self.rounds = 0
        self.words: list[str] = []
        self.start = self._told = time.perf_counter()
        self._first, self._first_at = 0, self.start
        self.bar: tqdm[Any] | None = None
        self._beside, self._best = "", -math.inf

    def __enter__(self) -> Progress:
        self._outer, self._ended = _PRESENT.get(), Event()
        self._token = _PRESENT.set(self)
        if is_terminal(sys.stderr):
            if self._outer is not None:
                self._outer._hide()
            else:
                Thread(target=_tick, args=(self._ended,), name="marquee-progress", daemon=True).start()
            self._draw()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _PRESENT.reset(self._token)
        self._ended.set()
        if self.bar is not None:
            self._hide()
            if self._outer is not None and self._outer.bar is not None:
                self._outer._draw()

    def _draw(self) -> None:
        from tqdm import tqdm

        unit, scaled = f" {self.unit}" if self.unit != "B" else "B", self.unit in _SCALED
        shape = None if self.total else "{desc} … {elapsed}{postfix}"
        self.bar = tqdm(
            total=self.total or None, initial=self.done, desc=one_line(self.stage), unit=unit, unit_scale=scaled,
            leave=False, bar_format=shape, dynamic_ncols=True, file=sys.stderr, postfix=self._beside,
        )  # fmt: skip
        Progress.live = self

    def _hide(self) -> None:
        if self.bar is not None:
            self.bar.close()
            Progress.live = None

    def count(self, unit: str, total: int) -> None:
        """Begin to count: so many units are to come."""
        self.unit, self.total, self.done, self.start = unit, total, 0, time.perf_counter()
        self._first, self._first_at = 0, self.start
        if self.bar is not None:
            self._hide()
            self._draw()

    def expect(self, left: int, each: int = 0) -> None:
        """As it looks now, so many units are left of this round, and ``each`` of every later one of ``rounds``."""
        before, self.total = self.total, self.done + left + self.rounds * each
        if self.bar is not None and before:
            self.bar.total = self.total
        elif self.bar is not None:
            self._hide()
            self._draw()

    def show(self, beside: str) -> None:
        """What matters of what is done so far, such as the best AUC, beside the time left."""
        self._beside = beside
        if self.bar is not None:
            self.bar.set_postfix_str(beside, refresh=False)

    def show_best(self, auc: float) -> None:
        """The best AUC on the validation part so far."""
        self._best = max(self._best, auc)
        self.show(f"best AUC {self._best:.4f}")

    def says(self, words: str) -> None:
        """What the stage's closing line says of it."""
        self.words.append(words)

    def advance(self, size: int = 1) -> None:
        """So many units are done, which are no part that a line tells of."""
        self._move(size)
        if self._is_due():
            self._tell({}, is_detail=False)

    def step(self, size: int, **values: Any) -> None:
        """A part is done.

        Args:
            size: units in it.
            values: more facts for the log line.
        """
        self.part += 1
        self._move(size)
        self._tell(values, is_detail=not self._is_due())

    def _move(self, size: int) -> None:
        self.done += size
        if not self._first:
            self._first, self._first_at = self.done, time.perf_counter()
        if self.bar is not None:
            self.bar.update(size)

    def _is_due(self) -> bool:
        """Whether people who read a log want to know that it goes on."""
        if self.bar is not None or time.perf_counter() - self._told < _TELL_EVERY_S:
            return False
        self._told = time.perf_counter()
        return True

    def _rate(self) -> tuple[float, bool]:
        """Units a second since the first were done, which may have waited for a compiler; and whether that is known."""
        now, later = time.perf_counter(), self.done - self._first
        if later > 0:
            return later / max(now - self._first_at, 1e-9), True
        return self.done / max(now - self.start, 1e-9), self.done >= self.total

    def _tell(self, values: dict[str, Any], *, is_detail: bool) -> None:
        rate, is_known = self._rate()
        left = max(self.total - self.done, 0) / max(rate, 1e-9)
        speed = f", {rate:{'.0f' if rate >= 10 else '.2g'}} {self.unit}/s, {left:.0f} s left" if is_known else ""
        pairs = {"pairs_per_s": round(rate * self.pairs_each, 1)} if self.pairs_each else {}
        parts = {"part": self.part, "parts": self.parts} if self.parts else {}
        log.log(
            logging.INFO if self.bar is None else logging.DEBUG,  # on a terminal the live line says it
            "%s: %s%d of %d%s%s",
            self.stage, f"part {self.part}/{self.parts}, " if parts else "", self.done, self.total, speed,
            f", {self._beside}" if self._beside else "",
            extra=(details if is_detail else facts)(
                stage=self.stage, **parts, done=self.done, total=self.total,
                **{f"{self.unit}_per_s": round(rate, 1)}, seconds_left=round(left, 1), **pairs, **values,
            ),
        )  # fmt: skip
