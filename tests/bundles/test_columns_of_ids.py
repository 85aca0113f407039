"""Every call of a bundle that takes ids takes a column of them, and gives the same lists."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from small import dataset, run_config

from sdk.base import schema
from sdk.base.config import HistoryConfig
from sdk.base.errors import UsageError
from sdk.training.pipeline import train_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    config = run_config(models=("history", "content"), history=HistoryConfig(rank=20, penalty=5.0))
    return train_bundle(dataset(), config, tmp_path_factory.mktemp("columns") / "bundle")


def polars_series(ids):
    return pytest.importorskip("polars", reason="Polars is not installed").Series(ids)


KINDS = {
    "tuple": tuple, "numpy": lambda ids: np.array(ids, np.uint32), "pandas": pd.Series, "arrow": pa.array,
    "nullable": lambda ids: pd.Series(ids, dtype="Int64"), "chunks": lambda ids: pa.chunked_array([ids[:1], ids[1:]]),
    "polars": polars_series,
}  # fmt: skip


def calls(bundle, column):
    """What every call that takes ids gives."""
    users, items = bundle.users["user_id"].to_pylist()[:3], bundle.items["item_id"].to_pylist()
    asked = column(users)
    yield bundle.recommend(asked, 4)
    yield bundle.recommend(asked, 4, candidates=column(items[:9]), deny=column(items[:2]))
    yield bundle.recommend(asked, 4, deny_by_user={users[1]: column(items[5:])})
    yield bundle.recommend_for(column(items[:2]), 4)
    yield bundle.similar(column(items[:2]), 4)
    yield bundle.similar(column(items[:2]), 4, kind="hybrid")
    yield bundle.titles(column(items[:2]))
    yield bundle.explain_recommendation(users[0], column(items[:2]))
    yield bundle.explain_recommendation(None, column(items[:2]), liked=column(items[4:7]))


def plain(answer):
    return answer.to_arrow().to_pylist() if hasattr(answer, "to_arrow") else answer


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_of_ids_asks_what_a_list_asks(bundle, kind):
    expected, found = ([plain(answer) for answer in calls(bundle, column)] for column in (list, KINDS[kind]))
    assert found == expected


def test_lists_name_whom_they_answer(bundle):
    users, items = bundle.users["user_id"].to_pylist()[:3], bundle.items["item_id"].to_pylist()[:2]
    lists = bundle.recommend([*users, 10**6], 2)
    assert lists.to_arrow().schema == schema.USER_ITEMS
    assert lists.to_arrow()["user_id"].to_pylist() == [user for user in [*users, 10**6] for _ in range(2)]
    for kind in ("content", "hybrid"):
        assert bundle.similar(items, 2, kind=kind).to_arrow().schema == schema.ITEM_ITEMS
    assert bundle.recommend_for(items, 2).to_arrow()["row"].to_pylist() == [0, 0]
    table = lists.to_arrow(bundle.titles)
    assert table["title"].to_pylist() == bundle.titles(table["item_id"])


@pytest.mark.parametrize("wrong", [["7"], [7.5], [7, None], [True]], ids=str)
@pytest.mark.parametrize("kind", ["pandas", "arrow", "polars"])
def test_columns_that_hold_no_ids_are_refused(bundle, kind, wrong):
    for ask in (bundle.recommend, bundle.similar, bundle.recommend_for, bundle.titles):
        with pytest.raises(UsageError, match=r"number [12] is"):
            ask(KINDS[kind](wrong))
