"""Small text files (titles, tags, links, users, films), row by row, with the right line number for every row.

Ratings are not read here: ``sdk.data.ratings`` reads those in Arrow blocks.
"""

from __future__ import annotations

import csv
import io
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import pyarrow as pa

from sdk.base import schema
from sdk.base.config import DataConfig
from sdk.base.errors import MissingColumnError, UnusableFileError
from sdk.data.archive import Source
from sdk.data.foreign import resaved, runnable
from sdk.data.validation import (
    DUPLICATE_ID,
    EMPTY_LINE,
    NOT_UTF8,
    BadRowError,
    check_share,
    is_unicode,
    rejects_table,
    require_width,
)

_MAX_RECORD_LINES = 1000  # a quote still open after so many lines was never meant to span them
_MAX_LINE = 1 << 27  # bytes
_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
_SAME = {"itemid": "movieid"}
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_MAX_FIELD = 1 << 26  # characters; a TMDB cast can exceed the csv module's own limit of 131,072
Value = TypeVar("Value")
Fields = Sequence[str]


@dataclass(frozen=True)
class TextFiles:
    """The small text files of one data set.

    Attributes:
        source: where they lie.
        config: how many rows of each may be bad.
        encoding: ``latin-1`` or ``utf-8``, of those that are no CSV.
        rejects: ``schema.REJECTS`` of each file read so far, in line order.
    """

    source: Source
    config: DataConfig
    encoding: str = "utf-8"
    rejects: list[pa.Table] = field(default_factory=lambda: [schema.REJECTS.empty_table()])

    def read(self, file: str, columns: Fields, add: Callable[[Fields], None], separator: str = ",") -> None:
        """Hand the fields of each row of a file to ``add``; a row for which it raises ``BadRowError`` is set aside.

        Quoted fields of a CSV may span lines. A quote that is never closed costs the line it stands on, not the rest.

        Args:
            file: its name; a file that is not there has no rows.
            columns: the fields of a row: read by name from a CSV's header, by position elsewhere.
            add: takes a row's fields, in the order of ``columns``.
            separator: ``,`` in a CSV file with a header; else what stands between fields, without header and quotes.

        Raises:
            MissingColumnError: a CSV's header lacks one of the columns.
            UnusableFileError: the file is damaged, or a CSV without header.
            TooManyRejectsError: more rows are bad than the configuration allows.
        """
        if file not in self.source:
            return
        where, is_csv, num_good = self.source.where(file), separator == ",", 0
        rejects: list[tuple[int, str, str]] = []
        with self.source.open(file) as stream:
            header = csv_header(stream, where) if is_csv else columns
            at = positions(header, columns, where) if is_csv else range(len(columns))
            lines = _Lines(stream, where, "utf-8" if is_csv else self.encoding, skipped=int(is_csv))
            for number, line in _with_content(lines, rejects):
                taken = [line]
                try:
                    fields = _parse_csv(taken, lines) if is_csv else line.rstrip("\r\n").split(separator)
                    if not all(map(is_unicode, taken)):  # bytes not valid in the encoding were left as lone surrogates
                        raise BadRowError(NOT_UTF8)
                    require_width(fields, len(header))
                    add([fields[position] for position in at])
                    num_good += 1
                except BadRowError as bad:
                    rejects.append((number, str(bad), "".join(taken).rstrip("\r\n")))
        self.rejects.append(rejects_table(file, sorted(rejects)))
        check_share(where, self.rejects[-1], num_good + len(rejects), self.config)

    def by_id(
        self, file: str, columns: Fields, parse: Callable[[Fields], tuple[int, Value]], separator: str = ","
    ) -> dict[int, Value]:
        """The rows of a file by their ids, made by ``parse`` of their fields; of one id the first row stands."""
        rows: dict[int, Value] = {}

        def add(fields: Fields) -> None:
            key, value = parse(fields)
            if key in rows:
                raise BadRowError(DUPLICATE_ID)
            rows[key] = value

        self.read(file, columns, add, separator)
        return rows


class _Lines(Iterator[str]):
    """Physical lines that can be put back, and the number of the line last taken."""

    def __init__(self, stream: io.BufferedReader, where: str, encoding: str, *, skipped: int) -> None:
        # split at \n only: a lone \r is content; bytes that are not valid become lone surrogates, found later
        stored = iter(lambda: read_line(stream, where), b"")
        self._lines = (line.decode(encoding, "surrogateescape") for line in stored)
        self._back: deque[str] = deque()
        self.number = skipped

    def __next__(self) -> str:
        line = self._back.popleft() if self._back else next(self._lines)
        self.number += 1
        return line

    def put_back(self, lines: Sequence[str]) -> None:
        self._back.extendleft(reversed(lines))
        self.number -= len(lines)


def read_line(stream: io.BufferedReader, where: str) -> bytes:
    """The next line with its end, empty at the end of the file.

    Raises:
        UnusableFileError: it is longer than any line of ours; one from a damaged or hostile file would fill the memory.
    """
    line = stream.readline(_MAX_LINE)
    if len(line) == _MAX_LINE:
        problem = f"a line is longer than {_MAX_LINE >> 20} MiB"
        raise UnusableFileError(where, problem, "Fetch or export the file again.")
    return line


def csv_header(stream: io.BufferedReader, where: str) -> list[str]:
    """Take the header off a CSV file.

    Raises:
        UnusableFileError: the file is empty, or its first line is not CSV, has another separator, or is a row.
    """
    first = read_line(stream, where).decode("utf-8", "replace").strip()
    if not first:
        raise UnusableFileError(where, "the file is empty", "Fetch or export it again.")
    if "\r" in first:
        remedy = runnable("Save it with line feeds: sed -i 's/\\r/\\n/g' FILE", where)
        raise UnusableFileError(where, "its lines end in carriage returns, where line feeds were expected", remedy)
    try:
        header = [name.strip() for name in next(csv.reader([first]))]
    except csv.Error as error:
        raise UnusableFileError(where, f"its first line is no CSV header ({error})", "Export it again.") from error
    refuse_separator(first, header, where)
    return header


def refuse_separator(first: str, header: Sequence[str], where: str) -> None:
    """Refuse a first line of one field that another separator makes several of.

    Raises:
        UnusableFileError: it is such a line.
    """
    for separator, name in _OTHER_SEPARATORS.items():
        if len(header) == 1 and separator in first:
            options = f"sep={separator!r}, keep_default_na=False" + (", decimal=','" if separator == ";" else "")
            problem = f"its fields are separated by {name}, where commas were expected"
            raise UnusableFileError(where, problem, runnable(f"Save it with commas: {resaved(options)}", where))


def positions(header: Sequence[str], columns: Sequence[str], where: str) -> list[int]:
    """Where each column stands in the header: as it is spelt, or else ``user_id`` or ``USERID`` for ``userId``.

    Raises:
        MissingColumnError: some are not there.
        UnusableFileError: none is, and the header is a row of numbers; or one is there twice.
    """
    alike = {name: _alike(header, name) for name in columns}
    found = {name: places[0] for name, places in alike.items() if places}
    missing = [name for name in columns if name not in found]
    if not found and any(_NUMBER.fullmatch(name) for name in header):
        problem = f"its first line is a row ({','.join(header[:12])}), where the columns' names were expected"
        remedy = f"Name its columns: sed -i '1i {','.join(columns)}' FILE, in the order that they have."
        raise UnusableFileError(where, problem, runnable(remedy, where))
    if missing:
        raise MissingColumnError(where, ", ".join(missing), header)
    if twice := next((name for name in columns if len(alike[name]) > 1), ""):
        problem = f"it has {len(alike[twice])} columns of {twice}: {', '.join(header[at] for at in alike[twice])}"
        raise UnusableFileError(where, problem, "Leave one.")
    return [found[name] for name in columns]


def _alike(header: Sequence[str], column: str) -> list[int]:
    """Where a column stands by its exact name, or else by one that means the same."""
    exact = [place for place, name in enumerate(header) if name == column]
    return exact or [place for place, name in enumerate(header) if _spelling(name) == _spelling(column)]


def _spelling(name: str) -> str:
    """A column's name without case, blanks and underscores; an item is a movie."""
    bare = re.sub(r"[\W_]", "", name).lower()
    return _SAME.get(bare, bare)


def _with_content(lines: _Lines, rejects: list[tuple[int, str, str]]) -> Iterator[tuple[int, str]]:
    """The lines that hold something; empty lines between them are set aside, those at the end are not."""
    empty: list[int] = []
    for line in lines:
        if not line.strip():
            empty.append(lines.number)
            continue
        rejects += [(number, EMPTY_LINE, "") for number in empty]
        empty.clear()
        yield lines.number, line


def _parse_csv(taken: list[str], lines: _Lines) -> list[str]:
    """One CSV row that starts with ``taken``; the further lines that it needs are added there.

    Raises:
        BadRowError: it is none, and costs its first line alone.
    """

    def feed() -> Iterator[str]:
        yield taken[0]
        for line in islice(lines, _MAX_RECORD_LINES):
            taken.append(line)
            yield line

    before = csv.field_size_limit(_MAX_FIELD)
    try:
        return next(csv.reader(feed(), strict=True))
    except csv.Error as error:
        lines.put_back(taken[1:])
        del taken[1:]
        raise BadRowError(f"not valid CSV: {error}") from None
    finally:
        csv.field_size_limit(before)
