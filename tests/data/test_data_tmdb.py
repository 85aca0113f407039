"""TMDB's two files: JSON columns, people, the join by links.csv, and rows that cannot be used."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from data_files import TMDB_CREDITS, csv_form, csv_text, film, named, tmdb_form, write, zipped

from sdk.base import schema
from sdk.base.config import DataConfig
from sdk.base.errors import MissingColumnError, MissingFileError, TooManyRejectsError, UnusableFileError
from sdk.data import tmdb
from sdk.data.movielens import load

LENIENT = DataConfig(max_reject_share=0.99)
CREW = [("Story", "S"), ("Director", "Ann"), ("Producer", "P"), ("Gaffer", "G"), ("Writer", "Ann"), ("Director", "Bo"),
        ("Writer", "W"), ("Screenplay", "W"), ("Editor", " E "), ("Director", "Ann")]  # fmt: skip
CREW_JSON = json.dumps([{"job": job, "name": name} for job, name in CREW])


def films_of(table: Any) -> dict[int, dict[str, Any]]:
    return {row["tmdb_id"]: row for row in table.to_pylist()}


def test_every_column_is_read_and_people_are_parted_by_job(tmp_path: Path) -> None:
    cast = json.dumps([{"name": "Second", "order": 1}, {"name": "First", "order": 0}, {"name": "Unbilled"},
                       {"name": "First", "order": 7}, {"name": " ", "order": 3}])  # fmt: skip
    row = film(862, " Toy Story ", released="1995-10-30", genres=named("Family", "Animation"), overview=" Toys. ",
               keywords=named("toy", "boy", "toy"), production_companies=named("Pixar"))  # fmt: skip
    films, rejects = tmdb.load(tmdb_form(tmp_path, [row], [[862, "Toy Story", cast, CREW_JSON]]))
    assert films.schema == tmdb.FILMS
    assert films.to_pylist() == [
        {
            "tmdb_id": 862,
            "title": "Toy Story",
            "year": 1995,
            "genres": ["Animation", "Family"],
            "overview": "Toys.",
            "keywords": ["toy", "boy"],
            "cast": ["First", "Second", "Unbilled"],
            "directors": ["Ann", "Bo"],
            "crew": ["W", "S", "E", "P"],
            "companies": ["Pixar"],
        }
    ]
    assert rejects.schema == schema.REJECTS
    assert rejects.num_rows == 0


def test_the_cast_ends_after_twenty_names(tmp_path: Path) -> None:
    people = named(*(f"Actor {n}" for n in range(30)))
    films, _ = tmdb.load(tmdb_form(tmp_path, [film(1)], [[1, "", people, "[]"]]))
    assert films["cast"].to_pylist() == [[f"Actor {n}" for n in range(20)]]


def test_blank_cells_and_absent_credits_are_legal_and_films_are_sorted(tmp_path: Path) -> None:
    films, rejects = tmdb.load(tmdb_form(tmp_path, [film(9, released="", genres=""), film(3)]))
    assert rejects.num_rows == 0
    assert films["tmdb_id"].to_pylist() == [3, 9]
    assert films["year"].to_pylist() == [1999, None]
    assert films["genres"].to_pylist() == films["cast"].to_pylist() == films["directors"].to_pylist() == [[], []]
    assert films["overview"].to_pylist() == ["", ""]


def test_plain_gzipped_and_zipped_files_give_the_same_films(tmp_path: Path) -> None:
    folder = tmdb_form(tmp_path / "plain", [film(1, overview="Ünïcode")], [[1, "", named("A"), CREW_JSON]])
    packed = write(
        tmp_path / "gz", {f"{file.name}.gz": gzip.compress(file.read_bytes()) for file in sorted(folder.iterdir())}
    )
    plain, _ = tmdb.load(folder)
    for path in (packed, zipped(folder, tmp_path / "archive.zip"), zipped(packed, tmp_path / "gz.zip", top="tmdb")):
        assert tmdb.load(path)[0].equals(plain)


FAULTS = [
    (film("x"), "the film id is not a whole number"),
    (film(-4), "the film id is negative"),
    (film(""), "the film id is missing"),
    (film(1), "duplicate id: the first row stands"),
    (film(2, " "), "the title is missing"),
    (film(2, released="soon"), "the release date is not of the form 1999-12-31"),
    (film(2, genres='[{"id": 1, "name": "Dra'), "genres: broken JSON"),
    (film(2, keywords='{"name": "x"}'), "keywords: expected a JSON list of objects with a name"),
    (film(2, keywords='[{"id": 1}]'), "keywords: expected a JSON list of objects with a name"),
    (film(2, genres='[{"name": "\\ud800"}]'), "genres: expected a JSON list of objects with a name"),
    (film(2)[:-1], "too few fields: the line is cut short"),
    ([*film(2), "more"], "too many fields"),
]  # fmt: skip


@pytest.mark.parametrize(("bad", "reason"), FAULTS)
def test_a_bad_film_is_set_aside_with_the_line_it_starts_on(bad: list[Any], reason: str, tmp_path: Path) -> None:
    films = [film(1, overview='A "quoted"\nplot, in\r\nthree lines'), bad, film(3)]
    table, rejects = tmdb.load(tmdb_form(tmp_path, films), LENIENT)
    assert table["tmdb_id"].to_pylist() == [1, 3]
    assert table["overview"].to_pylist()[0] == 'A "quoted"\nplot, in\r\nthree lines'
    found = rejects.to_pylist()
    assert [(row["file"], row["line"], row["reason"]) for row in found] == [("tmdb_5000_movies.csv", 5, reason)]


def test_bad_credits_cost_the_credits_not_the_film(tmp_path: Path) -> None:
    credits_ = [[1, "", "[", "[]"], [2, "", named("A"), "[]"], [9, "", "[]", "[]"], [2, "", "[]", "[]"]]
    table, rejects = tmdb.load(tmdb_form(tmp_path, [film(1), film(2)], credits_), LENIENT)
    assert table["cast"].to_pylist() == [[], ["A"]]
    assert [(row["line"], row["reason"]) for row in rejects.to_pylist()] == [
        (2, "cast: broken JSON"),
        (4, "unknown film: its id is not in tmdb_5000_movies.csv"),
        (5, "duplicate id: the first row stands"),
    ]


def test_a_quote_that_is_never_closed_costs_its_own_line_only(tmp_path: Path) -> None:
    folder = tmdb_form(tmp_path, [film(1), film(2), film(3, overview="two\nlines")])
    path = folder / "tmdb_5000_movies.csv"
    lines = path.read_text().split("\n")
    lines[2] = '2,"Open' + lines[2][1:]
    path.write_text("\n".join(lines))
    table, rejects = tmdb.load(folder, LENIENT)
    assert table["tmdb_id"].to_pylist() == [1, 3]
    assert [row["line"] for row in rejects.to_pylist()] == [3]


def test_bytes_that_are_not_utf8_cost_their_row(tmp_path: Path) -> None:
    folder = tmdb_form(tmp_path, [film(1, "Film"), film(2, "Léon"), film(3)])
    path = folder / "tmdb_5000_movies.csv"
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xe9"))
    table, rejects = tmdb.load(folder, LENIENT)
    assert table["tmdb_id"].to_pylist() == [1, 3]
    assert [(row["line"], row["reason"]) for row in rejects.to_pylist()] == [(3, "not valid UTF-8")]
    with pytest.raises(
        TooManyRejectsError, match=r"tmdb_5000_movies\.csv: 1 of 3 rows are bad \(1 x not valid UTF-8\)"
    ):
        tmdb.load(folder)


def test_missing_files_columns_and_rows_are_named(tmp_path: Path) -> None:
    folder = tmdb_form(tmp_path, [film(1)])
    credits_ = folder / "tmdb_5000_credits.csv"
    credits_.write_text(csv_text([name.replace("crew", "staff") for name in TMDB_CREDITS], []))
    with pytest.raises(MissingColumnError, match=r"no column 'crew' \(it has movie_id, title, cast, staff"):
        tmdb.load(folder)
    credits_.unlink()
    with pytest.raises(MissingFileError, match=r"tmdb_5000_credits\.csv \(it has tmdb_5000_movies\.csv\)"):
        tmdb.load(folder)
    with pytest.raises(UnusableFileError, match="it holds no film"):
        tmdb.load(tmdb_form(tmp_path / "none", []))


def test_genres_in_movielens_words() -> None:
    names = ["Science Fiction", "Family", "Music", "TV Movie", "Action"]
    assert tmdb.movielens_genres(names) == ["Action", "Children", "Musical", "Sci-Fi", "TV Movie"]


def test_details_join_by_links_and_movielens_keeps_its_own_title_year_and_genres(tmp_path: Path) -> None:
    movies = "movieId,title,genres\n1,Toy Story (1995),Comedy\n2,Moonlight,(no genres listed)\n3,Solo (2000),Drama\n"
    links = "movieId,imdbId,tmdbId\n1,1,862.0\n2,2,376867\n3,3, \n"
    folder = csv_form(tmp_path / "ml", movies=movies, links=links)
    films = [film(862, "TOY STORY", genres=named("Family"), overview="Toys."),
             film(376867, "Moonlight", released="2016-10-21", genres=named("Drama", "Family"))]  # fmt: skip
    path = tmdb_form(tmp_path / "tmdb", films, [[862, "", named("Tom Hanks"), CREW_JSON], [5, "", "[]", "[]"]])
    data = load(folder, tmdb=path, config=LENIENT)
    toy, moon, solo = data.items.to_pylist()
    assert (toy["title"], toy["year"], toy["genres"]) == ("Toy Story", 1995, ["Comedy"])
    assert (toy["overview"], toy["cast"], toy["directors"]) == ("Toys.", ["Tom Hanks"], ["Ann", "Bo"])
    assert (moon["title"], moon["year"], moon["genres"]) == ("Moonlight", 2016, ["Children", "Drama"])
    assert (solo["tmdb_id"], solo["overview"], solo["cast"]) == (None, "", [])
    assert data.rejects["file"].to_pylist() == ["tmdb_5000_credits.csv"]
    assert data.fingerprint != load(folder, config=LENIENT).fingerprint
    assert data.items.schema == schema.ITEMS
