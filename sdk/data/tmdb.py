"""TMDB's films with plot, keywords, cast and crew: TMDB 5000, and The Movies Dataset, from the files as published."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from sdk.base import schema
from sdk.base.config import DataConfig
from sdk.base.errors import UnusableFileError
from sdk.data.archive import Source, find_source
from sdk.data.forms import METADATA_FILE
from sdk.data.records import TextFiles
from sdk.data.titles import clean_genres, links_by_title
from sdk.data.validation import MISSING_TITLE, BadRowError, is_unicode, whole_number

MAX_CAST = 20
BAD_DATE = "the release date is not of the form 1999-12-31"
CREW_JOBS = (
    "Screenplay", "Writer", "Novel", "Story", "Original Music Composer", "Director of Photography", "Editor",
    "Producer",
)  # fmt: skip
_FILM_COLUMNS = ("id", "title", "release_date", "genres", "overview", "production_companies")
_TO_MOVIELENS = {"Science Fiction": "Sci-Fi", "Family": "Children", "Music": "Musical"}
_DETAILS = ("overview", "keywords", "cast", "directors", "crew", "companies")
_DEFAULT = DataConfig()
_STRINGS = pa.list_(pa.string())
Films = dict[int, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class FilmForm:
    """One published form.

    Attributes:
        movies: name of the films file.
        credits: name of the file with cast and crew.
        credits_id: the film id's column in it.
        keywords: name of the file with the keywords, "" where the films file has them.
    """

    movies: str
    credits: str
    credits_id: str
    keywords: str


TMDB_5000 = FilmForm("tmdb_5000_movies.csv", "tmdb_5000_credits.csv", "movie_id", "")
THE_MOVIES = FilmForm(METADATA_FILE, "credits.csv", "id", "keywords.csv")
WANTED = f"{METADATA_FILE}, or {TMDB_5000.movies} and {TMDB_5000.credits}"
FILMS = pa.schema(
    [
        pa.field("tmdb_id", pa.int64(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("year", pa.int32()),  # null where there is no release date
        pa.field("genres", _STRINGS, nullable=False),  # TMDB's own names, sorted
        *(schema.ITEMS.field(name) for name in _DETAILS),
    ]
)


def load(path: str | Path, config: DataConfig = _DEFAULT) -> tuple[pa.Table, pa.Table]:
    """Read the films of TMDB 5000 or of The Movies Dataset.

    Args:
        path: a folder or Kaggle's zip, the files plain or ``.gz``: ``tmdb_5000_movies.csv`` and
            ``tmdb_5000_credits.csv``; or ``movies_metadata.csv``, with ``credits.csv`` and ``keywords.csv`` if there.
        config: how many rows may be bad.

    Returns:
        The films as ``FILMS``, ascending by tmdb_id, unique; and the rejected rows of all files,
        ``schema.REJECTS``. A film whose credits or keywords are absent or rejected has empty ones.

    Raises:
        MissingFileError: a file is not there.
        MissingColumnError: a file lacks a column.
        UnusableFileError: a file is empty or damaged.
        TooManyRejectsError: more of a file's rows are bad than the configuration allows.
    """
    return read_films(*find_source(path, WANTED, film_form), config)


def film_form(names: Collection[str]) -> FilmForm | None:
    """The form of the films in a folder: TMDB 5000 with its credits, or The Movies Dataset; else None."""
    found = (form for form in (TMDB_5000, THE_MOVIES) if form.movies in names)
    return next((form for form in found if form.keywords or form.credits in names), None)


def read_films(source: Source, form: FilmForm, config: DataConfig) -> tuple[pa.Table, pa.Table]:
    """``load`` where the folder is found already."""
    files = TextFiles(source, config)
    films = _read_movies(files, form)
    _read_details(files, form, form.keywords, ("id", "keywords"), films, _keywords)
    _read_details(files, form, form.credits, (form.credits_id, "cast", "crew"), films, _credits)
    table = pa.Table.from_pylist([films[tmdb_id] for tmdb_id in sorted(films)], schema=FILMS)
    return table, pa.concat_tables(files.rejects)


def add_to_items(items: pa.Table, films: pa.Table) -> pa.Table:
    """Add TMDB's details to the titles whose ``tmdb_id`` it knows.

    Titles and genres stay as they are; an item without genres or year takes TMDB's.

    Args:
        items: ``schema.ITEMS``.
        films: ``FILMS``.

    Returns:
        ``schema.ITEMS``, the same rows in the same order.
    """
    by_id = {film["tmdb_id"]: film for film in films.to_pylist()}
    rows = [_joined(item, by_id.get(item["tmdb_id"])) for item in items.to_pylist()]
    return pa.Table.from_pylist(rows, schema=schema.ITEMS)


def link_by_title(items: pa.Table, films: pa.Table) -> pa.Table:
    """Fill in the ``tmdb_id`` of the titles that ``sdk.data.titles`` finds by title and year.

    Args:
        items: ``schema.ITEMS`` of a data set that has no links; every ``tmdb_id`` is replaced.
        films: ``FILMS``.

    Returns:
        ``schema.ITEMS``, the same rows in the same order; ``tmdb_id`` is null where no film, or more than one, fits.
    """
    links = links_by_title(items.select(["item_id", "title", "year"]).to_pylist(), films.to_pylist())
    column = pa.array([links.get(item_id) for item_id in items["item_id"].to_pylist()], pa.int64())
    return items.set_column(items.schema.get_field_index("tmdb_id"), schema.ITEMS.field("tmdb_id"), column)


def movielens_genres(names: Iterable[str]) -> list[str]:
    """TMDB's genre names in MovieLens's words where it has one, the others as they are; sorted."""
    return clean_genres(_TO_MOVIELENS.get(name, name) for name in names)


def _joined(item: dict[str, Any], film: Mapping[str, Any] | None) -> dict[str, Any]:
    if film is None:
        return item
    details = {name: film[name] for name in _DETAILS}
    genres = item["genres"] or movielens_genres(film["genres"])
    return item | details | {"genres": genres, "year": film["year"] if item["year"] is None else item["year"]}


def _read_movies(files: TextFiles, form: FilmForm) -> Films:
    columns = _FILM_COLUMNS if form.keywords else (*_FILM_COLUMNS, "keywords")
    films = files.by_id(form.movies, columns, lambda fields: _film(*fields))
    if not films:
        raise UnusableFileError(files.source.where(form.movies), "it holds no film", "Fetch it again.")
    return films


def _read_details(
    files: TextFiles,
    form: FilmForm,
    file: str,
    columns: Sequence[str],
    films: Films,
    details: Callable[..., dict[str, Any]],
) -> None:
    """Add what a file knows of the films, in whose first column their id stands."""

    def parse(fields: Sequence[str]) -> tuple[int, dict[str, Any]]:
        tmdb_id = whole_number(fields[0], "film id")
        if tmdb_id not in films:
            raise BadRowError(f"unknown film: its id is not in {form.movies}")
        return tmdb_id, details(*fields[1:])

    for tmdb_id, found in files.by_id(file, columns, parse).items():
        films[tmdb_id] |= found


def _film(
    id_: str, title: str, released: str, genres: str, overview: str, made_by: str, keywords: str = ""
) -> tuple[int, dict[str, Any]]:
    if not title.strip():
        raise BadRowError(MISSING_TITLE)
    film = {
        "tmdb_id": whole_number(id_, "film id"),
        "title": title.strip(),
        "year": _year(released.strip()),
        "genres": sorted(_names(_entries(genres, "genres"))),
        "overview": overview.strip(),
        "companies": _names(_entries(made_by, "production_companies")),
        **_keywords(keywords),
        **{name: [] for name in ("cast", "directors", "crew")},
    }
    return film["tmdb_id"], film


def _keywords(keywords: str) -> dict[str, Any]:
    return {"keywords": _names(_entries(keywords, "keywords"))}


def _year(released: str) -> int | None:
    date = re.fullmatch("([0-9]{4})-.+", released, re.DOTALL)
    if released and not date:
        raise BadRowError(BAD_DATE)
    return int(date[1]) if date else None


def _credits(cast: str, crew: str) -> dict[str, Any]:
    people = _entries(crew, "crew")
    billing = sorted(_entries(cast, "cast"), key=_billing)
    directors = _names(person for person in people if person.get("job") == "Director")
    by_job = [[p for p in people if p.get("job") == job and _name(p) not in directors] for job in CREW_JOBS]
    others = _names(person for same_job in by_job for person in same_job)
    return {"cast": _names(billing)[:MAX_CAST], "directors": directors, "crew": others}


def _billing(actor: Mapping[str, Any]) -> float:
    order = actor.get("order")
    return order if isinstance(order, int) else float("inf")


def _entries(text: str, what: str) -> list[dict[str, Any]]:
    """A JSON column, or one of Python literals: a list of objects that each have a name; blank is none.

    Raises:
        BadRowError: it is anything else.
    """
    try:
        entries = _value_of(text) if text.strip() else []
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise BadRowError(f"{what}: broken JSON") from None
    if not isinstance(entries, list) or not all(_is_named(entry) for entry in entries):
        raise BadRowError(f"{what}: expected a JSON list of objects with a name")
    return entries


def _value_of(text: str) -> object:
    """The value of JSON or, as pandas writes lists into a CSV, of a Python literal."""
    try:
        return json.loads(text)
    except ValueError:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the parser's, of backslashes in the films' texts
            return ast.literal_eval(text.strip())


def _is_named(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(name := entry.get("name"), str) and is_unicode(name)


def _name(entry: Mapping[str, Any]) -> str:
    return str(entry["name"]).strip()


def _names(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Their names, each once, in order; blank ones dropped."""
    return [name for name in dict.fromkeys(map(_name, entries)) if name]
