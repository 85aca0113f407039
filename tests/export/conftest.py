"""Shared by the export's tests: one small bundle, repositories made of it, and servers over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import small

from export.options import ExportOptions
from export.repository import export_repository
from export.server import ServerOptions, TritonServer
from sdk.bundles.bundle import Bundle
from sdk.training.pipeline import train_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with both rankers and the content model."""
    folder = tmp_path_factory.mktemp("export") / "bundle"
    return train_bundle(small.dataset(3, num_users=60, num_items=50), small.run_config(), folder)


@pytest.fixture(scope="session")
def exported(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``exported(workflow="compiled")`` is a repository with these options, made once and not to be changed."""
    made: dict[str, Path] = {}

    def find(**options: object) -> Path:
        asked = ExportOptions(**{"workflow": "compiled", **options})  # type: ignore[arg-type]
        key = repr(asked)
        if key not in made:
            made[key] = tmp_path_factory.mktemp("repository") / "repository"
            export_repository(bundle.path, made[key], asked)
        return made[key]

    return find


@pytest.fixture(scope="session")
def server(exported: Callable[..., Path]) -> Iterator[TritonServer]:
    """A server over the compiled form; no test may stop it."""
    with TritonServer(exported(), ServerOptions(stop_timeout_s=1, poll_s=0)) as running:
        yield running
