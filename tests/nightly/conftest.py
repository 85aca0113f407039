from __future__ import annotations

from pathlib import Path

import pytest
from made_up import tiny_config, write_movielens

import sdk


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("batch")
    dataset = sdk.load_movielens(write_movielens(folder / "ml-made-up"))
    sdk.train(dataset, tiny_config(), folder / "bundle")
    return folder / "bundle"


@pytest.fixture(scope="session")
def bundle(bundle_path: Path) -> sdk.Bundle:
    return sdk.load(bundle_path)
