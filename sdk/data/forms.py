"""The published forms of MovieLens, and of The Movies Dataset on Kaggle, told apart by their file names."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from sdk.base.errors import UnusableFileError
from sdk.data.archive import Source, find_source

log = logging.getLogger(__name__)
WANTED = (
    "MovieLens: u.data and u.item, or ratings.dat and movies.dat, or rating.csv and movie.csv, or ratings.csv, "
    "links.csv and movies_metadata.csv, or ratings.csv and movies.csv"
)
METADATA_FILE = "movies_metadata.csv"


@dataclass(frozen=True, slots=True)
class Form:
    """One published form.

    Attributes:
        name: ``100k``, ``1m``, ``10m`` or ``csv`` (20M, 25M, 32M, latest and latest-small; on Kaggle 20M and The
            Movies Dataset).
        ratings: name of the ratings file.
        items: name of the titles file; in The Movies Dataset the films, whose ids are TMDB's.
        separator: between fields, but in links.csv and in the titles and users of 100K.
        users: name of the file with users' attributes, "" where the form has none.
        tags: name of the tags file, "" where the form has none.
        links: name of the file from item_id to TMDB's id, "" where the form has none.
        encoding: of the text files.
    """

    name: str
    ratings: str
    items: str
    separator: str
    users: str = ""
    tags: str = ""
    links: str = ""
    encoding: str = "utf-8"


_TEXT_FORMS = (
    Form("100k", "u.data", "u.item", "\t", users="u.user", links="links.csv", encoding="latin-1"),
    Form("1m", "ratings.dat", "movies.dat", "::", users="users.dat", links="links.csv", encoding="latin-1"),
    Form("10m", "ratings.dat", "movies.dat", "::", tags="tags.dat", links="links.csv"),
)
_CSV_NAMES = {
    "ratings": ("ratings.csv", "rating.csv", "ratings_small.csv"),
    "items": ("movies.csv", "movie.csv", METADATA_FILE),
    "tags": ("tags.csv", "tag.csv"),
    "links": ("links.csv", "link.csv", "links_small.csv"),
}
"""The names of each file of the CSV form; of several in one folder the first is read."""
RATINGS_FILES = (*dict.fromkeys(form.ratings for form in _TEXT_FORMS), *_CSV_NAMES["ratings"])


def find_form(path: str | Path) -> tuple[Source, Form]:
    """Find MovieLens's files in a folder, in the nearest folder inside it that has a known form, or in a zip.

    Where two files of one kind are there, ``ratings.csv`` and ``ratings_small.csv`` say, the log says which is read.

    Raises:
        MissingFileError: no folder there holds a known form; the message says what was found.
        UnusableFileError: several do, or the zip is damaged or unsafe, or The Movies Dataset lacks its links.
    """
    source, form = find_source(path, WANTED, _form_of)
    if form.items == METADATA_FILE and not form.links:
        problem = f"the ids of {METADATA_FILE} are TMDB's, and no links.csv leads from the ratings' movieId to them"
        raise UnusableFileError(path, problem, "Put links.csv (or links_small.csv) of the same data set beside it.")
    if form.name == "csv":
        _log_unread(source, form)
    return source, form


def find_ratings(path: str | Path) -> tuple[Source, str]:
    """Find the ratings file to read where ratings are all that is wanted; as ``find_form`` looks for it."""
    wanted = " or ".join(sorted(RATINGS_FILES))
    return find_source(path, wanted, lambda names: next((name for name in RATINGS_FILES if name in names), None))


def _log_unread(source: Source, form: Form) -> None:
    for kind, names in _CSV_NAMES.items():
        unread = [name for name in names if name in source and name != getattr(form, kind) and name != METADATA_FILE]
        if unread:
            log.info("%s: %s is read; %s, too, is there and is not", source.path, getattr(form, kind), unread[0])


def _form_of(names: Collection[str]) -> Form | None:
    """The form of a folder; 1M is known from 10M by its users.dat."""
    for form in _TEXT_FORMS:
        if {form.ratings, form.items} <= set(names) and (form.name != "1m" or form.users in names):
            return form
    found = {kind: next((name for name in several if name in names), "") for kind, several in _CSV_NAMES.items()}
    return Form("csv", separator=",", **found) if found["ratings"] and found["items"] else None
