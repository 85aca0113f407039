"""The published forms of MovieLens, told apart by their file names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sdk.data.archive import Source, find_source
from sdk.data.records import csv_records, split_records
from sdk.data.validation import Record, RejectLog

WANTED = "MovieLens: u.data and u.item, or ratings.dat and movies.dat, or ratings.csv and movies.csv"
Reader = Callable[[Source, RejectLog], Iterator[Record]]


@dataclass(frozen=True, slots=True)
class Form:
    """One published form.

    Attributes:
        name: ``100k``, ``1m``, ``10m`` or ``csv`` (20M, 25M, 32M, latest and latest-small).
        ratings: name of the ratings file.
        items: name of the titles file.
        separator: between a rating's fields.
        users: name of the file with users' attributes, "" where the form has none.
        tags: name of the tags file, "" where the form has none.
        encoding: of the text files.
    """

    name: str
    ratings: str
    items: str
    separator: str
    users: str = ""
    tags: str = ""
    encoding: str = "utf-8"

    def records(self, source: Source, log: RejectLog, columns: Sequence[str], separator: str = "") -> Iterator[Record]:
        """Rows of one of the form's text files.

        Args:
            source: where the file lies.
            log: of this file.
            columns: the fields of a row: read by name from a CSV's header, by position elsewhere.
            separator: where it is not the ratings' own.
        """
        if self.name == "csv":
            return csv_records(source, log, columns)
        return split_records(source, log, separator or self.separator, len(columns), self.encoding)


FORMS = (
    Form("100k", "u.data", "u.item", "\t", users="u.user", encoding="latin-1"),
    Form("1m", "ratings.dat", "movies.dat", "::", users="users.dat", encoding="latin-1"),
    Form("10m", "ratings.dat", "movies.dat", "::", tags="tags.dat"),
    Form("csv", "ratings.csv", "movies.csv", ",", tags="tags.csv"),
)


def find_form(path: str | Path) -> tuple[Source, Form]:
    """Find MovieLens's files in a folder, in the nearest folder inside it that has a known form, or in a zip.

    Raises:
        MissingFileError: no folder there holds a known form; the message says what was found.
        UnusableFileError: several do, or the zip is damaged or unsafe.
    """
    source = find_source(path, WANTED, lambda names: _form_of(names) is not None)
    form = _form_of(source.members.keys())
    assert form is not None, "find_source accepts known forms only"
    return source, form


def _form_of(names: Collection[str]) -> Form | None:
    """The form of a folder; 1M is known from 10M by its users.dat."""
    for form in FORMS:
        if {form.ratings, form.items} <= set(names) and (form.name != "1m" or form.users in names):
            return form
    return None
