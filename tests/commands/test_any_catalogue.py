"""Commands over a shop: text as ids, weights instead of stars, names that are no names of films, or none at all."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from small import planted, ratings, run_config

from sdk.__main__ import main
from sdk.base import schema
from sdk.base.config import HistoryConfig
from sdk.base.description import Description, Role
from sdk.base.errors import UsageError
from sdk.base.types import Dataset
from sdk.bundles.bundle import Bundle
from sdk.commands.naming import item_named
from sdk.training.pipeline import train_bundle

NUM_USERS, NUM_ITEMS = 60, 40
ROLES: dict[str, Role] = {
    "title": "title", "brand": "group", "price": "continuous", "year": "categorical", "tags": "list", "photo": "image",
}  # fmt: skip
ODD = ["007", "#7", "a/b%2F c", "Ünï-😀", "SKU-00012", "sku 00012"]
"""Ids that are like numbers, like ``#`` and an id, like a part of an address; the fifth is another item's name, too."""


def shop(roles: dict[str, Role], titles: Callable[[int, str], str]) -> Dataset:
    """Weights of 40 items, of which each has an odd id or one such as ``SKU-00012``."""
    rows, more = planted(3, NUM_USERS, NUM_ITEMS)
    liked = np.concatenate([rows.label, more.label]) == 1
    user = np.concatenate([rows.user_index, more.user_index])[liked].astype(np.int64) - 3
    item = np.concatenate([rows.item_index, more.item_index])[liked].astype(np.int64) - 3
    weight = np.random.default_rng(0).choice([0.2, 1.0, 3.0], len(user))
    ids = sorted([*ODD, *(f"SKU-{n:05d}" for n in range(20, 20 + NUM_ITEMS - len(ODD)))])
    about = Description(feedback="implicit", items=roles, users={})
    values = {
        "title": [titles(place, one) for place, one in enumerate(ids)], "brand": ["Acme", None] * (NUM_ITEMS // 2),
        "price": [9.5] * NUM_ITEMS, "year": ["late"] * NUM_ITEMS, "tags": [["new", "sale"], []] * (NUM_ITEMS // 2),
        "photo": ["https://shop.example/1.jpg"] * NUM_ITEMS,
    }  # fmt: skip
    items = pa.table({"item_id": ids, **{name: values[name] for name in roles}})
    items = items.cast(schema.table_layout("item_id", about, items.schema))
    users = pa.table({"user_id": [f"{n:08x}-uuid" for n in range(NUM_USERS)]})
    users = users.cast(schema.table_layout("user_id", about, users.schema))
    rejects = schema.REJECTS.empty_table()
    return Dataset("shop", ratings(user, item, weight), items, users, rejects, f"shop {sorted(roles)}", about)


def trained(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    config = run_config(models=("history",), history=HistoryConfig(rank=20, penalty=5.0, like_at=0.0))
    return train_bundle(data, config, tmp_path_factory.mktemp("shop") / "bundle")


def called(place: int, item_id: str) -> str:
    """Three of one name, one that is another's id, one without; the others each their own."""
    return {0: "Shirt", 1: "Shirt", 2: "shirt", 3: "SKU-00012", 4: " "}.get(
        place, f"Thing {'abcdefghij'[place % 10]}{place}"
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return trained(shop(ROLES, called), tmp_path_factory)


@pytest.fixture(scope="module")
def nameless(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Items of which nothing is known but their ids."""
    return trained(shop({"title": "ignore"}, lambda place, item_id: item_id), tmp_path_factory)


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_an_item_is_named_by_its_id_or_its_exact_name(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    ids = bundle.items["item_id"].to_pylist()
    for item_id in ids:
        assert item_named(bundle, f"#{item_id}") == item_id
        assert item_named(bundle, item_id) == (ids[3] if item_id == "SKU-00012" else item_id)
    assert item_named(bundle, "shirt") == ids[2]
    with caplog.at_level(logging.INFO):
        assert item_named(bundle, "Shirt") == ids[0]
    assert f"'Shirt': taken as Shirt #{ids[0]}; there is Shirt #{ids[1]}" in caplog.text
    assert item_named(bundle, "thing F5") == ids[5]
    with pytest.raises(UsageError, match=r"no item 'Thing f55' in .*Did you mean 'Thing f5'"):
        item_named(bundle, "Thing f55")


def test_without_names_items_are_named_by_id(nameless: Bundle) -> None:
    for item_id in nameless.items["item_id"].to_pylist():
        assert item_named(nameless, item_id) == item_named(nameless, f"#{item_id}") == item_id
    assert nameless.titles(["#7"]) == ["#7"]
    with pytest.raises(UsageError, match="no item like 'zzzzqqq'"):
        item_named(nameless, "zzzzqqq")


def test_what_is_printed_of_an_item_are_its_own_columns(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    user = bundle.users["user_id"][5].as_py()
    code, out, _ = said(capsys, "recommend", "--user", user, "--k", 40, "--include-seen", "--bundle", bundle.path)
    head, *lines = out.splitlines()
    assert (code, head) == (0, f"for user {user}, by history:")
    by_id = {item["item_id"]: item for item in bundle.items.to_pylist()}
    for line, item_id in zip(lines, bundle.recommend([user], 40, include_seen=True).row(0)[0].tolist(), strict=True):
        item = by_id[item_id]
        named = f"{item['title']} #{item_id}" if item["title"].strip() else item_id
        known = "brand Acme; year late; tags new, sale" if item["brand"] else "year late"
        assert f"  {named}  [{known}]  (" in line
        assert not any(word in line for word in ("star", "rated", "watched", "film", "None", "(late)"))


def test_json_bears_ids_in_their_own_type_and_the_described_columns(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    user = bundle.users["user_id"][5].as_py()
    answer = json.loads(said(capsys, "recommend", "--user", user, "--k", 3, "--json", "--bundle", bundle.path)[1])
    assert (answer["user_id"], answer["liked"], answer["source"]) == (user, [], "history")
    assert [item["item_id"] for item in answer["items"]] == bundle.recommend([user], 3).row(0)[0].tolist()
    for item in answer["items"]:
        assert item["columns"].keys() == {"brand", "year", "tags"}
        assert item["columns"]["tags"] in ([], ["new", "sale"])
        assert all(one["liked"] and isinstance(one["item_id"], str) for one in item["why"]["because"])
        assert not {"year", "genres"} & item.keys()
    visitor = json.loads(said(capsys, "recommend", "--liked", "#a/b%2F c", "--json", "--bundle", bundle.path)[1])
    assert (visitor["user_id"], visitor["liked"][0]["item_id"]) == (None, "a/b%2F c")


def test_reasons_speak_of_interactions_and_weights(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    user = bundle.users["user_id"][5].as_py()
    _, out, _ = said(capsys, "recommend", "--user", user, "--k", 3, "--why", "--bundle", bundle.path)
    because = [line for line in out.splitlines() if "interacted with" in line and "having" not in line]
    assert because
    assert all(", weight " in line for line in because)
    for word in ("liked", "rated", "watched", "title", "star"):
        assert word not in out
    _, out, _ = said(capsys, "recommend", "--user", "nobody", "--k", 2, "--bundle", bundle.path)
    assert "user nobody is not in this bundle" in out
    assert "a popular item, in " in out


def test_a_terminal_shows_the_same_columns(bundle: Bundle) -> None:
    from sdk.commands.naming import _as_page, facts_of

    ids = bundle.items["item_id"].to_pylist()[:2]
    page = _as_page("head", [(facts, 1.0, "why") for facts in facts_of(bundle, ids)], "nothing")
    assert page.header == ("#", "score", "item", "id", "what is known", "reason")
    assert page.rows[0] == ("1", "1.000", "Shirt", ids[0], "brand Acme; year late; tags new, sale", "why")


def test_a_list_that_is_empty_says_so_of_items(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    everything = [word for item in bundle.items["item_id"].to_pylist() for word in ("--liked", f"#{item}")]
    code, out, _ = said(capsys, "recommend", *everything, "--bundle", bundle.path)
    assert code == 0
    assert "no item is left: every item of the catalogue has been named as liked already" in out


def test_a_user_of_a_bundle_with_numbers_is_a_number(tmp_path_factory: pytest.TempPathFactory, capsys) -> None:
    from small import dataset

    folder = tmp_path_factory.mktemp("numbers") / "bundle"
    config = run_config(models=("history",), history=HistoryConfig(rank=20, penalty=5.0))
    numbers = train_bundle(dataset(), config, folder)
    code, out, err = said(capsys, "recommend", "--user", "abc", "--bundle", numbers.path)
    assert (code, out) == (2, "")
    assert "--user: got 'abc', expected a whole number of 64 bits: the user ids of this bundle are numbers" in err
    _, out, _ = said(capsys, "recommend", "--user", "21", "--json", "--bundle", numbers.path)
    assert json.loads(out)["user_id"] == 21


def test_a_bundle_of_text_ids_is_evaluated(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, "evaluate", "--samples", 0, "--json", "--bundle", bundle.path)
    assert code == 0
    assert json.loads(out)["lists"]
