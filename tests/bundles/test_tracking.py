"""What MLflow is told, read back from a real store; and that nothing is lost for it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from made_up import tiny_config, write_movielens

import sdk
from batch.score import main as score
from sdk.__main__ import main as sdk_main
from sdk.base.config import to_json
from sdk.base.errors import how_to_get
from sdk.base.files import sha256_of
from sdk.shell.parser import what_helps

SECRET = "canary-4f1d8c20b7"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tracked")
    write_movielens(folder / "ratings")
    return folder


@pytest.fixture(scope="module")
def config() -> sdk.RunConfig:
    tiny = tiny_config()
    return replace(tiny, features=replace(tiny.features, engine="builtin"))


@pytest.fixture(scope="module")
def client(home: Path):
    """A real store in a file, with MLflow's variables set, and the folder as the current one: artefacts go there."""
    mlflow = pytest.importorskip("mlflow", reason="no mlflow-skinny here: pip install '.[mlflow]'")
    pytest.importorskip("alembic", reason="no alembic here, which MLflow's sqlite store needs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/runs.db")
        yield mlflow.MlflowClient()


@pytest.fixture(scope="module")
def bundle(home: Path, config: sdk.RunConfig) -> sdk.Bundle:
    return sdk.train(sdk.load_movielens(home / "ratings"), config, home / "bundle")


def runs(client, experiment: str):
    found = client.get_experiment_by_name(experiment)
    return [] if found is None else client.search_runs([found.experiment_id])


def test_a_trained_bundle_is_a_run_and_its_artefact_is_the_bundle(client, home, config, tmp_path):
    dataset = sdk.load_movielens(home / "ratings")
    bundle = sdk.train(dataset, config, tmp_path / "bundle", mlflow=sdk.MLflow("films"))
    (run,) = runs(client, "films")
    assert run.info.status == "FINISHED"
    assert run.info.end_time > run.info.start_time
    assert run.data.tags["bundle"] == sha256_of(bundle.path / "bundle.json")
    assert run.data.params["training.learning_rate"] == str(config.training.learning_rate)
    assert run.data.params["features.engine"] == "builtin"
    assert run.data.params["dataset"] == dataset.fingerprint
    assert len(run.data.params) == 2 + sum(len(v) if isinstance(v, dict) else 1 for v in flat(to_json(config)))
    expected = {row["model"]: row["auc"] for row in bundle.info.metrics["test"]}
    assert {model: run.data.metrics[f"test/{model}/auc"] for model in expected} == pytest.approx(expected)
    assert run.data.metrics["validation_auc/dlrm"] == bundle.info.metrics["validation_auc"]["dlrm"]
    assert run.data.metrics["data/num_ratings"] == len(dataset.interactions)
    assert run.data.metrics["seconds/dlrm training"] > 0
    kept = sdk.load(client.download_artifacts(run.info.run_id, "bundle", str(tmp_path)))
    assert kept.info.files == bundle.info.files


def flat(values: dict) -> list:
    """The configuration's values; the content model's weights are one level deeper."""
    return [each for value in values.values() for each in (value.values() if isinstance(value, dict) else [value])]


def test_the_train_command_tells_the_experiment_that_is_named(client, home, config, capsys):
    (home / "config.json").write_text(json.dumps(to_json(config)))
    options = ["--movielens", "ratings", "--config", "config.json", "--out", "other", "--models", "content", "--mlflow"]
    assert sdk_main(["train", *options, "by name"]) == 0
    (run,) = runs(client, "by name")
    assert run.data.tags["bundle"] == sha256_of(home / "other" / "bundle.json")
    assert f"run {run.info.run_id} of experiment by name" in capsys.readouterr().err


def test_nights_are_runs_published_or_refused_and_each_once(client, home, bundle, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "nights")
    night = ["--bundle", "bundle", "--out", "out", "--k", "3", "--json", "--mlflow", "--run-date"]
    (home / "gates.json").write_text('{"min_coverage": 1.0}')
    assert score([*night, "2026-11-22"]) == 0
    assert score([*night, "2026-11-22"]) == 0  # already published
    assert score([*night, "2026-11-23", "--gates", "gates.json"]) == 6
    found = {run.data.tags["run_date"]: run for run in runs(client, "nights")}
    assert {date: run.info.status for date, run in found.items()} == {"2026-11-22": "FINISHED", "2026-11-23": "FAILED"}
    assert len(runs(client, "nights")) == 2
    run, record = found["2026-11-22"], json.loads((home / "out" / "runs" / "run_date=2026-11-22.json").read_text())
    assert run.data.params["bundle_sha256"] == sha256_of(bundle.path / "bundle.json")
    assert (run.data.params["run_date"], run.data.params["k"]) == ("2026-11-22", "3")
    for name in ("user_rows", "item_rows", "users_per_s", "fallback_users"):
        assert run.data.metrics[name] == record[name]
    assert run.data.metrics["seconds/scoring users"] == record["seconds"]["scoring users"]
    assert 0 < run.data.metrics["users/coverage"] <= 1
    assert found["2026-11-23"].data.metrics["gates/failed"] >= 1


def test_a_server_that_does_not_answer_loses_no_night_and_no_password(client, home, bundle, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:{SECRET}@127.0.0.1:9")
    night = ["--bundle", "bundle", "--out", "silent", "--k", "3", "--run-date", "2026-11-22", "--mlflow"]
    assert score(night) == 0
    said = capsys.readouterr()
    (warning,) = [line for line in said.err.splitlines() if line.startswith("MLflow")]
    assert "night 2026-11-22: not logged" in warning
    assert SECRET not in said.out + said.err
    assert (home / "silent" / "run_date=2026-11-22" / "_SUCCESS").exists()


def test_a_store_that_refuses_the_files_leaves_a_failed_run(client, home, bundle, monkeypatch, caplog):
    told = sdk.MLflow("broken")
    monkeypatch.setattr(type(told._client), "log_artifacts", lambda *_: (_ for _ in ()).throw(OSError("full")))
    told.log_bundle(bundle)
    assert [record.levelname for record in caplog.records if "MLflow" in record.message] == ["WARNING"]
    assert [run.info.status for run in runs(client, "broken")] == ["FAILED"]


@pytest.mark.parametrize("uri", [f"http://user:{SECRET}@localhost", "bogus://localhost"])
def test_a_uri_that_is_no_use_is_refused_before_any_work(client, uri, tmp_path, capsys):
    assert sdk_main(["train", "--sample", "--out", str(tmp_path / "bundle"), "--mlflow", uri]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mlflow: ")
    assert SECRET not in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["train", "score"])
def test_a_missing_package_is_refused_before_any_work(command, home, bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    out = ["--out", str(tmp_path / "out"), "--mlflow"]
    if command == "train":
        assert sdk_main(["train", "--sample", *out]) == 2
    else:
        assert score(["--bundle", str(bundle.path), "--run-date", "2026-11-23", *out]) == 2
    assert capsys.readouterr().err == (
        f"mlflow: the package mlflow is not installed; {how_to_get('mlflow')}. {what_helps(2)}\n"
    )
    assert list(tmp_path.iterdir()) == []
