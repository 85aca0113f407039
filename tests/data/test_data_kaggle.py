"""Kaggle's MovieLens 20M and The Movies Dataset, as they come, against expectations written by hand."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path
from typing import Any

import pytest
from data_files import MOVIES_CSV, csv_form, csv_text, film, tmdb_form, write, zipped

from sdk.base.config import DataConfig
from sdk.base.errors import TooManyRejectsError, UnusableFileError
from sdk.base.types import Dataset
from sdk.data import tmdb
from sdk.data.movielens import load, load_ratings

LENIENT = DataConfig(max_reject_share=0.9)
KAGGLE_20M = {
    "rating.csv": '"userId","movieId","rating","timestamp"\n'
    '1,2,3.5,"2005-04-02 23:53:47"\n7,1,4,"2011-03-14 07:06:40"\n',
    "movie.csv": '"movieId","title","genres"\n1,"Toy Story (1995)","Adventure"\n2,"Jumanji (1995)","Fantasy"\n',
    "link.csv": '"movieId","imdbId","tmdbId"\n1,114709,862\n2,113497,\n',
    "tag.csv": '"userId","movieId","tag","timestamp"\n7,1,"Pixar","2009-04-24 18:19:40"\n',
    "genome_scores.csv": '"movieId","tagId","relevance"\n1,1,0.025\n',
    "genome_tags.csv": '"tagId","tag"\n1,"007"\n',
}
METADATA = (
    "adult", "belongs_to_collection", "budget", "genres", "id", "original_title", "overview", "production_companies",
    "release_date", "title",
)  # fmt: skip


def metadata(id_: Any, title: str, **columns: str) -> list[Any]:
    """A row of movies_metadata.csv."""
    values = {"genres": "[]", "overview": "", "production_companies": "[]", "release_date": "1995-10-30", **columns}
    return ["False", "", 0, values["genres"], id_, title, *list(values.values())[1:], title]


GENRES = "[{'id': 878, 'name': 'Science Fiction'}, {'id': 10751, 'name': \"Rock 'n' Roll\"}]"
TOY_STORY = metadata(862, "Toy Story", genres=GENRES, production_companies="[{'name': 'Pixar', 'id': 3}]")
CAST = "[{'name': \"Conan O'Brien\", 'order': 1, 'profile_path': None}, {'name': 'Tom \\u0048anks', 'order': 0}]"
CREW = "[{'job': 'Director', 'name': 'John Lasseter', 'gender': 2, 'known': True}]"
CREDITS = csv_text(("cast", "crew", "id"), [[CAST, CREW, 862], ["[]", "[]", 8844]])
KEYWORDS = csv_text(("id", "keywords"), [[862, "[{'id': 931, 'name': 'jealousy'}]"], [8844, "[]"]])
THE_MOVIES = {
    "movies_metadata.csv": csv_text(METADATA, [TOY_STORY, metadata(8844, "Jumanji", release_date="")]),
    "credits.csv": CREDITS,
    "keywords.csv": KEYWORDS,
    "links.csv": "movieId,imdbId,tmdbId\n1,0114709,862.0\n2,0113497,8844.0\n3,0113228,15602\n4,0,\n",
    "links_small.csv": "movieId,imdbId,tmdbId\n1,0114709,862\n",
    "ratings.csv": "userId,movieId,rating,timestamp\n1,1,5.0,1425941529\n2,2,1.0,1425942435\n",
    "ratings_small.csv": "userId,movieId,rating,timestamp\n1,1,2.5,1260759144\n",
}


def rows(data: Dataset) -> list[tuple[int, int, float, int]]:
    i = data.interactions
    return list(zip(i.user_id.tolist(), i.item_id.tolist(), i.rating.tolist(), i.timestamp.tolist(), strict=True))


def item(data: Dataset, item_id: int) -> dict[str, Any]:
    found: dict[str, Any] = next(row for row in data.items.to_pylist() if row["item_id"] == item_id)
    return found


def as_folder(tmp_path: Path, files: dict[str, str]) -> Path:
    return write(tmp_path / "data", files)


def as_zip(tmp_path: Path, files: dict[str, str]) -> Path:
    return zipped(as_folder(tmp_path, files), tmp_path / "archive.zip")


def as_zipped_folder(tmp_path: Path, files: dict[str, str]) -> Path:
    return zipped(as_folder(tmp_path, files), tmp_path / "archive.zip", top="data")


def as_gz(tmp_path: Path, files: dict[str, str]) -> Path:
    return write(tmp_path / "data", {f"{name}.gz": gzip.compress(text.encode()) for name, text in files.items()})


def as_capitals(tmp_path: Path, files: dict[str, str]) -> Path:
    return write(tmp_path / "data", {name.title().replace(".Csv", ".CSV"): text for name, text in files.items()})


def as_windows(tmp_path: Path, files: dict[str, str]) -> Path:
    return write(tmp_path / "data", {name: "\ufeff" + text.replace("\n", "\r\n") for name, text in files.items()})


PACKED = pytest.mark.parametrize("packed", [as_folder, as_zip, as_zipped_folder, as_gz, as_capitals, as_windows])


@PACKED
def test_movielens_20m_of_kaggle(packed: Any, tmp_path: Path) -> None:
    data = load(packed(tmp_path, KAGGLE_20M))
    assert rows(data) == [(1, 2, 3.5, 1112486027), (7, 1, 4.0, 1300086400)]
    assert (item(data, 1)["title"], item(data, 1)["year"]) == ("Toy Story", 1995)
    assert (item(data, 1)["tags"], item(data, 1)["tmdb_id"], item(data, 2)["tmdb_id"]) == (["pixar"], 862, None)
    assert data.rejects.num_rows == 0


@PACKED
def test_the_movies_dataset(packed: Any, tmp_path: Path) -> None:
    data = load(packed(tmp_path, THE_MOVIES))
    assert rows(data) == [(1, 1, 5.0, 1425941529), (2, 2, 1.0, 1425942435)]
    assert data.rejects.num_rows == 0
    assert data.items["item_id"].to_pylist() == [1, 2]  # of 3 and 4 no film is known
    toy_story = item(data, 1)
    assert (toy_story["title"], toy_story["year"], toy_story["tmdb_id"]) == ("Toy Story", 1995, 862)
    assert toy_story["genres"] == ["Rock 'n' Roll", "Sci-Fi"]
    assert (toy_story["cast"], toy_story["directors"]) == (["Tom Hanks", "Conan O'Brien"], ["John Lasseter"])
    assert (toy_story["keywords"], toy_story["companies"]) == (["jealousy"], ["Pixar"])
    assert item(data, 2)["year"] is None


def test_of_two_ratings_files_the_full_one_is_read_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    folder = as_folder(tmp_path, THE_MOVIES)
    load(folder)
    assert f"{folder}: ratings.csv is read; ratings_small.csv, too, is there and is not" in caplog.messages
    assert f"{folder}: links.csv is read; links_small.csv, too, is there and is not" in caplog.messages
    assert load_ratings(folder).interactions.rating.tolist() == [5.0, 1.0]


def test_the_small_files_alone_are_read(tmp_path: Path) -> None:
    files = {name: text for name, text in THE_MOVIES.items() if name not in ("ratings.csv", "links.csv")}
    assert rows(load(as_folder(tmp_path, files))) == [(1, 1, 2.5, 1260759144)]


def test_the_films_alone_are_enough_beside_links(tmp_path: Path) -> None:
    files = {name: text for name, text in THE_MOVIES.items() if name not in ("credits.csv", "keywords.csv")}
    assert item(load(as_folder(tmp_path, files)), 1)["cast"] == []


def test_without_links_the_ids_do_not_meet_and_the_message_says_so(tmp_path: Path) -> None:
    files = {name: text for name, text in THE_MOVIES.items() if "links" not in name}
    with pytest.raises(UnusableFileError, match=r"ids of movies_metadata.csv are TMDB's.*Put links.csv"):
        load(as_folder(tmp_path, files))


def test_broken_rows_and_duplicates_are_set_aside_with_file_line_and_reason(tmp_path: Path) -> None:
    cut = [" - Written by Ørnås", "0.065736", "/ff9qCepil.png", "[{'name': 'Carousel'}]", "1997-08-20", "0"]
    bad = [TOY_STORY, metadata("1997-08-20", "Shifted"), metadata(5, "Odd", genres="[{'name': __import__('os')}]")]
    films = [*THE_MOVIES["movies_metadata.csv"].splitlines(), *csv_text(cut, bad).splitlines()]
    files = THE_MOVIES | {
        "movies_metadata.csv": "\n".join(films),
        "credits.csv": CREDITS + '"[{""name"": ""x"", }, (]",[],8844\n"[]","[]",862\n',
        "keywords.csv": KEYWORDS + "99,[]\n862,\"{'name': 'no list'}\"\n",
    }
    data = load(as_folder(tmp_path, files), config=LENIENT)
    found = [(row["file"], row["line"], row["reason"]) for row in data.rejects.to_pylist()]
    assert sorted(found) == [
        ("credits.csv", 4, "cast: broken JSON"),
        ("credits.csv", 5, "duplicate id: the first row stands"),
        ("keywords.csv", 4, "unknown film: its id is not in movies_metadata.csv"),
        ("keywords.csv", 5, "keywords: expected a JSON list of objects with a name"),
        ("movies_metadata.csv", 4, "too few fields: the line is cut short"),
        ("movies_metadata.csv", 5, "duplicate id: the first row stands"),
        ("movies_metadata.csv", 6, "the film id is not a whole number"),
        ("movies_metadata.csv", 7, "genres: broken JSON"),
    ]
    assert len(data.interactions) == 2


def test_a_literal_is_read_and_never_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    evil = f"[{{'name': open({str(mark)!r}, 'w').name}}]"
    folder = as_folder(tmp_path, THE_MOVIES | {"keywords.csv": csv_text(("id", "keywords"), [[862, evil]])})
    with pytest.raises(TooManyRejectsError, match="1 x keywords: broken JSON"):
        load(folder)
    assert not mark.exists()


def test_the_films_serve_as_tmdb_for_another_movielens(tmp_path: Path) -> None:
    films = as_folder(tmp_path, THE_MOVIES)
    links = "movieId,imdbId,tmdbId\n1,0114709,862\n2,0133093,\n"
    data = load(csv_form(tmp_path / "ml", links=links), tmdb=films)
    assert item(data, 1)["directors"] == ["John Lasseter"]
    assert item(data, 1)["genres"] == ["Adventure", "Animation"]  # MovieLens's own stand
    table, _ = tmdb.load(films)
    assert table["tmdb_id"].to_pylist() == [862, 8844]


def test_films_beside_the_ratings_are_read_unless_others_are_named(tmp_path: Path) -> None:
    beside = {name: text for name, text in THE_MOVIES.items() if "ratings" not in name} | {"movies.csv": MOVIES_CSV}
    beside["links.csv"] = beside.pop("links_small.csv")
    folder = csv_form(tmp_path / "data")
    write(folder, beside)
    assert item(load(folder), 1)["directors"] == ["John Lasseter"]
    other = tmdb_form(tmp_path / "other", [film(862, "Toy Story", overview="Another.")])
    named = item(load(folder, tmdb=other), 1)
    assert (named["directors"], named["overview"]) == ([], "Another.")
