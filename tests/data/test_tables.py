"""A data set from tables in memory is the one that the same rows in files give, and what cannot be used is refused."""

from __future__ import annotations

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from small import dataset

import sdk
from sdk.base.errors import DataError, MissingColumnError, UsageError
from sdk.base.types import Dataset
from sdk.data.fingerprint import fingerprint
from sdk.data.validation import sorted_order

SMALL = dataset()
RATED = SMALL.interactions
RATINGS = pa.table({name: getattr(RATED, name) for name in ("user_id", "item_id", "rating", "timestamp")})
ITEMS = pa.table({"item_id": [9, 3], "title": ["Heat", "Alien"]})
FEW = {"user_id": [5, 5, 7], "item_id": [3, 9, 3], "rating": [4.0, 0.5, 5.0], "timestamp": [0, 1, 2]}


def same(found: Dataset, expected: Dataset) -> bool:
    order = sorted_order(expected.interactions.user_id, expected.interactions.item_id)
    return found.fingerprint == fingerprint(expected.interactions, expected.items, expected.users, order)


@pytest.mark.parametrize("kind", ["arrow", "pandas", "polars", "duckdb"])
def test_tables_of_any_kind_and_order_are_the_same_data_set(kind):
    ratings, items, users = RATINGS, SMALL.items.take(np.arange(len(SMALL.items))[::-1]), SMALL.users
    if kind == "pandas":
        ratings, items, users = (table.to_pandas() for table in (ratings, items, users))
    elif kind == "polars":
        import polars as pl

        if int(pa.__version__.partition(".")[0]) < 16:
            pytest.skip("pyarrow reads Polars' columns of text from 16")
        ratings, items, users = (pl.from_arrow(table) for table in (ratings, items, users))
    elif kind == "duckdb":
        ratings = duckdb.sql("select * from ratings")
    found = sdk.from_tables(ratings, items, users, name="small")
    assert same(found, SMALL)
    assert found.items.equals(SMALL.items)
    assert found.users.equals(SMALL.users)


def test_columns_that_may_be_missing_are_empty_and_users_are_who_rated():
    found = sdk.from_tables(pd.DataFrame(FEW), ITEMS)
    assert found.users.column(0).to_pylist() == [5, 7]
    assert found.items.select(["item_id", "title", "year", "genres", "overview"]).to_pylist() == [
        {"item_id": 3, "title": "Alien", "year": None, "genres": [], "overview": ""},
        {"item_id": 9, "title": "Heat", "year": None, "genres": [], "overview": ""},
    ]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_are_read_as_seconds(unit):
    times = pa.array([0, 1_300_086_400, 2], pa.timestamp("s")).cast(pa.timestamp(unit, "UTC"))
    found = sdk.from_tables(pa.table({**FEW, "timestamp": times}), ITEMS)
    assert found.interactions.timestamp.tolist() == [0, 1_300_086_400, 2]


WRONG = {
    "its id is not among the items": {"item_id": [3, 9, 4]},
    "the rating is missing": {"rating": [4.0, float("nan"), 5.0]},
    "from 4 to 9, expected 0.5 to 5 by its scale": {"rating": [4.0, 9.0, 5.0]},
    "the timestamp is after the year 2100": {"timestamp": [0, 1, 1_300_086_400_000]},
    "the timestamp is before the year 1970": {"timestamp": [0, -1, 1]},
    "of a user and an item that have another rating": {"item_id": [3, 3, 9]},
    "is negative": {"user_id": [5, 5, -1]},
    "the user id is missing": {"user_id": [5, None, 7]},
    "column 'user_id' is list": {"user_id": [[5], [5], [7]]},
    "column 'item_id' is bool": {"item_id": [True, False, True]},
    "it holds no interaction": {name: [] for name in FEW},
}


@pytest.mark.parametrize("message", WRONG)
def test_ratings_that_cannot_be_used_are_refused(message):
    table = pa.table({**FEW, **WRONG[message]})
    table = table if len(table) else table.cast(RATINGS.schema)
    with pytest.raises(DataError, match=f"^ratings: .*{message}"):
        sdk.from_tables(table, ITEMS)


def test_titles_and_users_that_cannot_be_used_are_refused():
    ratings = pa.table(FEW)
    with pytest.raises(DataError, match=r"items: 1 of 3 rows are bad \(1 x duplicate id"):
        sdk.from_tables(ratings, pa.table({"item_id": [3, 9, 3], "title": ["a", "b", "c"]}))
    with pytest.raises(MissingColumnError, match="items: no column 'title'"):
        sdk.from_tables(ratings, ITEMS.select(["item_id"]))
    with pytest.raises(DataError, match="ratings: 1 users who rated are not in users"):
        sdk.from_tables(ratings, ITEMS, pa.table({"user_id": [5]}))
    with pytest.raises(UsageError, match="ratings: got dict"):
        sdk.from_tables(FEW, ITEMS)
