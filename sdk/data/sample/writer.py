"""The sample data set: real films, simulated ratings, in MovieLens's and TMDB 5000's own file formats.

It makes ``make nightly`` mean something on a machine without internet. The films' facts are public ones; everything
about users is drawn from a seed (``sdk.data.sample.simulated``) and stands for no person.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sdk.base.errors import ConfigError, OutputError
from sdk.base.files import write_file
from sdk.base.paths import as_path
from sdk.base.rights import reason
from sdk.base.types import Int64s, Interactions
from sdk.data.sample.films import GENRES, Film, read_films
from sdk.data.sample.simulated import Tags, simulate

log = logging.getLogger(__name__)
_MOVIE_COLUMNS = (
    "budget", "genres", "homepage", "id", "keywords", "original_language", "original_title", "overview", "popularity",
    "production_companies", "production_countries", "release_date", "revenue", "runtime", "spoken_languages", "status",
    "tagline", "title", "vote_average", "vote_count",
)  # fmt: skip
_CREDIT_COLUMNS = ("movie_id", "title", "cast", "crew")
_TMDB_NAMES = {"Sci-Fi": "Science Fiction", "Children": "Family", "Musical": "Music"}
_FIRST_ID = 9_000_000  # above TMDB's own ids, so that no link leads to another film
_ARTICLE = re.compile(r"(?P<article>The|An?|La(?! La)|Les?|Das|Il) (?P<rest>.+)")


def write_sample(folder: Path, *, seed: int = 7, num_users: int = 1200) -> tuple[Path, Path]:
    """Write the sample: ``ml-sample`` in MovieLens's form, ``tmdb-sample`` in TMDB 5000's.

    The same arguments write the same bytes. What MovieLens and TMDB know but we do not (IMDb's ids, budgets,
    characters …) is blank or 0, as they write it themselves where they do not know it; ids are our own.

    Args:
        folder: where the two folders go; made if absent, files of the same names are replaced.
        seed: 0 or more.
        num_users: 1 or more.

    Returns:
        The two folders, for ``movielens.load(first, tmdb=second)``.

    Raises:
        ConfigError: ``seed`` or ``num_users`` is out of its range.
        OutputError: the files cannot be written.
    """
    _check("seed", seed, 0)
    _check("num_users", num_users, 1)
    films = read_films()
    ratings, tags = simulate(films, seed, num_users)
    movielens, tmdb = as_path(folder) / "ml-sample", as_path(folder) / "tmdb-sample"
    _write(movielens / "ratings.csv", _ratings_text(ratings))
    _write(movielens / "movies.csv", _csv(_title_rows(films)))
    _write(movielens / "links.csv", _csv(_link_rows(films)))
    _write(movielens / "tags.csv", _csv(_tag_rows(ratings, tags)))
    _write(tmdb / "tmdb_5000_movies.csv", _csv(movie_rows(films, *_votes(films, ratings))))
    _write(tmdb / "tmdb_5000_credits.csv", _csv(credit_rows(films)))
    log.info("the sample: films' facts, and %s ratings that were simulated", f"{len(ratings):,}")
    return movielens, tmdb


def _check(name: str, got: int, least: int) -> None:
    if got < least:
        raise ConfigError(write_sample.__name__, name, got, f"at least {least}")


def _ratings_text(ratings: Interactions) -> str:
    halves = np.rint(2 * ratings.rating).astype(np.int64).tolist()
    columns = (ratings.user_id.tolist(), ratings.item_id.tolist(), halves, ratings.timestamp.tolist())
    lines = [f"{user},{item},{half // 2}.{half % 2 * 5},{at}" for user, item, half, at in zip(*columns, strict=True)]
    return "\n".join(["userId,movieId,rating,timestamp", *lines, ""])


def _title_rows(films: Sequence[Film]) -> list[Sequence[object]]:
    rows = [(film.item_id, movielens_title(film.title, film.year), "|".join(film.genres)) for film in films]
    return [("movieId", "title", "genres"), *rows]


def movielens_title(title: str, year: int) -> str:
    """A title as MovieLens prints it: ``The Matrix`` of 1999 is ``Matrix, The (1999)``."""
    match = _ARTICLE.fullmatch(title)
    name = f"{match['rest']}, {match['article']}" if match else title
    return f"{name} ({year})"


def _link_rows(films: Sequence[Film]) -> list[Sequence[object]]:
    return [("movieId", "imdbId", "tmdbId"), *((film.item_id, "", tmdb_id(film)) for film in films)]


def _tag_rows(ratings: Interactions, tags: Tags) -> list[Sequence[object]]:
    users, items = ratings.user_id[tags.row].tolist(), ratings.item_id[tags.row].tolist()
    return [
        ("userId", "movieId", "tag", "timestamp"),
        *zip(users, items, tags.tag, tags.timestamp.tolist(), strict=True),
    ]


def _votes(films: Sequence[Film], ratings: Interactions) -> tuple[Int64s, Int64s]:
    """(I,) number of ratings and (I,) sum of their half stars, per film."""
    at, size = ratings.item_id, len(films) + 1
    halves = np.bincount(at, weights=2 * ratings.rating, minlength=size)[1:]
    return np.bincount(at, minlength=size)[1:].astype(np.int64), np.rint(halves).astype(np.int64)


def _csv(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, text, durable=False)
    except OSError as error:
        message = f"{path}: the sample cannot be written ({reason(error)}). Name a folder that can be written to."
        raise OutputError(message) from error


def tmdb_id(film: Film) -> int:
    """The film's id in the TMDB files."""
    return _FIRST_ID + film.item_id


def movie_rows(films: Sequence[Film], votes: Int64s, halves: Int64s) -> list[Sequence[object]]:
    """``tmdb_5000_movies.csv``, header included.

    Args:
        films: (I,) the catalogue.
        votes: (I,) int64, number of ratings of each film.
        halves: (I,) int64, sum of its ratings in half stars, that is, on TMDB's scale of ten.
    """
    genre_ids, keyword_ids = _ids([GENRES]), _ids(film.keywords for film in films)
    counted = zip(films, votes.tolist(), halves.tolist(), strict=True)
    rows = [_movie_row(film, genre_ids, keyword_ids, n, total) for film, n, total in counted]
    return [_MOVIE_COLUMNS, *rows]


def _movie_row(
    film: Film, genre_ids: dict[str, int], keyword_ids: dict[str, int], votes: int, halves: int
) -> Sequence[object]:
    genres = [{"id": genre_ids[name], "name": _TMDB_NAMES.get(name, name)} for name in film.genres]
    keywords = [{"id": keyword_ids[name], "name": name} for name in film.keywords]
    average = (20 * halves + votes) // (2 * votes) / 10 if votes else 0.0  # rounded in whole numbers
    return (
        0, json.dumps(genres), "", tmdb_id(film), json.dumps(keywords), "", film.title, film.overview, float(votes),
        "[]", "[]", f"{film.year}-01-01", 0, "", "[]", "Released", "", film.title, average, votes,
    )  # fmt: skip


def credit_rows(films: Sequence[Film]) -> list[Sequence[object]]:
    """``tmdb_5000_credits.csv``, header included: leading cast in billing order, directors as crew."""
    person_ids = _ids((*film.directors, *film.cast) for film in films)
    return [_CREDIT_COLUMNS, *(_credit_row(film, person_ids) for film in films)]


def _credit_row(film: Film, person_ids: dict[str, int]) -> Sequence[object]:
    cast = [
        {"cast_id": n, "character": "", "credit_id": f"{film.item_id}-cast-{n}", "gender": 0}
        | {"id": person_ids[name], "name": name, "order": n}
        for n, name in enumerate(film.cast)
    ]
    crew = [
        {"credit_id": f"{film.item_id}-crew-{n}", "department": "Directing", "gender": 0}
        | {"id": person_ids[name], "job": "Director", "name": name}
        for n, name in enumerate(film.directors)
    ]
    return tmdb_id(film), film.title, json.dumps(cast), json.dumps(crew)


def _ids(lists: Iterable[Sequence[str]]) -> dict[str, int]:
    """A number from 1 for each name, in order of names."""
    return {name: number for number, name in enumerate(sorted({name for names in lists for name in names}), start=1)}
