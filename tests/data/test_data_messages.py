"""Files as people have them that are no MovieLens: each is read, or refused with what it is and a remedy that works."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from data_files import MOVIES_CSV, csv_form, ratings_csv, write
from hypothesis import given
from hypothesis import strategies as st

from sdk.base.config import DataConfig, RunConfig, from_json
from sdk.base.errors import DataError, MissingColumnError, TooManyRejectsError, UnusableFileError
from sdk.data.movielens import load, load_ratings

WHEN = [1300086400, 1112486027, 1577836799]
PAIRS = [(7, 1), (7, 2), (5, 1)]
EXPECTED = [(7, 1, 4.5), (7, 2, 0.5), (5, 1, 5.0)]
LENIENT = DataConfig(max_reject_share=0.9)


def lines(*times: object, stars: tuple[object, ...] = (4.5, 0.5, 5)) -> list[str]:
    return [f"{u},{i},{r},{t}" for (u, i), r, t in zip(PAIRS, stars, times, strict=True)]


def read(folder: Path, config: DataConfig = DataConfig()) -> list[tuple[int, int, float, int]]:  # noqa: B008
    i = load(folder, config=config).interactions
    return list(zip(i.user_id.tolist(), i.item_id.tolist(), i.rating.tolist(), i.timestamp.tolist(), strict=True))


def good() -> list[tuple[int, int, float, int]]:
    return [(*row, when) for row, when in zip(EXPECTED, WHEN, strict=True)]


def text_time(form: str) -> Callable[[int], str]:
    return lambda when: datetime.fromtimestamp(when, UTC).strftime(form)


TIMES: dict[str, Callable[[int], object]] = {
    "milliseconds": lambda when: when * 1000 + 7,
    "microseconds": lambda when: when * 10**6,
    "nanoseconds": lambda when: when * 10**9 + 5,
    "blank": text_time("%Y-%m-%d %H:%M:%S"),
    "quoted": text_time('"%Y-%m-%d %H:%M:%S"'),
    "T": text_time("%Y-%m-%dT%H:%M:%S"),
    "Z": text_time("%Y-%m-%dT%H:%M:%SZ"),
    "fractions": text_time("%Y-%m-%d %H:%M:%S.25"),
    "nine digits and Z": text_time("%Y-%m-%dT%H:%M:%S.123456789Z"),
    "UTC": text_time("%Y-%m-%d %H:%M:%S UTC"),
    "another zone": lambda when: text_time("%Y-%m-%dT%H:%M:%S+02:00")(when + 7200),
}


@pytest.mark.parametrize("name", TIMES)
def test_a_time_is_read_in_every_form_and_as_utc(name: str, tmp_path: Path) -> None:
    written = ratings_csv(*lines(*map(TIMES[name], WHEN)))
    assert read(csv_form(tmp_path, written)) == good()
    assert load_ratings(tmp_path / "ratings.csv").interactions.timestamp.tolist() == WHEN
    odd = ratings_csv(*lines(*map(TIMES[name], WHEN)), "5,2, 3.0 ,", "")  # the careful way gives the same
    csv_form(tmp_path, odd)
    assert read(tmp_path, LENIENT) == good()


@given(st.lists(st.integers(10**8, 4_102_444_799), min_size=1, max_size=20), st.sampled_from(sorted(TIMES)))
def test_any_time_is_read_as_pandas_reads_it(times: list[int], name: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        rows = [f"{user},1,4.0,{TIMES[name](when)}" for user, when in enumerate(times)]
        file = write(Path(folder), {"ratings.csv": ratings_csv(*rows)}) / "ratings.csv"
        expected = (pd.to_datetime(pd.Series(times), unit="s") - pd.Timestamp(0)).dt.total_seconds().astype("int64")
        assert load_ratings(file).interactions.timestamp.tolist() == expected.tolist()


MIXED = [
    (("2011-03-14 07:06:40", "2011-03-14 07:06:40", "1300086400"), "not in dates and times as the file's others are"),
    (("1300086400000", "1300086400000", "1300086400"), "not in milliseconds as the file's others are"),
    (("1300086400", "1300086400", "1300086400000"), "after the year 2100"),
    (("2011-03-14 07:06:40", "2011-03-14 07:06:40", "1969-12-31 00:00:00"), "before the year 1970"),
    (("2011-03-14 07:06:40", "2011-03-14 07:06:40", "2100-01-01 00:00:00"), "after the year 2100"),
    (("2011-03-14 07:06:40", "2011-03-14 07:06:40", "2011-02-31 00:00:00"), "not in dates and times"),
]


@pytest.mark.parametrize(("times", "reason"), MIXED)
def test_a_column_is_of_one_unit(times: tuple[str, ...], reason: str, tmp_path: Path) -> None:
    data = load(csv_form(tmp_path, ratings_csv(*lines(*times))), config=LENIENT)
    (row,) = data.rejects.to_pylist()
    assert row["line"] == 4
    assert reason in row["reason"]


def test_a_quote_within_a_field_is_no_field(tmp_path: Path) -> None:
    text = ratings_csv('"7","1","4.5","1300086400"', '"7"1,1,4.5,1300086400', '"5",1,"4.5",1300086400')
    data = load(csv_form(tmp_path, text), config=LENIENT)
    assert data.interactions.user_id.tolist() == [7, 5]
    assert data.rejects["line"].to_pylist() == [3]


GOOD = ratings_csv(*lines(*WHEN))


def command_of(error: Exception) -> list[str]:
    """The command that a message gives, with this Python."""
    found = re.search(r'python -c "(.*)"', str(error)) or re.search(r"(sed -i .*ratings\.csv)", str(error))
    assert found, str(error)
    return [sys.executable, "-c", found[1]] if str(found[0]).startswith("python") else ["sh", "-c", found[1]]


SEMICOLONS = GOOD.replace(",", ";").replace("4.5", "4,5").replace("0.5", "0,5")
MENDED: dict[str, tuple[bytes, str]] = {
    "utf-16": (GOOD.encode("utf-16"), "its encoding is UTF-16"),
    "utf-16 big": (b"\xfe\xff" + GOOD.encode("utf-16-be"), "its encoding is UTF-16"),
    "utf-16 unmarked": (GOOD.encode("utf-16-le"), "its encoding is UTF-16-LE"),
    "utf-16 big, unmarked": (GOOD.encode("utf-16-be"), "its encoding is UTF-16-BE"),
    "utf-16 with tabs, Excel's": (GOOD.replace(",", "\t").encode("utf-16"), "its encoding is UTF-16"),
    "utf-32": (GOOD.encode("utf-32"), "its encoding is UTF-32"),
    "utf-32 unmarked": (GOOD.encode("utf-32-le"), "its encoding is UTF-32-LE"),
    "semicolons": (SEMICOLONS.encode(), "separated by semicolons"),
    "tabs": (GOOD.replace(",", "\t").encode(), "separated by tabs"),
    "carriage returns": (GOOD.replace("\n", "\r").encode(), "its lines end in carriage returns"),
    "no header": (GOOD.split("\n", 1)[1].encode(), r"first line is a row \(7,1,4.5,1300086400\)"),
    "day first": (ratings_csv(*lines(*map(text_time("%m/%d/%Y %H:%M:%S"), WHEN))).encode(), "Write each timestamp"),
}


@pytest.mark.parametrize("name", MENDED)
def test_a_message_gives_a_command_that_mends_the_file(name: str, tmp_path: Path) -> None:
    content, problem = MENDED[name]
    csv_form(tmp_path, content)
    with pytest.raises(DataError, match=problem) as caught:
        load(tmp_path)
    subprocess.run(command_of(caught.value), cwd=tmp_path, check=True)
    assert read(tmp_path) == good()


def test_names_for_ids_are_numbered_by_the_commands_given(tmp_path: Path) -> None:
    named = ratings_csv(*(f"ann{line}" for line in lines(*WHEN))).replace(",1,", ",tt1,").replace(",2,", ",tt2,")
    csv_form(tmp_path, named, movies=MOVIES_CSV.replace("1,Toy", "tt1,Toy").replace('2,"', 'tt2,"'))
    for what in ("item id is not a whole number", "user id is not a whole number"):
        with pytest.raises(TooManyRejectsError, match=what) as caught:
            load(tmp_path)
        assert "max-reject-share" not in str(caught.value)
        subprocess.run(command_of(caught.value), cwd=tmp_path, check=True)
    assert len(read(tmp_path)) == 3


def test_latin_1_is_said_and_mended(tmp_path: Path) -> None:
    movies = MOVIES_CSV.replace("Toy", "Amélie").replace("Matrix", "Léon")
    csv_form(tmp_path, GOOD, movies=movies.encode("latin-1"))
    with pytest.raises(TooManyRejectsError, match=r"not valid UTF-8.*latin-1") as caught:
        load(tmp_path)
    command = command_of(caught.value)
    subprocess.run([*command[:2], command[2].replace("FILE", "movies.csv")], cwd=tmp_path, check=True)
    assert load(tmp_path).items["title"].to_pylist()[0].startswith("Amélie")


SCALES = [
    ((1, 6, 10), (1, 10)),
    ((0, 6, 10), (0, 10)),
    ((0, 73, 100), (0, 100)),
    ((0, 1, 1), (0, 1)),
    ((0, 0, 5), (0, 5)),
    ((-10, 3, 9), (-10, 10)),
    ((1, 7, 20), (1, 20)),
]


@pytest.mark.parametrize(("stars", "scale"), SCALES)
def test_another_scale_is_named_with_the_configuration_that_reads_it(
    stars: tuple[int, ...], scale: tuple[int, int], tmp_path: Path
) -> None:
    csv_form(tmp_path, ratings_csv(*lines(*WHEN, stars=stars)))
    with pytest.raises(TooManyRejectsError, match=rf"run from {min(stars)} to {max(stars)}: give their") as caught:
        load(tmp_path)
    found = re.search(r"holds (\{.*\}\}) ", str(caught.value))
    assert found
    config = from_json(RunConfig, json.loads(found[1]))
    assert (config.data.rating_min, config.data.rating_max) == scale
    assert [row[2] for row in read(tmp_path, config.data)] == list(stars)


def test_the_usual_scale_by_another_is_itself(tmp_path: Path) -> None:
    from sdk.data.ratings import scale_settings

    usual = from_json(RunConfig, scale_settings(0.5, 5))
    assert (usual.features.like_above, usual.history) == (3, RunConfig().history)


def test_ratings_of_no_scale_are_to_be_rescaled(tmp_path: Path) -> None:
    csv_form(tmp_path, ratings_csv(*lines(*WHEN, stars=(1, 2000, 350))))
    with pytest.raises(TooManyRejectsError, match=r"run from 1 to 2000: rescale them") as caught:
        load(tmp_path)
    assert "config" not in str(caught.value)
    assert "max-reject-share" not in str(caught.value)


def test_a_log_for_a_bundle_has_the_bundles_scale_and_no_options(tmp_path: Path) -> None:
    file = write(tmp_path, {"ratings.csv": ratings_csv(*lines(*WHEN, stars=(5, 5, 9)))}) / "ratings.csv"
    with pytest.raises(TooManyRejectsError, match=r"rescale them to 0.5 to 5 in halves\.$"):
        load_ratings(file)


def test_where_few_rows_are_bad_doing_without_them_is_offered(tmp_path: Path) -> None:
    rows = [f"{user},1,4.0,100" for user in range(20)]
    csv_form(tmp_path, ratings_csv(*rows, "7,1,9,100", "8,1,9,100"))
    with pytest.raises(TooManyRejectsError, match=r"Or do without them: raise --max-reject-share"):
        load(tmp_path)
    assert len(read(tmp_path, DataConfig(max_reject_share=0.1))) == 20


FOREIGN: list[tuple[bytes, str]] = [
    (b"<!DOCTYPE html>\n<html>Log in</html>", r"web page \(HTML\).*Download the file itself"),
    (b"\n<html lang=en>", r"web page \(HTML\)"),
    (b"PAR1\x15\x04", r"it is Parquet.*read_parquet"),
    (b"PK\x03\x04\x14\x00", "it is a zip or an Excel workbook"),
    (b"\x1f\x8b\x08\x00\x00", r"packed by gzip.*ends in \.gz"),
    (b'[{"userId": 1}]', "it is JSON.*read_json"),
    (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
    (b"", "the file is empty"),
    (b"userId,movieId,rating,timestamp\n", "it holds no rating"),
]


@pytest.mark.parametrize(("content", "problem"), FOREIGN)
def test_what_is_no_csv_is_called_what_it_is(content: bytes, problem: str, tmp_path: Path) -> None:
    with pytest.raises(UnusableFileError, match=rf"ratings\.csv: .*{problem}"):
        load(csv_form(tmp_path, content))
    with pytest.raises(UnusableFileError, match=problem):
        load_ratings(tmp_path / "ratings.csv")


def test_tables_of_another_kind_are_named_with_the_command_that_saves_them(tmp_path: Path) -> None:
    csv_form(tmp_path, GOOD)
    pd.read_csv(tmp_path / "ratings.csv").to_parquet(tmp_path / "ratings.parquet")
    (tmp_path / "ratings.csv").unlink()
    for path in (tmp_path, tmp_path / "ratings.parquet"):
        with pytest.raises(
            UnusableFileError, match=r"it has ratings\.parquet, where CSV files were expected"
        ) as caught:
            load(path)
    subprocess.run(command_of(caught.value), cwd=tmp_path, check=True)
    assert read(tmp_path) == good()


def test_workbooks_and_zips_in_zips_are_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.xlsx", "w") as book:
        book.writestr("[Content_Types].xml", "<Types/>")
    with pytest.raises(UnusableFileError, match=r"data\.xlsx.*save each sheet as 'CSV UTF-8'"):
        load(tmp_path / "data.xlsx")
    (tmp_path / "data.xlsx").unlink()
    for name, text in {"ratings.csv": GOOD, "movies.csv": MOVIES_CSV}.items():
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as each:
            each.writestr(name, text)
    with pytest.raises(UnusableFileError, match=r"Unpack each beside itself \(python -m zipfile -e"):
        load(tmp_path)
    for packed in ("ratings.csv.zip", "movies.csv.zip"):
        subprocess.run([sys.executable, "-m", "zipfile", "-e", packed, "."], cwd=tmp_path, check=True)
    assert read(tmp_path) == good()


@pytest.mark.parametrize("header", ["user_id,item_id,rating,timestamp", "USERID,Movie ID,Rating,Timestamp"])
def test_columns_are_known_in_other_spellings(header: str, tmp_path: Path) -> None:
    csv_form(tmp_path, GOOD.replace("userId,movieId,rating,timestamp", header))
    assert read(tmp_path) == good()


def test_every_missing_column_is_named(tmp_path: Path) -> None:
    csv_form(tmp_path, GOOD.replace("userId,movieId", "customer,product"))
    with pytest.raises(MissingColumnError, match=r"'userId, movieId' \(it has customer, product, rating, timestamp\)"):
        load(tmp_path)


@pytest.mark.parametrize("packing", ["gz", "zip", "zip with a folder"])
@pytest.mark.parametrize("name", ["semicolons", "utf-16", "no header", "carriage returns", "text ids"])
def test_a_packed_file_is_mended_by_the_commands_given(name: str, packing: str, tmp_path: Path) -> None:
    named = ratings_csv(*(f"ann{line}" for line in lines(*WHEN))).encode()
    content = named if name == "text ids" else MENDED[name][0]
    there = "ratings.csv.gz" if packing == "gz" else "data.zip"
    if packing == "gz":
        csv_form(tmp_path, GOOD)
        (tmp_path / "ratings.csv").unlink()
        (tmp_path / there).write_bytes(gzip.compress(content))
    else:
        below = "set/" if "folder" in packing else ""
        with zipfile.ZipFile(tmp_path / there, "w") as packed:
            packed.writestr(f"{below}ratings.csv", content)
            packed.writestr(f"{below}movies.csv", MOVIES_CSV)
    path = tmp_path if packing == "gz" else tmp_path / there
    with pytest.raises(DataError, match=rf"Unpack (it: gunzip )?{there}") as caught:
        load(path)
    if packing == "gz":
        gunzip(tmp_path / there)
    else:
        subprocess.run([sys.executable, "-m", "zipfile", "-e", there, "FOLDER"], cwd=tmp_path, check=True)
        path = tmp_path / "FOLDER"
    (plain,) = path.rglob("ratings.csv")
    subprocess.run(command_of(caught.value), cwd=plain.parent, check=True)
    assert len(read(path)) == 3


def gunzip(packed: Path) -> None:
    packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()


KAGGLE = {"rating.csv": "userId,movieId,rating,timestamp", "movie.csv": "movieId,title,genres"}
SPELT = {"ratings.csv": "USER_ID,item_id,Rating,Timestamp", "movies.csv": "item_id,title,genres"}


@pytest.mark.parametrize("headers", [KAGGLE, SPELT], ids=["other files", "other columns"])
def test_a_command_names_the_files_and_columns_that_are_there(headers: dict[str, str], tmp_path: Path) -> None:
    named = ratings_csv(*(f"ann{line}" for line in lines(*WHEN))).replace(",1,", ",tt1,").replace(",2,", ",tt2,")
    movies = MOVIES_CSV.replace("1,Toy", "tt1,Toy").replace('2,"', 'tt2,"')
    for (file, header), text in zip(headers.items(), (named, movies), strict=True):
        write(tmp_path, {file: f"{header}\n{text.partition(chr(10))[2]}"})
    for _ in range(2):
        with pytest.raises(TooManyRejectsError, match="is not a whole number") as caught:
            load(tmp_path)
        subprocess.run(command_of(caught.value), cwd=tmp_path, check=True)
    assert len(read(tmp_path)) == 3


def test_a_form_that_pandas_does_not_read_is_mended_in_words(tmp_path: Path) -> None:
    rows = [f"ann{line}".replace(",", "::") for line in lines(*WHEN)]
    write(
        tmp_path, {"ratings.dat": "\n".join(rows) + "\n", "movies.dat": "1::Heat (1995)::Crime\n2::Up (2009)::Drama\n"}
    )
    with pytest.raises(TooManyRejectsError, match=r"may be\. Number the users\.$"):
        load(tmp_path)


def test_a_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    twice = GOOD.replace("\n", "\n9,").removesuffix("9,")
    csv_form(tmp_path, f"user_id,{twice}".replace("user_id,userId", "USERID,user_id", 1))
    with pytest.raises(UnusableFileError, match=r"it has 2 columns of userId: USERID, user_id\. Leave one\."):
        load(tmp_path)
    csv_form(tmp_path, f"user_id,{twice}")  # the exact name is meant
    assert read(tmp_path) == good()


def test_a_pipe_is_refused_before_it_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ratings.csv")  # nobody writes to it: to open it would wait for ever
    for read_it in (load, load_ratings):
        with pytest.raises(UnusableFileError, match=r"it is a pipe or a device.*cat PIPE > ratings\.csv"):
            read_it(tmp_path / "ratings.csv")
