"""Writing bundles: the same run gives the same one, and a killed or refused run leaves none."""

import dataclasses
import json

import pytest
import torch
from outside import failing, files_up_to
from small import dataset, run_config

from sdk.base.config import FeatureConfig, SplitConfig
from sdk.base.errors import DataError, LockedError, OutputError, UsageError
from sdk.features.interactions import TEST
from sdk.features.loaders import InteractionLoader
from sdk.training import pipeline
from sdk.training.pipeline import train_bundle

DATA = dataset()


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small_run(**training):
    """One ranker, one epoch: a bundle in about a second."""
    config = dataclasses.replace(run_config().training, **{"max_epochs": 1, **training})
    return run_config(models=("ncf",), training=config, features=FeatureConfig(content_dim=0))


def test_the_same_run_twice_gives_the_same_models_and_tables(tmp_path):
    for name in ("a", "b"):
        train_bundle(DATA, small_run(), tmp_path / name)
    a, b = (json.loads((tmp_path / name / "bundle.json").read_text()) for name in ("a", "b"))
    steady = [n for n in a["files"] if n.endswith((".safetensors", "users.parquet", "items.parquet", "seen.parquet"))]
    assert len(steady) == 4
    assert {n: a["files"][n] for n in steady} == {n: b["files"][n] for n in steady}
    assert a["metrics"] == b["metrics"]


def test_the_refit_takes_as_many_epochs_as_were_best_on_all_but_the_test_part(tmp_path, monkeypatch):
    original, runs = pipeline.train, []

    def recording(model, rows, validation, *args, **kwargs):
        runs.append((rows, validation, original(model, rows, validation, *args, **kwargs)))
        return runs[-1][2]

    monkeypatch.setattr(pipeline, "train", recording)
    bundle = train_bundle(DATA, small_run(max_epochs=4), tmp_path / "bundle")
    (selecting, validation, selected), (refitting, nothing, refitted) = runs
    assert nothing is None
    assert 1 < selected.best_epoch == len(refitted.history)
    assert len(refitting) == len(selecting) + len(validation) == (bundle.interactions.part != TEST).sum()
    assert bundle.info.metrics["validation_auc"]["ncf"] == max(record.auc for record in selected.history)


def test_an_existing_bundle_is_replaced_only_by_force(tmp_path):
    copy = tmp_path / "copy"
    train_bundle(DATA, run_config(models=("content",)), copy)
    before = (copy / "bundle.json").read_bytes()
    with pytest.raises(OutputError, match="--force"):
        train_bundle(DATA, small_run(), copy)
    assert (copy / "bundle.json").read_bytes() == before
    replaced = train_bundle(DATA, small_run(), copy, force=True)
    assert replaced.info.models == ("ncf",)
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]


def test_a_bundle_without_content_or_without_a_ranker_says_what_it_lacks(tmp_path):
    ranker = train_bundle(DATA, small_run(), tmp_path / "ranker")
    with pytest.raises(UsageError, match="--models ncf,content"):
        ranker.similar([9], 3)
    content = train_bundle(DATA, run_config(models=("content",)), tmp_path / "content")
    assert content.info.chosen_model is None
    with pytest.raises(UsageError, match="holds no ranker"):
        content.model()
    assert set(content.recommend(content.encoded_users.known_ids, 3).source) == {"popular"}
    with pytest.raises(UsageError, match="expected one of best"):
        content.recommend([1], 3, model="dlrm")


class Killed(BaseException):
    """As abrupt as an interrupt."""


AT_THE_END = [
    ("open", "marquee-new/ncf.safetensors"),
    ("open", "marquee-new/bundle.json"),
    ("os.rename", "marquee-new"),
]


@pytest.mark.parametrize(("event", "at"), AT_THE_END)
def test_killed_while_writing_it_leaves_no_bundle_and_the_next_run_finishes(event, at, tmp_path, monkeypatch):
    def die(*_):
        raise Killed

    with failing(event, Killed(), at=at), pytest.raises(Killed):
        train_bundle(DATA, small_run(), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
    with monkeypatch.context() as patch:
        patch.setattr(InteractionLoader, "set_epoch", die)  # it trained already
        bundle = train_bundle(DATA, small_run(), tmp_path / "bundle")
    assert bundle.info.models == ("ncf",)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_killed_while_training_it_goes_on_from_the_last_epoch_to_the_same_bundle(tmp_path, monkeypatch):
    config = small_run(max_epochs=3, patience=3)
    whole = train_bundle(DATA, config, tmp_path / "whole")

    original, epochs = InteractionLoader.set_epoch, []

    def counting(self, epoch):
        epochs.append(epoch)
        if epochs == [1, 2, 3]:
            raise Killed
        original(self, epoch)

    monkeypatch.setattr(InteractionLoader, "set_epoch", counting)
    with pytest.raises(Killed):
        train_bundle(DATA, config, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
    resumed = train_bundle(DATA, config, tmp_path / "bundle")
    assert epochs[:4] == [1, 2, 3, 3], "it did not go on where it was stopped"
    assert resumed.info.files["ncf.safetensors"] == whole.info.files["ncf.safetensors"]


def test_a_work_folder_of_another_run_is_not_gone_on_from(tmp_path):
    with failing("os.rename", Killed(), at="marquee-new"), pytest.raises(Killed):
        train_bundle(DATA, small_run(), tmp_path / "bundle")
    other = train_bundle(DATA, small_run(seed=1), tmp_path / "bundle")
    fresh = train_bundle(DATA, small_run(seed=1), tmp_path / "fresh")
    assert other.info.files["ncf.safetensors"] == fresh.info.files["ncf.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "fresh"]


@pytest.mark.parametrize("num_bytes", [0, 1000, 3000, 6000])
def test_a_full_disk_is_an_output_error_and_leaves_nothing_half_written(num_bytes, tmp_path):
    """In the features' files, a checkpoint, or the bundle itself."""
    with files_up_to(num_bytes), pytest.raises(OutputError, match=r"File too large.*[Cc]hoose a"):
        train_bundle(DATA, small_run(), tmp_path / "bundle")
    assert [path.name for path in tmp_path.iterdir() if "marquee-work" not in path.name] == []
    assert train_bundle(DATA, small_run(), tmp_path / "bundle").info.models == ("ncf",)


def test_a_bundle_that_another_run_is_training_is_locked(tmp_path):
    from filelock import FileLock

    with FileLock(tmp_path / ".bundle.lock"):
        with pytest.raises(LockedError, match="another run"):
            train_bundle(DATA, small_run(), tmp_path / "bundle")


def test_an_out_folder_that_cannot_be_made_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="choose another --out"):
        train_bundle(DATA, small_run(), tmp_path / "file" / "bundle")


def test_too_few_ratings_to_validate_with_are_a_data_error(tmp_path):
    one_label = dataclasses.replace(DATA, interactions=DATA.interactions.take(DATA.interactions.rating < 3))
    with pytest.raises(DataError, match="one label only"):
        train_bundle(one_label, small_run(), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("split", [SplitConfig(kind="leave-last-out"), SplitConfig(test_share=0)])
def test_every_split_trains_a_bundle(split, tmp_path):
    config = dataclasses.replace(small_run(refit=False), split=split)
    bundle = train_bundle(DATA, config, tmp_path / "bundle")
    tested = [row["num_rows"] for row in bundle.info.metrics["test"]]
    assert set(tested) == (set() if split.kind == "random" else {39})
    assert bundle.info.metrics["split"] == split.describe()
