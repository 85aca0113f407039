"""The titles of a MovieLens data set, with their users' tags and links to TMDB."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa

from sdk.base import schema
from sdk.base.config import DataConfig
from sdk.base.errors import UnusableFileError
from sdk.data.archive import Source
from sdk.data.forms import METADATA_FILE, Form
from sdk.data.records import add_once, read_rows
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
_MOVIE_COLUMNS = ("movieId", "title", "genres")
_BEFORE_FLAGS = ("movie id", "title", "release date", "video release date", "IMDb URL")
Rows = dict[int, dict[str, Any]]
Tags = dict[int, list[str]]
Parse = Callable[[Sequence[str]], dict[str, Any]]


def read_items(
    source: Source, form: Form, config: DataConfig, films: pa.Table | None = None
) -> tuple[pa.Table, pa.Table]:
    """Read titles, tags and links.

    Args:
        source: where the files lie.
        form: which form they have.
        config: how many rows of each file may be bad.
        films: ``sdk.data.tmdb.FILMS`` of The Movies Dataset, whose titles are those of the films that links lead to.

    Returns:
        ``schema.ITEMS`` without TMDB's details, ascending by item_id; and the rejected rows, ``schema.REJECTS``.

    Raises:
        UnusableFileError: a file is empty or damaged.
        MissingColumnError: a file lacks a column.
        TooManyRejectsError: more of a file's rows are bad than the configuration allows.
    """
    if form.items == METADATA_FILE and films is not None:
        rejects = schema.REJECTS.empty_table()
        links, link_rejects = _read_links(source, form, None, config)
        rows = _linked_titles(source, form, links, films)
    else:
        rows, rejects = _read_titles(source, form, config)
        links, link_rejects = _read_links(source, form, rows, config)
    tags, tag_rejects = _read_tags(source, form, rows, config)
    for item_id, row in rows.items():
        row |= {"tags": sorted(tags.get(item_id, ())), "tmdb_id": links.get(item_id)}
    table = pa.Table.from_pylist([rows[item_id] for item_id in sorted(rows)], schema=schema.ITEMS)
    return table, pa.concat_tables([rejects, tag_rejects, link_rejects])


def _read_titles(source: Source, form: Form, config: DataConfig) -> tuple[Rows, pa.Table]:
    rows = Rows()
    columns, parse, separator = _title_format(source, form, config)

    def add(fields: Sequence[str]) -> None:
        row = parse(fields)
        add_once(rows, row["item_id"], row)

    rejects = read_rows(source, form.items, columns, add, config, separator=separator, encoding=form.encoding)
    if not rows:
        raise UnusableFileError(source.where(form.items), "it holds no title", "Export it again, with its rows.")
    return rows, rejects


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


def _title_format(source: Source, form: Form, config: DataConfig) -> tuple[Sequence[str], Parse, str]:
    """A titles file's columns, how to parse a row, and the separator."""
    if form.name != "100k":
        return _MOVIE_COLUMNS, lambda fields: _item(fields[0], fields[1], fields[2].split("|")), form.separator
    genres = _genre_names(source, config)
    return (*_BEFORE_FLAGS, *genres), _flagged_title(genres), "|"


def _flagged_title(genres: Sequence[str]) -> Parse:
    """A parser of 100K's rows: a flag per genre, and the release date in place of a year that the title lacks."""

    def parse(fields: Sequence[str]) -> dict[str, Any]:
        flags = [flag.strip() for flag in fields[len(_BEFORE_FLAGS) :]]
        if not set(flags) <= {"0", "1"}:
            raise BadRowError(BAD_FLAG)
        row = _item(fields[0], fields[1], [name for name, flag in zip(genres, flags, strict=True) if flag == "1"])
        released = re.fullmatch(r"[0-9]{2}-[A-Z][a-z]{2}-([0-9]{4})", fields[2].strip())
        if row["year"] is None and released:
            row["year"] = int(released[1])
        return row

    return parse


def _item(item_id: str, raw_title: str, genres: Sequence[str]) -> dict[str, Any]:
    title, year = split_title(raw_title)
    if not title:
        raise BadRowError(MISSING_TITLE)
    return _bare_item(whole_number(item_id, "item id"), title, year, clean_genres(genres))


def _bare_item(item_id: int, title: str, year: int | None, genres: Sequence[str]) -> dict[str, Any]:
    details: dict[str, Any] = {"overview": "", "keywords": [], "cast": [], "directors": [], "crew": [], "companies": []}
    return details | {"item_id": item_id, "title": title, "year": year, "genres": genres}


def _genre_names(source: Source, config: DataConfig) -> Sequence[str]:
    """100K's genre names in the order of their flags."""
    if _GENRES_FILE not in source:
        return _PUBLISHED_GENRES
    names: dict[int, str] = {}

    def add(fields: Sequence[str]) -> None:
        names[whole_number(fields[1], "genre number")] = fields[0]

    read_rows(source, _GENRES_FILE, ("name", "number"), add, config, separator="|", encoding="latin-1")
    if sorted(names) != list(range(len(names))):
        problem = f"its genres are numbered {sorted(names)}, not from 0 without a gap"
        raise UnusableFileError(source.where(_GENRES_FILE), problem, "Fetch the data set again.")
    return [names[number] for number in range(len(names))]


def _read_tags(source: Source, form: Form, items: Collection[int], config: DataConfig) -> tuple[Tags, pa.Table]:
    tags: Tags = defaultdict(list)

    def add(fields: Sequence[str]) -> None:
        whole_number(fields[0], "user id")
        item_id, tag = _known(fields[1], items), fields[2].strip().lower()
        seconds_of(fields[3])
        if not tag:
            raise BadRowError(MISSING_TAG)
        tags[item_id].append(tag)

    columns = ("userId", "movieId", "tag", "timestamp")
    rejects = read_rows(source, form.tags, columns, add, config, separator=form.separator, encoding=form.encoding)
    return tags, rejects


def _read_links(
    source: Source, form: Form, items: Collection[int] | None, config: DataConfig
) -> tuple[dict[int, int | None], pa.Table]:
    """Links of the known titles, some of them blank; of all where ``items`` is None, since titles are made of them."""
    links: dict[int, int | None] = {}

    def add(fields: Sequence[str]) -> None:
        item_id, tmdb_id = _known(fields[0], items), fields[1]
        add_once(links, item_id, whole_number(tmdb_id, "TMDB id") if tmdb_id.strip() else None)

    return links, read_rows(source, form.links, ("movieId", "tmdbId"), add, config)


def _known(text: str, items: Collection[int] | None) -> int:
    item_id = whole_number(text, "item id")
    if items is not None and item_id not in items:
        raise BadRowError(UNKNOWN_ITEM)
    return item_id
