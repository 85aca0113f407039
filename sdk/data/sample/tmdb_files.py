"""The sample's films as TMDB 5000's rows, column by column as Kaggle publishes them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from sdk.base.types import Int64s
from sdk.data.sample.films import GENRES, Film

_MOVIE_COLUMNS = (
    "budget", "genres", "homepage", "id", "keywords", "original_language", "original_title", "overview", "popularity",
    "production_companies", "production_countries", "release_date", "revenue", "runtime", "spoken_languages", "status",
    "tagline", "title", "vote_average", "vote_count",
)  # fmt: skip
_CREDIT_COLUMNS = ("movie_id", "title", "cast", "crew")
_TMDB_NAMES = {"Sci-Fi": "Science Fiction", "Children": "Family", "Musical": "Music"}
_FIRST_ID = 9_000_000  # above TMDB's own ids, so that no link leads to another film


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
