"""Files of ids that are text: each as it stands, whatever the form; what is none is refused with its line."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.job.id_files import read_ids
from sdk.base.errors import UnusableFileError

IDS = ["00417", "417", " 417", "A,b", 'say "x"', "a", "Ä", "ß", "…\u2028…", "日本", "𝒳"]
ASCENDING = sorted(IDS, key=lambda text: text.encode())


def quoted(ids: list[str], header: str = "", end: str = "\n") -> bytes:
    out = io.StringIO()
    some = csv.QUOTE_ALL if any("\r" in each for each in ids) else csv.QUOTE_MINIMAL  # which older Pythons leave bare
    csv.writer(out, lineterminator=end, quoting=some).writerows([[each] for each in ([header] if header else []) + ids])
    return out.getvalue().encode()


def parquet(**columns: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


FORMS = {
    "bare": ("ids.txt", quoted(IDS)),
    "bare, CRLF and mark": ("ids.txt", b"\xef\xbb\xbf" + quoted(IDS, end="\r\n")),
    "named": ("ids.csv", quoted(IDS, "item_id")),
    "MovieLens' name, shouted": ("ids.csv", quoted(IDS, "MOVIEID")),
    "gzip": ("ids.gz", gzip.compress(quoted(IDS))),
    "parquet": ("ids.parquet", parquet(item_id=IDS)),
    "large text": ("ids.parquet", parquet(item_id=pa.array(IDS, pa.large_string()))),
    "dictionary": ("ids.parquet", parquet(item_id=pa.array(IDS).dictionary_encode(), other=[1] * len(IDS))),
    "twice": ("ids.txt", quoted(IDS + IDS[::-1])),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_texts_gives_the_same_ascending_ids(tmp_path, form):
    name, data = FORMS[form]
    (tmp_path / name).write_bytes(data)
    assert read_ids(tmp_path / name, "item_id", text=["item_id"]).ids.tolist() == ASCENDING


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(st.characters(blacklist_categories=["Cs"]), min_size=1), min_size=1, max_size=30))
def test_whatever_csv_can_hold_comes_back(tmp_path_factory, texts):
    ids = [text for text in texts if text.strip() and "\0" not in text]
    path = tmp_path_factory.mktemp("ids") / "ids.csv"
    path.write_bytes(quoted(ids, "user_id"))
    found = read_ids(path, "user_id", text=["user_id"], may_be_empty=True).ids.tolist()
    assert found == sorted(set(ids), key=lambda text: text.encode())


def test_pairs_of_both_kinds(tmp_path):
    (tmp_path / "pairs.csv").write_text('b,9\nb,10\n"a,1",9\nb,9\n')
    found = read_ids(tmp_path / "pairs.csv", "user_id", "item_id", text=["user_id"])
    assert [column.tolist() for column in found.columns] == [["a,1", "b", "b"], [9, 9, 10]]
    (tmp_path / "named.csv").write_text("note,item_id,user_id\nx,9,b\n")
    found = read_ids(tmp_path / "named.csv", "user_id", "item_id", text=["item_id", "user_id"])
    assert [column.tolist() for column in found.columns] == [["b"], ["9"]]


def test_whole_numbers_of_a_column_are_their_text(tmp_path):
    pq.write_table(pa.table({"item_id": [42, 7]}), tmp_path / "ids.parquet")
    assert read_ids(tmp_path / "ids.parquet", "item_id", text=["item_id"]).ids.tolist() == ["42", "7"]
    pq.write_table(pa.table({"item_id": [42.0, 7.0]}), tmp_path / "floats.parquet")
    with pytest.raises(UnusableFileError, match="holds double, and the ids of this data are text"):
        read_ids(tmp_path / "floats.parquet", "item_id", text=["item_id"])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a\nb,c\n", r"line 2 has 2 fields, expected 1: item_id.*an id with a comma in it stands in quotes"),
        ('item_id,x\na,1\n"",2\n', "the item_id in line 3 is empty"),
        ('a\n"b\n', "cannot be read"),
        ("", "it names nothing"),
    ],
)
def test_what_is_no_id_is_refused_with_its_line(tmp_path: Path, content: str, says: str):
    (tmp_path / "ids.csv").write_text(content)
    with pytest.raises(UnusableFileError, match=says):
        read_ids(tmp_path / "ids.csv", "item_id", text=["item_id"])


def test_a_first_line_that_names_no_column_is_an_id(tmp_path):
    (tmp_path / "ids.txt").write_text("sku\nb\n")
    assert read_ids(tmp_path / "ids.txt", "item_id", text=["item_id"]).ids.tolist() == ["b", "sku"]
