"""The built-in engine of features, against NVTabular, against known answers, and without Merlin."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from made_up import write_movielens
from small import item_table, ratings, user_table

import sdk
from sdk.base.config import FeatureConfig, RunConfig, to_json
from sdk.base.errors import BundleError, UsageError
from sdk.data.splits import split
from sdk.features import builtin, workflows
from sdk.features.encode import Features, encode_interactions, fit_features
from sdk.features.engine import WORKFLOWS, engine_of, with_engine
from sdk.features.tables import FIRST_KNOWN, UNKNOWN, EncodedTable

ATOL = 3e-7  # NVTabular adds float32 columns in float32


def fit_both(train, users, items, vectors, folder: Path, **config) -> tuple[Features, Features]:
    made = []
    for engine in ("nvtabular", "builtin"):
        work = folder / engine
        work.mkdir()
        made.append(fit_features(train, users, items, vectors, FeatureConfig(engine=engine, **config), work))
    return made[0], made[1]


def small_data(seed: int):
    """Ratings of 60 users and 40 titles with ties in every count, missing attributes, and ids with gaps."""
    rng = np.random.default_rng(seed)
    user_ids, item_ids = np.arange(60) * 7 + 2, np.sort(rng.choice(10**9, 40, replace=False))
    pairs = rng.choice(60 * 40, 700, replace=False)
    train = ratings(user_ids[pairs // 40 // 2 * 2], item_ids[pairs % 40], rng.integers(1, 11, 700) / 2)
    users = user_table(
        user_ids,
        gender=rng.choice(np.array(["F", "M", None]), 60).tolist(),
        age=[None if n % 7 == 0 else 20 + n for n in range(60)],
    )
    genres = [sorted(rng.choice(list("ABCDE"), rng.integers(0, 4), replace=False).tolist()) for _ in range(40)]
    items = item_table(item_ids, genres=genres, year=[None if n % 9 == 0 else 1960 + n for n in range(40)])
    return train, users, items, rng.normal(size=(40, 3)).astype(np.float32)


def assert_same_up_to_ties(got: EncodedTable, expected: EncodedTable, counts: dict[str, np.ndarray]) -> None:
    """Equal tables, where codes of equally frequent values may be exchanged.

    Args:
        got: the built-in engine's.
        expected: NVTabular's.
        counts: field -> how often each row's value occurs.
    """
    np.testing.assert_array_equal(got.ids, expected.ids)
    assert (got.dense_names, dict(got.cardinalities)) == (expected.dense_names, dict(expected.cardinalities))
    np.testing.assert_allclose(got.dense, expected.dense, rtol=0, atol=ATOL)
    for name in ("count", "likes"):
        np.testing.assert_array_equal(getattr(got.statistics, name), getattr(expected.statistics, name))
    for name in ("mean", "std"):
        np.testing.assert_allclose(getattr(got.statistics, name), getattr(expected.statistics, name), rtol=1e-12)
    assert got.codes.keys() == expected.codes.keys()
    for name, codes in got.codes.items():
        theirs = expected.codes[name]
        reserved = theirs < FIRST_KNOWN
        np.testing.assert_array_equal(codes[reserved], theirs[reserved])
        assert len(set(zip(codes.tolist(), theirs.tolist(), strict=True))) == len(set(codes.tolist())), name
        of_code = dict(zip(theirs[~reserved].tolist(), counts[name][~reserved].tolist(), strict=True))
        assert [of_code[code] for code in codes[~reserved].tolist()] == counts[name][~reserved].tolist(), name
    assert got.multi_hot.keys() == expected.multi_hot.keys()
    for name, shares in got.multi_hot.items():
        columns = (sorted(map(tuple, table.T.tolist())) for table in (shares, expected.multi_hot[name]))
        assert next(columns) == next(columns), name


def value_counts(values: pa.ChunkedArray) -> np.ndarray:
    """How often each row's value occurs, the reserved rows first."""
    series = values.to_pandas()
    return np.concatenate([np.zeros(FIRST_KNOWN), series.map(series.value_counts()).fillna(0)])


def assert_engines_agree(theirs: Features, ours: Features, rated, users: pa.Table) -> None:
    for column in ("user_index", "item_index", "label"):
        left, right = (getattr(made.encode(rated), column) for made in (ours, theirs))
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)
    attributes = {name: value_counts(users[name]) for name in ("gender", "occupation", "zip_prefix")}
    assert_same_up_to_ties(ours.users, theirs.users, {"id": theirs.users.statistics.count, **attributes})
    assert_same_up_to_ties(ours.items, theirs.items, {"id": theirs.items.statistics.count})


@pytest.mark.needs("nvtabular")
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("least", [0, 1, 18])
def test_both_engines_make_the_same_tables_of_small_data(tmp_path, seed, least):
    train, users, items, vectors = small_data(seed)
    thresholds = {"min_user_ratings": least, "min_item_ratings": least}
    theirs, ours = fit_both(train, users, items, vectors, tmp_path, **thresholds)
    strange = ratings([-1, 0, 2**63 - 1, 2, 9], [5, *items["item_id"].to_pylist()[:3], -7], [3.0, 3.5, 3.0, 5, 0.5])
    assert_engines_agree(theirs, ours, strange, users)
    assert_engines_agree(theirs, ours, train, users)


@pytest.mark.needs("nvtabular")
def test_both_engines_make_the_same_tables_of_the_samples_split(tmp_path):
    data, config = sdk.load_movielens(sdk.write_sample(tmp_path / "sample")[0]), RunConfig()
    train = data.interactions.take(split(data.interactions, config.split).train)
    vectors = np.random.default_rng(0).normal(size=(data.items.num_rows, 8)).astype(np.float32)
    theirs, ours = fit_both(train, data.users, data.items, vectors, tmp_path)
    assert_engines_agree(theirs, ours, data.interactions, data.users)


# known answers ------------------------------------------------------------------------------------------------------


def test_codes_fall_by_count_and_equal_counts_rise_by_value():
    ids = pa.array([9, 9, 2**62, 5, 5, 1, 7, 7, 7, 1], pa.int64())
    assert builtin.by_count(ids).to_pylist() == [7, 1, 5, 9, 2**62]
    assert builtin.by_count(ids, 2).to_pylist() == [7, 1, 5, 9]
    assert builtin.by_count(ids, 4).to_pylist() == []
    words = pa.array(["b", None, "é", "a", "é", "b", "Z", None, None])
    assert builtin.by_count(words).to_pylist() == ["b", "é", "Z", "a"]


def test_missing_words_have_code_1_unknown_ones_2_and_missing_numbers_become_the_median(tmp_path):
    table = pd.DataFrame({"word": ["x", None, "y", "x"], "n": [1.0, np.nan, 2.0, 6.0], "same": [0.1] * 4})
    fitted = builtin.fit_attributes(table, ["word"], ["n", "same"], tmp_path)
    assert fitted.numbers["n"] == (2.0, 2.75, pytest.approx(np.std([1, 2, 2, 6], ddof=1), rel=1e-15))
    new = pd.DataFrame({"word": ["y", "new", None, "x"], "n": [np.nan, 2.75, 0, 0], "same": [0.1] * 4})
    encoded = builtin.transform(fitted, new)
    assert encoded["word"].tolist() == [4, UNKNOWN, builtin.NULL, 3]
    assert encoded["n"].tolist()[:2] == [-0.75 / fitted.numbers["n"].std, 0]
    assert encoded["same"].tolist() == [0] * 4
    assert builtin.cardinalities(fitted, ["word"]) == {"word": 5}


@pytest.mark.needs("nvtabular")
def test_a_saved_encoding_encodes_the_same_and_a_damaged_one_is_refused(tmp_path):
    train, users, items, vectors = small_data(4)
    _, ours = fit_both(train, users, items, vectors, tmp_path)
    for name in WORKFLOWS:
        ours.workflows[name].save(str(tmp_path / "saved" / name))
    files = sorted(path.relative_to(tmp_path / "saved").as_posix() for path in (tmp_path / "saved").rglob("*.*"))
    ids = [f"{name}/ids.npz" for name in ("codes", "interactions")]
    assert files == sorted([*(f"{name}/encoding.json" for name in WORKFLOWS), *ids])
    loaded = {name: builtin.Encoding.load(str(tmp_path / "saved" / name)) for name in WORKFLOWS}
    again = encode_interactions(loaded["interactions"], train, builtin)
    np.testing.assert_array_equal(again.item_index, ours.encode(train).item_index)
    for name in WORKFLOWS:
        assert loaded[name].numbers == ours.workflows[name].numbers
        assert loaded[name].like_above == ours.workflows[name].like_above
        assert all(loaded[name].vocabularies[c].equals(v) for c, v in ours.workflows[name].vocabularies.items())
    damaged = tmp_path / "saved" / "users" / "encoding.json"
    for text in ("{", '{"version": 9}', '{"version": 1}', '{"version": 1, "ids": [], "words": [], "numbers": 3}'):
        damaged.write_text(text)
        with pytest.raises(BundleError):
            builtin.Encoding.load(str(damaged.parent))


# which engine -------------------------------------------------------------------------------------------------------


@pytest.mark.needs("nvtabular")
def test_auto_is_nvtabular_where_it_is_installed_and_asking_for_it_elsewhere_names_the_remedy(monkeypatch):
    asked = RunConfig()
    assert engine_of("auto") is workflows
    assert engine_of("builtin") is builtin
    assert with_engine(asked).features.engine == "nvtabular"
    monkeypatch.setitem(sys.modules, "nvtabular", None)
    assert engine_of("auto") is builtin
    assert with_engine(asked).features.engine == "builtin"
    with pytest.raises(UsageError, match=r"not installed.*--features builtin"):
        engine_of("nvtabular")


def test_without_merlin_a_bundle_is_trained_opened_scored_and_exported(tmp_path):
    write_movielens(tmp_path / "ml")
    code = """
import sys
for name in ("nvtabular", "merlin", "merlin.core", "merlin.io", "merlin.schema"):
    sys.modules[name] = None
from batch.score import main as score
from export.__main__ import main as export
from sdk.__main__ import main
train = ["train", "--movielens", "ml", "--max-epochs", "1", "-q", "--out"]
assert main([*train, "nvt", "--features", "nvtabular"]) == 2
assert main([*train, "bundle"]) == 0
assert main(["recommend", "--bundle", "bundle", "--user", "1"]) == 0
assert score(["--bundle", "bundle", "--out", "nightly", "--run-date", "2026-11-26", "-q"]) == 0
assert export(["--bundle", "bundle", "--out", "repository", "--workflow", "compiled", "-q"]) == 0
assert export(["--bundle", "bundle", "--out", "refused", "-q"]) == 2
assert not [name for name, module in sys.modules.items() if module and name.split(".")[0] in ("nvtabular", "merlin")]
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Pass --workflow compiled" in done.stderr
    assert "Traceback" not in done.stderr
    bundle = sdk.load(tmp_path / "bundle")
    assert bundle.info.config.features.engine == "builtin"
    assert not list(bundle.path.rglob("*.pkl"))


@pytest.mark.needs("nvtabular")
def test_a_bundle_that_names_no_engine_is_nvtabulars(tmp_path):
    import format_artefacts
    import small

    made = sdk.train(small.dataset(3, num_users=60, num_items=40), small.run_config(), tmp_path / "bundle")
    assert made.info.config.features.engine == "nvtabular"
    config = to_json(made.info.config)
    del config["features"]["engine"]
    format_artefacts.resealed(made.path, config=config)
    assert sdk.load(made.path).info.config == made.info.config
