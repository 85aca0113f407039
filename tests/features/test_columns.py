"""Columns of any name, kind and size on their way into encoded tables, by both engines."""

from __future__ import annotations

import json
import logging

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from described_shop import SHOP, shop_items, shop_ratings, shop_users
from two_engines import ENGINES, assert_equal_to_the_bit

from sdk.base.config import DLRMConfig, FeatureConfig
from sdk.base.description import Description
from sdk.base.errors import BundleError
from sdk.features import columns
from sdk.features.columns import NO_GENRE, OTHER, attributes
from sdk.features.encode import Features, fit_features
from sdk.features.table_files import read_table, write_table
from sdk.features.tables import FIRST_KNOWN
from sdk.models.dlrm import DLRM
from sdk.models.merlin import merlin_inputs, merlin_network

NO_VECTORS = np.zeros((3, 0), np.float32)


def fitted(folder, engine: str = "builtin", users: pa.Table | None = None, about: Description = SHOP) -> Features:
    work = folder / engine
    work.mkdir()
    vectors = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    config = FeatureConfig(engine=engine)  # type: ignore[arg-type]
    return fit_features(
        shop_ratings(), shop_users() if users is None else users, shop_items(), vectors, config, work, about
    )


def frame(**given) -> pa.Table:
    return pa.table({"user_id": ["a", "b", "c"], **given})


@pytest.mark.needs("nvtabular")
def test_both_engines_make_the_same_tables_of_every_kind_of_column(tmp_path):
    theirs, ours = (fitted(tmp_path, engine) for engine in ENGINES)
    assert_equal_to_the_bit(theirs, ours, shop_ratings(seed=3))
    items = ours.items
    assert list(items.codes) == ["id", "category", "brand", "type"]
    assert list(items.multi_hot) == ["materials"]
    assert items.dense_names == ("log_count", "like_rate", "log_price", "listed", "content_0", "content_1")
    assert list(ours.users.codes) == ["id", "segment", "items"]


@pytest.mark.needs("nvtabular")
@pytest.mark.parametrize("number", [[1e300, -1e300, 5.0], [np.inf, 1.0, None], [np.nan, 2.0, 2.0], [1e12, 3e12, 0.5]])
def test_the_wildest_numbers_give_finite_features_by_both_engines(tmp_path, number):
    users = shop_users().set_column(3, "age", pa.array((number * 17)[:50], pa.float64(), from_pandas=False))
    theirs, ours = (fitted(tmp_path, engine, users) for engine in ENGINES)
    assert_equal_to_the_bit(theirs, ours, shop_ratings())
    assert np.isfinite(ours.users.dense).all()


def test_a_heavy_tail_is_read_by_its_logarithm_and_a_year_is_not():
    prices, years = [1.0, 2.0, 1000.0], [1990.0, 2001.0, 2024.0]
    debts = [-1000.0, 1.0, 2.0]
    found = attributes(
        frame(price=prices, year=years, debt=debts, at=[0, 1, 10**9]),
        {"price": "continuous", "year": "continuous", "debt": "continuous", "at": "time"}, NO_VECTORS,
    )  # fmt: skip
    assert found.numeric == ("log_price", "year", "log_debt", "at")
    np.testing.assert_allclose(found.frame["log_price"], np.log1p(prices), rtol=1e-6)
    np.testing.assert_allclose(found.frame["log_debt"], [-np.log(1001), np.log(2), np.log(3)], rtol=1e-6)
    assert found.frame["year"].tolist() == years


def test_names_that_stand_in_the_table_already_give_way():
    roles = dict.fromkeys(("id", "log_count", "a.b", "a b", "a_b", "x__values", "content_0"), "categorical")
    roles |= {"like_rate": "continuous", "dense": "continuous", "code_id": "list"}
    given = {name: ["p", "q", "p"] for name in roles}
    given |= {"like_rate": [1.0, 2.0, 3.0], "dense": [1.0, 2.0, 4.0], "code_id": [["p"], [], ["q"]]}
    found = attributes(frame(**given), roles, np.zeros((3, 1), np.float32))
    assert found.categorical == ("idx", "log_countx", "a_b", "a_bx", "a_bxx", "x_values", "content_0x")
    assert found.lists == ("code_id",)
    assert found.numeric == ("like_ratex", "dense", "content_0")


def test_a_raw_column_that_is_named_as_an_encoded_one_is_kept_apart_on_disk(tmp_path):
    about = Description(
        items=SHOP.items,
        users={"dense": "categorical", "code_id": "categorical", "train_count": "continuous", "shares_x": "list"},
    )
    users = pa.table(
        {
            "user_id": shop_users()["user_id"], "dense": list("ab") * 25, "code_id": list("cd") * 25,
            "train_count": pa.array(np.arange(50.0)), "shares_x": [["p"], []] * 25,
        },
        schema=pa.schema([
            pa.field("user_id", pa.string(), nullable=False), ("dense", pa.string()), ("code_id", pa.string()),
            ("train_count", pa.float64()), pa.field("shares_x", pa.list_(pa.string()), nullable=False),
        ]),
    )  # fmt: skip
    table = fitted(tmp_path, users=users, about=about).users
    facts = json.loads(json.dumps(write_table(users, table, tmp_path / "users.parquet")))
    raw, read = read_table(tmp_path / "users.parquet", "user_id", facts, about)
    assert raw.equals(users)
    np.testing.assert_array_equal(read.dense, table.dense)
    for name, codes in table.codes.items():
        np.testing.assert_array_equal(read.codes[name], codes)
    np.testing.assert_array_equal(read.statistics.count, table.statistics.count)
    with pytest.raises(BundleError, match="not an encoded table"):
        read_table(tmp_path / "users.parquet", "user_id", {**facts, "mark": ""}, about)


def test_plain_tables_are_written_as_ever(tmp_path):
    facts = write_table(shop_users(), fitted(tmp_path).users, tmp_path / "users.parquet")
    assert "mark" not in facts


def test_columns_of_which_nothing_is_known_are_left_out():
    nothing = pa.nulls(3, pa.string())
    roles = {"a": "categorical", "b": "continuous", "c": "group", "d": "text", "e": "terms", "f": "ignore"}
    found = attributes(
        frame(a=nothing, b=pa.nulls(3, pa.float64()), c=["x", None, "y"], d=["t"] * 3, e=[["z"]] * 3, f=["u"] * 3),
        roles, NO_VECTORS,
    )  # fmt: skip
    assert (found.categorical, found.lists, found.numeric) == (("c",), (), ())


def test_of_very_many_values_the_most_frequent_ones_are_told_apart(monkeypatch, caplog):
    monkeypatch.setattr(columns, "MOST_VALUES", 2)
    monkeypatch.setattr(columns, "MOST_LISTED", 2)
    values = {
        "brand": ["a", "a", "b", "c", "b", None, "d"],
        "made": [["p", "q"], ["q", "r", "s"], [], ["p"], ["s"], ["p"], ["q"]],
    }
    table = pa.table({"user_id": list("1234567"), **values})
    with caplog.at_level(logging.WARNING):
        found = attributes(table, {"brand": "categorical", "made": "list"}, np.zeros((7, 0), np.float32))
    brand = [value if isinstance(value, str) else None for value in found.frame["brand"]]  # pandas 3 says NaN
    assert brand == ["a", "a", "b", OTHER, "b", None, OTHER]
    assert found.frame["made"].tolist() == [["p", "q"], ["q", OTHER], [NO_GENRE], ["p"], [OTHER], ["p"], ["q"]]
    assert "'made' has 4 values" in caplog.text
    assert "describe it as terms" in caplog.text


def test_a_list_column_of_fifty_thousand_values_takes_little_room(tmp_path):
    table = pa.table({"user_id": pa.array(range(60_000)), "tags": [[f"t{n % 50_000}"] for n in range(60_000)]})
    found = attributes(table, {"tags": "list"}, np.zeros((60_000, 0), np.float32))
    kept = pd.Series(found.frame["tags"].explode().unique())
    assert len(kept) == columns.MOST_LISTED + 1
    assert columns.MOST_LISTED * 60_000 * 4 < 2**28


def test_a_list_holds_each_value_once():
    found = attributes(frame(made=[["p", "p"], ["q", None], []]), {"made": "list"}, NO_VECTORS)
    assert found.frame["made"].tolist() == [["p"], ["q"], [NO_GENRE]]


def test_the_dlrm_takes_columns_that_are_named_as_torchs_own_and_merlins_blocks_score_the_same(tmp_path):
    pytest.importorskip("merlin.models.torch")
    made = fitted(tmp_path)
    model = DLRM(DLRMConfig(embedding_dim=4, bottom_mlp=(4,), top_mlp=(4,), dot_dim=2), made.users, made.items).eval()
    names = set(model.state_dict())
    assert {"user_arch.embeddings.id.weight", "user_arch.embeddings.field items.weight"} <= names
    users, items = torch.arange(FIRST_KNOWN, 23), torch.arange(FIRST_KNOWN, 23)
    with torch.no_grad():
        ours = model(users, items)
        theirs = merlin_network(model)(merlin_inputs(model, users, items))[:, 0]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    form = model.lower()
    np.testing.assert_allclose(form.score_pairs(users.numpy(), items.numpy()), ours.numpy(), atol=1e-5)
