"""Shared by every test: what it needs, threads, untouched logging, the real data sets, and golden files."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, str(min(4, os.cpu_count() or 1)))  # read once, when the libraries are first imported
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # two processes of tests share the cores: none may spin on one
os.environ.setdefault("MPLBACKEND", "Agg")
for _name in ("FORCE_COLOR", "CLICOLOR_FORCE"):
    os.environ.pop(_name, None)  # what a command says is read as plain text

if "CI" not in os.environ:  # there Hypothesis loads its own profile: no deadline and the same examples every time
    settings.register_profile("marquee", deadline=None)  # a busy machine is not a failure
    settings.load_profile("marquee")


def refuse_fork() -> None:
    """What a fork runs into, and ``preexec_fn``: a copy lacks the threads that hold locks, and would wait for them."""
    raise RuntimeError("this process has threads and is forked; begin one by tests/helpers/children.py")


os.register_at_fork(before=refuse_fork)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite the golden files from what the code says now"
    )


OPTIONAL = (
    "croniter", "dask", "duckdb", "flask", "implicit", "kubernetes_validate", "lightgbm", "matplotlib", "merlin",
    "mkdocs", "moto", "nbformat", "nvtabular", "onnx", "optuna", "polars", "psutil", "pytriton", "s3fs", "selenium",
    "tensorflow", "waitress", "yaml",
)  # fmt: skip
"""Packages that no installation must have: a test that needs one is skipped where it is missing."""
FOLDERS = {"web": {"flask", "waitress"}}
"""Folder -> what all of its tests need."""


def is_here(name: str) -> bool:
    """Whether a package is installed; ``checkout``: whether the project's sources and pages lie beside the tests."""
    return (ROOT / "sdk").is_dir() if name == "checkout" else importlib.util.find_spec(name) is not None


def skip_for(names: Iterable[str]) -> str:
    """Why a test with these needs is skipped; nothing where all are there."""
    lacking = [name for name in names if not is_here(name)]
    return f"needs what is not here: {', '.join(lacking)}" if lacking else ""


class _Module(pytest.Module):
    """A file of tests, skipped as a whole where its folder or an import at its top needs a package that is missing."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        tree = ast.parse(self.path.read_text(encoding="utf-8"))
        imported = [alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names]
        imported += [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)]
        needed = {name.split(".")[0] for name in imported} & set(OPTIONAL) | FOLDERS.get(self.path.parent.name, set())
        if reason := skip_for(sorted(needed)):
            pytest.skip(reason, allow_module_level=True)
        return super().collect()


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
    return _Module.from_parent(parent, path=module_path)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes to make comes first: two processes halve the list, and in its middle both would make it."""
    items.sort(key=lambda item: item.path.name != "test_sample_end_to_end.py")
    for item in items:
        names = [name for mark in item.iter_markers("needs") for name in mark.args]
        parameters = (
            item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
        )
        names += [name for name in parameters if isinstance(name, str) and name in OPTIONAL]
        if "server" in item.keywords:
            names.append("pytriton")
        if reason := skip_for(names):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    """A process that a test began and did not end fails, and is ended: the tests' own end might wait for it forever."""
    yield
    left = {pid: command for pid, command in descendants() if not any(name in command for name in OF_PYTHON)}
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, f"left running: {left}"


OF_PYTHON = ("multiprocessing.forkserver", "resource_tracker")
"""Processes of the standard library's that serve until the end."""


def descendants() -> Iterator[tuple[int, str]]:
    """The live processes begun by this one or by those: process id and command."""
    parents, commands = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, parent, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
            if state != "Z":
                parents[int(folder.name)] = int(parent)
                commands[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    yield from ((pid, commands[pid]) for pid in found - {os.getpid()})


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
