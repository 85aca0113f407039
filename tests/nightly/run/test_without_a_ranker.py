"""A bundle of the history and content models alone: what ranks is named, and held to the same gates."""

from __future__ import annotations

import dataclasses
import json

import pyarrow.parquet as pq
import pytest
from made_up import tiny_config, write_movielens
from night_files import DATE, job

import sdk
from batch.run.night import dry_run, run


@pytest.fixture(scope="module")
def historic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("historic")
    config = dataclasses.replace(tiny_config(), models=("history", "content"))
    sdk.train(sdk.load_movielens(write_movielens(folder / "ml")), config, folder / "bundle")
    return folder / "bundle"


def test_plan_manifest_and_record_name_what_ranks(historic, tmp_path):
    work = job(historic, tmp_path)
    assert dry_run(work)[0].model == "history"
    assert run(work).model == "history"
    night = tmp_path / f"run_date={DATE}"
    sources = {
        source for path in night.glob("user_items/*.parquet") for source in pq.read_table(path)["source"].to_pylist()
    }
    manifest = json.loads((night / "manifest.json").read_text())
    assert sources == {"history"} == {manifest["inputs"]["model"]}
    assert json.loads((tmp_path / f"runs/run_date={DATE}.json").read_text())["model"] == "history"


def test_the_gate_on_fallback_counts_where_history_ranks(historic, tmp_path):
    run(job(historic, tmp_path))
    manifest = json.loads((tmp_path / f"run_date={DATE}" / "manifest.json").read_text())
    [fallback] = [gate for gate in manifest["checks"]["gates"] if gate["name"] == "users.fallback"]
    assert fallback["got"] == 0.0
