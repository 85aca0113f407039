"""Anybody's tables become one data set: ids as they came, in order, rows accounted for; MovieLens's is the same."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small import dataset as small
from small import ratings, run_config

import sdk
from sdk.base.errors import ConfigError, DataError, TooManyRejectsError
from sdk.data.movielens import load
from sdk.data.sample.writer import write_sample
from sdk.training.pipeline import train_bundle

PLAYS = {"user": ["u2", "u1", "u2", "ü3"], "sku": ["007", "7", "x", "007"]}
ITEMS = {
    "sku": ["x", "007", "7", "new"], "name": ["Ex", "Bond", "", "Neu"], "brand": ["B", "A", None, "A"],
    "price": ["2.5", "1", "soon", ""],
}  # fmt: skip
USERS = {"user": ["u1", "none", "u2"], "country": ["DE", "FR", "DE"], "age": [3, None, 7]}


def made(kind: str, columns: dict) -> object:
    if kind == "pandas":
        return pd.DataFrame(columns)
    if kind == "polars":
        import polars as pl

        return pl.DataFrame(columns)
    held = pa.table(columns)
    return duckdb.sql("select * from held") if kind == "duckdb" else held


@pytest.mark.parametrize("kind", ["arrow", "pandas", "polars", "duckdb"])
def test_tables_in_memory_become_a_data_set_in_order(kind):
    data = sdk.dataset(made(kind, PLAYS), made(kind, ITEMS), made(kind, USERS), name="small")
    assert data.items["item_id"].to_pylist() == ["007", "7", "new", "x"]
    assert data.users["user_id"].to_pylist() == ["none", "u1", "u2", "ü3"]
    assert data.items["title"].to_pylist() == ["Bond", "7", "Neu", "Ex"]
    assert data.users["country"].to_pylist() == ["FR", "DE", "DE", None]
    assert data.about.feedback == "implicit"
    assert data.about.items == {"title": "title", "brand": "group", "price": "categorical"}
    named = zip(data.interactions.user_id.tolist(), data.interactions.item_id.tolist(), strict=True)
    pairs = {(data.users["user_id"][u].as_py(), data.items["item_id"][i].as_py()) for u, i in named}
    assert pairs == set(zip(PLAYS["user"], PLAYS["sku"], strict=True))
    assert data.counts["rows"] == data.counts["kept"] == 4


def test_files_give_the_same_data_set_as_tables(tmp_path):
    expected = sdk.dataset(pa.table(PLAYS), pa.table(ITEMS), pa.table(USERS))
    for name, columns in (("plays", PLAYS), ("items", ITEMS), ("users", USERS)):
        pd.DataFrame(columns).to_csv(tmp_path / f"{name}.csv", index=False)
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    for end in ("csv", "parquet"):
        found = sdk.dataset(*(tmp_path / f"{name}.{end}" for name in ("plays", "items", "users")))
        assert found.fingerprint == expected.fingerprint
        assert found.name == "plays"
    parts = [pa.table(PLAYS).slice(0, 2), pa.table(PLAYS).slice(2)]
    assert sdk.dataset(parts, pa.table(ITEMS), pa.table(USERS)).fingerprint == expected.fingerprint


def test_without_items_they_are_those_of_the_interactions():
    data = sdk.dataset(pa.table({"user_id": [5, 3, 5], "item_id": [9, 9, 2], "rating": [1, 20, 100]}))
    assert data.items.to_pylist() == [{"item_id": 2, "title": "2"}, {"item_id": 9, "title": "9"}]
    assert data.users.to_pylist() == [{"user_id": 3}, {"user_id": 5}]
    assert (data.about.feedback, data.about.items) == ("explicit", {"title": "ignore"})
    assert data.interactions.item_id.tolist() == [9, 9, 2]


def test_numbers_meet_text_where_one_table_has_leading_zeros():
    items = pa.table({"item_id": ["007", "12", "3"], "kind": ["a", "b", "a"]})
    data = sdk.dataset(pa.table({"user_id": [1, 1, 2], "item_id": [12, 3, 12]}), items)
    assert data.items["item_id"].to_pylist() == ["007", "12", "3"]
    assert data.interactions.item_id.tolist() == [1, 2, 1]
    turned = sdk.dataset(
        pa.table({"user_id": [1, 2], "item_id": ["007", "12"]}), pa.table({"item_id": [12, 3, 100], "kind": [*"aba"]}),
        config=sdk.DataConfig(max_reject_share=0.6),
    )  # fmt: skip
    assert turned.items["item_id"].to_pylist() == ["100", "12", "3"]
    assert turned.rejects["text"].to_pylist() == ['{"user_id": 2, "item_id": "007"}'.replace("2", "1")]


def test_rows_that_cannot_be_used_are_set_aside_with_their_file_and_number(tmp_path):
    pd.DataFrame({**ITEMS, "sku": ["x", "007", "x", ""]}).to_csv(tmp_path / "items.csv", index=False)
    config = sdk.DataConfig(max_reject_share=0.6)
    data = sdk.dataset(pa.table(PLAYS), tmp_path / "items.csv", config=config)
    assert data.items["title"].to_pylist() == ["Bond", "Ex"]
    found = [(row["file"], row["line"], row["reason"].partition(":")[0]) for row in data.rejects.to_pylist()]
    assert found == [
        ("interactions", 2, "unknown item"),
        ("items.csv", 4, "duplicate id"),
        ("items.csv", 5, "the item id is missing"),
    ]
    counts = dict(data.counts)
    assert counts.pop("rows") == 4
    assert (counts.pop("kept"), counts.pop("rejected"), sum(counts.values())) == (3, 1, 0)


def test_messages_name_the_option_that_mends_it(tmp_path):
    with pytest.raises(TooManyRejectsError, match=r"unknown item.*leave --items out"):
        sdk.dataset(pa.table(PLAYS), pa.table({"sku": ["x"]}))
    with pytest.raises(DataError, match=r"^users: no column is known to be the user_id .*--columns user_id=nick"):
        sdk.dataset(pa.table(PLAYS), users=pa.table({"nick": ["u1"]}))
    with pytest.raises(DataError, match=r"column 'sku' is list<.*expected ids"):
        sdk.dataset(pa.table(PLAYS), pa.table({"sku": [["x"]]}))
    with pytest.raises(ConfigError, match="'Brand', expected a column of the items: name, brand"):
        sdk.dataset(pa.table(PLAYS), pa.table(ITEMS), item_roles={"Brand": "group"})
    rated = pa.table({"user_id": [1, 1], "item_id": [2, 3], "rating": [1, 9]})
    with pytest.raises(DataError, match="ratings from 1 to 9, expected 0 to 5"):
        sdk.dataset(rated, scale=(0, 5))


def test_roles_that_are_said_count_in_the_fingerprint_and_title_is_what_is_shown():
    plays, items = pa.table(PLAYS), pa.table({**ITEMS, "title": ["a", "b", "c", "d"]})
    one, other = (sdk.dataset(plays, items, item_roles={"brand": role}) for role in ("group", "categorical"))
    assert one.fingerprint != other.fingerprint
    assert one.about.items["title"] == "title"
    named = sdk.dataset(plays, items, item_roles={"name": "title", "title": "text"})
    assert named.items["title"].to_pylist() == ["Bond", "7", "Neu", "Ex"]
    assert named.about.items["title_"] == "text"


def test_feedback_may_be_said_against_the_columns():
    rated = pa.table({"user_id": [1, 1, 1], "item_id": [2, 2, 3], "rating": [1, 9, 4]})
    assert sdk.dataset(rated).interactions.rating.tolist() == [9, 4]
    added = sdk.dataset(rated, feedback="implicit")
    assert (added.about.feedback, sorted(added.interactions.rating.tolist())) == ("implicit", [4, 10])


# ------------------------------------------------------------------------------------- MovieLens by both doors


def same(found: sdk.Dataset, own: sdk.Dataset) -> bool:
    pairs, others = found.interactions, own.interactions
    assert all(
        np.array_equal(getattr(pairs, name), getattr(others, name))
        for name in ("user_id", "item_id", "rating", "timestamp")
    )
    assert found.items.equals(own.items)
    assert found.users.equals(own.users)
    assert found.about == own.about
    return found.fingerprint == own.fingerprint


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("sample"))[0]


def bare(folder: Path, to: Path) -> Path:
    """A copy of MovieLens's ratings and titles without the files that a general caller cannot give."""
    to.mkdir(parents=True)
    for name in ("ratings.csv", "movies.csv"):
        shutil.copy(folder / name, to / name)
    return to


def test_the_samples_files_are_the_same_through_either_door(sample, tmp_path):
    folder = bare(sample, tmp_path / "ratings")
    assert same(sdk.dataset(folder / "ratings.csv", folder / "movies.csv"), load(folder))


def test_all_that_is_known_of_titles_may_come_as_a_table(sample):
    own = load(sample)
    found = sdk.dataset(sample / "ratings.csv", own.items, own.users, name=own.name)
    assert same(found, own)


def test_latest_small_is_the_same_through_either_door(real_data, tmp_path):
    folder = real_data("ml-latest-small", "ratings.csv").parent
    copy = bare(folder, tmp_path / "ratings")
    assert same(sdk.dataset(copy / "ratings.csv", copy / "movies.csv"), load(copy))
    own = load(folder, tmdb=real_data("tmdb-5000"))
    assert same(sdk.dataset(folder / "ratings.csv", own.items), own)


@pytest.mark.slow
def test_the_bundle_is_the_same_to_the_byte(sample, tmp_path):
    own = load(sample)
    found = sdk.dataset(sample / "ratings.csv", own.items, own.users, name=own.name)
    config = run_config(models=("dlrm", "history", "content"))
    bundles = [train_bundle(data, config, tmp_path / name) for name, data in (("own", own), ("any", found))]
    infos = [json.loads((bundle.path / "bundle.json").read_text("utf-8")) for bundle in bundles]
    own_files, files = (info.pop("files") for info in infos)
    for each in (own_files, files):
        each.pop("reports/stages.json")  # seconds
        each.pop("rejects.parquet")  # each door has its own words
    assert files == own_files
    rows = infos[1]["data"].pop("rows")
    assert rows["rows"] == rows["kept"] + rows["merged"] + rows["rejected"]
    for info in infos:
        for name in ("created", "checksum"):
            del info[name]
        del info["data"]["num_rejects"]
    assert infos[0] == infos[1]


# -------------------------------------------------------------------------------------- data sets made by hand


def test_a_data_set_made_by_hand_is_held_to_what_is_promised_of_it():
    good = small()
    turned = pa.array(np.arange(len(good.items))[::-1].copy())
    with pytest.raises(DataError, match=r"Dataset.items: column 'item_id': \d+ stands before \d+, expected.*sort_by"):
        dataclasses.replace(good, items=good.items.take(turned))
    twice = pa.concat_tables([good.users.slice(0, 1), good.users]).combine_chunks()
    with pytest.raises(DataError, match="each id once, ascending"):
        dataclasses.replace(good, users=twice)
    with pytest.raises(DataError, match="1 are of a item_id that is not in items, the first, 10, in row 2"):
        dataclasses.replace(good, interactions=ratings([21, 21], [9, 10], [5, 5]))
    with pytest.raises(DataError, match="1 are of a user_id that is not in users"):
        dataclasses.replace(good, interactions=ratings([2**60], [9], [5]))
    with pytest.raises(
        DataError, match=r"Dataset.items: column 'year' is not there, expected by its description: int32"
    ):
        dataclasses.replace(good, items=good.items.drop_columns(["year"]))
    short = good.users.set_column(0, "user_id", good.users["user_id"].cast(pa.int32()))
    with pytest.raises(DataError, match=r"Dataset\.users: column 'user_id' is int32"):
        dataclasses.replace(good, users=short)


def test_unsorted_items_go_through_the_door_and_open_as_a_bundle(tmp_path):
    good = small()
    turned = good.items.take(pa.array(np.arange(len(good.items))[::-1].copy()))
    rows = {name: getattr(good.interactions, name) for name in ("user_id", "item_id", "rating", "timestamp")}
    data = sdk.dataset(pa.table(rows), turned)
    bundle = train_bundle(data, run_config(models=("content",)), tmp_path / "bundle")
    assert sdk.load(bundle.path).items["item_id"].to_pylist() == good.items["item_id"].to_pylist()


def test_a_catalogues_ids_are_read_as_those_of_interactions(tmp_path):
    ids = ["3", "nan", "1", "1"]
    pd.DataFrame({"item_id": ids, "kind": [*"abab"]}).to_csv(tmp_path / "items.csv", index=False)
    config = sdk.DataConfig(max_reject_share=0.9)
    data = sdk.dataset(pa.table({"user_id": [7, 7], "item_id": [1, 3]}), tmp_path / "items.csv", config=config)
    assert data.items.select(["item_id", "kind"]).to_pylist() == [
        {"item_id": 1, "kind": "a"}, {"item_id": 3, "kind": "a"},
    ]  # fmt: skip
    assert [(row["line"], row["reason"]) for row in data.rejects.to_pylist()] == [
        (3, "the item id is missing"), (5, "duplicate id: the first row stands"),
    ]  # fmt: skip
    numbers = pa.table({"item_id": [3.0, -4.0, 2.5, 1.0], "kind": [*"abab"]})
    data = sdk.dataset(pa.table({"user_id": [7, 7], "item_id": [1, 3]}), numbers, config=config)
    assert data.items["item_id"].to_pylist() == [1, 3]
    assert data.rejects["reason"].to_pylist() == ["the item id is negative", "the item id is not a whole number"]
