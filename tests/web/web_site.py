"""A small site for the web app's tests: the sample's films with few users, one night, and the app over both."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from page_checks import Page

from batch.job.job import Job
from batch.run.night import run
from sdk.base.config import HistoryConfig, NCFConfig, RunConfig, TrainingConfig
from sdk.data.movielens import load
from sdk.data.sample.writer import write_sample
from sdk.training.pipeline import train_bundle

if TYPE_CHECKING:
    from flask.testing import FlaskClient

WEB_APP = Path(__file__).resolve().parents[2] / "examples" / "web_app"
NIGHT, K = "2026-11-23", 30
DARK_KNIGHT, RISES = "The Dark Knight (2008)", "The Dark Knight Rises (2012)"


def make_bundle(folder: Path) -> Path:
    """The sample's 908 films, 150 users, and a model of each kind."""
    movielens, tmdb = write_sample(folder, num_users=150)
    config = RunConfig(
        models=("ncf", "history", "content"),
        ncf=NCFConfig(embedding_dim=4),
        training=TrainingConfig(max_epochs=1, refit=False),
        history=HistoryConfig(rank=16, penalty=60.0, feature_dim=16),
    )
    train_bundle(load(movielens, tmdb=tmdb), config, folder / "bundle")
    return folder / "bundle"


def make_night(bundle: Path, out: Path) -> Path:
    """One night of lists."""
    run(Job(bundle=bundle, out=out, run_date=NIGHT, k=K))
    return out


def page_of(client: FlaskClient, address: str, status: int = 200) -> Page:
    answer = client.get(address)
    assert answer.status_code == status, (address, answer.status_code, answer.text[:300])
    page = Page(answer.text)
    assert page.problems == [], address
    return page


def listed_in(html: str) -> list[str]:
    """The addresses' last parts of a list's items, best first."""
    return [unquote(one) for one in re.findall(r'class="name listed"><a href="/titles/([^"]+)"', html)]


def addresses(dark_knight: int) -> dict[str, int]:
    """One address of every kind of page, and its status."""
    return {
        "/": 200, "/?q=dark": 200, "/?q=zzqqxxyy": 200, f"/titles/{dark_knight}": 200, "/titles/999999": 404,
        "/titles/dark%20knight": 404, "/users": 200, "/users?user=abc": 400, "/users/5": 200, "/users/5?plain=1": 200,
        "/users/5?variety=1&popularity=-0.5": 200, "/users/5?variety=9": 400, "/users/5?all=1": 200,
        "/users/77777": 404, "/users/abc": 404, "/visitor": 200, "/visitor?q=dark": 200,
        f"/visitor?like={dark_knight}": 200, "/visitor?like=999999": 404, "/visitor?like=x": 400,
        f"/changes?user=5&before={NIGHT}": 200, "/changes?user=5": 404, "/changes?user=x": 404, "/nights": 200,
        f"/nights/{NIGHT}": 200, "/nights/2020-01-01": 404, "/nights/x": 404, f"/nights/{NIGHT}/report": 404,
        "/posters/1": 404, "/nothing": 404,
    }  # fmt: skip


def closed_port() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"
