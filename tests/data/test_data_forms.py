"""Every published form, made up small, against expectations written by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_files import GENRES_100K, MOVIES_CSV, RATINGS_CSV, csv_form, flags, ratings_csv, write, zipped

from sdk.base import schema
from sdk.base.errors import MissingColumnError, MissingFileError, UnusableFileError
from sdk.base.types import Dataset
from sdk.data.movielens import load

CHILDREN = "Children's"


def form_100k(folder: Path) -> Path:
    items = [
        f"1|Toy Story (1995)|01-Jan-1995||http://x|{flags('Animation', CHILDREN)}",
        f"2|Misérables, Les (1995)|01-Jan-1995||http://x|{flags('Drama')}",
        f"267|unknown||||{flags('unknown')}",
        f"300|Dateless|24-Feb-1998||http://x|{flags()}",
    ]
    genres = "".join(f"{name}|{number}\n" for number, name in enumerate(GENRES_100K)) + "\n"
    files: dict[str, str | bytes] = {
        "u.data": "196\t2\t3\t881250949\n186\t1\t5\t891717742\n196\t1\t1\t881250950\n",
        "u.item": "\n".join(items).encode("latin-1") + b"\n",
        "u.genre": genres,
        "u.user": "186|39|F|executive|00000\n196|49|M|writer|55105\n900|7|M|student|T8H1N\n",
        "u1.base": "not read",
    }
    return write(folder / "ml-100k", files)


def form_1m(folder: Path) -> Path:
    movies = "1::Toy Story (1995)::Animation|Children's|Comedy\n2::Léon (1994)::Thriller\n"
    files: dict[str, str | bytes] = {
        "ratings.dat": "2::1::5::978300760\n1::2::3::978302109\n1::1::4::978301968\n",
        "movies.dat": movies.encode("latin-1"),
        "users.dat": "1::F::1::10::48067\n2::M::56::16::70072-1234\n",
    }
    return write(folder / "ml-1m", files)


def form_10m(folder: Path) -> Path:
    files: dict[str, str | bytes] = {
        "ratings.dat": "1::122::4.5::838985046\n1::185::0.5::838983525\n",
        "movies.dat": "122::Boomerang (1992)::Comedy|Romance\n185::Léon, The (1995)::(no genres listed)\n",
        "tags.dat": "15::185:: Excellent! ::1215184630\n20::185::dull::1188263867\n21::185::Dull::1188263868\n",
    }
    return write(folder / "ml-10M100K", files)


def form_csv(folder: Path) -> Path:
    tags = 'userId,movieId,tag,timestamp\n7,1,pixar,1\n8,1,"Fun, for all",2\n9,1,Pixar,3\n'
    links = "movieId,imdbId,tmdbId\n1,0114709,862\n2,0133093,\n"
    return csv_form(folder / "ml-tiny", tags=tags, links=links)


def rows(data: Dataset) -> list[tuple[int, int, float, int]]:
    i = data.interactions
    return list(zip(i.user_id.tolist(), i.item_id.tolist(), i.rating.tolist(), i.timestamp.tolist(), strict=True))


def titles(data: Dataset) -> dict[int, tuple[str, int | None, list[str]]]:
    return {row["item_id"]: (row["title"], row["year"], row["genres"]) for row in data.items.to_pylist()}


def test_100k(tmp_path: Path) -> None:
    data = load(form_100k(tmp_path))
    assert data.name == "ml-100k"
    assert rows(data) == [(196, 2, 3.0, 881250949), (186, 1, 5.0, 891717742), (196, 1, 1.0, 881250950)]
    assert titles(data) == {
        1: ("Toy Story", 1995, ["Animation", "Children"]),
        2: ("Les Misérables", 1995, ["Drama"]),
        267: ("unknown", None, []),
        300: ("Dateless", 1998, []),
    }
    assert [tuple(user.values()) for user in data.users.to_pylist()] == [
        (186, "F", 39, "executive", "000"),
        (196, "M", 49, "writer", "551"),
        (900, "M", 7, "student", "T8H"),  # listed, without a rating
    ]
    assert data.rejects.num_rows == 0


def test_100k_without_its_list_of_genres_uses_the_published_one(tmp_path: Path) -> None:
    folder = form_100k(tmp_path)
    (folder / "u.genre").unlink()
    assert titles(load(folder))[1] == ("Toy Story", 1995, ["Animation", "Children"])


def test_1m(tmp_path: Path) -> None:
    data = load(form_1m(tmp_path))
    assert rows(data) == [(2, 1, 5.0, 978300760), (1, 2, 3.0, 978302109), (1, 1, 4.0, 978301968)]
    assert titles(data) == {
        1: ("Toy Story", 1995, ["Animation", "Children", "Comedy"]),
        2: ("Léon", 1994, ["Thriller"]),
    }
    assert [tuple(user.values()) for user in data.users.to_pylist()] == [
        (1, "F", 1, "K-12 student", "480"),
        (2, "M", 56, "self-employed", "700"),
    ]


def test_10m(tmp_path: Path) -> None:
    data = load(form_10m(tmp_path))
    assert rows(data) == [(1, 122, 4.5, 838985046), (1, 185, 0.5, 838983525)]
    assert titles(data) == {122: ("Boomerang", 1992, ["Comedy", "Romance"]), 185: ("The Léon", 1995, [])}
    assert data.items["tags"].to_pylist() == [[], ["dull", "dull", "excellent!"]]
    assert data.users.to_pylist() == [
        {"user_id": 1, "gender": None, "age": None, "occupation": None, "zip_prefix": None}
    ]


def test_csv(tmp_path: Path) -> None:
    data = load(form_csv(tmp_path))
    assert rows(data) == [(7, 1, 4.0, 100), (7, 2, 0.5, 101), (5, 1, 5.0, 90)]
    assert titles(data) == {1: ("Toy Story", 1995, ["Adventure", "Animation"]), 2: ("The Matrix", 1999, ["Sci-Fi"])}
    assert data.items["tags"].to_pylist() == [["fun, for all", "pixar", "pixar"], []]
    assert data.items["tmdb_id"].to_pylist() == [862, None]
    assert data.users["user_id"].to_pylist() == [5, 7]
    assert data.rejects.num_rows == 0


@pytest.mark.parametrize("form", [form_100k, form_1m, form_10m, form_csv])
def test_folder_parent_and_zip_give_the_same_data(form, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder = form(tmp_path / "in")
    plain = load(folder)
    flat, nested = zipped(folder, tmp_path / "flat.zip"), zipped(folder, tmp_path / "any.zip", top=folder.name)
    before = sorted(tmp_path.rglob("*"))
    for other in (load(folder.parent), load(nested), load(str(flat))):
        assert rows(other) == rows(plain)
        assert other.items.equals(plain.items)
        assert other.users.equals(plain.users)
        assert other.fingerprint == plain.fingerprint
    assert load(nested).name == plain.name == folder.name
    assert load(flat).name == "flat"
    assert sorted(tmp_path.rglob("*")) == before, "nothing may be left behind"


def test_tables_have_exactly_the_contracted_schemas_and_dtypes(tmp_path: Path) -> None:
    data = load(form_1m(tmp_path))
    assert data.items.schema == schema.ITEMS
    assert data.users.schema == schema.USERS
    assert data.rejects.schema == schema.REJECTS
    i = data.interactions
    dtypes = [c.dtype for c in (i.user_id, i.item_id, i.rating, i.timestamp)]
    assert dtypes == [np.int64, np.int64, np.float32, np.int64]


@pytest.mark.parametrize("text", [RATINGS_CSV.replace("\n", "\r\n"), "\ufeff" + RATINGS_CSV, RATINGS_CSV + "\n\n\r\n",
                                  RATINGS_CSV.rstrip("\n"), RATINGS_CSV.replace("7,1,4.0,100", '"7","1","4.0","100"'),
                                  RATINGS_CSV.replace("7,1,4.0,100", " 7, 1,4e0 ,100\t")])  # fmt: skip
def test_line_ends_byte_order_mark_quotes_and_blanks_change_nothing(text: str, tmp_path: Path) -> None:
    plain, other = load(csv_form(tmp_path / "a")), load(csv_form(tmp_path / "b", ratings=text))
    assert rows(other) == rows(plain)
    assert other.rejects.num_rows == 0
    assert other.fingerprint == plain.fingerprint


def test_byte_order_mark_and_crlf_in_titles(tmp_path: Path) -> None:
    text = "\ufeff" + MOVIES_CSV.replace("\n", "\r\n")
    data = load(csv_form(tmp_path, movies=text))
    assert titles(data)[2] == ("The Matrix", 1999, ["Sci-Fi"])


def test_columns_may_come_in_another_order_beside_others(tmp_path: Path) -> None:
    ratings = 'timestamp,note,rating,userId,movieId\n100,é,4.0,7,1\n101,plain,0.5,7,2\n90,"a,b",5.0,5,1\n'
    movies = 'genres,title,movieId\nAdventure|Animation,Toy Story (1995),1\nSci-Fi,"Matrix, The (1999)",2\n'
    data = load(csv_form(tmp_path / "a", ratings=ratings, movies=movies))
    assert data.fingerprint == load(csv_form(tmp_path / "b")).fingerprint


def test_the_fingerprint_ignores_file_order_and_tells_content_apart(tmp_path: Path) -> None:
    head, *lines = RATINGS_CSV.splitlines()
    forward = load(csv_form(tmp_path / "a")).fingerprint
    backward = load(csv_form(tmp_path / "b", ratings="\n".join([head, *lines[::-1]]))).fingerprint
    assert forward == backward
    others = [
        csv_form(tmp_path / "c", ratings=RATINGS_CSV.replace("0.5", "1.0")),
        csv_form(tmp_path / "d", ratings=RATINGS_CSV.replace("101", "102")),
        csv_form(tmp_path / "e", movies=MOVIES_CSV.replace("Sci-Fi", "Drama")),
        csv_form(tmp_path / "f", links="movieId,imdbId,tmdbId\n1,1,862\n"),
    ]
    prints = {load(other).fingerprint for other in others}
    assert len(prints | {forward}) == len(others) + 1


def test_a_folder_of_no_known_form_says_what_was_found(tmp_path: Path) -> None:
    write(tmp_path, {"ratings.csv": RATINGS_CSV, "films.csv": MOVIES_CSV})
    with pytest.raises(MissingFileError, match=r"movies\.csv \(it has films\.csv, ratings\.csv\)") as caught:
        load(tmp_path)
    assert caught.value.exit_code == 3
    with pytest.raises(MissingFileError, match="nothing is there"):
        load(tmp_path / "absent")


def test_two_known_sub_folders_are_ambiguous(tmp_path: Path) -> None:
    form_csv(tmp_path)
    form_1m(tmp_path)
    with pytest.raises(UnusableFileError, match=r"several data sets \(ml-1m, ml-tiny\)"):
        load(tmp_path)


def test_a_missing_column_is_named_with_those_found(tmp_path: Path) -> None:
    ratings = RATINGS_CSV.replace("timestamp", "when")
    with pytest.raises(
        MissingColumnError, match=r"ratings\.csv: no column 'timestamp' \(it has userId, movieId, rating, w"
    ):
        load(csv_form(tmp_path / "a", ratings=ratings))
    with pytest.raises(MissingColumnError, match=r"movies\.csv: no column 'genres'"):
        load(csv_form(tmp_path / "b", movies=MOVIES_CSV.replace("genres", "kind")))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"ratings": b""}, r"ratings\.csv: the file is empty"),
        ({"ratings": ratings_csv()}, r"ratings\.csv: it holds no rating"),
        ({"movies": b"\n"}, r"movies\.csv: the file is empty"),
        ({"movies": "movieId,title,genres\n"}, r"movies\.csv: it holds no title"),
        ({"tags": b""}, r"tags\.csv: the file is empty"),
    ],
)
def test_empty_files_stop_the_run(files: dict[str, bytes], message: str, tmp_path: Path) -> None:
    with pytest.raises(UnusableFileError, match=message):
        load(csv_form(tmp_path, **files))
