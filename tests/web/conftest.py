"""Shared by the web app's tests: one small bundle, one night of it, and apps over both."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from catalogue import Catalogue
    from flask.testing import FlaskClient
    from posters import Posters

WEB_APP = Path(__file__).resolve().parents[2] / "examples" / "web_app"
sys.path.insert(0, str(WEB_APP))  # as it is when app.py is run


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from web_site import make_bundle

    return make_bundle(tmp_path_factory.mktemp("web"))


@pytest.fixture(scope="session")
def out(bundle_path: Path) -> Path:
    from web_site import make_night

    return make_night(bundle_path, bundle_path.parent / "nightly")


@pytest.fixture(scope="session")
def catalogue(bundle_path: Path) -> Catalogue:
    from catalogue import Catalogue

    import sdk

    return Catalogue(sdk.load(bundle_path))


@pytest.fixture
def client_of(catalogue: Catalogue, out: Path) -> Callable[..., FlaskClient]:
    """``client_of(server="127.0.0.1:1", nights=folder)`` is a client of an app with these."""

    from flask.testing import FlaskClient
    from nights import Nights
    from pages import Site, create_app
    from sources import Sources

    class Buffered(FlaskClient):
        """Reads each answer whole and closes it, as a browser does."""

        def open(self, *args: Any, **options: Any) -> Any:
            return super().open(*args, **{"buffered": True, **options})

    def make(
        *, server: str | None = None, nights: Path = out, posters: Posters | None = None, timeout_s: float = 1.0
    ) -> FlaskClient:
        store = Nights(nights)
        site = Site(catalogue, store, Sources(catalogue, store, server, timeout_s=timeout_s), posters)
        app = create_app(site)
        app.test_client_class = Buffered
        return app.test_client()

    return make


@pytest.fixture
def client(client_of: Callable[..., FlaskClient]) -> FlaskClient:
    return client_of()


@pytest.fixture
def named(catalogue: Catalogue) -> Callable[[str], int]:
    """The item_id of a display name."""
    return lambda name: next(t.item_id for t in catalogue.popular(len(catalogue)) if t.name == name)
