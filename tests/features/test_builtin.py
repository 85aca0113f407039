"""The built-in engine of features, against NVTabular, against known answers, and without Merlin."""

import json
import math
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import tiny_config, write_movielens
from small import item_table, ratings, user_table
from two_engines import ENGINES, assert_equal_to_the_bit, fit_both, fit_by, of_a_split, sample_digests

import sdk
from sdk.base.config import RunConfig, to_json
from sdk.base.errors import BundleError, UsageError
from sdk.features import builtin, workflows
from sdk.features.encode import encode_interactions
from sdk.features.engine import WORKFLOWS, engine_of, with_engine
from sdk.features.tables import UNKNOWN, raw_statistics

ROOT = Path(__file__).resolve().parents[2]


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


STRANGE = ratings([-1, 0, 2**63 - 1, 2, 9], [5, 0, 1, 2**62, -7], [3.0, 3.5, 3.0, 5, 0.5])


@pytest.mark.needs("nvtabular")
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("least", [0, 1, 18])
def test_both_engines_make_the_same_tables_of_small_data(tmp_path, seed, least):
    train, users, items, vectors = small_data(seed)
    thresholds = {"min_user_ratings": least, "min_item_ratings": least}
    theirs, ours = fit_both(train, users, items, vectors, tmp_path, **thresholds)
    assert_equal_to_the_bit(theirs, ours, STRANGE)
    assert_equal_to_the_bit(theirs, ours, train)


@pytest.mark.needs("nvtabular")
def test_both_engines_make_the_same_tables_of_the_sample_on_every_processor():
    """Again without what this one has beyond the oldest that NumPy runs on; where it has no more, the same again."""
    theirs, ours = sample_digests(*ENGINES)
    assert theirs == ours
    where = {**os.environ, "PYTHONPATH": str(ROOT), "NPY_DISABLE_CPU_FEATURES": " ".join(beyond_the_oldest())}
    command = [sys.executable, "-W", "ignore", str(ROOT / "tests" / "helpers" / "two_engines.py"), *ENGINES]
    plain = subprocess.run(command, env=where, capture_output=True, text=True, timeout=300)
    assert plain.returncode == 0, plain.stderr
    assert plain.stdout.split() == [theirs, ours]


def beyond_the_oldest() -> list[str]:
    """The instructions that NumPy uses where a processor has them, of those that this one has."""
    try:
        from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__
    except ImportError:
        from numpy.core._multiarray_umath import __cpu_dispatch__, __cpu_features__
    return [name for name in __cpu_dispatch__ if __cpu_features__[name]]


@pytest.mark.real_data
@pytest.mark.needs("nvtabular")
def test_both_engines_make_the_same_tables_of_movielens(real_data, tmp_path):
    data = sdk.load_movielens(real_data("ml-latest-small"))
    train, vectors = of_a_split(data)
    theirs, ours = fit_both(train, data.users, data.items, vectors, tmp_path)
    assert_equal_to_the_bit(theirs, ours, data.interactions)


@st.composite
def data_sets(draw):
    """Few users and titles with equal counts, missing and constant attributes, and ids of any size."""
    ids = st.lists(st.integers(0, 2**63 - 1) | st.integers(0, 9), min_size=1, max_size=6, unique=True).map(sorted)
    user_ids, item_ids = draw(ids), draw(ids)

    def column(sides, values):
        return draw(st.lists(values, min_size=len(sides), max_size=len(sides)))

    pairs = st.tuples(st.sampled_from(user_ids), st.sampled_from(item_ids), st.integers(1, 10))
    rated = draw(st.lists(pairs, min_size=1, max_size=12))
    words = st.none() | st.sampled_from(["", "5", "b", "B", "\u00e9", "\U0001f3ac"])
    numbers = st.just(draw(st.none() | st.integers(-(2**31), 2**31 - 1))) | st.none() | st.integers(1900, 1903)
    users = user_table(
        user_ids, **{name: column(user_ids, words) for name in ("gender", "zip_prefix")}, age=column(user_ids, numbers)
    )
    genres = column(item_ids, st.lists(st.sampled_from("ABC"), unique=True, max_size=3).map(sorted))
    items = item_table(item_ids, genres=genres, year=column(item_ids, numbers))
    content = st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-1e6, max_value=1e6)
    vectors = np.array([column(item_ids, st.just(0.1) | content), column(item_ids, st.just(0.1))], np.float32).T
    least = {"min_user_ratings": draw(st.integers(0, 3)), "min_item_ratings": draw(st.integers(0, 3))}
    users_of, items_of, stars = zip(*rated, strict=True)
    return ratings(users_of, items_of, np.array(stars) / 2), users, items, vectors, least


@pytest.mark.needs("nvtabular")
@given(data_sets())
@settings(max_examples=25)
def test_both_engines_make_the_same_tables_of_whatever_there_is(data):
    train, users, items, vectors, least = data
    with tempfile.TemporaryDirectory() as folder:
        theirs, ours = fit_both(train, users, items, vectors, Path(folder), **least)
        assert_equal_to_the_bit(theirs, ours, train)
        assert_equal_to_the_bit(theirs, ours, STRANGE)


# known answers ------------------------------------------------------------------------------------------------------


def test_codes_fall_by_count_and_equal_counts_rise_by_value():
    ids = pa.array([9, 9, 2**62, 5, 5, 1, 7, 7, 7, 1], pa.int64())
    assert builtin.by_count(ids).to_pylist() == [7, 1, 5, 9, 2**62]
    assert builtin.by_count(ids, 2).to_pylist() == [7, 1, 5, 9]
    assert builtin.by_count(ids, 4).to_pylist() == []
    words = pa.array(["b", None, "é", "a", "é", "b", "Z", None, None])
    assert builtin.by_count(words).to_pylist() == ["b", "é", "Z", "a"]


def test_missing_words_have_code_1_unknown_ones_2_and_missing_numbers_become_the_median():
    table = pd.DataFrame({"word": ["x", None, "y", "x"], "n": [1.0, np.nan, 2.0, 6.0], "same": [0.1] * 4})
    fitted = builtin.fit_attributes(table, ["word"], ["n", "same"])
    assert fitted.numbers["n"] == (2.0, 2.75, pytest.approx(np.std([1, 2, 2, 6], ddof=1), rel=1e-15))
    new = pd.DataFrame({"word": ["y", "new", None, "x"], "n": [np.nan, 2.75, 0, 0], "same": [0.1] * 4})
    encoded = builtin.transform(fitted, new)
    assert encoded["word"].tolist() == [4, UNKNOWN, builtin.NULL, 3]
    assert encoded["n"].tolist()[:2] == [-0.75 / fitted.numbers["n"].std, 0]
    assert encoded["same"].tolist() == [0] * 4
    assert fitted.cardinalities(["word"]) == {"word": 5}


def test_the_logarithm_of_a_count_is_the_nearest_number_whatever_the_processor_makes_of_it():
    """By the definition: e to the power of it lies between those of its neighbours' midpoints."""
    from fractions import Fraction

    counts = np.array([0, 1, 2, 7, 12, 161, 4999, 4999, 2**40], np.float64)
    logs = raw_statistics(counts, counts, 0.5, 5.0)[:, 0]
    np.testing.assert_allclose(logs, [math.log1p(count) for count in counts], rtol=3e-16)
    for count, log in zip(counts[1:], logs[1:], strict=True):
        low, high = ((Fraction(log) + Fraction(math.nextafter(log, to))) / 2 for to in (-math.inf, math.inf))
        assert exp(low) < int(count) + 1 < exp(high)
    assert logs[0] == 0


def exp(x):
    """e to the power of x within 1e-30 of it: its series, of a small part of x, squared again."""
    from fractions import Fraction

    part, term, total, n = x / 2**8, Fraction(1), Fraction(1), 0
    while term > Fraction(1, 10**40):
        n += 1
        term = (term * part / n).limit_denominator(10**50)
        total += term
    for _ in range(8):
        total = (total * total).limit_denominator(10**45)
    return total


@pytest.mark.needs("nvtabular")
def test_a_saved_encoding_encodes_the_same_and_a_damaged_one_is_refused(tmp_path):
    train, users, items, vectors = small_data(4)
    ours = fit_by("builtin", train, users, items, vectors, tmp_path)
    for name in WORKFLOWS:
        ours.encodings[name].save(str(tmp_path / "saved" / name))
    files = sorted(path.relative_to(tmp_path / "saved").as_posix() for path in (tmp_path / "saved").rglob("*.*"))
    ids = [f"{name}/ids.npz" for name in ("codes", "interactions")]
    assert files == sorted([*(f"{name}/encoding.json" for name in WORKFLOWS), *ids])
    loaded = {name: builtin.Encoding.load(str(tmp_path / "saved" / name)) for name in WORKFLOWS}
    again = encode_interactions(builtin.transformer(loaded["interactions"], (), tmp_path), train)
    np.testing.assert_array_equal(again.item_index, ours.encode(train).item_index)
    for name in WORKFLOWS:
        assert loaded[name].numbers == ours.encodings[name].numbers
        assert loaded[name].like_above == ours.encodings[name].like_above
        assert all(loaded[name].vocabularies[c].equals(v) for c, v in ours.encodings[name].vocabularies.items())
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
    (tmp_path / "tiny.json").write_text(json.dumps(to_json(tiny_config())))
    code = """
import sys
for name in ("nvtabular", "merlin", "merlin.core", "merlin.io", "merlin.schema"):
    sys.modules[name] = None
from batch.score import main as score
from export.__main__ import main as export
from sdk.__main__ import main
train = ["train", "--movielens", "ml", "--config", "tiny.json", "-q", "--out"]
assert main([*train, "nvt", "--features", "nvtabular"]) == 2
assert main([*train, "bundle"]) == 0
assert main(["recommend", "--bundle", "bundle", "--user", "1"]) == 0
assert score(["--bundle", "bundle", "--out", "nightly", "--run-date", "2026-11-26", "-q"]) == 0
assert export(["--bundle", "bundle", "--out", "repository"]) == 0
assert export(["--bundle", "bundle", "--out", "refused", "--workflow", "nvtabular", "-q"]) == 2
assert main([*train, "spread", "--workers", "2"]) == 2
assert not [name for name, module in sys.modules.items() if module and name.split(".")[0] in ("nvtabular", "merlin")]
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "--workflow compiled is taken: NVIDIA Merlin is not installed" in done.stderr
    assert "--workflow nvtabular: needs NVIDIA Merlin, which is not installed. Pass --workflow compiled" in done.stderr
    assert re.search("--workers and --dask(: NVTabular divides its work| need Dask, which is not)", done.stderr)
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
