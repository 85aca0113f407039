"""A bundle whose ids are text answers what the same bundle with numbers does, under other names."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small import dataset, run_config
from text_ids import named, with_text_ids

from sdk.base import schema
from sdk.base.config import HistoryConfig
from sdk.base.errors import UnknownItemError, UsageError
from sdk.base.types import TopK
from sdk.training.pipeline import train_bundle

DATA = dataset()
USERS, ITEMS = (DATA.users["user_id"].to_pylist(), DATA.items["item_id"].to_pylist())
STRANGER = max(USERS) + 1
QUICKLY = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """The same data with numbers, with text, and with text for users alone."""
    root = tmp_path_factory.mktemp("names")
    config = run_config(models=("ncf", "history", "content"), history=HistoryConfig(rank=20, penalty=5.0))
    sides = {"numbers": None, "text": ("user_id", "item_id"), "mixed": ("user_id",)}
    return {
        name: train_bundle(DATA if side is None else with_text_ids(DATA, *side), config, root / name)
        for name, side in sides.items()
    }


def users_of(name, ids):
    return named(ids, "user_id") if name != "numbers" else np.array(ids, np.int64)


def items_of(name, ids):
    return named(ids, "item_id") if name == "text" else np.array(ids, np.int64)


def assert_renamed(name, found: TopK, expected: TopK, queries) -> None:
    """The lists are those by number: the same scores, lengths and sources, and the ids under their names."""
    assert found.item_id.dtype == (object if name == "text" else np.int64)
    assert found.item_id.tolist() == items_of(name, expected.item_id).tolist()
    assert found.lengths.tolist() == expected.lengths.tolist()
    assert found.source.tolist() == expected.source.tolist()
    np.testing.assert_array_equal(found.scores, expected.scores)
    if expected.query_id is not None:
        assert found.query_id.tolist() == queries(name, expected.query_id).tolist()


some_items = st.lists(st.sampled_from(ITEMS), unique=True, max_size=12)


@QUICKLY
@given(
    st.lists(st.sampled_from([*USERS, STRANGER]), min_size=1, max_size=6), st.integers(1, 12), st.booleans(),
    st.none() | some_items, some_items, st.dictionaries(st.sampled_from(USERS), some_items, max_size=3),
    st.integers(0, 20),
)  # fmt: skip
def test_users_lists_are_those_by_number_renamed(bundles, users, k, seen, candidates, deny, by_user, least):
    def ask(name):
        return bundles[name].recommend(
            users_of(name, users), k, include_seen=seen, min_ratings=least, deny=items_of(name, deny),
            candidates=None if candidates is None else items_of(name, candidates),
            deny_by_user={users_of(name, [user])[0]: items_of(name, items) for user, items in by_user.items()},
        )  # fmt: skip

    expected = ask("numbers")
    for name in ("text", "mixed"):
        assert_renamed(name, ask(name), expected, users_of)


@QUICKLY
@given(st.lists(st.sampled_from(ITEMS), min_size=1, max_size=5), st.integers(1, 40))
def test_lists_of_items_are_those_by_number_renamed(bundles, items, k):
    asked = {
        "visitor": lambda name: bundles[name].recommend_for(items_of(name, items), k),
        "content": lambda name: bundles[name].similar(items_of(name, items), k),
        "hybrid": lambda name: bundles[name].similar(items_of(name, items), k, kind="hybrid"),
    }
    for ask in asked.values():
        for name in ("text", "mixed"):
            assert_renamed(name, ask(name), ask("numbers"), items_of)


@pytest.mark.parametrize("name", ["text", "mixed"])
def test_reasons_are_those_by_number_renamed(bundles, name):
    users, items = users_of(name, [USERS[3]]), items_of(name, ITEMS[:9])
    found = bundles[name].explain_recommendation(users[0], items)
    expected = bundles["numbers"].explain_recommendation(USERS[3], ITEMS[:9])
    assert [why.item_id for why in found] == items.tolist()
    assert [why.describe() for why in found] == [why.describe() for why in expected]
    assert any(why.because for why in found)
    for mine, theirs in zip(found, expected, strict=True):
        assert [one.item_id for one in mine.because] == items_of(name, [one.item_id for one in theirs.because]).tolist()
        assert [one.rating for one in mine.because] == [one.rating for one in theirs.because]
        assert mine.score == theirs.score
    visitor = bundles[name].explain_recommendation(None, items[:2], liked=items[4:6])
    assert [type(why.item_id) for why in visitor] == [str if name == "text" else int] * 2
    shared = bundles[name].explain(items[0], items[1])
    assert (shared.item_a, shared.shared) == (items[0], bundles["numbers"].explain(ITEMS[0], ITEMS[1]).shared)


@pytest.mark.parametrize("name", ["text", "mixed"])
def test_names_are_found_and_given_by_text(bundles, name):
    ids, title = items_of(name, ITEMS[:3]), DATA.items["title"][2].as_py()
    assert bundles[name].titles(ids) == bundles["numbers"].titles(ITEMS[:3])
    assert [match.item_id for match in bundles[name].find_title(title)] == [ids[2]]
    if name == "text":
        assert bundles[name].titles(["SKU-7"]) == ["item SKU-7"]


def test_tables_bear_ids_in_their_own_type(bundles):
    lists = bundles["text"].recommend(named(USERS[:3], "user_id"), 4)
    table = lists.to_arrow(bundles["text"].titles)
    assert table.schema.field("user_id").type == table.schema.field("item_id").type == pa.string()
    assert table["title"].to_pylist() == bundles["text"].titles(table["item_id"])
    assert table.drop_columns(["title"]) == lists.to_arrow()
    mixed = bundles["mixed"].recommend(named(USERS[:3], "user_id"), 4).to_arrow()
    assert [mixed.schema.field(name).type for name in ("user_id", "item_id")] == [pa.string(), pa.int64()]
    alike = bundles["text"].similar(named(ITEMS[:1], "item_id"), 2).to_arrow()
    assert alike.schema == schema.with_ids(schema.ITEM_ITEMS, named([1], "item_id"), named([1], "item_id"))
    frame = lists.to_arrow().to_pandas()
    assert frame["item_id"].tolist() == [item for row in range(3) for item in lists.row(row)[0]]
    polars = pytest.importorskip("polars", reason="Polars is not installed")
    assert polars.DataFrame(lists)["item_id"].dtype == polars.String


KINDS = {
    "list": list, "tuple": tuple, "numpy": lambda ids: np.array(ids), "pandas": pd.Series,
    "category": lambda ids: pd.Series(ids, dtype="category"), "string": lambda ids: pd.Series(ids, dtype="string"),
    "arrow": pa.array, "large": lambda ids: pa.array(ids, pa.large_string()),
    "dictionary": lambda ids: pa.array(ids).dictionary_encode(),
    "chunks": lambda ids: pa.chunked_array([ids[:1], ids[1:]]),
    "polars": lambda ids: pytest.importorskip("polars", reason="Polars is not installed").Series(ids),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_column_of_text_is_taken(bundles, kind):
    users, items = (named(ids[:3], name).tolist() for ids, name in ((USERS, "user_id"), (ITEMS, "item_id")))
    bundle, column = bundles["text"], KINDS[kind]
    assert bundle.recommend(column(users), 4).to_arrow() == bundle.recommend(users, 4).to_arrow()
    found = bundle.recommend(users, 4, candidates=column(items), deny=column(items[:1]))
    assert set(found.to_arrow()["item_id"].to_pylist()) <= set(items[1:])
    assert bundle.similar(column(items), 4).query_id.tolist() == items


def test_one_id_stands_for_a_list_of_one(bundles):
    user = str(named(USERS[:1], "user_id")[0])
    assert bundles["text"].recommend(user, 2).to_arrow() == bundles["text"].recommend([user], 2).to_arrow()


@pytest.mark.parametrize("wrong", [[7], [None], ["a", 7.5], [b"a"], [True], pd.Series(["a", None])], ids=str)
def test_what_is_no_text_is_refused_where_ids_are_text(bundles, wrong):
    bundle = bundles["text"]
    for ask in (bundle.recommend, bundle.similar, bundle.recommend_for, bundle.titles):
        with pytest.raises(UsageError, match=r"number [12] is .*text, such as '00417'"):
            ask(wrong)
    with pytest.raises(UsageError, match=r"deny_by_user: number 1 is 7, which is no text"):
        bundle.recommend(["a"], 2, deny_by_user={7: []})


def test_text_is_refused_where_ids_are_numbers(bundles):
    with pytest.raises(UsageError, match=r"number 1 is .42., which is text"):
        bundles["numbers"].recommend(["42"], 2)
    with pytest.raises(UsageError, match=r"number 1 is .42., which is text"):
        bundles["mixed"].recommend(["42"], 2, deny=["42"])


def test_unknown_text_is_popular_for_a_user_and_refused_for_an_item(bundles):
    bundle = bundles["text"]
    assert bundle.recommend(["nobody", ""], 2).source.tolist() == ["popular", "popular"]
    why = bundle.explain_recommendation("nobody", bundle.recommend(["nobody"], 1).row(0)[0])[0]
    assert why.note.startswith("user nobody is not in this bundle: a popular title")
    for ask in (bundle.similar, bundle.recommend_for):
        with pytest.raises(UnknownItemError, match="item_id SKU-7: not among"):
            ask(["SKU-7"])
