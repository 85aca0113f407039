"""TMDB 5000: films with plot, keywords, cast and crew, from the two files as published."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from sdk import schema
from sdk.config import DataConfig
from sdk.data.archive import Source, find_source
from sdk.data.records import csv_records
from sdk.data.title_join import links_by_title
from sdk.data.titles import clean_genres
from sdk.data.validation import DUPLICATE_ID, MISSING_TITLE, BadRowError, RejectLog, is_unicode, whole_number
from sdk.errors import UnusableFileError

MOVIES_FILE = "tmdb_5000_movies.csv"
CREDITS_FILE = "tmdb_5000_credits.csv"
MAX_CAST = 20
BAD_DATE = "the release date is not of the form 1999-12-31"
CREW_JOBS = (
    "Screenplay", "Writer", "Novel", "Story", "Original Music Composer", "Director of Photography", "Editor",
    "Producer",
)  # fmt: skip
_MOVIE_COLUMNS = ("id", "title", "release_date", "genres", "overview", "keywords", "production_companies")
_CREDIT_COLUMNS = ("movie_id", "cast", "crew")
_TO_MOVIELENS = {"Science Fiction": "Sci-Fi", "Family": "Children", "Music": "Musical"}
_DETAILS = ("overview", "keywords", "cast", "directors", "crew", "companies")
_DEFAULT = DataConfig()
_STRINGS = pa.list_(pa.string())

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
    """Read TMDB 5000's two files.

    Args:
        path: a folder with ``tmdb_5000_movies.csv`` and ``tmdb_5000_credits.csv``, plain or ``.gz``; or Kaggle's zip.
        config: how many rows may be bad.

    Returns:
        The films as ``FILMS``, ascending by tmdb_id, unique; and the rejected rows of both files,
        ``schema.REJECTS``. A film whose credits are absent or rejected has empty credits.

    Raises:
        MissingFileError: a file is not there.
        MissingColumnError: a file lacks a column.
        UnusableFileError: a file is empty or damaged.
        TooManyRejectsError: more of a file's rows are bad than the configuration allows.
    """
    source = find_source(path, f"{MOVIES_FILE} and {CREDITS_FILE}", _has_both)
    films, movie_rejects = _read_films(source, config)
    credits_, credit_rejects = _read_credits(source, films, config)
    nothing: dict[str, Any] = {"cast": [], "directors": [], "crew": []}
    rows = [films[tmdb_id] | credits_.get(tmdb_id, nothing) for tmdb_id in sorted(films)]
    return pa.Table.from_pylist(rows, schema=FILMS), pa.concat_tables([movie_rejects, credit_rejects])


def as_items(films: pa.Table) -> pa.Table:
    """Films as a catalogue of their own, for a content model without MovieLens.

    Args:
        films: ``FILMS``.

    Returns:
        ``schema.ITEMS``: item_id is the tmdb_id, genres in MovieLens's words, no tags.
    """
    rows = [
        film | {"item_id": film["tmdb_id"], "tags": [], "genres": movielens_genres(film["genres"])}
        for film in films.to_pylist()
    ]
    return pa.Table.from_pylist(rows, schema=schema.ITEMS)


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
    """Fill in the ``tmdb_id`` of the titles that ``sdk.data.title_join`` finds by title and year.

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


def _has_both(names: Collection[str]) -> bool:
    return MOVIES_FILE in names and CREDITS_FILE in names


def _read_films(source: Source, config: DataConfig) -> tuple[dict[int, dict[str, Any]], pa.Table]:
    films: dict[int, dict[str, Any]] = {}

    def parse(fields: Sequence[str]) -> None:
        film = _film(*fields)
        _add_once(films, film["tmdb_id"], film)

    log = RejectLog(MOVIES_FILE)
    log.read(csv_records(source, log, _MOVIE_COLUMNS), parse)
    rejects = log.finish(source.where(MOVIES_FILE), config)
    if not films:
        raise UnusableFileError(source.where(MOVIES_FILE), "it holds no film", "Fetch it again.")
    return films, rejects


def _read_credits(source: Source, films: Collection[int], config: DataConfig) -> tuple[dict[int, Any], pa.Table]:
    credits_: dict[int, dict[str, Any]] = {}

    def parse(fields: Sequence[str]) -> None:
        tmdb_id = whole_number(fields[0], "film id")
        if tmdb_id not in films:
            raise BadRowError(f"unknown film: its id is not in {MOVIES_FILE}")
        _add_once(credits_, tmdb_id, _credits(fields[1], fields[2]))

    log = RejectLog(CREDITS_FILE)
    log.read(csv_records(source, log, _CREDIT_COLUMNS), parse)
    return credits_, log.finish(source.where(CREDITS_FILE), config)


def _add_once(rows: dict[int, dict[str, Any]], tmdb_id: int, row: dict[str, Any]) -> None:
    if tmdb_id in rows:
        raise BadRowError(DUPLICATE_ID)
    rows[tmdb_id] = row


def _film(
    id_: str, title: str, released: str, genres: str, overview: str, keywords: str, made_by: str
) -> dict[str, Any]:
    if not title.strip():
        raise BadRowError(MISSING_TITLE)
    return {
        "tmdb_id": whole_number(id_, "film id"),
        "title": title.strip(),
        "year": _year(released.strip()),
        "genres": sorted(_names(_entries(genres, "genres"))),
        "overview": overview.strip(),
        "keywords": _names(_entries(keywords, "keywords")),
        "companies": _names(_entries(made_by, "production_companies")),
    }


def _year(released: str) -> int | None:
    if not released:
        return None
    year, _, rest = released.partition("-")
    if not (len(year) == 4 and year.isascii() and year.isdigit() and rest):
        raise BadRowError(BAD_DATE)
    return int(year)


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
    """A JSON column: a list of objects that each have a name; blank is none.

    Raises:
        BadRowError: it is anything else.
    """
    try:
        entries = json.loads(text) if text.strip() else []
    except (ValueError, RecursionError):
        raise BadRowError(f"{what}: broken JSON") from None
    if not isinstance(entries, list) or not all(_is_named(entry) for entry in entries):
        raise BadRowError(f"{what}: expected a JSON list of objects with a name")
    return entries


def _is_named(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(name := entry.get("name"), str) and is_unicode(name)


def _name(entry: Mapping[str, Any]) -> str:
    return str(entry["name"]).strip()


def _names(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Their names, each once, in order; blank ones dropped."""
    return [name for name in dict.fromkeys(map(_name, entries)) if name]
