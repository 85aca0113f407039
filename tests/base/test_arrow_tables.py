"""Lists as tables for pandas, Polars, DuckDB and pyarrow, and tables of theirs as Arrow's."""

from __future__ import annotations

import subprocess
import sys

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from small import item_table

import sdk
from sdk.base import schema
from sdk.base.arrow_tables import as_table
from sdk.base.errors import DataError, UsageError
from sdk.base.ids import ids_of
from sdk.base.types import TopK

LENGTHS = [2, 0, 3]


def lists(**more: object) -> TopK:
    rng = np.random.default_rng(0)
    scores = np.sort(rng.random((3, 4), dtype=np.float32))[:, ::-1].copy()
    source = np.array(["dlrm", "history", "popular"])
    return TopK(rng.integers(1, 99, (3, 4)), scores, np.array(LENGTHS, np.int32), source, **more)


def slow_rows(found: TopK, queries: list[int]) -> list[tuple[int, int, int, float, str]]:
    """(query, rank, item, score, source) of every real place, one after the other."""
    return [
        (queries[b], at + 1, int(found.item_id[b, at]), float(found.scores[b, at]), str(found.source[b]))
        for b, n in enumerate(found.lengths)
        for at in range(n)
    ]


STREAMS = int(pa.__version__.partition(".")[0]) >= 16
needs_streams = pytest.mark.skipif(not STREAMS, reason="pyarrow reads a stream of one column, and string_view, from 16")


def polars() -> object:
    return pytest.importorskip("polars", reason="Polars is not installed")


class Stream:
    """The interface of Arrow and nothing else."""

    def __init__(self, held: object) -> None:
        self.held = held

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.held.__arrow_c_stream__(requested_schema)


class Array:
    def __init__(self, held: pa.Array) -> None:
        self.held = held

    def __arrow_c_array__(self, requested_schema: object = None) -> object:
        return self.held.__arrow_c_array__(requested_schema)


@pytest.mark.parametrize(("query", "layout"), [("user_id", schema.USER_ITEMS), ("item_id", schema.ITEM_ITEMS)])
def test_a_table_of_lists_holds_the_columns_of_a_night(query, layout):
    found = lists().answering(query, np.array([70, 80, 90]))
    assert found.to_arrow().schema == layout
    assert [tuple(row.values()) for row in found.to_arrow().to_pylist()] == slow_rows(found, [70, 80, 90])


def test_lists_that_answer_no_id_are_counted():
    assert lists().to_arrow().column_names == ["row", "rank", "item_id", "score", "source"]
    assert [tuple(row.values()) for row in lists().to_arrow().to_pylist()] == slow_rows(lists(), [0, 1, 2])


def test_every_library_reads_lists_as_they_are():
    topk = lists().answering("user_id", np.array([70, 80, 90]))
    expected = slow_rows(topk, [70, 80, 90])
    assert pa.table(topk).equals(topk.to_arrow())
    assert list(pd.DataFrame(topk.to_arrow().to_pandas()).itertuples(index=False, name=None)) == expected
    assert duckdb.sql("select * from topk").fetchall() == expected


def test_polars_reads_lists_as_they_are():
    topk = lists().answering("item_id", np.array([70, 80, 90]))
    frame = polars().DataFrame(topk)
    assert frame.rows() == slow_rows(topk, [70, 80, 90])
    assert frame.columns == schema.ITEM_ITEMS.names


def test_titles_are_named_where_they_are_asked_for():
    topk = lists()
    table = topk.to_arrow(lambda item_ids: [f"Film {item}" for item in item_ids])
    assert table["title"].to_pylist() == [f"Film {item}" for item in table["item_id"].to_pylist()]
    assert table.drop_columns("title").equals(topk.to_arrow())
    none = TopK(topk.item_id[:0], topk.scores[:0], topk.lengths[:0], topk.source[:0])
    assert none.to_arrow(lambda item_ids: []).num_rows == 0


def test_who_is_answered_must_fit_the_lists():
    for wrong in ({"query": "user_id"}, {"query_id": np.arange(3)}, {"query": "user_id", "query_id": np.arange(2)}):
        with pytest.raises(ValueError, match="TopK"):
            lists(**wrong)
    asked = np.array([70, 80, 90])
    topk = lists().answering("user_id", asked)
    asked[0] = 1
    assert topk.query_id.tolist() == [70, 80, 90]


def stream(held: pa.Array) -> Stream:
    return Stream(pa.chunked_array([held]))


@pytest.mark.parametrize("wrap", [Array, pytest.param(stream, marks=needs_streams)])
def test_ids_may_stand_in_a_column_that_only_arrow_reads(wrap):
    assert ids_of(wrap(pa.array([5, 2**63 - 1]))).tolist() == [5, 2**63 - 1]
    for wrong in (pa.array(["5"]), pa.array([5, None]), pa.array([5.5]), pa.array([True])):
        with pytest.raises(UsageError, match=r"^users: number "):
            ids_of(wrap(wrong), "users")


def test_ids_may_stand_in_a_column_of_polars():
    pl = polars()
    for kind in (pl.Int8, pl.UInt32, pl.Int64, pl.UInt64, pl.Float64):
        assert ids_of(pl.Series([5, 7], dtype=kind)).tolist() == [5, 7]
    assert ids_of(pl.Series([2**63 - 1])).tolist() == [2**63 - 1]
    for wrong in (["5"], [5.5], [5, None], [True], [[5]]):
        with pytest.raises(UsageError, match=r"^users: "):
            ids_of(pl.Series(wrong), "users")


ITEMS = item_table([3, 5, 9], year=[1999, None, 2001])


def test_a_table_of_arrow_is_taken_as_it_is():
    assert as_table(ITEMS, schema.ITEMS, "items") is ITEMS


@pytest.mark.parametrize("kind", ["pandas", pytest.param("polars", marks=needs_streams), "stream", "large"])
def test_tables_of_any_kind_are_arrows(kind):
    if kind == "pandas":
        given = ITEMS.to_pandas()
    elif kind == "polars":
        given = polars().from_arrow(ITEMS)
    elif kind == "stream":
        given = Stream(ITEMS)
    else:
        given = ITEMS.set_column(1, "title", ITEMS["title"].cast(pa.large_string()))
    found = as_table(given, schema.ITEMS, "items")
    assert found.schema.types == schema.ITEMS.types
    assert found.to_pydict() == ITEMS.to_pydict()


def test_what_is_no_table_is_refused():
    for given in (None, [1], {"item_id": [1]}, "items.csv", np.zeros((2, 2))):
        with pytest.raises(UsageError, match="items: got "):
            as_table(given, schema.ITEMS, "items")


@pytest.mark.parametrize("values", [["5"], [5.5], [True], [[5]], np.array([2**64 - 1], np.uint64)], ids=str)
def test_columns_of_another_kind_are_refused_by_name(values):
    with pytest.raises(DataError, match="items: column 'item_id' is "):
        as_table(pa.table({"item_id": values}), schema.ITEMS, "items")


def test_a_content_model_is_fitted_on_a_table_of_any_kind():
    expected = sdk.ContentModel().fit(ITEMS)
    for given in (ITEMS.to_pandas(), Stream(ITEMS)):
        found = sdk.ContentModel().fit(given)
        assert (found.transform(given) != expected.transform(ITEMS)).nnz == 0
        assert found.similar(pd.Series([9, 3]), 2).to_arrow().equals(expected.similar([9, 3], 2).to_arrow())


def test_tables_are_made_and_read_without_pandas_and_polars():
    code = (
        "import sys\n"
        "class Without:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name in ('pandas', 'polars', 'duckdb'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Without())\n"
        "import numpy as np\n"
        "from sdk.base import schema\n"
        "from sdk.base.arrow_tables import as_table\n"
        "from sdk.base.types import TopK\n"
        "one = np.ones((1, 1), np.int64)\n"
        "topk = TopK(one, one.astype(np.float32), np.ones(1, np.int32), np.array(['dlrm']), 'user_id', one[0])\n"
        "print(as_table(topk, schema.USER_ITEMS, 'lists').to_pylist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[{'user_id': 1, 'rank': 1, 'item_id': 1, 'score': 1.0, 'source': 'dlrm'}]\n"
