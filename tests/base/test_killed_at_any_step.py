"""Killed or failing at any step, what stood there still does or the new is there; the next attempt ends well."""

from __future__ import annotations

import shutil
from pathlib import Path

import http_remote
import pytest
import small
import torch
from http_remote import NAME, assert_landed
from killing import steps_of

import sdk
from batch.job.job import Job
from batch.run.night import run
from batch.store.places import open_target
from batch.store.publish import read_manifest, recover
from export.configs import read_config
from export.manifest import check_repository, version_folders
from export.options import ExportOptions
from export.repository import export_repository
from sdk.base.config import FeatureConfig
from sdk.training.loop import Checkpoint
from sdk.training.pipeline import train_bundle

remote = http_remote.remote
COMPILED = ExportOptions(workflow="compiled")
HOW = pytest.mark.parametrize("how", ["kill", "fail"])
EXCHANGING = pytest.mark.parametrize("exchanging", [True, False])


def train(out: Path, seed: int, models: tuple[str, ...] = ("content",)) -> None:
    training = sdk.TrainingConfig(max_epochs=1, refit=False, batch_size=64, seed=seed)
    config = small.run_config(models=models, features=FeatureConfig(content_dim=0), training=training)
    train_bundle(small.dataset(), config, out, force=True, device="cpu")


def seed_of(bundle: sdk.Bundle) -> int:
    return bundle.info.config.training.seed


@pytest.fixture(scope="module")
def old_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("old") / "bundle"
    train(path, seed=1)
    return path


@pytest.mark.slow
@HOW
@EXCHANGING
def test_a_retrain_keeps_the_old_bundle_until_the_new_one_stands(
    old_bundle: Path, tmp_path: Path, how: str, exchanging: bool
) -> None:
    def place(when: int) -> Path:
        shutil.copytree(old_bundle, tmp_path / str(when) / "bundle")
        return tmp_path / str(when) / "bundle"

    found = []
    for when in steps_of(train, place, 2, how=how, exchanging=exchanging):
        bundle = tmp_path / str(when) / "bundle"
        found.append(seed_of(sdk.load(bundle)))  # as a reader finds it
        train(bundle, seed=3)
        assert seed_of(sdk.load(bundle)) == 3
        assert [path.name for path in bundle.parent.iterdir()] == ["bundle"], when
    assert found == sorted(found)  # first the old one, then the new one
    assert set(found) == {1, 2}


@HOW
def test_a_first_training_leaves_a_whole_bundle_or_none(tmp_path: Path, how: str) -> None:
    for when in steps_of(train, lambda when: tmp_path / str(when) / "bundle", 2, how=how):
        bundle = tmp_path / str(when) / "bundle"
        if bundle.exists():
            assert seed_of(sdk.load(bundle)) == 2
        train(bundle, seed=3)
        assert seed_of(sdk.load(bundle)) == 3
        assert [path.name for path in bundle.parent.iterdir()] == ["bundle"], when


def export(bundle: Path, out: Path) -> None:
    export_repository(bundle, out, COMPILED)


@pytest.fixture(scope="module")
def ranker_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ranker") / "bundle"
    train(path, seed=1, models=("ncf",))
    return path


@pytest.fixture(scope="module")
def old_repository(ranker_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("old") / "repository"
    export(ranker_bundle, path)
    return path


@pytest.mark.slow
@HOW
@pytest.mark.parametrize("again", [False, True])
def test_an_export_serves_the_old_version_until_the_new_one_is_whole(
    ranker_bundle: Path, old_repository: Path, tmp_path: Path, how: str, again: bool
) -> None:
    def place(when: int) -> Path:
        if again:
            shutil.copytree(old_repository, tmp_path / str(when) / "repository")
        return tmp_path / str(when) / "repository"

    for when in steps_of(export, ranker_bundle, place, how=how):
        repository = tmp_path / str(when) / "repository"
        if again or repository.exists():
            served = pinned(repository)
            assert served in (1, 2)
        export(ranker_bundle, repository)
        assert pinned(repository) == max(int(folder.name) for folder in version_folders(repository))
        assert len({folder.name for folder in version_folders(repository)}) == pinned(repository), "versions are left"
        assert [path.name for path in repository.parent.iterdir()] == ["repository"], when


def pinned(repository: Path) -> int:
    """The version that ``rank`` refers to, whose files are all there and whole."""
    models = check_repository(repository)["models"]
    (version,) = {s.model_version for s in read_config(repository / "rank" / "config.pbtxt").ensemble_scheduling.step}
    assert all((repository / model / str(version) / "manifest.json").is_file() for model in models)
    return int(version)


def night(bundle: Path, out: Path, k: int) -> None:
    run(Job(bundle=bundle, out=out, run_date="2026-11-23", k=k, users_per_part=1000, threads=1, force=True))


@pytest.mark.slow
@EXCHANGING
def test_a_night_is_the_old_or_the_new_one(ranker_bundle: Path, tmp_path: Path, exchanging: bool) -> None:
    for name, k in (("old", 3), ("new", 4)):
        night(ranker_bundle, tmp_path / name, k)
    new = {path.name for path in (tmp_path / "new").iterdir()}

    def place(when: int) -> Path:
        return Path(shutil.copytree(tmp_path / "old", tmp_path / str(when)))

    for when in steps_of(night, ranker_bundle, place, 4, how="kill", exchanging=exchanging):
        out = tmp_path / str(when)
        target = open_target(out)
        with target.lock():
            recover(target)
        manifest = read_manifest(target, "2026-11-23")
        assert manifest is not None
        assert manifest["inputs"]["k"] in (3, 4)
        night(ranker_bundle, out, 4)
        assert (out / "run_date=2026-11-23" / "manifest.json").read_bytes() == (
            tmp_path / "new" / "run_date=2026-11-23" / "manifest.json"
        ).read_bytes()
        assert {path.name for path in out.iterdir()} == new, when


def download(to: Path, url: str) -> None:
    sdk.download(NAME, to, base_url=url, extract=True, progress=False, retries=0)


@HOW
def test_a_download_lands_and_is_unpacked_whole_or_not_at_all(
    remote: http_remote.Remote, tmp_path: Path, how: str
) -> None:
    for when in steps_of(download, lambda when: tmp_path / str(when), remote.url, how=how):
        folder = tmp_path / str(when)
        if (folder / f"{NAME}.zip").exists():
            assert_landed(folder / f"{NAME}.zip")
        download(folder, remote.url)
        assert_landed(folder / f"{NAME}.zip")
        assert sorted(path.name for path in folder.iterdir()) == [NAME, f"{NAME}.zip"], when


def save(path: Path, epoch: int) -> None:
    model = torch.nn.Linear(2, 1)
    torch.nn.init.constant_(model.weight, epoch)
    record = sdk.metrics.pointwise.EpochRecord(epoch, 1.0, 0.5, 0.6, 1.0)
    Checkpoint((record,) * epoch, epoch).save(path, torch.optim.Adam(model.parameters()), model)


@HOW
def test_a_checkpoint_is_the_old_or_the_new_epoch(tmp_path: Path, how: str) -> None:
    def place(when: int) -> Path:
        (tmp_path / str(when)).mkdir()
        save(tmp_path / str(when) / "checkpoint", 1)
        return tmp_path / str(when) / "checkpoint"

    for when in steps_of(save, place, 2, how=how):
        path = tmp_path / str(when) / "checkpoint"
        assert epoch_of(path) in (1, 2)
        save(path, 3)
        assert epoch_of(path) == 3
        assert [each.name for each in path.parent.iterdir()] == ["checkpoint"]


def epoch_of(path: Path) -> int:
    model = torch.nn.Linear(2, 1)
    state = Checkpoint.restore(path, model, torch.optim.Adam(model.parameters()))
    assert set(model.weight.flatten().tolist()) == {float(len(state.history))}
    return len(state.history)
