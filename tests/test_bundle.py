"""Bundles: whole or not at all, refused when a byte is off, and scored exactly by what is in them."""

import dataclasses
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from small import all_pairs, dataset, run_config

import sdk.bundle_writer as writer
from sdk.bundle import load, sha256_of
from sdk.config import FeatureConfig, SplitConfig, TrainingConfig, from_json
from sdk.errors import BundleError, DataError, LockedError, OutputError, UnknownItemError, UsageError
from sdk.features.encode import encode_interactions
from sdk.features.loaders import InteractionLoader
from sdk.features.nvtabular_import import nvtabular
from sdk.features.stored_interactions import TEST
from sdk.features.tables import FIRST_KNOWN
from sdk.training import pipeline
from sdk.training.pipeline import train_bundle

DATA = dataset()


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    train_bundle(DATA, run_config(), folder / "bundle")
    return folder / "bundle"


@pytest.fixture
def copy(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "copy")


def changed(folder, **values):
    path = folder / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


# --- what it holds ------------------------------------------------------------------------------------------------


def test_a_bundle_is_whole_and_alone(trained):
    assert [path.name for path in trained.parent.iterdir()] == ["bundle"], "something was left beside it"
    info = json.loads((trained / "bundle.json").read_text())
    files = {path.relative_to(trained).as_posix(): path for path in trained.rglob("*") if path.is_file()}
    assert set(info["files"]) | {"bundle.json"} == set(files)
    assert info["files"] == {name: sha256_of(path) for name, path in files.items() if name != "bundle.json"}
    expected = {"users.parquet", "items.parquet", "seen.parquet", "rejects.parquet", "dlrm.safetensors",
                "ncf.safetensors", "reports/stages.json"}  # fmt: skip
    assert expected <= set(files)
    assert {f"workflow/{name}/workflow.pkl" for name in ("interactions", "codes", "users", "items")} <= set(files)


def test_nothing_but_nvtabulars_workflow_is_pickled(trained):
    for path in trained.rglob("*"):
        assert path.suffix not in (".pt", ".pth", ".joblib", ".npy")
        assert path.suffix != ".pkl" or path.name == "workflow.pkl"


def test_it_says_what_it_was_made_of(trained):
    info = load(trained).info
    assert info.config == run_config()
    assert info.data == {
        "name": "small", "fingerprint": "fingerprint-0", "num_ratings": len(DATA.interactions), "num_users": 40,
        "num_items": 30, "num_rejects": 0,
    }  # fmt: skip
    assert info.models == ("dlrm", "ncf", "content")
    validation = info.metrics["validation_auc"]
    assert info.chosen_model == max(validation, key=validation.get)
    assert info.metrics["label_rule"] == "rating > 3"
    assert [row["model"] for row in info.metrics["test"]][:2] == ["dlrm", "ncf"]
    assert info.packages["torch"] == torch.__version__


def test_tables_and_ratings_come_back_as_they_went_in(trained):
    bundle = load(trained)
    assert bundle.users.equals(DATA.users)
    assert bundle.items.equals(DATA.items)
    rows = bundle.interactions.rows
    np.testing.assert_array_equal(bundle.encoded_users.ids[rows.user_index], DATA.interactions.user_id)
    np.testing.assert_array_equal(bundle.encoded_items.ids[rows.item_index], DATA.interactions.item_id)
    np.testing.assert_array_equal(rows.label, DATA.interactions.rating > 3)
    held_out = np.random.default_rng(42).random(len(rows)) < 0.2
    np.testing.assert_array_equal(bundle.interactions.part == TEST, held_out)


def test_no_test_rating_reached_the_features(trained):
    bundle = load(trained)
    fitted = DATA.interactions.take(bundle.interactions.part != TEST)
    ids, counts = np.unique(fitted.user_id, return_counts=True)
    expected = np.zeros(len(bundle.encoded_users))
    expected[bundle.encoded_users.index_of(ids)] = counts
    np.testing.assert_array_equal(bundle.encoded_users.statistics.count, expected)


def test_the_saved_workflow_gives_the_bundles_own_rows(trained, tmp_path, monkeypatch):
    copy = shutil.copytree(trained, tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    workflow = nvtabular().Workflow.load(str(copy / "workflow" / "interactions"))
    encoded, stored = encode_interactions(workflow, DATA.interactions), load(copy).interactions.rows
    np.testing.assert_array_equal(encoded.user_index, stored.user_index)
    np.testing.assert_array_equal(encoded.item_index, stored.item_index)
    np.testing.assert_array_equal(encoded.label, stored.label)


# --- what is refused ----------------------------------------------------------------------------------------------


def names_of(folder):
    return sorted(json.loads((folder / "bundle.json").read_text())["files"])


def test_every_file_is_missed_and_every_added_or_flipped_byte_is_seen(copy):
    names = names_of(copy)
    assert len(names) > 15
    for name in names:
        path = copy / name
        original = path.read_bytes()
        for damaged in (original + b"\0", bytes([original[0] ^ 1]) + original[1:], original[:-1]):
            path.write_bytes(damaged)
            with pytest.raises(BundleError) as caught:
                load(copy)
            assert str(path) in str(caught.value)
            assert "altered" in str(caught.value)
        path.unlink()
        with pytest.raises(BundleError) as caught:
            load(copy)
        assert f"{path}: missing" in str(caught.value)
        path.write_bytes(original)
    assert load(copy).info.data["name"] == "small"


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_format_version_is_refused(copy, version):
    changed(copy, format_version=version)
    with pytest.raises(BundleError, match=f"format version {version!r}, this release reads 1"):
        load(copy)


@pytest.mark.parametrize("escape", ["../outside", "workflow/../../outside", "ABSOLUTE"])
def test_a_file_name_that_leads_out_of_the_bundle_is_refused_even_if_its_hash_is_right(copy, tmp_path, escape):
    outside = tmp_path / "outside"
    outside.write_text("someone else's")
    name = str(outside) if escape == "ABSOLUTE" else escape
    changed(copy, files={name: sha256_of(outside)})
    with pytest.raises(BundleError, match="outside the bundle"):
        load(copy)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", "{}", '{"format_version": 1}', '{"format_version": 1, "config": {}, "models": []}']
)
def test_a_bundle_json_that_says_nothing_of_use_is_refused_by_name(copy, text):
    (copy / "bundle.json").write_text(text)
    with pytest.raises(BundleError, match=r"bundle\.json"):
        load(copy)


@pytest.mark.parametrize(
    "change", [{"config": {"epochs": 3}}, {"extra": 1}, {"files": ["users.parquet"]}, {"config": 3}]
)
def test_a_bundle_json_of_another_form_is_refused_by_name(copy, change):
    changed(copy, **change)
    with pytest.raises(BundleError, match=r"bundle\.json"):
        load(copy)


def test_no_bundle_is_no_bundle(tmp_path):
    with pytest.raises(BundleError, match="it is no folder"):
        load(tmp_path / "nothing")
    (tmp_path / "readme.txt").write_text("hello")
    with pytest.raises(BundleError, match=r"it has readme\.txt"):
        load(tmp_path)


# --- what it answers ----------------------------------------------------------------------------------------------


def scores_of(bundle, name):
    model = bundle.model(name)
    with torch.no_grad():
        scores = model(*all_pairs(model.users.num_rows, model.items.num_rows))
    return scores.numpy().reshape(model.users.num_rows, -1)


@pytest.mark.parametrize("name", ["dlrm", "ncf", "best"])
@pytest.mark.parametrize("include_seen", [False, True])
def test_lists_are_those_of_the_networks_own_scores_without_what_was_rated(trained, name, include_seen):
    bundle = load(trained)
    scores = scores_of(bundle, name)
    rated = {}
    for user, item in zip(DATA.interactions.user_id.tolist(), DATA.interactions.item_id.tolist(), strict=True):
        rated.setdefault(user, set()).add(item)
    users = bundle.encoded_users.known_ids
    found = bundle.recommend(users, 6, model=name, include_seen=include_seen)
    for b, user in enumerate(users.tolist()):
        if found.source[b] == "popular":
            continue
        item_ids, listed = found.row(b)
        row = scores[bundle.encoded_users.index_of([user])[0]]
        gone = set() if include_seen else rated.get(user, set())
        open_rows = [i for i in range(FIRST_KNOWN, len(row)) if bundle.encoded_items.ids[i] not in gone]
        assert not gone & set(item_ids.tolist())
        assert len(set(item_ids.tolist())) == len(item_ids) == min(6, len(open_rows))
        ideal = np.sort(row[open_rows])[::-1][: len(item_ids)]
        np.testing.assert_allclose(row[bundle.encoded_items.index_of(item_ids)], ideal, rtol=0, atol=1e-5)
        np.testing.assert_allclose(listed, ideal, rtol=0, atol=1e-5)
    expected = {bundle.info.chosen_model if name == "best" else name, "popular"}
    assert set(found.source) == expected, "one user has no rating and gets popular titles"


def test_unknown_users_get_the_most_liked_titles(trained):
    bundle = load(trained)
    found = bundle.recommend([-1, 10**15], 5)
    likes = bundle.encoded_items.statistics.likes[FIRST_KNOWN:]
    popular = bundle.encoded_items.known_ids[np.argsort(-likes, kind="stable")[:5]]
    assert found.item_id.tolist() == [popular.tolist()] * 2
    assert set(found.source) == {"popular"}


def test_a_list_longer_than_the_catalogue_holds_every_open_title(trained):
    bundle = load(trained)
    user = int(DATA.interactions.user_id[0])
    item_ids, _ = bundle.recommend([user], 1000).row(0)
    rated = DATA.interactions.item_id[DATA.interactions.user_id == user]
    assert set(item_ids.tolist()) == set(bundle.encoded_items.known_ids.tolist()) - set(rated.tolist())


def test_similar_titles_are_the_content_models(trained):
    bundle = load(trained)
    ids = bundle.encoded_items.known_ids[:4]
    found = bundle.similar(ids, 5)
    assert set(found.source) == {"content"}
    for b, item in enumerate(ids):
        assert item not in found.row(b)[0]
        assert (np.diff(found.row(b)[1]) <= 0).all()
    with pytest.raises(UnknownItemError, match="item_id 1:"):
        bundle.similar([1], 5)


def test_titles_carry_their_year_and_strangers_their_number(trained):
    first = DATA.items.slice(0, 1).to_pylist()[0]
    expected = [f"{first['title']} ({first['year']})", "item 1"]
    assert load(trained).titles([first["item_id"], 1]) == expected


def test_impossible_wishes_are_usage_errors(trained):
    bundle = load(trained)
    with pytest.raises(UsageError, match="k: got 0"):
        bundle.recommend([1], 0)
    for name in ("content", "bert", ""):
        with pytest.raises(UsageError, match="expected one of dlrm, ncf, best"):
            bundle.recommend([1], 3, model=name)


# --- how it is written --------------------------------------------------------------------------------------------


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


def test_an_existing_bundle_is_replaced_only_by_force(copy):
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


@pytest.mark.parametrize("at", ["save_ranker", "_info", "_put_in_place"])
def test_killed_while_writing_it_leaves_no_bundle_and_the_next_run_finishes(at, tmp_path, monkeypatch):
    def die(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(writer, at, die)
        with pytest.raises(Killed):
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


def test_a_work_folder_of_another_run_is_not_gone_on_from(tmp_path, monkeypatch):
    def die(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(writer, "_put_in_place", die)
        with pytest.raises(Killed):
            train_bundle(DATA, small_run(), tmp_path / "bundle")
    other = train_bundle(DATA, small_run(seed=1), tmp_path / "bundle")
    fresh = train_bundle(DATA, small_run(seed=1), tmp_path / "fresh")
    assert other.info.files["ncf.safetensors"] == fresh.info.files["ncf.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "fresh"]


def test_a_full_disk_is_an_output_error_and_leaves_nothing_half_written(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", str(tmp_path / "somewhere"))

    monkeypatch.setattr(writer, "write_table", full)
    with pytest.raises(OutputError, match="No space left"):
        train_bundle(DATA, small_run(), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
    assert not (tmp_path / ".bundle.staging").exists()


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
    one_label = dataclasses.replace(DATA, interactions=DATA.interactions.take(DATA.interactions.rating > 3))
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


def test_a_config_from_a_bundle_is_a_config(trained):
    stored = json.loads((trained / "bundle.json").read_text())["config"]["training"]
    assert from_json(TrainingConfig, stored) == run_config().training


def test_rejected_rows_travel_with_the_bundle(trained):
    assert pq.read_table(trained / "rejects.parquet").equals(DATA.rejects)
