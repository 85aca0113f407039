"""Files of ids as people have them: every form of the same ids gives the same ids, and the rest is refused in words."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import subprocess
import sys
import threading
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from night_files import DATE

from batch.job.id_files import read_ids
from batch.score import main
from sdk.base.errors import DataError, MissingColumnError, MissingFileError, UnusableFileError

IDS = [3, 5, 2**63 - 1]
TEXT = f"5\n{2**63 - 1}\n3\n5\n"


def parquet(**columns: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


HUGE = [5, 2**63 - 1, 3]
FORMS: dict[str, tuple[str, bytes]] = {
    "bare": ("ids.txt", TEXT.encode()),
    "bare, no suffix": ("ids", TEXT.encode()),
    "bare, CRLF and mark": ("ids.TXT", b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode()),
    "csv": ("ids.csv", f'name,user_id\n"a, b",5\nc,{2**63 - 1}\n,3\n'.encode()),
    "csv, MovieLens' name": ("ids.CSV", f"userId,movieId\n5,1\n{2**63 - 1},2\n3,3\n".encode()),
    "csv, shouted": ("ids.csv", f'"USER_ID"\r\n"5"\r\n{2**63 - 1}\r\n3\r\n'.encode()),
    "csv, words": ("ids.csv", f" User Id ,x\n5,\n{2**63 - 1},\n3,\n".encode()),
    "csv of pandas floats": ("ids.csv", f"user_id\n5.0\n{2**63 - 1}\n3.0\n".encode()),
    "csv, other name twice": ("ids.csv", f"x,user_id,x\n1,5,2\n1,{2**63 - 1},2\n1,3,2\n".encode()),
    "csv, exact name beside another": ("ids.csv", f"userId,user_id\n9,5\n9,{2**63 - 1}\n9,3\n".encode()),
    "gzip": ("ids.txt.gz", gzip.compress(TEXT.encode())),
    "gzip, suffix shouted": ("IDS.TXT.GZ", gzip.compress(TEXT.encode())),
    "gzip, no suffix": ("ids.csv", gzip.compress(b"user_id\n" + TEXT.encode())),
    "gzip in two members": ("ids.gz", gzip.compress(TEXT[:2].encode()) + gzip.compress(TEXT[2:].encode())),
    "text that is called gzip": ("ids.gz", TEXT.encode()),
    "parquet": ("ids.parquet", parquet(user_id=HUGE)),
    "parquet, pq": ("ids.pq", parquet(userId=HUGE)),
    "parquet, shouted": ("IDS.PARQUET", parquet(USER_ID=HUGE)),
    "parquet, no suffix": ("ids", parquet(user_id=HUGE)),
    "parquet, gzipped": ("ids.parquet.gz", gzip.compress(parquet(user_id=HUGE))),
    "parquet, unsigned": ("ids.parquet", parquet(user_id=pa.array(HUGE, pa.uint64()))),
    "parquet, text": ("ids.parquet", parquet(user_id=list(map(str, HUGE)))),
    "parquet, large text": ("ids.parquet", parquet(user_id=pa.array(list(map(str, HUGE)), pa.large_string()))),
    "parquet, dictionary": ("ids.parquet", parquet(user_id=pa.array(HUGE).dictionary_encode())),
    "parquet, text dictionary": ("ids.parquet", parquet(user_id=pa.array(list(map(str, HUGE))).dictionary_encode())),
    "parquet, decimals": ("ids.parquet", parquet(user_id=pa.array(list(map(Decimal, HUGE)), pa.decimal128(20)))),
}
SMALL = {
    "int32": parquet(item_id=pa.array([7, 3], pa.int32())), "int8": parquet(item_id=pa.array([7, 3], pa.int8())),
    "floats": parquet(item_id=[7.0, 3.0]), "float32": parquet(movieId=pa.array([7.0, 3.0], pa.float32())),
    "decimals": parquet(ITEM_ID=pa.array([Decimal("7.00"), Decimal("3.00")])),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_holds_the_same_ids(tmp_path, form):
    name, data = FORMS[form]
    (tmp_path / name).write_bytes(data)
    assert read_ids(tmp_path / name, "user_id").ids.tolist() == IDS


@pytest.mark.parametrize("kind", SMALL)
def test_whole_numbers_of_every_type_are_ids(tmp_path, kind):
    (tmp_path / "ids.parquet").write_bytes(SMALL[kind])
    assert read_ids(tmp_path / "ids.parquet", "item_id").ids.tolist() == [3, 7]


PAIRS = "userId,movieId\n3,5\n1,2\n"
WRONG: dict[str, tuple[str, bytes, str]] = {
    "names, not numbers": ("ids.txt", b"alice\nbob\n", "line 1 is 'alice', expected user_id as whole numbers"),
    "IMDb's": ("ids.txt", b"tt0133093\ntt0234215\n", "line 1 is 'tt0133093', expected"),
    "one name": ("ids.txt", b"alice\n", "line 1 is 'alice'"),
    "hex": ("ids.txt", b"3fa85f64\n", "user_id in line 1 is not a whole number: '3fa85f64'"),
    "fraction": ("ids.csv", b"user_id\n3\n\n601.7\n", "user_id in line 4 is not a whole number: '601.7'"),
    "missing": ("ids.csv", b"user_id,x\n3,1\n,1\n", "user_id in line 3 is missing"),
    "not exact": ("ids.csv", b"user_id\n9007199254740993.0\n", "too large for a float"),
    "too large": ("ids.txt", b"9223372036854775808\n", "user_id in line 1 is too large"),
    "negative": ("ids.csv", b"user_id\n-3\n", "user_id in line 2 is negative"),
    "escapes": ("ids.txt", b"\x1b[2J5\n", r"'\x1b[2J5'"),
    "twice": ("ids.csv", b"user_id,user_id\n1,2\n", "it has 2 columns of user_id: user_id, user_id"),
    "twice, spelt apart": ("ids.csv", b"userId,USERID\n1,2\n", "it has 2 columns of user_id: userId, USERID"),
    "twice in parquet": ("ids.parquet", parquet(userId=[1], USERID=[2]), "it has 2 columns of user_id"),
    "another column": ("ids.csv", b"uid\n1\n", "no column 'user_id' (it has uid)"),
    "short row": ("ids.csv", b"x,user_id\n1,2\n1\n", "line 3 has 1 fields"),
    "open quote": ("ids.csv", b'user_id\n"1\n2\n', "it cannot be read"),
    "nothing": ("ids.txt", b"", "it names nothing"),
    "header alone": ("ids.csv", b"user_id\n", "it names nothing"),
    "empty parquet": ("ids.parquet", b"", "it is no parquet file, or cut short"),
    "empty pq": ("ids.PQ", b"", "it is no PQ file, or cut short"),
    "empty gzip": ("ids.csv.gz", b"", "it is no gz file, or cut short"),
    "cut gzip": ("ids.csv.gz", gzip.compress(TEXT.encode() * 9)[:-9], "it cannot be read"),
    "cut parquet": ("ids.parquet", parquet(user_id=HUGE)[:-20], "it cannot be read"),
    "UTF-16": ("ids.txt", "5\n".encode("utf-16"), "its encoding is UTF-16"),
    "zip": ("ids.zip", b"PK\x03\x04....", "it is a zip"),
    "bzip2": ("ids.bz2", bz2.compress(b"5\n"), "it is packed by bzip2"),
    "nulls": ("ids.parquet", parquet(user_id=[1, None]), "holds 1 nulls"),
    "float with nulls": ("ids.parquet", parquet(user_id=[1.0, None]), "holds 1 nulls"),
    "NaN": ("ids.parquet", parquet(user_id=[1.0, float("nan")]), "number 2 is nan, which is missing"),
    "fractions": ("ids.parquet", parquet(user_id=[600.0, 601.7]), "number 2 is 601.7, which is not a whole number"),
    "beyond": ("ids.parquet", parquet(user_id=pa.array([2**63], pa.uint64())), "which is too large"),
    "below": ("ids.parquet", parquet(user_id=[3, -3]), "holds -3, which is negative"),
    "truths": ("ids.parquet", parquet(user_id=[True]), "holds bool, expected int64"),
    "moments": ("ids.parquet", parquet(user_id=pa.array([5], pa.timestamp("s"))), "holds timestamp["),
    "lists": ("ids.parquet", parquet(user_id=[[5]]), "expected int64"),
    "words": ("ids.parquet", parquet(user_id=["alice"]), "user_id in row 1 is not a whole number: 'alice'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_file_of_ids_says_what_and_where(tmp_path, case):
    name, data, says = WRONG[case]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError) as error:
        read_ids(tmp_path / name, "user_id")
    assert str(error.value).startswith(f"{tmp_path / name}: ")
    assert says in str(error.value)


def spark_folder(folder: Path, parts: dict[str, bytes]) -> Path:
    """What Spark leaves: parts, empty ones, and files that are none of its output."""
    folder.mkdir()
    for name, data in {"_SUCCESS": b"", "_committed_123": b"{}", "._SUCCESS.crc": b"crc", **parts}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
        (folder / f".{Path(name).name}.crc").write_bytes(b"crc\x00")
    return folder


FOLDERS: dict[str, dict[str, bytes]] = {
    "parquet": {
        "part-00000-a.snappy.parquet": parquet(userId=[5, 3], movieId=[1, 2]),
        "part-00001-a.snappy.parquet": parquet(userId=pa.array([], pa.int64()), movieId=pa.array([], pa.int64())),
        "part-00002-a.snappy.parquet": parquet(userId=[2**63 - 1], movieId=[2]),
    },
    "csv": {"part-0.csv": b"user_id\n5\n", "part-1.csv": b"", "part-2.csv": f"user_id\n3\n{2**63 - 1}\n".encode()},
    "gzip": {"part-0.csv.gz": gzip.compress(b"5\n3\n"), "part-1.csv.gz": gzip.compress(f"{2**63 - 1}\n".encode())},
    "partitions": {f"day={n}/part-0.parquet": parquet(user_id=ids) for n, ids in enumerate(([5, 3], [2**63 - 1]))},
}  # fmt: skip


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_of_parts_is_read_as_one_file(tmp_path, kind):
    folder = spark_folder(tmp_path / "ids.parquet", FOLDERS[kind])
    assert read_ids(folder, "user_id").ids.tolist() == IDS


def test_a_folder_without_a_part_and_a_path_to_nowhere_are_refused(tmp_path):
    with pytest.raises(UnusableFileError, match="it is a folder without a file of user_id"):
        read_ids(spark_folder(tmp_path / "none", {}), "user_id", may_be_empty=True)
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    for path in (tmp_path / "gone", tmp_path / "link"):
        with pytest.raises(MissingFileError, match="no file of user_id"):
            read_ids(path, "user_id")
    folder = spark_folder(tmp_path / "cut", {"part-0.parquet": parquet(user_id=[5]), "part-1.parquet": b""})
    with pytest.raises(UnusableFileError, match=r"cut/part-1\.parquet: it is no parquet file"):
        read_ids(folder, "user_id")


def test_pairs_are_found_by_either_name_in_any_order(tmp_path):
    for text in (PAIRS, "movieId,userId\n5,3\n2,1\n", "3,5\n1,2\n", "item_id,USER_ID,x\n5,3,\n2,1,\n"):
        (tmp_path / "pairs.csv").write_text(text)
        users, items = read_ids(tmp_path / "pairs.csv", "user_id", "item_id").columns
        assert (users.tolist(), items.tolist()) == ([1, 3], [2, 5])
    (tmp_path / "pairs.csv").write_text("userId,title\n1,2\n")
    with pytest.raises(MissingColumnError, match="no column 'item_id'"):
        read_ids(tmp_path / "pairs.csv", "user_id", "item_id")


def piped(path: Path, data: bytes) -> threading.Thread:
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(data,))
    writer.start()
    return writer


@pytest.mark.parametrize("data", [TEXT.encode(), gzip.compress(TEXT.encode(), mtime=0), parquet(user_id=HUGE)])
def test_a_pipe_is_read_once_however_often_it_is_asked(tmp_path, data):
    writer = piped(tmp_path / "pipe", data)
    assert [read_ids(tmp_path / "pipe", "user_id").ids.tolist() for _ in range(3)] == [IDS] * 3
    writer.join(timeout=10)
    assert not writer.is_alive()


@pytest.mark.parametrize("redirect", ["printf '1\\n2\\n' | {} /dev/stdin", "{} <(printf '1\\n2\\n')"])
def test_a_night_takes_ids_from_the_shell(bundle_path, tmp_path, redirect):
    options = ["--bundle", bundle_path, "--out", tmp_path / "out", "--run-date", DATE, "--k", 3, "--no-report"]
    command = " ".join([sys.executable, "-m", "batch.score", *map(str, options), "--users"])
    done = subprocess.run(["bash", "-c", redirect.format(command)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    parts = (tmp_path / "out" / f"run_date={DATE}" / "user_items").glob("part-*")
    assert {user for part in parts for user in pq.read_table(part)["user_id"].to_pylist()} == {1, 2}


@pytest.mark.needs("dask")
def test_a_pipe_is_not_shared_out_to_workers(bundle_path, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    options = ["--bundle", str(bundle_path), "--out", str(tmp_path / "out"), "--run-date", DATE, "--workers", "1"]
    assert main([*options, "--users", str(tmp_path / "pipe")]) == 2
    assert "can be read only once" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_another_separator_is_named_with_a_command_that_works(separator: str, name: str, tmp_path: Path) -> None:
    file = tmp_path / "ids.csv"
    file.write_text(f"user_id,name\n5,a\n{2**63 - 1},b\n3,c\n".replace(",", separator))
    with pytest.raises(UnusableFileError, match=f"separated by {name}, where commas were expected") as caught:
        read_ids(file, "user_id")
    command = str(caught.value).partition('python -c "')[2].removesuffix('"')
    subprocess.run([sys.executable, "-c", command], cwd=tmp_path, check=True)
    assert read_ids(file, "user_id").ids.tolist() == IDS
