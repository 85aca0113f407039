"""One rule for ids, held against a slow obvious one: in Python calls, in text, in options, in files of ids."""

from __future__ import annotations

import argparse
import decimal
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from small import dataset, run_config

from batch.job.id_files import read_ids
from export.calls import recommend_call
from sdk.base.errors import DataError, UsageError
from sdk.base.ids import count_of, ids_of, rows_of
from sdk.bundles.bundle import Bundle
from sdk.data.validation import BadRowError
from sdk.data.validation import whole_number as field
from sdk.shell.cli import whole_number
from sdk.training.pipeline import train_bundle

EDGES = [0, 1, 600, 2**31, 2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -1, -(2**63), -(2**63) - 1, 10**30]
whole = st.sampled_from(EDGES) | st.integers(-(2**70), 2**70)
floats = st.floats() | st.integers(-(2**60), 2**60).map(float) | st.sampled_from([600.0, 601.7, -0.0, 2.0**53])


def slow_rule(value: object) -> int | None:
    """The number of 64 bits that a value is, exactly; None for anything else."""
    if type(value) is int:
        return value if -(2**63) <= value < 2**63 else None
    if isinstance(value, float) and -(2**53) < value < 2**53 and value == int(value):
        return int(value)
    return None


@given(st.lists(whole | floats | st.none() | st.booleans() | st.text(max_size=3), max_size=5))
@example([600.0, 601.7])
@example([True, 600])
@example([2**53 + 1, 2.0])
def test_a_list_is_taken_whole_or_refused_whole(values):
    expected = [slow_rule(value) for value in values]
    if None in expected:
        with pytest.raises(UsageError, match=rf"users: number {expected.index(None) + 1} "):
            ids_of(values, "users")
    else:
        assert ids_of(values, "users").tolist() == expected


@pytest.mark.parametrize("code", [*"bhilqBHILQfd", "O"])
def test_an_array_of_any_type_is_taken_whole_or_refused_whole(code):
    for values in ([5, 7], [0], [100, 127], *([edge] for edge in EDGES)):
        if code not in "Ofd" and not all(np.iinfo(code).min <= value <= np.iinfo(code).max for value in values):
            continue
        exact = max(map(abs, values)) < {"f": 2**24, "d": 2**53}.get(code, 2**64)
        array, expected = np.array(values, dtype=code), [slow_rule(value) for value in values]
        index = pd.Index(array, dtype=array.dtype)  # has float64 only
        forms = (array, pd.Series(array), index)[: 2 if code == "f" else 3]
        for held in forms:
            if None in expected or not exact:
                with pytest.raises(UsageError):
                    ids_of(held)
            else:
                assert ids_of(held).tolist() == expected


GOOD = {
    "tuple": (5, 7), "range": range(5, 8, 2), "iterator": iter([5, 7]), "decimals": [Decimal(5), Decimal(7)],
    "keys": {5: "a", 7: "b"}.keys(), "nullable": pd.Series([5, 7], dtype="Int64"), "arrow": pa.array([5, 7]),
    "chunks": pa.chunked_array([[5], [7]]), "categories": pd.Series([5, 7]).astype("category"),
    "mask": np.ma.array([5, 7], mask=[False, False]), "strided": np.arange(10)[5:8:2],
}  # fmt: skip
BAD = {
    "nested": [[5, 7]], "table": np.zeros((2, 2), int), "masked": np.ma.array([5, 7], mask=[False, True]),
    "missing": pd.Series([5, None], dtype="Int64"), "nan": pd.Series([5, None]), "none": None, "text": "57",
    "texts": np.array(["5", "7"]), "bytes": [b"5"], "dates": np.array(["2020-01-01"], dtype="datetime64[ns]"),
    "date": [np.datetime64(5, "D")], "spans": np.array([5], dtype="timedelta64[s]"), "span": [np.timedelta64(5, "s")],
    "complex": [5 + 0j], "mapping": {5: 7}, "object": object(), "signalling": [Decimal("sNaN")],
    "digits": [10**5000], "bools": np.array([True]), "nat": [pd.NaT], "na": [pd.NA], "nulls": pa.array([5, None]),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_what_holds_ids_is_read(name):
    assert ids_of(GOOD[name]).tolist() == [5, 7]
    assert ids_of(np.int32(5)).tolist() == ids_of(np.array(5)).tolist() == ids_of(5.0).tolist() == [5]


@pytest.mark.parametrize("name", BAD)
def test_what_holds_none_is_refused_by_name(name):
    with pytest.raises(UsageError, match=r"^users: "):
        ids_of(BAD[name], "users")


numbers = (
    whole.map(str)
    | floats.map(str)
    | st.sampled_from(["007", "+5", " 5 ", "5.", "1e3", "0x1F", "1_0", "٧", "", "5e-1"])
)


def slow_text(text: str) -> int | None:
    """The id that a text is; None where it is none."""
    text = text.strip()
    try:
        number = Decimal(text) if text.isascii() and "_" not in text else Decimal("nan")
    except decimal.InvalidOperation:
        return None
    if not number.is_finite() or not 0 <= number < 2**63 or number % 1:
        return None
    return int(number) if text.lstrip("+-").isdigit() or number < 2**53 else None


@given(numbers)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_text_is_one_and_the_same_id_in_options_ratings_and_files_of_ids(tmp_path: Path, text):
    expected = slow_text(text)
    path = tmp_path / "ids.csv"
    path.write_text(f'user_id,x\n"{text}",1\n')
    pq.write_table(pa.table({"userId": [text]}), tmp_path / "ids.parquet")
    if expected is None:
        for file in (path, tmp_path / "ids.parquet"):
            with pytest.raises(DataError):
                read_ids(file, "user_id")
        with pytest.raises(BadRowError):
            field(text, "user id")
    else:
        assert read_ids(path, "user_id").ids.tolist() == read_ids(tmp_path / "ids.parquet", "user_id").ids.tolist()
        assert read_ids(path, "user_id").ids.tolist() == [expected] == [field(text, "user id")]
        assert whole_number(text) == expected


@given(st.text(max_size=8) | numbers)
def test_an_option_is_a_number_or_a_usage_error(text):
    try:
        assert -(2**63) <= whole_number(text) < 2**63
    except argparse.ArgumentTypeError as error:
        assert "expected a whole number" in str(error)  # noqa: PT017


@pytest.mark.parametrize("k", [True, 0, -1, 1.5, None, "5", float("nan"), np.bool_(True), [5]])
def test_a_length_is_a_whole_number_of_at_least_1(k):
    with pytest.raises(UsageError, match=r"^k: got .*expected"):
        count_of(k, "k")


def test_a_length_of_any_type_is_read_and_a_huge_one_is_cut():
    assert [count_of(k, "k") for k in (5, 5.0, np.int8(5), np.uint64(5), np.float32(5))] == [5] * 5
    assert count_of(10**30, "k") == 2**63 - 1


@pytest.mark.parametrize("known", [[], [4], [-3, 0, 4, 2**62]])
def test_rows_are_found_as_by_a_slow_search(known):
    wanted = np.array([[4, -3, 5], [2**62, 2**63 - 1, -(2**63)]])
    slow = [[known.index(each) if each in known else -1 for each in row] for row in wanted.tolist()]
    found = rows_of(np.array(known, np.int64), wanted)
    assert found.dtype == np.int64
    assert found.tolist() == slow


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    config = run_config(models=("ncf", "history", "content"))
    return train_bundle(dataset(), config, tmp_path_factory.mktemp("ids") / "bundle")


WAYS = {
    "recommend": lambda bundle, ids: bundle.recommend(ids, 2),
    "candidates": lambda bundle, ids: bundle.recommend([7], 2, candidates=ids),
    "deny": lambda bundle, ids: bundle.recommend([7], 2, deny=ids),
    "deny_by_user": lambda bundle, ids: bundle.recommend([7], 2, deny_by_user={7: ids}),
    "users of deny_by_user": lambda bundle, ids: bundle.recommend([7], 2, deny_by_user={ids[0]: [9]}),
    "recommend_for": lambda bundle, ids: bundle.recommend_for(ids, 2),
    "similar": lambda bundle, ids: bundle.similar(ids, 2),
    "hybrid": lambda bundle, ids: bundle.similar(ids, 2, kind="hybrid"),
    "explain": lambda bundle, ids: bundle.explain(ids[0], 9),
    "explain_recommendation": lambda bundle, ids: bundle.explain_recommendation(7, ids),
    "the user explained": lambda bundle, ids: bundle.explain_recommendation(ids[0], [9]),
    "liked": lambda bundle, ids: bundle.explain_recommendation(None, [9], liked=ids),
    "titles": lambda bundle, ids: bundle.titles(ids),
    "content": lambda bundle, ids: bundle.content.similar(ids, 2),
    "cosines": lambda bundle, ids: bundle.content.cosines(ids),
    "a request": lambda bundle, ids: recommend_call(ids, 2, None),
    "exclude": lambda bundle, ids: recommend_call([5], 2, ids),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_ask_refuses_what_is_no_id_and_takes_a_whole_float(bundle, way):
    text = () if way in ("a request", "exclude") else ("12",)  # a client cannot know a server's ids: that refuses it
    for wrong in (12.5, True, *text, None, float("nan"), 2**63, float(2**53), 10**30, b"12"):
        with pytest.raises(UsageError, match=r"expected|which"):
            WAYS[way](bundle, [wrong])
    for right in (12, 12.0, np.uint8(12), np.float32(12), Decimal(12)):
        WAYS[way](bundle, [right])


def test_a_wrong_id_beside_a_right_one_is_never_cut(bundle):
    with pytest.raises(UsageError, match=r"user_ids: number 2 is 14\.7, which is not a whole number"):
        bundle.recommend([7.0, 14.7])
    np.testing.assert_array_equal(bundle.recommend([7.0, 14.0]).item_id, bundle.recommend([7, 14]).item_id)
    np.testing.assert_array_equal(
        bundle.recommend(pd.Series([14, 7], index=[9, 4]), deny_by_user={7.0: [9]}).item_id,
        bundle.recommend([14, 7], deny_by_user={7: [9]}).item_id,
    )


def test_a_list_longer_than_the_catalogue_is_cut(bundle):
    for k in (99_999_999_999, 10**30, 1e15):
        assert bundle.recommend([7], k).row(0)[0].tolist() == bundle.recommend([7], 100).row(0)[0].tolist()
        assert bundle.recommend_for([9], k).row(0)[0].tolist() == bundle.recommend_for([9], 100).row(0)[0].tolist()
        for kind in ("content", "hybrid"):
            long, short = bundle.similar([9], k, kind=kind), bundle.similar([9], 100, kind=kind)
            assert long.row(0)[0].tolist() == short.row(0)[0].tolist()
