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
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from sdk.base.errors import ConfigError, OutputError
from sdk.base.files import write_file
from sdk.base.paths import as_path
from sdk.base.rights import reason
from sdk.base.types import Interactions
from sdk.data.sample.films import GENRES, Film, read_films
from sdk.data.sample.simulated import simulate

log = logging.getLogger(__name__)
_MOVIE_COLUMNS = (
    "budget", "genres", "homepage", "id", "keywords", "original_language", "original_title", "overview", "popularity",
    "production_companies", "production_countries", "release_date", "revenue", "runtime", "spoken_languages", "status",
    "tagline", "title", "vote_average", "vote_count",
)  # fmt: skip
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
    for name, got, least in (("seed", seed, 0), ("num_users", num_users, 1)):
        if got < least:
            raise ConfigError(write_sample.__name__, name, got, f"at least {least}")
    films = read_films()
    ratings, tags = simulate(films, seed, num_users)
    movielens, tmdb = as_path(folder) / "ml-sample", as_path(folder) / "tmdb-sample"
    titles = ((film.item_id, movielens_title(film.title, film.year), "|".join(film.genres)) for film in films)
    _write(movielens / "ratings.csv", ("userId", "movieId", "rating", "timestamp"), _rating_rows(ratings))
    _write(movielens / "movies.csv", ("movieId", "title", "genres"), titles)
    links = ((film.item_id, "", tmdb_id(film)) for film in films)
    _write(movielens / "links.csv", ("movieId", "imdbId", "tmdbId"), links)
    tagged = (ratings.user_id[tags.row].tolist(), ratings.item_id[tags.row].tolist(), tags.tag, tags.timestamp.tolist())
    _write(movielens / "tags.csv", ("userId", "movieId", "tag", "timestamp"), zip(*tagged, strict=True))
    _write(tmdb / "tmdb_5000_movies.csv", _MOVIE_COLUMNS, _movie_rows(films, ratings))
    _write(tmdb / "tmdb_5000_credits.csv", ("movie_id", "title", "cast", "crew"), _credit_rows(films))
    log.info("the sample: films' facts, and %s ratings that were simulated", f"{len(ratings):,}")
    return movielens, tmdb


def _rating_rows(ratings: Interactions) -> Iterator[Sequence[object]]:
    halves = np.rint(2 * ratings.rating).astype(np.int64).tolist()
    columns = (ratings.user_id.tolist(), ratings.item_id.tolist(), halves, ratings.timestamp.tolist())
    return ((user, item, f"{half // 2}.{half % 2 * 5}", at) for user, item, half, at in zip(*columns, strict=True))


def movielens_title(title: str, year: int) -> str:
    """A title as MovieLens prints it: ``The Matrix`` of 1999 is ``Matrix, The (1999)``."""
    match = _ARTICLE.fullmatch(title)
    name = f"{match['rest']}, {match['article']}" if match else title
    return f"{name} ({year})"


def tmdb_id(film: Film) -> int:
    """The film's id in the TMDB files."""
    return _FIRST_ID + film.item_id


def _movie_rows(films: Sequence[Film], ratings: Interactions) -> Iterator[Sequence[object]]:
    """The films with their number of ratings, and the ratings' mean on TMDB's scale of ten."""
    genre_ids, keyword_ids = _ids([GENRES]), _ids(film.keywords for film in films)
    votes = np.bincount(ratings.item_id, minlength=len(films) + 1)[1:].tolist()
    halves = np.bincount(ratings.item_id, weights=2 * ratings.rating, minlength=len(films) + 1)[1:]
    for film, voted, total in zip(films, votes, np.rint(halves).astype(np.int64).tolist(), strict=True):
        genres = [{"id": genre_ids[name], "name": _TMDB_NAMES.get(name, name)} for name in film.genres]
        keywords = [{"id": keyword_ids[name], "name": name} for name in film.keywords]
        average = (20 * total + voted) // (2 * voted) / 10 if voted else 0.0  # rounded in whole numbers
        yield (
            0, json.dumps(genres), "", tmdb_id(film), json.dumps(keywords), "", film.title, film.overview,
            float(voted), "[]", "[]", f"{film.year}-01-01", 0, "", "[]", "Released", "", film.title, average, voted,
        )  # fmt: skip


def _credit_rows(films: Sequence[Film]) -> Iterator[Sequence[object]]:
    """Leading cast in billing order, directors as crew."""
    person_ids = _ids((*film.directors, *film.cast) for film in films)
    for film in films:
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
        yield tmdb_id(film), film.title, json.dumps(cast), json.dumps(crew)


def _ids(lists: Iterable[Sequence[str]]) -> dict[str, int]:
    """A number from 1 for each name, in order of names."""
    return {name: number for number, name in enumerate(sorted({name for names in lists for name in names}), start=1)}


def _write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, text.getvalue(), durable=False)
    except OSError as error:
        message = f"{path}: the sample cannot be written ({reason(error)}). Name a folder that can be written to."
        raise OutputError(message) from error
