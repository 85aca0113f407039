"""Bundles: whole or not at all, refused when a byte is off, and scored exactly by what is in them."""

import importlib.metadata
import json
import shutil
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from small import all_pairs, dataset, run_config

from sdk.base.config import TrainingConfig, from_json
from sdk.base.errors import BundleError, UnknownItemError, UsageError
from sdk.base.stored_arrays import write_arrays
from sdk.bundles.bundle import FORMAT_VERSION, load, sha256_of
from sdk.bundles.info import LISTS, sealed
from sdk.features.builtin import Encoding, transformer
from sdk.features.encode import encode_interactions
from sdk.features.engine import with_engine
from sdk.features.interactions import TEST
from sdk.features.tables import FIRST_KNOWN
from sdk.models.content.hybrid import LikedShare
from sdk.models.form_files import form_arrays
from sdk.training.pipeline import train_bundle

DATA = dataset()


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", autouse=True)
def liked_share():
    """Ratings made up at random choose content alone; these lists are to be hybrid."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sdk.models.content.model.choose_share", lambda *_: LikedShare(0.5, 3.0))
        yield


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
    path.write_text(json.dumps(sealed({**json.loads(path.read_text()), **values})))


def reseal(folder):
    """The folder, whose files are hashed anew."""
    names = [path for path in folder.rglob("*") if path.is_file() and path.name != "bundle.json"]
    changed(folder, files={path.relative_to(folder).as_posix(): sha256_of(path) for path in names})
    return folder


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
    assert {f"workflow/{name}/encoding.json" for name in ("interactions", "codes", "users", "items")} <= set(files)


def test_lists_are_those_of_the_stored_form_and_of_a_bundle_that_has_none(trained, copy):
    (copy / LISTS).unlink()
    stored, made = load(trained), load(reseal(copy))
    assert stored.list_form().items.dot.base is not None, "the form was not mapped"
    for one, other in zip(form_arrays(stored.list_form()).items(), form_arrays(made.list_form()).items(), strict=True):
        assert one[0] == other[0]
        np.testing.assert_array_equal(one[1], other[1])
    users = DATA.users["user_id"].to_pylist()
    for model in ("best", "ncf"):
        lists, others = (bundle.recommend(users, 5, model=model) for bundle in (stored, made))
        np.testing.assert_array_equal(lists.item_id, others.item_id)
        np.testing.assert_array_equal(lists.scores, others.scores)


@pytest.mark.parametrize(("name", "change"), [
    ("item_dot", lambda values: values[1:]), ("user_bias", lambda values: values.astype(np.float64)), ("cross", None),
    ("user_dot", lambda values: values[:, :-1]), ("item_fields", lambda values: values[:, :, 0]),
])  # fmt: skip
def test_a_stored_form_that_does_not_fit_is_refused(copy, name, change):
    with np.load(copy / LISTS) as file:
        arrays = dict(file)
    if change is None:
        del arrays[name]
    else:
        arrays[name] = change(arrays[name])
    write_arrays(copy / LISTS, arrays)
    with pytest.raises(BundleError, match=r"lists[.]npz: not the form of lists"):
        load(reseal(copy)).list_form()


def test_an_answer_loads_nothing_heavy(trained):
    """A test of kind, not of time: these packages are what an answer of half a second has no time for."""
    never = {"torch", "numba", "pandas", "sklearn", "matplotlib", "nvtabular", "dask", "pyarrow.compute"}
    asked = {"recommend": (["--user", "1"], never | {"scipy"}), "similar": (["#1"], never)}
    for command, (query, heavy) in asked.items():
        code = (
            "import sys; from sdk.__main__ import main;"
            f"main({[command, *query, '--k', '1', '--bundle', str(trained)]});"
            f"print(sorted({heavy} & {{*sys.modules}}))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]", command


def test_nothing_is_pickled(trained):
    assert not [path for path in trained.rglob("*") if path.suffix in (".pkl", ".pt", ".pth", ".joblib", ".npy")]
    for path in trained.rglob("*.npz"):
        with np.load(path, allow_pickle=False) as arrays:
            assert all(not arrays[name].dtype.hasobject for name in arrays)


def test_it_says_what_it_was_made_of(trained):
    info = load(trained).info
    assert info.config == with_engine(run_config())
    assert info.data == {
        "name": "small", "fingerprint": "fingerprint-0", "num_ratings": len(DATA.interactions), "num_users": 40,
        "num_items": 30, "num_rejects": 0,
    }  # fmt: skip
    assert info.models == ("dlrm", "ncf", "content")
    validation = info.metrics["validation_auc"]
    assert info.chosen_model == max(validation, key=validation.get)
    assert info.metrics["label_rule"] == "rating > 3"
    assert [row["model"] for row in info.metrics["test"]][:2] == ["dlrm", "ncf"]
    assert info.packages["torch"] == importlib.metadata.version("torch")


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


def test_the_saved_encoding_gives_the_bundles_own_rows(trained, tmp_path):
    copy = shutil.copytree(trained, tmp_path / "elsewhere")
    to_rows = transformer(Encoding.load(str(copy / "workflow" / "interactions")), (), tmp_path)
    encoded, stored = encode_interactions(to_rows, DATA.interactions), load(copy).interactions.rows
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


@pytest.mark.parametrize("version", [0, FORMAT_VERSION - 1, FORMAT_VERSION + 1, str(FORMAT_VERSION), None])
def test_another_format_version_is_refused(copy, version):
    changed(copy, format_version=version)
    with pytest.raises(BundleError, match=f"format version {version!r}, this release reads {FORMAT_VERSION}"):
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
    with pytest.raises(BundleError, match="nothing is there"):
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
    assert set(found.source) == {"hybrid"}
    np.testing.assert_array_equal(found.scores, bundle.content.similar(ids, 5).scores)
    assert set(bundle.similar(ids, 5, kind="content").source) == {"content"}
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


def test_a_config_from_a_bundle_is_a_config(trained):
    stored = json.loads((trained / "bundle.json").read_text())["config"]["training"]
    assert from_json(TrainingConfig, stored) == run_config().training


def test_rejected_rows_travel_with_the_bundle(trained):
    assert pq.read_table(trained / "rejects.parquet").equals(DATA.rejects)
