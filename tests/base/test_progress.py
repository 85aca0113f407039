"""How far a stage is: at a terminal of 80 columns one live line, in a log a line each."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event, current_thread, main_thread

import pytest

from sdk.base import progress as progress_module
from sdk.base.logs import configure
from sdk.base.progress import Progress, hold_up, present
from sdk.base.stages import Stages


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        """The lines that stand there in the end: a carriage return goes back to the line's beginning."""
        lines = []
        for line in self.getvalue().split("\n"):
            shown = ""
            for part in line.split("\r"):
                shown = part + shown[len(part) :]
            lines.append(shown.rstrip())
        return lines


@pytest.fixture
def logged() -> Iterator[None]:
    before = logging.getLogger().handlers[:], {name: logging.getLogger(name).level for name in ("sdk", "batch")}
    yield
    logging.getLogger().handlers[:] = before[0]
    for name, level in before[1].items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def written_to(monkeypatch: pytest.MonkeyPatch, logged: None) -> Callable[[io.StringIO], None]:
    """What makes a stream stderr and the logs' place; called in the test, as pytest puts its own there before."""

    def make(stream: io.StringIO) -> None:
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("COLUMNS", "80")
        configure(logging.INFO, "text")

    return make


def two_stages(parts: int = 4) -> None:
    stages = Stages()
    with stages.time("dlrm: training") as shown:
        for number in range(parts):
            shown.count("rows", 1000)
            shown.advance(500)
            shown.show_best(0.8 + number / 100)
            shown.show_best(0.5)
        shown.says("validation AUC 0.8300")
    with stages.time("scoring users"), Progress("scoring users", "users", parts=parts, total=10 * parts) as inner:
        for _ in range(parts):
            inner.step(10, side="user_items")
            logging.getLogger("sdk.x").info("a line in between")


def test_a_terminal_has_one_live_line_and_keeps_a_line_a_stage(written_to: Callable[[io.StringIO], None]) -> None:
    written_to(terminal := Terminal())
    two_stages()
    kept = [line for line in terminal.screen() if line]
    assert kept[0].startswith("dlrm: training: 0.")
    assert kept[0].endswith("s, validation AUC 0.8300")
    assert kept[1:5] == ["a line in between"] * 4, "lines stand above the live one, whole"
    assert kept[5].startswith("scoring users: ")
    assert len(kept) == 6
    assert "best AUC 0.8200]" in terminal.getvalue(), "as last drawn"
    drawn = [line.strip() for part in terminal.getvalue().split("\n") for line in part.split("\r")]
    assert max(map(len, drawn)) <= 80


def test_a_stage_within_another_has_the_line_and_gives_it_back(written_to: Callable[[io.StringIO], None]) -> None:
    written_to(terminal := Terminal())
    with Progress("evaluation", "steps", total=2) as outer:
        outer.advance()
        with Progress("matrix factorisation", "epochs", total=5) as inner:
            assert present() is inner
            inner.advance(2)
        assert present() is outer
        assert outer.bar is not None
        assert (outer.bar.n, outer.bar.total) == (1, 2)
    assert terminal.screen()[-1] == ""


def test_what_holds_a_stage_up_is_said_at_once_by_any_thread(written_to: Callable[[io.StringIO], None]) -> None:
    written_to(terminal := Terminal())
    hold_up("nobody sees it")
    with Progress("scoring users", "users", total=10) as shown:
        shown.show("best AUC 0.8")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(hold_up, "compiling, once").result()
            assert "compiling, once]" in terminal.screen()[-1]
            pool.submit(hold_up, "").result()
        assert "best AUC 0.8]" in terminal.screen()[-1]
    hold_up("nobody sees it")
    assert "nobody" not in terminal.getvalue()


def test_the_line_goes_on_where_nothing_is_counted_for_long(
    written_to: Callable[[io.StringIO], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One product of large matrices took six minutes, in which the line stood still."""

    class Watched(Terminal):
        def write(self, text: str) -> int:
            if current_thread() is not main_thread() and "history model … 00:" in text:
                ticked.set()
            return super().write(text)

    ticked = Event()
    monkeypatch.setattr(progress_module, "_TICK_S", 0.001)
    written_to(terminal := Watched())
    with Progress("history model"):
        assert ticked.wait(60)
    assert terminal.screen()[-1] == "", "nothing draws it again once it is over"


def test_a_log_has_one_line_a_stage(written_to: Callable[[io.StringIO], None]) -> None:
    written_to(pipe := io.StringIO())
    two_stages()
    lines = [line for line in pipe.getvalue().splitlines() if line != "a line in between"]
    assert [line.partition(": 0.")[0] for line in lines] == ["dlrm: training", "scoring users"]


def test_a_log_hears_of_a_long_stage_once_a_minute(
    written_to: Callable[[io.StringIO], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    written_to(pipe := io.StringIO())
    now = 100.0
    monkeypatch.setattr(progress_module.time, "perf_counter", lambda: now)
    with Progress("history model", "steps", total=10) as shown:
        for _ in range(10):
            now += 25
            shown.advance()
    lines = pipe.getvalue().splitlines()
    assert lines[0] == "history model: 3 of 10, 0.04 steps/s, 175 s left"
    assert len(lines) == 3


def test_what_the_first_unit_waited_for_is_no_rate(
    written_to: Callable[[io.StringIO], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one may compile for a minute; at that rate a minute's training would take seventeen hours."""
    written_to(pipe := io.StringIO())
    now = 0.0
    monkeypatch.setattr(progress_module.time, "perf_counter", lambda: now)
    with Progress("dlrm: training", "rows", total=1_084_000) as shown:
        for waited in (60, 30, 30):
            now += waited
            shown.advance(1024 if waited == 60 else 360_992)
    assert pipe.getvalue().splitlines() == [
        "dlrm: training: 1024 of 1084000",
        "dlrm: training: 723008 of 1084000, 12033 rows/s, 30 s left",
    ]


def test_what_is_expected_counts_the_rounds_to_come(written_to: Callable[[io.StringIO], None]) -> None:
    written_to(Terminal())
    with Progress("dlrm: training") as shown:
        shown.rounds = 2
        shown.count("rows", 0)
        shown.expect(300, 400)
        assert shown.total == 300 + 2 * 400
        shown.advance(100)
        shown.rounds = 1
        shown.expect(200, 300)
        assert shown.total == 100 + 200 + 300
        assert shown.bar is not None
        assert (shown.bar.n, shown.bar.total) == (100, 600)


def test_work_that_nobody_counts_counts_for_nothing(written_to: Callable[[io.StringIO], None]) -> None:
    written_to(pipe := io.StringIO())
    present().expect(5)
    present().advance()
    assert pipe.getvalue() == ""
