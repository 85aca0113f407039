"""Interactions of any kind, whatever their columns are called and their ids are made of, against pandas."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, date, datetime

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from sdk.base.config import DataConfig
from sdk.base.errors import DataError, MarqueeError, TooManyRejectsError, UnusableFileError
from sdk.data.catalogue import of_feedback
from sdk.data.column_names import columns_of
from sdk.data.events import read_interactions
from sdk.data.merging import CAP
from sdk.data.readers import open_table
from sdk.data.side_tables import kind_of

LENIENT = DataConfig(max_reject_share=0.99)


def pairs(loaded):
    """{(user, item): (rating, timestamp)} by the ids as they came."""
    rows = loaded.interactions
    user, item = rows.user_id, rows.item_id
    users = loaded.user_id[user] if loaded.user_id.dtype == object else user
    items = loaded.item_id[item] if loaded.item_id.dtype == object else item
    return {
        (str(u), str(i)): (float(r), int(t))
        for u, i, r, t in zip(users, items, rows.rating, rows.timestamp, strict=True)
    }


def adds_up(loaded):
    counts = loaded.counts
    parts = sum(counts[name] for name in ("kept", "merged", "rejected", "other_events", "later"))
    assert counts["rows"] == parts
    assert counts["kept"] == len(loaded.interactions)
    assert counts["rejected"] == loaded.rejects.num_rows


NAMES = {
    "MovieLens": ("userId", "movieId", "rating", None, None, "timestamp"),
    "RecTools": ("user_id", "item_id", None, "weight", None, "datetime"),
    "RecBole": ("user_id:token", "item_id:token", "rating:float", None, None, "timestamp:float"),
    "Personalize": ("USER_ID", "ITEM_ID", None, "EVENT_VALUE", "EVENT_TYPE", "TIMESTAMP"),
    "LensKit 0": ("user", "item", "rating", None, None, "timestamp"),
    "LensKit": ("user_id", "item_id", "rating", None, None, "timestamp"),
    "Spark": ("user", "item", "rating", None, None, None),
    "Surprise": ("uid", "iid", "rating", None, None, "timestamp"),
    "implicit": ("user", "artist", None, "plays", None, None),
    "Ta Feng": ("CUSTOMER_ID", "PRODUCT_ID", None, None, None, "TRANSACTION_DT"),
    "Complete Journey": ("household_id", "product_id", None, None, None, "transaction_timestamp"),
    "Retailrocket": ("visitorid", "itemid", None, None, "event", "timestamp"),
    "Amazon": ("reviewerID", "asin", "overall", None, None, "unixReviewTime"),
    "H&M": ("customer_id", "article_id", None, None, None, "t_dat"),
}


@pytest.mark.parametrize("library", NAMES)
def test_names_of_columns_that_are_known(library):
    roles = dict(zip(("user_id", "item_id", "rating", "weight", "event", "timestamp"), NAMES[library], strict=True))
    expected = {role: name for role, name in roles.items() if name}
    assert columns_of("plays", ["price", *sorted(expected.values())], {}) == expected


def test_two_that_could_be_meant_are_an_error_that_names_the_option():
    with pytest.raises(DataError, match=r"'track_id' and 'artist_id' may each be the item_id.*--columns item_id="):
        columns_of("plays", ["user", "track_id", "artist_id"], {})
    found = columns_of("plays", ["user", "track_id", "artist_id"], {"item_id": "artist_id"})
    assert found == {"user_id": "user", "item_id": "artist_id"}


@pytest.mark.parametrize(
    ("columns", "told", "message"),
    [
        (["who", "item"], {}, r"user_id \(it has who, item\).*--columns user_id=who"),
        (["user", "item"], {"user": "who"}, "expected one of user_id, item_id"),
        (["user", "item"], {"user_id": "who"}, "no column 'who'"),
        (["user", "item", "a", "b"], {"rating": "a", "weight": "b"}, "a rating and a weight"),
        (["1", "5", "3.0"], {}, "count the columns"),
        (["a", "b"], {"user_id": "a", "item_id": "a"}, "'a' is named twice"),
    ],
)
def test_columns_that_cannot_be_found(columns, told, message):
    with pytest.raises(MarqueeError, match=message):
        columns_of("plays", columns, told)


def test_ids_stay_as_they_came(tmp_path):
    path = tmp_path / "plays.csv"
    path.write_text("user_id,item_id\n00417,Ünsal\n417,unsal\n2b,UNSAL\n", encoding="utf-8")
    loaded = read_interactions(str(path))
    assert loaded.user_id.tolist() == ["00417", "2b", "417"]
    assert loaded.item_id.tolist() == ["UNSAL", "unsal", "Ünsal"]
    assert loaded.interactions.user_id.tolist() == [0, 2, 1]
    assert loaded.interactions.item_id.tolist() == [2, 1, 0]
    assert (loaded.feedback, loaded.has_times, loaded.cap) == ("implicit", False, 100.0)


def test_whole_numbers_in_text_are_numbers_where_all_are(tmp_path):
    path = tmp_path / "plays.csv"
    path.write_text("user_id,item_id\n10,9\n9,10\n")
    loaded = read_interactions(str(path))
    assert loaded.user_id.dtype == np.int64
    assert loaded.user_id.tolist() == [9, 10]
    assert loaded.interactions.user_id.tolist() == [10, 9]


def test_text_of_a_source_with_types_stays_text():
    loaded = read_interactions(pa.table({"user_id": ["10", "9"], "item_id": [1, 2]}))
    assert loaded.user_id.tolist() == ["10", "9"]
    assert loaded.item_id.tolist() == [1, 2]


def test_ids_that_pandas_made_floats_are_whole_again():
    frame = pd.DataFrame({"user_id": [3.0, None, 5.0], "item_id": [1, 2, 3]})
    loaded = read_interactions(frame, config=LENIENT)
    assert loaded.user_id.tolist() == [3, 5]
    assert loaded.rejects["reason"].to_pylist() == ["the user id is missing"]


BAD_IDS = [
    (None, "is missing"), ("", "is missing"), ("nan", "is missing"), ("a\0b", "NUL"), ("x" * 1001, "1,000 bytes"),
    ("two\nlines", "line break"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "reason"), BAD_IDS)
@pytest.mark.parametrize("side", ["user", "item"])
def test_ids_that_cannot_be(wrong, reason, side):
    table = pa.table({"user_id": ["a", "b"], "item_id": ["c", "d"]})
    table = table.set_column(table.column_names.index(f"{side}_id"), f"{side}_id", [pa.array(["a", wrong])])
    loaded = read_interactions(table, config=LENIENT)
    adds_up(loaded)
    assert len(loaded.interactions) == 1
    (row,) = loaded.rejects.to_pylist()
    assert (row["file"], row["line"]) == ("interactions", 2)
    assert row["reason"].startswith(f"the {side} id ")
    assert reason in row["reason"]


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        (pa.array([1, -2]), "is negative"), (pa.array([1, 2**63], pa.uint64()), "is too large"),
        (pa.array([1, 2.5]), "is not a whole number"), (pa.array([1, float(2**60)]), "is too large"),
    ],
)  # fmt: skip
def test_numbers_that_are_no_ids(ids, reason):
    loaded = read_interactions(pa.table({"user_id": ids, "item_id": ["c", "d"]}), config=LENIENT)
    adds_up(loaded)
    assert loaded.user_id.tolist() == [1]
    assert reason in loaded.rejects["reason"][0].as_py()


def test_categories_of_numbers_and_of_any_text_are_ids():
    users = pd.Categorical([7, 5, 7])
    items = pl.Series(["b", "a", "b"]).cast(pl.Categorical)
    of_pandas = pd.DataFrame({"user": users, "item": list(items)})
    for frame in (of_pandas, pl.DataFrame({"user": [7, 5, 7], "item": items})):
        assert pairs(read_interactions(frame)) == {("7", "b"): (2.0, 0), ("5", "a"): (1.0, 0)}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pd.DataFrame({"user_id": ["a", 1], "item_id": [1, 2]}), "values of several kinds.*column user_id"),
        (pa.table({"user": [1], "item": [1], "event": [["view"]]}), "column 'event' is list"),
        (pa.table({"user": [1], "item": [1], "rating": [{"stars": 1}]}), "column 'rating' is struct"),
        (pa.table({"user": [1], "item": [1], "timestamp": [[1]]}), "column 'timestamp' is list"),
    ],
)
def test_columns_of_types_that_say_nothing(table, message):
    with pytest.raises(DataError, match=message):
        read_interactions(table)


def test_a_column_that_holds_no_ids():
    with pytest.raises(UnusableFileError, match=r"column 'user_id' is bool, expected ids.*--columns"):
        read_interactions(pa.table({"user_id": [True], "item_id": [1]}))


MOMENT = 1_300_086_400


@pytest.mark.parametrize(
    "times",
    [
        pa.array([MOMENT]), pa.array([MOMENT * 10**3]), pa.array([MOMENT * 10**6]), pa.array([MOMENT * 10**9]),
        pa.array([float(MOMENT)]), pa.array([f"{MOMENT}"]), pa.array([f"{MOMENT}.0"]),
        pa.array([f"{MOMENT}000.75"]), pa.array([f"{MOMENT / 10**9}e9"]), pa.array([f"{MOMENT / 10**9}E+18"]),
        pa.array(["2011-03-14 07:06:40"]), pa.array(["2011-03-14T07:06:40Z"]),
        pa.array(["2011-03-14T09:06:40+02:00"]), pa.array(["2011-03-14 07:06:40.25"]),
        pa.array(["2011/03/14 07:06:40"]), pa.array(["14/3/2011 07:06:40"]), pa.array(["03/14/2011 07:06:40"]),
        pa.array(["14.03.2011 07:06:40"]), pa.array([datetime(2011, 3, 14, 7, 6, 40, tzinfo=UTC)]),
        pa.array([datetime(2011, 3, 14, 7, 6, 40)], pa.timestamp("ns")),
        pa.array([MOMENT], pa.timestamp("s", "Europe/Berlin")), pa.array(["2011-03-14 07:06:40"]).dictionary_encode(),
    ],
    ids=str,
)  # fmt: skip
def test_times_of_any_form_are_seconds(times):
    loaded = read_interactions(pa.table({"user_id": [1], "item_id": [2], "timestamp": times}))
    assert loaded.has_times
    assert loaded.interactions.timestamp.tolist() == [MOMENT]


@pytest.mark.parametrize("times", [pa.array([date(2011, 3, 14)]), pa.array(["2011-03-14"]), pa.array(["3/14/2011"])])
def test_dates(times):
    loaded = read_interactions(pa.table({"user_id": [1], "item_id": [2], "date": times}))
    assert loaded.interactions.timestamp.tolist() == [MOMENT - MOMENT % 86_400]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (None, "is missing"),
        ("soon", "neither a number"),
        ("9e99", "is too large"),
        ("1969-12-31", "before the year 1970"),
        ("2100-01-01", "after the year 2100"),
        ("2011-02-31", "neither a number"),
    ],
)
def test_times_that_cannot_be(wrong, reason):
    table = pa.table({"user_id": [1, 2], "item_id": [2, 3], "timestamp": ["2011-03-14", wrong]})
    loaded = read_interactions(table, config=LENIENT)
    adds_up(loaded)
    assert reason in loaded.rejects["reason"][0].as_py()


def test_seconds_among_milliseconds_are_set_aside():
    times = [MOMENT * 1000, MOMENT * 1000 + 1, MOMENT]
    loaded = read_interactions(
        pa.table({"user_id": [1, 2, 3], "item_id": [2, 3, 4], "timestamp": times}), config=LENIENT
    )
    assert loaded.rejects["reason"].to_pylist() == ["the timestamp is not in milliseconds as the file's others are"]


def test_day_or_month_is_not_guessed():
    table = pa.table({"user_id": [1], "item_id": [2], "timestamp": ["3/4/2011"]})
    with pytest.raises(TooManyRejectsError, match="day/month or month/day"):
        read_interactions(table)


EVENTS = pa.table(
    {
        "user": ["a", "a", "a", "b", "b", "c"],
        "item": ["x", "x", "y", "x", "z", "x"],
        "event": ["view", "purchase", "view", "view", "refund", None],
        "timestamp": [10, 30, 20, 40, 50, 60],
    }
)


def test_events_have_weights_and_add_up():
    weights = {"purchase": 1.0, "view": 0.25}
    loaded = read_interactions(EVENTS, events=weights, seen=["purchase"], config=LENIENT)
    adds_up(loaded)
    assert pairs(loaded) == {("a", "x"): (1.25, 30), ("a", "y"): (0.25, 20), ("b", "x"): (0.25, 40)}
    assert loaded.interactions.seen.tolist() == [True, False, False]
    expected = {"rows": 6, "kept": 3, "merged": 1, "rejected": 1, "other_events": 1, "later": 0, "capped": 0}
    assert loaded.counts == expected
    assert loaded.events == {"view": 3, "purchase": 1, "refund": 1}
    assert loaded.rejects["reason"].to_pylist() == ["the event is missing"]


def test_without_weights_every_event_counts_one():
    loaded = read_interactions(EVENTS)
    assert pairs(loaded)["a", "x"] == (2.0, 30)
    assert loaded.interactions.seen is None
    assert loaded.counts["kept"] == 5


def test_where_all_take_out_nothing_is_said_of_it():
    assert read_interactions(EVENTS, events={"view": 1}, seen={"view"}, config=LENIENT).interactions.seen is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"events": {"view": 0}}, "--events: got view=0, expected a weight above 0"),
        ({"events": {"view": 1}, "seen": ["buy"]}, "--seen: buy is not among the events of --events"),
        ({"events": {"play": 1}}, r"no row is of an event that --events names \(it has view, purchase, refund\)"),
        ({"events": {"view": 1}, "columns": {"event": ""}}, "has no column of events"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(MarqueeError, match=message):
        read_interactions(EVENTS, config=LENIENT, **options)


def test_weights_are_capped_and_it_is_said():
    table = pa.table({"user": range(5), "item": range(5), "plays": [1, 2, 2, 3, 10_000]})
    loaded = read_interactions(table)
    assert loaded.cap == CAP * 2
    assert loaded.interactions.rating.tolist() == [1, 2, 2, 3, CAP * 2]
    assert loaded.counts["capped"] == 1


@pytest.mark.parametrize(
    ("weight", "reason"),
    [
        (0, "is not above 0"), (-1, "is not above 0"), (None, "is missing"), (np.nan, "is missing"),
        (np.inf, "too large"), (1e39, "too large"), (1e-300, "is not above 0"),
    ],
)  # fmt: skip
def test_weights_that_cannot_be(weight, reason):
    table = pa.table({"user": [1, 2], "item": [1, 2], "weight": pa.array([1.0, weight], pa.float64())})
    loaded = read_interactions(table, config=LENIENT)
    adds_up(loaded)
    assert reason in loaded.rejects["reason"][0].as_py()


def test_ratings_are_explicit_on_any_scale_and_the_latest_stands():
    table = pa.table({"user": [1, 1, 2], "item": [7, 7, 7], "rating": [-9.875, 3.0, 10.0], "timestamp": [5, 4, 6]})
    loaded = read_interactions(table)
    assert pairs(loaded) == {("1", "7"): (-9.875, 5), ("2", "7"): (10.0, 6)}
    assert (loaded.feedback, loaded.scale, loaded.cap) == ("explicit", (-9.875, 10.0), None)
    assert loaded.counts["merged"] == 1


def test_later_rows_are_passed_over():
    loaded = read_interactions(EVENTS, until=30)
    adds_up(loaded)
    assert loaded.counts["later"] == 3
    assert loaded.interactions.timestamp.max() == 30


def test_a_file_without_a_header_is_read_by_number(tmp_path):
    path = tmp_path / "u.data"
    path.write_text("196\t242\t3\t881250949\n186\t302\t4\t891717742\n")
    columns = {"user_id": "1", "item_id": "2", "rating": "3", "timestamp": "4"}
    loaded = read_interactions(str(path), columns=columns)
    assert pairs(loaded) == {("196", "242"): (3.0, 881250949), ("186", "302"): (4.0, 891717742)}


def test_a_first_row_that_is_none_is_counted_though_two_of_its_fields_are_the_same(tmp_path):
    path = tmp_path / "jokes.dat"
    path.write_text("1\t\t1\t\t-3.5\n2\t\t7\t\t9.25\n")
    for read in (read_interactions, lambda given: kind_of(given, {})):
        with pytest.raises(DataError, match=r"If its first row is no header, count the columns: --columns user_id=1,"):
            read(str(path))
    columns = {"user_id": "1", "item_id": "3", "rating": "5"}
    assert kind_of(str(path), columns) == "interactions"
    for name, header in {"items": "item_id,name,age", "more items": "id,name,age"}.items():
        (tmp_path / f"{name}.csv").write_text(f"{header}\n1,a,3\n")
        assert kind_of(str(tmp_path / f"{name}.csv"), columns) == "items", "columns are counted in the other table"
    assert of_feedback(str(path), columns, "implicit") == {**columns, "weight": "5", "rating": ""}
    assert pairs(read_interactions(str(path), columns=columns)) == {("1", "1"): (-3.5, 0), ("2", "7"): (9.25, 0)}


def test_too_many_bad_rows_say_column_finding_expectation_and_option(tmp_path):
    path = tmp_path / "plays.csv"
    path.write_text(
        'customer_id,sku,stars,date\nu1,a,4\nu2,b,4,2020-01-01\nu3,c,"4,5",2020-01-01\nu4,d,good,2020-01-01\n'
    )
    message = (
        r"plays.csv: 3 of 4 rows are bad \(2 x the rating is not a number; 1 x too few fields.*"
        r"Column 'stars' holds '4,5', expected a number, with a point, as 4.5.*--columns rating=NAME"
    )
    with pytest.raises(TooManyRejectsError, match=message):
        read_interactions(str(path))
    loaded = read_interactions(str(path), config=LENIENT)
    adds_up(loaded)
    assert loaded.rejects["line"].to_pylist() == [2, 4, 5]
    assert json.loads(loaded.rejects["text"][1].as_py())["stars"] == "4,5"


def test_nothing_in_it():
    with pytest.raises(UnusableFileError, match="holds no interaction"):
        read_interactions(pa.table({"user": pa.array([], pa.string()), "item": pa.array([], pa.string())}))


def test_more_distinct_ids_than_fit_one_part(tmp_path):
    rows = 1_200_000
    numbers = np.arange(rows)
    users = pa.array([f"u{n:07}" for n in range(5000)]).take(pa.array(numbers * 7919 % 5000))
    items = pa.array([f"i{n}" for n in range(3000)]).take(pa.array(numbers % 3000))
    pq.write_table(pa.table({"user_id": users, "item_id": items}), tmp_path / "plays.parquet", row_group_size=300_000)
    assert len(list(open_table(str(tmp_path / "plays.parquet"), "plays").parts())) > 1
    loaded = read_interactions(str(tmp_path / "plays.parquet"))
    assert loaded.user_id.tolist() == sorted(f"u{n:07}" for n in range(5000))
    assert loaded.item_id.tolist() == sorted(f"i{n}" for n in range(3000))
    expected = Counter(zip(users.to_pylist(), items.to_pylist(), strict=True))
    assert {pair: count for pair, (count, _) in pairs(loaded).items()} == expected


IDS = st.one_of(st.sampled_from(["00", "0", "a", "A", "é", "e\u0301", "𝒳", "z" * 40, "10", "9"]), st.none())
ROWS = st.lists(
    st.tuples(IDS, IDS, st.sampled_from(["view", "buy", "love", None]), st.sampled_from([None, 0.0, 0.5, 2.0, -1.0]),
              st.integers(0, 5)),
    min_size=1, max_size=40,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(ROWS, st.booleans())
def test_it_is_what_pandas_makes_of_it_slowly(rows, explicit):
    kind = "rating" if explicit else "weight"
    columns = ["user_id", "item_id", "event", kind, "timestamp"]
    types = [pa.string(), pa.string(), pa.string(), pa.float64(), pa.int64()]
    table = pa.table([pa.array(c, t) for c, t in zip(zip(*rows, strict=True), types, strict=True)], names=columns)
    frame = pd.DataFrame(rows, columns=columns)
    weights = {"view": 0.5, "buy": 2.0}
    frame[kind] = frame[kind].astype(float)
    sound = frame.dropna(subset=["user_id", "item_id", "event"])
    if explicit:
        sound = sound.dropna(subset=[kind])
    else:
        sound = sound.assign(**{kind: sound[kind].fillna(1.0)})
        sound = sound[sound[kind] > 0]
    wanted = sound[sound["event"].isin(list(weights))]
    factor = 1.0 if explicit else wanted["event"].map(weights).astype(float)  # of no row, pandas 3 makes text
    wanted = wanted.assign(value=wanted[kind] * factor, buys=wanted["event"] == "buy")
    try:
        loaded = read_interactions(table, events=weights, seen=["buy"], config=LENIENT)
    except (UnusableFileError, TooManyRejectsError):
        assert not len(wanted) or len(sound) <= 0.01 * len(frame)
        return
    adds_up(loaded)
    assert loaded.counts["other_events"] == len(sound) - len(wanted)
    groups = wanted.sort_values("timestamp", kind="stable").groupby(["user_id", "item_id"])
    value = groups["value"].last() if explicit else groups["value"].sum()
    expected = dict(zip(value.index, zip(value, groups["timestamp"].max(), strict=True), strict=True))
    assert pairs(loaded) == expected
    seen = loaded.interactions.seen
    buys = dict(groups["buys"].any())
    found = dict(zip(pairs(loaded), [True] * len(expected) if seen is None else seen.tolist(), strict=True))
    assert found == buys
    assert loaded.user_id.tolist() == sorted({user for user, _ in expected}, key=lambda one: one.encode())
    rows_in_order = list(zip(loaded.interactions.user_id, loaded.interactions.item_id, strict=True))
    order = range(len(rows_in_order)) if loaded.order is None else loaded.order
    assert [rows_in_order[at] for at in order] == sorted(rows_in_order)


def test_a_rating_or_weight_of_empty_text_is_missing_and_not_nothing():
    table = pa.table({"user_id": [1, 2, 3], "item_id": [1, 1, 1], "rating": ["4", "", " "]})
    loaded = read_interactions(table, config=DataConfig(max_reject_share=0.9))
    assert loaded.interactions.rating.tolist() == [4.0]
    assert loaded.rejects["reason"].to_pylist() == ["the rating is missing"] * 2
