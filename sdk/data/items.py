"""The titles of a MovieLens data set, with their users' tags and links to TMDB; and what it tells about its users."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sdk.base import schema
from sdk.base.errors import UnusableFileError
from sdk.base.types import Int64s
from sdk.data.archive import Source
from sdk.data.forms import METADATA_FILE, Form
from sdk.data.records import Fields, TextFiles
from sdk.data.times import seconds_of
from sdk.data.titles import clean_genres, split_title
from sdk.data.validation import MISSING_TITLE, UNKNOWN_ITEM, BadRowError, whole_number

log = logging.getLogger(__name__)
BAD_FLAG = "a genre flag is neither 0 nor 1"
MISSING_TAG = "the tag is missing"
_GENRES_FILE = "u.genre"
_PUBLISHED_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
_BEFORE_FLAGS = ("movie id", "title", "release date", "video release date", "IMDb URL")
OCCUPATIONS = (
    "other or not specified", "academic/educator", "artist", "clerical/admin", "college/grad student",
    "customer service", "doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer",
    "programmer", "retired", "sales/marketing", "scientist", "self-employed", "technician/engineer",
    "tradesman/craftsman", "unemployed", "writer",
)  # fmt: skip
"""1M's occupations by their number (MovieLens 1M README)."""
_OLDEST = 130
Rows = dict[int, dict[str, Any]]


def read_items(files: TextFiles, form: Form, films: pa.Table | None = None) -> pa.Table:
    """Read titles, tags and links.

    Args:
        files: the data set's text files.
        form: which form they have.
        films: ``sdk.data.tmdb.FILMS`` of The Movies Dataset, whose titles are those of the films that links lead to.

    Returns:
        ``schema.ITEMS`` without TMDB's details, ascending by item_id.

    Raises:
        UnusableFileError: a file is empty or damaged.
        MissingColumnError: a file lacks a column.
        TooManyRejectsError: more of a file's rows are bad than the configuration allows.
    """
    of_films = form.items == METADATA_FILE
    links = _read_links(files, form, None) if of_films else {}
    rows = _linked_titles(files.source, form, links, films) if of_films else _read_titles(files, form)
    tags = _read_tags(files, form, rows)
    if not of_films:
        links = _read_links(files, form, rows)
    for item_id, row in rows.items():
        row |= {"tags": sorted(tags.get(item_id, ())), "tmdb_id": links.get(item_id)}
    return pa.Table.from_pylist([rows[item_id] for item_id in sorted(rows)], schema=schema.ITEMS)


def _read_titles(files: TextFiles, form: Form) -> Rows:
    is_100k = form.name == "100k"
    genres = _genre_names(files) if is_100k else ()
    columns = (*_BEFORE_FLAGS, *genres) if is_100k else ("movieId", "title", "genres")

    def parse(fields: Fields) -> tuple[int, dict[str, Any]]:
        row = _flagged_title(fields, genres) if is_100k else _item(fields[0], fields[1], fields[2].split("|"))
        return row["item_id"], row

    rows = files.by_id(form.items, columns, parse, "|" if is_100k else form.separator)
    if not rows:
        where = files.source.where(form.items)
        raise UnusableFileError(where, "it holds no title", "Export it again, with its rows.")
    return rows


def _linked_titles(source: Source, form: Form, links: Mapping[int, int | None], films: pa.Table) -> Rows:
    """A title for each link to a film."""
    titles = dict(zip(films["tmdb_id"].to_pylist(), films["title"].to_pylist(), strict=True))
    rows = {item: _bare_item(item, titles[film], None, []) for item, film in links.items() if film in titles}
    log.info(
        "%s: %s of %s titles have a film in %s; ratings of the others are set aside",
        source.where(form.links), f"{len(rows):,}", f"{len(links):,}", METADATA_FILE,
    )  # fmt: skip
    if not rows:
        problem = f"it leads to none of the films in {METADATA_FILE}"
        raise UnusableFileError(source.where(form.links), problem, "Take both files from the same data set.")
    return rows


def _flagged_title(fields: Sequence[str], genres: Sequence[str]) -> dict[str, Any]:
    """A row of 100K: a flag per genre, and the release date in place of a year that the title lacks."""
    flags = [flag.strip() for flag in fields[len(_BEFORE_FLAGS) :]]
    if not set(flags) <= {"0", "1"}:
        raise BadRowError(BAD_FLAG)
    row = _item(fields[0], fields[1], [name for name, flag in zip(genres, flags, strict=True) if flag == "1"])
    released = re.fullmatch(r"[0-9]{2}-[A-Z][a-z]{2}-([0-9]{4})", fields[2].strip())
    if row["year"] is None and released:
        row["year"] = int(released[1])
    return row


def _item(item_id: str, raw_title: str, genres: Sequence[str]) -> dict[str, Any]:
    title, year = split_title(raw_title)
    if not title:
        raise BadRowError(MISSING_TITLE)
    return _bare_item(whole_number(item_id, "item id"), title, year, clean_genres(genres))


def _bare_item(item_id: int, title: str, year: int | None, genres: Sequence[str]) -> dict[str, Any]:
    details: dict[str, Any] = {"overview": "", "keywords": [], "cast": [], "directors": [], "crew": [], "companies": []}
    return details | {"item_id": item_id, "title": title, "year": year, "genres": genres}


def _genre_names(files: TextFiles) -> Sequence[str]:
    """100K's genre names in the order of their flags."""
    if _GENRES_FILE not in files.source:
        return _PUBLISHED_GENRES

    def parse(fields: Fields) -> tuple[int, str]:
        return whole_number(fields[1], "genre number"), fields[0]

    names = files.by_id(_GENRES_FILE, ("name", "number"), parse, "|")
    if sorted(names) != list(range(len(names))):
        problem = f"its genres are numbered {sorted(names)}, not from 0 without a gap"
        raise UnusableFileError(files.source.where(_GENRES_FILE), problem, "Fetch the data set again.")
    return [names[number] for number in range(len(names))]


def _read_tags(files: TextFiles, form: Form, items: Collection[int]) -> dict[int, list[str]]:
    tags: dict[int, list[str]] = defaultdict(list)

    def add(fields: Fields) -> None:
        whole_number(fields[0], "user id")
        item_id, tag = _known(fields[1], items), fields[2].strip().lower()
        seconds_of(fields[3])
        if not tag:
            raise BadRowError(MISSING_TAG)
        tags[item_id].append(tag)

    files.read(form.tags, ("userId", "movieId", "tag", "timestamp"), add, form.separator)
    return tags


def _read_links(files: TextFiles, form: Form, items: Collection[int] | None) -> dict[int, int | None]:
    """Links of the known titles, some of them blank; of all where ``items`` is None, since titles are made of them."""

    def parse(fields: Fields) -> tuple[int, int | None]:
        return _known(fields[0], items), whole_number(fields[1], "TMDB id") if fields[1].strip() else None

    return files.by_id(form.links, ("movieId", "tmdbId"), parse)


def _known(text: str, items: Collection[int] | None) -> int:
    item_id = whole_number(text, "item id")
    if items is not None and item_id not in items:
        raise BadRowError(UNKNOWN_ITEM)
    return item_id


def read_users(files: TextFiles, form: Form, rated: Int64s) -> pa.Table:
    """All users: those with a rating and those with attributes.

    Args:
        files: the data set's text files.
        form: which form they have. Ages are years in 100K; in 1M the first year of a bracket, and 1 for under 18.
        rated: (N,) int64, the user of every accepted rating.

    Returns:
        ``schema.USERS``, ascending by user_id.

    Raises:
        TooManyRejectsError: more rows are bad than the configuration allows.
    """
    is_100k = form.name == "100k"

    def parse(fields: Fields) -> tuple[int, dict[str, Any]]:
        user_id, second, third, occupation, zip_code = fields
        age, gender = (second, third) if is_100k else (third, second)
        user: dict[str, Any] = {
            "occupation": (occupation.strip() if is_100k else _numbered_occupation(occupation)) or None,
            "age": _age(age),
            "user_id": whole_number(user_id, "user id"),
            "gender": gender.strip() or None,
            "zip_prefix": zip_code.strip()[:3] or None,
        }
        return user["user_id"], user

    columns = ("user id", "age or gender", "gender or age", "occupation", "zip code")
    known = files.by_id(form.users, columns, parse, "|" if is_100k else form.separator)
    ids = sorted(known.keys() | set(pc.unique(pa.array(rated)).to_pylist()))
    if not known:
        nothing = [pa.nulls(len(ids), field.type) for field in list(schema.USERS)[1:]]
        return pa.Table.from_arrays([pa.array(ids, pa.int64()), *nothing], schema=schema.USERS)
    return pa.Table.from_pylist([known.get(i, {"user_id": i}) for i in ids], schema=schema.USERS)


def _numbered_occupation(text: str) -> str:
    number = whole_number(text, "occupation")
    if number >= len(OCCUPATIONS):
        raise BadRowError(f"the occupation is none of 0 to {len(OCCUPATIONS) - 1}")
    return OCCUPATIONS[number]


def _age(text: str) -> int:
    years = whole_number(text, "age")
    if years > _OLDEST:
        raise BadRowError(f"the age is above {_OLDEST}")
    return years
