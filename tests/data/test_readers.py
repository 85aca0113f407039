"""A table of any kind is read as the same rows, and what cannot be read is said with its file and row."""

from __future__ import annotations

import bz2
import gzip
import json
import re
import uuid

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.dataset as ds
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from sdk.base.errors import (
    DataError,
    MarqueeError,
    MissingColumnError,
    MissingFileError,
    UnusableFileError,
    UsageError,
    how_to_get,
)
from sdk.data.readers import open_table
from sdk.data.whole_tables import read_whole, typed

ROWS = pa.table(
    {
        "user_id": ["00417", "b7", "Ünsal", "00417", "x"],
        "item_id": [3, 1, 2, 1, 3],
        "price": [0.5, 2.25, None, -1.0, 10.0],
        "note": ["a, b", 'say "no"', "two\nlines", None, "tab\tbed"],
    }
)


def read_table(given, name):
    whole = read_whole(given, name)
    return whole.table, whole.rejects


def written(folder, form):
    path = folder / f"plays.{form}"
    if form == "parquet":
        pq.write_table(ROWS, path, row_group_size=2)
    elif form == "feather":
        feather.write_feather(ROWS, path)
    elif form == "arrows":
        with pa.ipc.new_stream(path, ROWS.schema) as stream:
            stream.write_table(ROWS)
    elif form == "jsonl":
        path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS.to_pylist()), "utf-8")
    else:
        frame, separator = ROWS.to_pandas(), {"csv": ",", "tsv": "\t", "txt": ";"}[form.split(".")[0]]
        data = frame.to_csv(index=False, sep=separator, lineterminator="\r\n" if form == "txt" else "\n").encode()
        data = b"\xef\xbb\xbf" + data if form == "txt" else data
        packing = {"gz": gzip.compress, "bz2": bz2.compress}.get(form.split(".")[-1], bytes)
        path.write_bytes(packing(data))
    return str(path)


FORMS = ["parquet", "feather", "arrows", "jsonl", "csv", "tsv", "txt", "csv.gz", "csv.bz2"]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_holds_the_same_rows(tmp_path, form):
    table, rejects = read_table(written(tmp_path, form), "plays")
    assert table.cast(ROWS.schema).to_pylist() == ROWS.to_pylist()
    assert table.schema.types[:3] == ROWS.schema.types[:3]
    assert rejects.num_rows == 0


@pytest.mark.parametrize("form", FORMS)
def test_columns_may_be_chosen_and_ids_come_as_dictionaries_or_text(tmp_path, form):
    source = open_table(written(tmp_path, form), "plays")
    assert source.columns == tuple(ROWS.column_names)
    rows = [row for part in source.parts(["item_id", "user_id"], ids=["user_id"]) for row in part.rows.to_pylist()]
    assert [(str(row["item_id"]), row["user_id"]) for row in rows] == [
        (str(item), user) for item, user in zip(*ROWS.select(["item_id", "user_id"]).to_pydict().values(), strict=True)
    ]


@pytest.mark.parametrize("kind", ["arrow", "pandas", "polars", "duckdb", "query"])
def test_tables_in_memory_and_queries(tmp_path, kind):
    path, given = written(tmp_path, "parquet"), ROWS
    if kind == "pandas":
        given = ROWS.to_pandas()
    elif kind == "polars":
        given = pl.from_arrow(ROWS)
    elif kind == "duckdb":
        given = duckdb.sql("select * from ROWS")
    elif kind == "query":
        given = f"duckdb:select * from '{path}'"
    assert read_table(given, "plays")[0].to_pylist() == ROWS.to_pylist()


def test_uuids_are_text_in_their_usual_form():
    ids = [uuid.UUID(int=n * 0x123456789ABCDEF0123456789) for n in range(1, 4)]
    given = duckdb.sql("select unnest(" + str([str(one) for one in ids]) + ")::uuid as user_id")
    stored = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([one.bytes for one in ids], pa.binary(16)))
    for table in (given, pa.table({"user_id": stored}), pa.table({"user_id": stored}).slice(1)):
        found = read_table(table, "users")[0]["user_id"]
        assert found.type == pa.string()
        assert found.to_pylist() == [str(one) for one in ids][-len(found) :]


def test_a_folder_of_parts_in_order_of_names_and_none_that_is_hidden(tmp_path):
    for at, name in enumerate(["b.parquet", "a.parquet", "_SUCCESS", ".part.crc"]):
        pq.write_table(ROWS.slice(at, 1), tmp_path / name)
    parts = list(open_table(str(tmp_path), "plays").parts(["user_id"]))
    assert [(part.file, part.rows["user_id"].to_pylist()) for part in parts] == [
        ("a.parquet", ["b7"]), ("b.parquet", ["00417"]),
    ]  # fmt: skip


def test_several_one_after_the_other(tmp_path):
    given = [written(tmp_path, "parquet"), ROWS.slice(1)]
    assert read_table(given, "plays")[0].to_pylist() == [*ROWS.to_pylist(), *ROWS.slice(1).to_pylist()]


def test_recboles_atomic_files_say_what_is_a_list(tmp_path):
    path = tmp_path / "ml.item"
    path.write_text("item_id:token\tgenre:token_seq\tyear:float\n1\tdrama  comedy\t1995\n2\t\t1996\n")
    assert read_table(str(path), "items")[0].to_pylist() == [
        {"item_id": 1, "genre": ["drama", "comedy"], "year": 1995},
        {"item_id": 2, "genre": None, "year": 1996},
    ]


def test_a_hive_partitioned_folder_gives_its_columns(tmp_path):
    table = pa.table({"user_id": [1, 2, 3], "event": ["view", "buy it", None]})
    partitioning = ds.partitioning(pa.schema([("event", pa.string())]), flavor="hive")
    ds.write_dataset(table, tmp_path / "plays", format="parquet", partitioning=partitioning)
    found, _ = read_table(str(tmp_path / "plays"), "plays")
    assert found.sort_by("user_id").to_pylist() == table.to_pylist()


def test_a_delta_folder_gives_the_rows_that_stand(tmp_path):
    deltalake = pytest.importorskip("deltalake")
    path = str(tmp_path / "plays")
    deltalake.write_deltalake(path, ROWS.select(["user_id", "item_id"]))
    deltalake.DeltaTable(path).delete("item_id = 3")
    found, _ = read_table(path, "plays")
    assert sorted(found["item_id"].to_pylist()) == [1, 1, 2]
    assert len(ds.dataset(path, exclude_invalid_files=True).to_table()) > 3  # what its files alone would say


def test_a_delta_folder_without_its_package_is_refused(tmp_path, monkeypatch):
    (tmp_path / "_delta_log").mkdir()
    monkeypatch.setitem(__import__("sys").modules, "deltalake", None)
    with pytest.raises(UnusableFileError, match=f"Delta table.*{re.escape(how_to_get('delta'))}"):
        open_table(str(tmp_path), "plays")


def test_iceberg_is_refused(tmp_path):
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "v1.metadata.json").write_text("{}")
    with pytest.raises(UnusableFileError, match="Iceberg"):
        open_table(str(tmp_path), "plays")


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_stores_of_fsspec(tmp_path, form):
    import fsspec

    fs = fsspec.filesystem("memory")
    fs.put_file(written(tmp_path, form), f"/marquee-readers/plays.{form}")
    try:
        for where in (f"memory://marquee-readers/plays.{form}", "memory://marquee-readers"):
            assert read_table(where, "plays")[0].num_rows == 5
    finally:
        fs.rm("/marquee-readers", recursive=True)


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["1", "20", "0"], pa.int64()), (["1", "007"], pa.string()), (["1", "+7"], pa.string()),
        (["1", " 7"], pa.string()), (["1.5", "2"], pa.float64()), (["01.5", "2"], pa.string()),
        (["true", "False"], pa.bool_()), (["9223372036854775808", "1"], pa.float64()), ([None, None], pa.string()),
        (["-3", None], pa.int64()), (["1e3", "2"], pa.float64()), (["nan", "2"], pa.string()),
    ],
)  # fmt: skip
def test_text_becomes_numbers_only_where_nothing_is_lost(texts, kind):
    assert typed(pa.chunked_array([pa.array(texts, pa.string())])).type == kind


def test_types_are_decided_over_all_values_not_over_the_first_block(tmp_path):
    path = tmp_path / "plays.csv"
    ids = [str(n) for n in range(400_000)] + ["0007"]
    pa_csv.write_csv(pa.table({"user_id": ids, "x" * 60: ids}), path, pa_csv.WriteOptions(quoting_style="none"))
    assert read_table(str(path), "plays")[0]["user_id"].to_pylist() == ids


def test_bad_rows_have_their_numbers(tmp_path):
    path = tmp_path / "plays.csv"
    path.write_bytes(b"u,i\na,1\nb\n\nc,2,9\n\xff,3\nd,4\n")
    table, rejects = read_table(str(path), "plays")
    assert table.to_pylist() == [{"u": "a", "i": 1}, {"u": "d", "i": 4}]
    assert rejects.select(["file", "line", "reason"]).to_pylist() == [
        {"file": "plays.csv", "line": 3, "reason": "too few fields: the line is cut short"},
        {"file": "plays.csv", "line": 4, "reason": "too many fields"},
        {"file": "plays.csv", "line": 5, "reason": "not valid UTF-8"},
    ]


def test_numbers_of_rows_after_bad_ones(tmp_path):
    path = tmp_path / "plays.csv"
    path.write_bytes(b"u,i\na,1\nb\nc,2\nd\ne,4\n")
    (part,) = open_table(str(path), "plays").parts(["u"])
    assert part.numbers(pa.array([0, 1, 2]).to_numpy()).tolist() == [2, 4, 6]


def test_bad_json_lines(tmp_path):
    path = tmp_path / "plays.jsonl"
    path.write_text('{"u": 1, "r": 1}\n{"u": 2\n[3]\n{"u": 4, "r": 2.5}\n')
    table, rejects = read_table(str(path), "plays")
    assert table.to_pylist() == [{"u": 1, "r": 1.0}, {"u": 4, "r": 2.5}]
    assert rejects["line"].to_pylist() == [2, 3]


def test_a_quote_that_is_never_closed(tmp_path):
    path = tmp_path / "plays.csv"
    path.write_text('u,i\na,1\nb,"2\nc,3\nd,4\n')
    with pytest.raises(UnusableFileError, match="the quote that opens in row 3 is not closed"):
        read_table(str(path), "plays")


def test_inches_are_no_quotes(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text('i,name\n1,27" screen\n2,"a ""b"" c"\n')
    assert read_table(str(path), "items")[0]["name"].to_pylist() == ['27" screen', 'a "b" c']


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b"", "is empty"), ("a.csv", b"PK\x03\x04rest", "zip or an Excel"),
        ("a.csv", b"one\n2\n", "no columns"), ("a.csv", b"<html><body>", "web page"),
        ("a.json", b'[{"u": 1}]', "it is JSON"), ("a.csv", b"u,u\n1,2\n", "two of"),
        ("a.parquet", b"PAR1 and nothing", "damaged"),
        ("a.csv.gz", gzip.compress(b"u,i\n1,2\n" * 99, mtime=0)[:-9], "cannot be|damaged"),
        ("a.csv", "u,i\n1,2\n".encode("utf-16"), "UTF-16"),
    ],
)  # fmt: skip
def test_what_is_no_table_is_refused_with_its_name(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        read_table(str(tmp_path / name), "plays")
    assert name in str(caught.value)


@pytest.mark.parametrize(
    "given", [3, None, ["a"], [], "nowhere.csv", "postgresql://db/x", "nope://x/y", "duckdb:select"]
)
def test_what_is_nothing_that_we_read(given):
    with pytest.raises(MarqueeError):
        read_table(given, "plays")


def test_missing_things_are_named(tmp_path):
    path = written(tmp_path, "csv")
    with pytest.raises(MissingColumnError, match=r"no column 'x' \(it has user_id, item_id"):
        list(open_table(path, "plays").parts(["x"]))
    with pytest.raises(MissingFileError):
        open_table(str(tmp_path / "none.csv"), "plays")
    with pytest.raises(UsageError, match="plays: got int"):
        open_table(3, "plays")


def test_without_a_header_columns_have_numbers(tmp_path):
    path = tmp_path / "u.data"
    path.write_text("196\t242\t3\n186\t302\t4\n")
    source = open_table(str(path), "plays", header=False)
    assert source.columns == ("1", "2", "3")
    assert [part.rows.to_pylist() for part in source.parts(["2"])] == [[{"2": "242"}, {"2": "302"}]]
    assert pd.read_csv(path, sep="\t", header=None)[1].tolist() == [242, 302]
