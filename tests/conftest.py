"""Shared by every test: a bounded number of threads, untouched logging, the real data sets, and golden files."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, str(min(4, os.cpu_count() or 1)))  # read once, when the libraries are first imported
os.environ.setdefault("MPLBACKEND", "Agg")
for _name in ("FORCE_COLOR", "CLICOLOR_FORCE"):
    os.environ.pop(_name, None)  # what a command says is read as plain text

if "CI" not in os.environ:  # there Hypothesis loads its own profile: no deadline and the same examples every time
    settings.register_profile("marquee", deadline=None)  # a busy machine is not a failure
    settings.load_profile("marquee")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite the golden files from what the code says now"
    )


@pytest.fixture(scope="session", autouse=True)
def the_day_of_the_tests() -> Iterator[None]:
    """Nights of November 2026 lie neither far ahead nor long ago, whatever the machine's clock says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("batch.store.clock.today", lambda: "2026-11-30")
        yield


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Undo what a command run inside a test did to logging: its handler writes to a stream that ends with the test."""
    loggers = [logging.getLogger(name) for name in ("", "sdk", "export", "batch")]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        for handler in set(logger.handlers) - set(handlers):
            logger.removeHandler(handler)


def real_data_folder() -> Path:
    """Where MovieLens and TMDB are looked for: MARQUEE_DATA, else ../shared/data beside the project folder."""
    return Path(os.environ.get("MARQUEE_DATA") or ROOT.parent / "shared" / "data")


@pytest.fixture(scope="session")
def real_data() -> Callable[..., Path]:
    """``real_data("ml-latest-small", "ratings.csv")`` is that file's path; the test is skipped where it is missing."""

    def find(*parts: str) -> Path:
        path = real_data_folder().joinpath(*parts)
        if not path.exists():
            pytest.skip(f"no {'/'.join(parts)} in {path.parent}: set MARQUEE_DATA to the folder that holds {parts[0]}")
        return path

    return find


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """``golden(path, text)`` fails unless the file holds this text; with --update-golden it is rewritten instead."""

    def check(path: Path, text: str) -> None:
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"{path} is missing: run pytest --update-golden and read what it wrote"
        assert text == path.read_text(encoding="utf-8"), f"differs from {path}; if meant, run pytest --update-golden"

    return check
