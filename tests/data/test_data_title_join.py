"""Titles joined to films by title and year, where a data set brings no links."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from data_files import MOVIES_CSV, csv_form, film, flags, named, tmdb_form, write

from sdk.data import tmdb
from sdk.data.movielens import load
from sdk.data.titles import links_by_title, names_of, normalised


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Amélie", "AMELIE"),
        ("WALL·E", "WALL-E"),
        ("Pride & Prejudice", "Pride and Prejudice"),
        ("Schindler's List", "Schindler’s List"),
        ("Monsters, Inc.", "Monsters Inc"),
        ("Spider-Man:  Homecoming", "Spider Man - Homecoming"),
        ("Straße", "strasse"),
        ("Ａkira", "Akira"),
    ],
)
def test_spellings_of_one_name_are_equal(one: str, other: str) -> None:
    assert normalised(one) == normalised(other) != ""


@pytest.mark.parametrize(
    ("one", "other"), [("Alien", "Aliens"), ("Rocky II", "Rocky III"), ("Up", "Up!!2"), ("七人の侍", "羅生門")]
)
def test_other_names_are_not(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


@pytest.mark.parametrize(
    ("title", "names"),
    [
        ("Heat", {"heat"}),
        ("Seven (a.k.a. Se7en)", {"seven", "se7en", "seven a k a se7en"}),
        ("Das Boot (The Boat)", {"das boot", "the boat", "das boot the boat"}),
        ("Akahige (aka Red Beard)", {"akahige", "red beard", "akahige aka red beard"}),
        ("(…)", set()),
    ],
)
def test_a_title_is_known_by_every_name_that_it_brings(title: str, names: set[str]) -> None:
    assert names_of(title) == names


def items(*titles: tuple[str, int | None]) -> list[dict[str, Any]]:
    return [{"item_id": n, "title": title, "year": year} for n, (title, year) in enumerate(titles, start=1)]


def films(*titles: tuple[str, int | None]) -> list[dict[str, Any]]:
    return [{"tmdb_id": 100 * n, "title": title, "year": year} for n, (title, year) in enumerate(titles, start=1)]


def test_title_and_year_must_both_be_equal() -> None:
    wanted = items(("Heat", 1995), ("Heat", 1986), ("Solaris", 1972), ("Undated", None))
    assert links_by_title(wanted, films(("HEAT", 1995), ("Solaris", 2002), ("Undated", None))) == {1: 100}


def test_two_films_of_one_name_and_year_are_not_guessed_between() -> None:
    assert links_by_title(items(("Hamlet", 2000)), films(("Hamlet", 2000), ("Hamlet!", 2000))) == {}
    assert links_by_title(items(("Boat (Boot)", 2000)), films(("Boat", 2000), ("Boot", 2000))) == {}


def test_two_titles_of_one_film_are_not_guessed_between() -> None:
    wanted = items(("Emma", 1996), ("Emma (again)", 1996), ("Other (Emma)", 1996), ("Fargo", 1996))
    assert links_by_title(wanted, films(("Emma", 1996), ("Fargo", 1996))) == {4: 200}


FORMS: dict[str, dict[str, str | bytes]] = {
    "100k": {
        "u.data": "1\t1\t5\t1\n1\t2\t3\t2\n",
        "u.item": f"1|Amélie (2001)|01-Jan-2001||x|{flags('Comedy')}\n2|No Such (1999)|||x|{flags()}\n".encode(
            "latin-1"
        ),
    },
    "1m": {
        "ratings.dat": "1::1::5::1\n1::2::3::2\n",
        "movies.dat": "1::Amélie (2001)::Comedy\n2::No Such (1999)::Drama\n".encode("latin-1"),
        "users.dat": "1::F::25::3::48067\n",
    },
    "10m": {
        "ratings.dat": "1::1::5::1\n1::2::3::2\n",
        "movies.dat": "1::Amélie (2001)::Comedy\n2::No Such (1999)::Drama\n",
        "tags.dat": "",
    },
    "csv without links": {
        "ratings.csv": "userId,movieId,rating,timestamp\n1,1,5,1\n1,2,3,2\n",
        "movies.csv": "movieId,title,genres\n1,Amélie (2001),Comedy\n2,No Such (1999),Drama\n",
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_a_data_set_without_links_takes_tmdbs_details(
    form: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmdb_form(tmp_path / "tmdb", [film(194, "Amelie", released="2001-04-25", overview="Paris.")],
                     [[194, "", named("Audrey Tautou"), "[]"]])  # fmt: skip
    with caplog.at_level(logging.INFO, "sdk"):
        amelie, other = load(write(tmp_path / "ml", FORMS[form]), tmdb=path).items.to_pylist()
    assert (amelie["tmdb_id"], amelie["overview"], amelie["cast"]) == (194, "Paris.", ["Audrey Tautou"])
    assert (other["tmdb_id"], other["overview"]) == (None, "")
    assert "TMDB: 1 of 2 titles joined by title and year (there is no links.csv)" in caplog.messages


def test_links_are_believed_where_there_are_any(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = csv_form(tmp_path / "ml", movies=MOVIES_CSV, links="movieId,imdbId,tmdbId\n1,1,\n2,2,7\n")
    path = tmdb_form(tmp_path / "tmdb", [film(862, "Toy Story", released="1995-10-30"), film(7, "Quite Other")])
    with caplog.at_level(logging.INFO, "sdk"):
        data = load(folder, tmdb=path)
    assert data.items["tmdb_id"].to_pylist() == [None, 7]
    assert "TMDB: 1 of 2 titles joined by links.csv" in caplog.messages


def test_films_of_other_titles_altogether_are_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = csv_form(tmp_path / "ml", links="movieId,imdbId,tmdbId\n1,1,862\n")
    load(folder, tmdb=tmdb_form(tmp_path / "tmdb", [film(1, "Another")]))
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == ["TMDB: 0 of 2 titles joined by links.csv"]


@pytest.mark.real_data
def test_the_join_finds_what_the_real_links_say(real_data: Callable[..., Path]) -> None:
    data = load(real_data("ml-latest-small"))
    films_, _ = tmdb.load(real_data("tmdb-5000"))
    known = set(films_["tmdb_id"].to_pylist())
    truth = {row["item_id"]: row["tmdb_id"] for row in data.items.to_pylist() if row["tmdb_id"] in known}
    found = links_by_title(data.items.to_pylist(), films_.to_pylist())
    right = sum(truth.get(item) == tmdb_id for item, tmdb_id in found.items())
    assert (len(truth), len(found), right) == (3537, 3403, 3400)
