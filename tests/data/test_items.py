"""Titles, tags, links and users that cannot be used, and the table of rejected rows on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from data_files import GENRES_100K, MOVIES_CSV, csv_form, flags, write

from sdk.base import schema
from sdk.base.config import DataConfig
from sdk.base.errors import TooManyRejectsError, UnusableFileError
from sdk.base.types import Dataset
from sdk.data.movielens import load
from sdk.data.validation import rejects_table

LENIENT = DataConfig(max_reject_share=0.99)
DUPLICATE = "duplicate id: the first row stands"
UNKNOWN = "unknown title: the item id is not in the titles file"


def found(data: Dataset) -> list[tuple[str, int, str]]:
    return [(row["file"], row["line"], row["reason"]) for row in data.rejects.to_pylist()]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"1,Again (1990),Drama", DUPLICATE),
        (b"x,Film (1990),Drama", "the item id is not a whole number"),
        (b"9, ,Drama", "the title is missing"),
        (b"9,Film (1990)", "too few fields: the line is cut short"),
        (b"9,Film, The (1990),Drama", "too many fields"),
        (b"9,Caf\xe9 (1990),Drama", "not valid UTF-8"),
        (b'9,"Film (1990),Drama', "not valid CSV: unexpected end of data"),
        (b'9,"Film" (1990),Drama', "not valid CSV: ',' expected after '\"'"),
    ],
)
def test_a_bad_title_is_set_aside(line: bytes, reason: str, tmp_path: Path) -> None:
    movies = MOVIES_CSV.encode() + line + b"\n5,Last (2001),Drama\n"
    data = load(csv_form(tmp_path, movies=movies), config=LENIENT)
    assert found(data) == [("movies.csv", 4, reason)]
    assert data.items["title"].to_pylist() == ["Toy Story", "The Matrix", "Last"]


def test_items_are_sorted_whatever_the_file_says(tmp_path: Path) -> None:
    head, *lines = MOVIES_CSV.splitlines()
    data = load(csv_form(tmp_path, movies="\n".join([head, *lines[::-1]])))
    assert data.items["item_id"].to_pylist() == [1, 2]


def test_bad_tags_and_links_are_set_aside(tmp_path: Path) -> None:
    bad_tags = ["x,1,a,1", "7,9,a,1", "7,1, ,1", "7,1,a,-1", "7,1,b,4102444800"]
    tags = "\n".join(["userId,movieId,tag,timestamp", '7,1,"two\nlines",1', *bad_tags, "7,2,ok,1"])
    links = "movieId,imdbId,tmdbId\n1,1,862\n1,1,863\n2,2,abc\n9,9,9\n"
    data = load(csv_form(tmp_path, tags=tags, links=links), config=LENIENT)
    assert found(data) == [
        ("tags.csv", 4, "the user id is not a whole number"),
        ("tags.csv", 5, UNKNOWN),
        ("tags.csv", 6, "the tag is missing"),
        ("tags.csv", 7, "the timestamp is negative"),
        ("tags.csv", 8, "the timestamp is after the year 2100"),
        ("links.csv", 3, DUPLICATE),
        ("links.csv", 4, "the TMDB id is not a whole number"),
        ("links.csv", 5, UNKNOWN),
    ]
    assert data.items["tags"].to_pylist() == [["two\nlines"], ["ok"]]
    assert data.items["tmdb_id"].to_pylist() == [862, None]


def test_the_share_is_of_each_file_by_itself(tmp_path: Path) -> None:
    with pytest.raises(TooManyRejectsError, match=r"links\.csv: 1 of 2 rows are bad"):
        load(csv_form(tmp_path, links="movieId,imdbId,tmdbId\n1,1,862\n2,2,x\n"))


def test_bad_users_are_set_aside_and_those_who_rated_stay_without_attributes(tmp_path: Path) -> None:
    bad_users = ["2::M::many::3::1", "3::M::25::21::1", "4::M::131::3::1", "1::M::1::1::1", "5::M::25"]
    users = "\n".join(["1::F::25::3::48067", *bad_users, "6::::18::20::"])
    ratings = "1::1::5::1\n2::1::4::2\n"
    data = load(
        write(tmp_path, {"ratings.dat": ratings, "movies.dat": "1::A::B\n", "users.dat": users}), config=LENIENT
    )
    assert found(data) == [
        ("users.dat", 2, "the age is not a whole number"),
        ("users.dat", 3, "the occupation is none of 0 to 20"),
        ("users.dat", 4, "the age is above 130"),
        ("users.dat", 5, DUPLICATE),
        ("users.dat", 6, "too few fields: the line is cut short"),
    ]
    assert [tuple(user.values()) for user in data.users.to_pylist()] == [
        (1, "F", 25, "clerical/admin", "480"),
        (2, None, None, None, None),
        (6, None, 18, "writer", None),
    ]


def write_100k(folder: Path, item: str, genres: str = "") -> Path:
    good = f"1|Toy Story (1995)|01-Jan-1995||http://x|{flags('Comedy')}\n"
    listed = genres or "".join(f"{name}|{number}\n" for number, name in enumerate(GENRES_100K))
    return write(folder, {"u.data": "1\t1\t5\t1\n", "u.item": good + item, "u.genre": listed})


def test_a_bad_100k_title_is_set_aside(tmp_path: Path) -> None:
    data = load(write_100k(tmp_path, f"2|B (1995)|||x|{flags()[:-1]}7\n3|C|||x|0|1\n"), config=LENIENT)
    assert found(data) == [
        ("u.item", 2, "a genre flag is neither 0 nor 1"),
        ("u.item", 3, "too few fields: the line is cut short"),
    ]


def test_a_list_of_genres_with_a_gap_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UnusableFileError, match=r"u\.genre: its genres are numbered \[0, 2\], not from 0 without a gap"
    ):
        load(write_100k(tmp_path, "", genres="unknown|0\nAction|2\n"))


def test_rejected_rows_keep_the_beginning_of_their_text() -> None:
    table = rejects_table("ratings.csv", [(4, "the rating is missing", "7,1,," + "1" * 500)])
    assert table.schema == schema.REJECTS
    (row,) = table.to_pylist()
    assert row == {"file": "ratings.csv", "line": 4, "reason": "the rating is missing", "text": "7,1,," + "1" * 195}
    assert rejects_table("ratings.csv", []).equals(schema.REJECTS.empty_table())
