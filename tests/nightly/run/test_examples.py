"""Each example does what it says, on a small bundle."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from made_up import write_movielens

import sdk
from batch.job.job import Job
from batch.run.night import run
from export.repository import export_repository
from export.server import ServerOptions, TritonServer

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def example(name: str, *arguments: object) -> str:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_train(tmp_path):
    assert "for user" in example("train.py", tmp_path / "bundle", "--models", "history,content")
    assert (tmp_path / "bundle" / "bundle.json").exists()


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The tables of a shop with sixty customers."""
    folder = tmp_path_factory.mktemp("shop")
    example("shop.py", folder, 60)
    return folder


@pytest.mark.slow
def test_train_on_ones_own_tables(shop, tmp_path):
    tables = [shop / name for name in ("events.parquet", "products.csv", "customers.csv")]
    said = example("train.py", tmp_path / "bundle", *tables, "--models", "ncf,history,content")
    assert re.search(r"^ncf +test AUC 0\.\d{4}$", said, re.M)
    bundle = sdk.load(tmp_path / "bundle")
    assert bundle.users.num_rows == 60
    run(Job(bundle=bundle.path, out=tmp_path / "nightly", run_date="2026-11-23", k=20))
    lists = tmp_path / "lists.parquet"
    example("downstream_pipeline.py", bundle.path, tmp_path / "nightly", lists, "--column", "brand")
    rows = pd.read_parquet(lists)
    brands = dict(zip(bundle.items["item_id"].to_pylist(), bundle.items["brand"].to_pylist(), strict=True))
    assert rows["brand"].tolist() == [brands[item] for item in rows["item_id"]]
    assert rows.groupby(["user_id", "brand"]).size().max() == 2
    assert set(rows.groupby("user_id").size()) == {5}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_short(path):
    assert len(path.read_text("utf-8").splitlines()) < 60


def test_downstream_pipeline(bundle_path, tmp_path):
    run(Job(bundle=bundle_path, out=tmp_path / "nightly", run_date="2026-11-23", k=50))
    out = example("downstream_pipeline.py", bundle_path, tmp_path / "nightly", tmp_path / "lists.parquet")
    rows = pd.read_parquet(tmp_path / "lists.parquet")
    assert f"{len(rows):,} rows" in out
    assert rows.groupby(["user_id", "genres"]).size().max() == 2
    assert rows.groupby("user_id").size().max() == 5
    for _, one in rows.groupby("user_id"):
        assert one["rank"].tolist() == list(range(1, len(one) + 1))
        assert one["score"].is_monotonic_decreasing


@pytest.mark.server
def test_query_triton(bundle, bundle_path, tmp_path):
    export_repository(bundle_path, tmp_path / "repository")
    user, item = 1, 1
    with TritonServer(tmp_path / "repository", ServerOptions()) as server:
        out = example("query_triton.py", server.http_url.removeprefix("http://"), user, item, 2)
    assert f"recommend: {bundle.recommend([user], 10).row(0)[0].tolist()}" in out
    assert f"like {item}: {bundle.similar([item], 10).row(0)[0].tolist()}" in out


@pytest.mark.slow
@pytest.mark.server
def test_the_daily_loop_trains_once_checks_triton_and_publishes(tmp_path):
    ratings = write_movielens(tmp_path / "ml-made-up")
    day = ("daily_loop.py", "--movielens", ratings, "--home", tmp_path / "home", "--k", 5, "--run-date")
    assert "2026-11-23: published" in example(*day, "2026-11-23")
    versions = sorted((tmp_path / "home" / "repository" / "ranker").glob("[0-9]*"))
    trained = (tmp_path / "home" / "bundle" / "bundle.json").read_bytes()
    assert "2026-11-23: already published" in example(*day, "2026-11-23")
    assert "2026-11-24: published" in example(*day, "2026-11-24")
    assert (tmp_path / "home" / "bundle" / "bundle.json").read_bytes() == trained
    assert sorted((tmp_path / "home" / "repository" / "ranker").glob("[0-9]*")) == versions != []
    assert (tmp_path / "home" / "nightly" / "LATEST").read_text().strip() == "2026-11-24"


@pytest.mark.slow
def test_the_daily_loop_takes_ones_own_tables(shop, tmp_path):
    (tmp_path / "shop.toml").write_text(f'[files]\ninteractions = ["{shop / "events.parquet"}"]\n', "utf-8")
    day = ("daily_loop.py", "--dataset", tmp_path / "shop.toml", "--home", tmp_path / "home", "--no-triton")
    assert "2026-11-23: published" in example(*day, "--run-date", "2026-11-23", "--k", 5)
    lists = pd.read_parquet(tmp_path / "home" / "nightly" / "run_date=2026-11-23" / "user_items")
    assert lists["user_id"].nunique() == 60


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_help_is_help_and_makes_nothing(name, tmp_path):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), "--help"], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: " in done.stdout
    assert list(tmp_path.iterdir()) == []
