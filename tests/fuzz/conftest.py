from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import made_up
import pytest
import torch
from harness import TALLY

import sdk


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def movielens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(made_up.write_movielens(tmp_path_factory.mktemp("fuzz-data") / "ml"))


@pytest.fixture(scope="session")
def bundle_path(movielens: Path) -> Path:
    config = made_up.tiny_config()
    quick = dataclasses.replace(config.training, max_epochs=1, refit=False)
    config = dataclasses.replace(config, training=quick)
    sdk.train(sdk.load_movielens(movielens), config, movielens.parent / "bundle")
    return movielens.parent / "bundle"


@pytest.fixture
def bundle_copy(bundle_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_path, tmp_path / "bundle"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if TALLY:
        terminalreporter.section(f"corrupted inputs: {sum(TALLY.values()):,}")
        for (artefact, outcome), count in sorted(TALLY.items()):
            terminalreporter.write_line(f"{artefact:<28} {outcome:<16} {count:>6,}")
