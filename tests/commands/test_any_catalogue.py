"""Commands over a shop: text as ids, weights instead of stars, names that are no names of films, or none at all."""

from __future__ import annotations

import json
import logging

import pytest
from odd_shop import ROLES, called, odd_shop, trained
from small import dataset, run_config

from sdk.__main__ import main
from sdk.base.config import HistoryConfig
from sdk.base.errors import UsageError
from sdk.bundles.bundle import Bundle
from sdk.commands.naming import _as_page, facts_of, item_named
from sdk.training.pipeline import train_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return trained(odd_shop(ROLES, called), tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def nameless(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Items of which nothing is known but their ids."""
    return trained(
        odd_shop({"title": "ignore"}, lambda _, item_id: item_id),
        tmp_path_factory.mktemp("nameless"),
        ("history", "content"),
    )


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_an_item_is_named_by_its_id_or_its_exact_name(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    ids = bundle.items["item_id"].to_pylist()
    assert bundle.items["title"][3].as_py() in set(ids) - {ids[3]}  # which is named by that id alone
    for item_id in ids:
        assert item_named(bundle, f"#{item_id}") == item_id
        assert item_named(bundle, item_id) == item_id
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
    assert (code, head) == (0, f"for user {user}, made from what they had (history):")
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


def test_an_item_of_which_nothing_is_known_is_like_what_goes_together_with_it(
    nameless: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = said(capsys, "similar", "#7", "--k", 3, "--bundle", nameless.path)
    head, *lines = out.splitlines()
    assert (code, head) == (0, "like #7, by who likes both (together):")
    listed = nameless.similar(["#7"], 3).row(0)[0].tolist()
    assert [line.split("  ", 3)[-1] for line in lines] == [f"{one}  (popular with the same people)" for one in listed]
    answer = json.loads(said(capsys, "similar", "#7", "--k", 3, "--json", "--bundle", nameless.path)[1])
    assert [(item["item_id"], item["source"], item["shared"]) for item in answer["items"]] == [
        (one, "together", {}) for one in listed
    ]


def test_lists_are_not_called_diverse_where_nothing_is_known_of_any_item(
    nameless: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = said(capsys, "evaluate", "--samples", 0, "--json", "--bundle", nameless.path)
    assert "novelty" in out
    assert "diversity" not in out
