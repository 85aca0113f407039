"""Files that name users and items: one id a line, or columns of a CSV or Parquet file, in one file or in parts.

What a file is, its first bytes say: gzip, Parquet, else text. ``userId``, ``user_id`` and ``USER ID`` are one name, and
a ``movieId`` is an ``item_id``. What counts as an id: ``sdk.base.ids``. Where a data set's ids are text they are taken
as they stand, blanks and leading zeros too; one with a comma or a quote in it stands in quotes, as in any CSV.
"""

from __future__ import annotations

import csv
import functools
import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sdk.base.arrow_memory import reader_of
from sdk.base.errors import MissingColumnError, MissingFileError, UnusableFileError, UsageError
from sdk.base.ids import NoIdError, ids_of, is_text, text_ids, whole_id
from sdk.base.types import IdArray, Int64s
from sdk.data.foreign import refuse_foreign
from sdk.data.records import positions, refuse_separator

USER_ID, ITEM_ID = "user_id", "item_id"
_PARQUET_SUFFIXES = frozenset({".parquet", ".parq", ".pq"})
_HEAD = 64
_PLAIN = re.compile(r"[0-9]{1,18}", re.ASCII)
_NAME = re.compile(r"[^0-9]*[A-Za-z_]")


@dataclass(frozen=True, slots=True, eq=False)
class IdFile:
    """What a file names.

    Attributes:
        columns: (N,) ids each, as asked for; rows ascending, none twice.
        sha256: of the file, or of its parts one after the other, hex.
    """

    columns: tuple[IdArray, ...]
    sha256: str

    @property
    def ids(self) -> IdArray:
        """(N,) ids, the only column."""
        (column,) = self.columns
        return column

    def __len__(self) -> int:
        return len(self.columns[0])


def read_ids(path: Path, *columns: str, may_be_empty: bool = False, text: Collection[str] = ()) -> IdFile:
    """Read ids: the named columns of a Parquet file, or of a CSV whose first line names them, or bare lines.

    A bare line holds one id for each column, with a comma between them. Empty lines are passed over. A folder is read
    as Spark writes one: every file in it is a part, but for those whose names start with ``_`` or ``.``.

    Args:
        path: the file, gzipped or not; a folder of such files; or a pipe, which is read once in a process.
        columns: ``user_id``, ``item_id`` or both.
        may_be_empty: whether a file without an id will do.
        text: those of the columns whose ids are text. There a first line is the header where it names a column.

    Raises:
        MissingFileError: there is no such file.
        MissingColumnError: a column is not there.
        UnusableFileError: the file cannot be read, or holds something that is no id, or no id at all.
    """
    digest, parts = hashlib.sha256(), []
    for part, data in _contents(path, columns):
        digest.update(data)
        parts.append(_read(part, data, columns, text))
    arrays = [np.concatenate(pieces) for pieces in zip(*parts, strict=True)]
    if not may_be_empty and not len(arrays[0]):
        raise UnusableFileError(path, "it names nothing", "Leave the option out, or write the file again.")
    return IdFile(_unique(arrays), digest.hexdigest())


def _contents(path: Path, columns: Sequence[str]) -> Iterator[tuple[Path, bytes]]:
    """Each part's path and bytes."""
    try:
        parts = _parts_of(path) if path.is_dir() else [path]
        if not parts:
            problem = f"it is a folder without a file of {' and '.join(columns)} in it"
            raise UnusableFileError(path, problem, "Name the file, or the folder of its parts.")
        if not path.exists():
            raise MissingFileError(path, f"file of {' and '.join(columns)}")
        yield from ((part, part.read_bytes() if part.is_file() else _piped(part)) for part in parts)
    except PermissionError:
        raise  # an input that this account may not read: the run says so
    except OSError as error:
        raise UnusableFileError(path, f"it cannot be read ({error})", "See that it can be read.") from error


def _parts_of(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if not path.is_dir())
    return sorted(path for path in found if not any(name[0] in "_." for name in path.relative_to(folder).parts))


@functools.cache
def _piped(path: Path) -> bytes:
    """What a pipe holds; it can be read once, and a job of several nights asks for every one of them."""
    return path.read_bytes()


def _read(path: Path, data: bytes, columns: Sequence[str], text: Collection[str]) -> list[IdArray]:
    try:
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        if data[:4] == b"PAR1":
            return _parquet(path, data, columns, text)
        refuse_foreign(data[:_HEAD], str(path))
        if path.suffix.lower() in _PARQUET_SUFFIXES or (not data and path.suffix.lower() == ".gz"):
            raise UnusableFileError(path, f"it is no {path.suffix[1:]} file, or cut short", "Write it again.")
        return _text(path, data.decode("utf-8-sig"), columns, text)
    except (pa.ArrowException, OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise UnusableFileError(path, f"it cannot be read ({error})", "Write it again.") from error


def _parquet(path: Path, data: bytes, columns: Sequence[str], text: Collection[str]) -> list[IdArray]:
    file = pq.ParquetFile(reader_of(data))
    found = file.schema_arrow.names
    names = [found[at] for at in positions(found, columns, str(path))]
    table = file.read(columns=names)
    wanted = zip(names, columns, strict=True)
    return [_column(path, name, table.column(name), is_text=column in text) for name, column in wanted]


def _column(path: Path, name: str, column: pa.ChunkedArray, *, is_text: bool) -> IdArray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind := kind.value_type)
    if column.null_count:
        raise UnusableFileError(path, f"column {name!r} holds {column.null_count} nulls", "Leave those rows out.")
    if is_text:
        if not (_is_string(kind) or pa.types.is_integer(kind)):
            problem = f"column {name!r} holds {kind}, and the ids of this data are text"
            raise UnusableFileError(path, problem, "Write it as text, as the data have it.")
        return _texts_in(path, column.cast(pa.string()).to_pylist(), f"the {name} in row", range(1, len(column) + 1))
    if _is_string(kind):
        return _ids_in(path, column.to_pylist(), f"the {name} in row", range(1, len(column) + 1))
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise UnusableFileError(path, f"column {name!r} holds {kind}, expected int64", "Write it as numbers.")
    try:
        found = ids_of(column.to_pylist() if pa.types.is_decimal(kind) else column.to_numpy(), f"column {name!r}")
    except UsageError as error:
        raise UnusableFileError(path, str(error), "Leave that row out, or write its id exactly.") from error
    if (found < 0).any():
        raise UnusableFileError(path, f"column {name!r} holds {found.min()}, which is negative", "Leave that row out.")
    return found


def _is_string(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or str(kind) == "string_view"


def _text(path: Path, text: str, columns: Sequence[str], kept: Collection[str]) -> list[IdArray]:
    """The columns of a text; of those in ``kept`` the ids are text."""
    if kept:
        return _as_it_stands(path, text, columns, kept)
    numbered = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    reader = csv.reader((line for _, line in numbered), strict=True)
    for _, line in numbered[:1]:
        refuse_separator(line.strip(), line.split(","), str(path))
    at, width = list(range(len(columns))), len(columns)
    if numbered and _NAME.match(numbered[0][1].strip()):
        header = next(reader)
        at, width = _named(path, header, numbered[1][1] if len(numbered) > 1 else "", columns), len(header)
    rows, lines = [], []
    for row in reader:
        lines.append(numbered[reader.line_num - 1][0])
        if len(row) != width:
            problem = f"line {lines[-1]} has {len(row)} fields, expected {', '.join(columns)} as whole numbers"
            raise UnusableFileError(path, problem, "Mend the line.")
        rows.append([row[place] for place in at])
    texts = zip(*rows, strict=True) if rows else [()] * len(columns)
    return [_ids_in(path, each, f"the {name} in line", lines) for name, each in zip(columns, texts, strict=True)]


def _as_it_stands(path: Path, text: str, columns: Sequence[str], kept: Collection[str]) -> list[IdArray]:
    """``_text`` where ids are text: lines end where CSV's do, and nothing is stripped."""
    reader, at, width = csv.reader(io.StringIO(text, newline=""), strict=True), list(range(len(columns))), len(columns)
    filled = ((reader.line_num, row) for row in reader if "".join(row).strip())
    first = [row for _, row in islice(filled, 1)]
    if first and any(_names(first[0], column) for column in columns):
        at, width = positions(first[0], columns, str(path)), len(first[0])
        first = []
    numbered = [*((1, row) for row in first), *filled]
    for line, row in numbered:
        if len(row) != width:
            problem = f"line {line} has {len(row)} fields, expected {width}: {', '.join(columns)}"
            raise UnusableFileError(path, problem, "Mend the line; an id with a comma in it stands in quotes.")
    rows, lines = [[row[place] for place in at] for _, row in numbered], [line for line, _ in numbered]
    texts = list(zip(*rows, strict=True)) if rows else [()] * len(columns)
    read = [_texts_in if name in kept else _ids_in for name in columns]
    wanted = zip(read, columns, texts, strict=True)
    return [each(path, found, f"the {name} in line", lines) for each, name, found in wanted]


def _names(header: Sequence[str], column: str) -> bool:
    """Whether one of the fields is a column's name."""
    try:
        positions(header, [column], "")
    except MissingColumnError:
        return False
    except UnusableFileError:  # it stands there twice, or these are numbers
        return not any(_PLAIN.fullmatch(field) for field in header)
    return True


def _texts_in(path: Path, texts: Sequence[str], where: str, numbers: Sequence[int]) -> IdArray:
    if empty := next((number for number, text in zip(numbers, texts, strict=True) if not text), None):
        raise UnusableFileError(path, f"{where} {empty} is empty", "Mend the line.")
    return text_ids(texts)


def _named(path: Path, header: Sequence[str], second: str, columns: Sequence[str]) -> list[int]:
    """Where each column stands; a first line that names nothing may be ids that are no numbers, not names."""
    try:
        return positions(header, columns, str(path))
    except (MissingColumnError, UnusableFileError) as error:
        if len(header) != len(columns) or (_has_ids(second.split(",")) and not _has_ids(header)):
            raise
        expected = f"expected {', '.join(columns)} as whole numbers, or these names"
        problem = f"line 1 is {','.join(header)[:60]!r}, {expected}"
        raise UnusableFileError(path, problem, "Write numbers; ids that are text are not read.") from error


def _has_ids(fields: Sequence[str]) -> bool:
    return any(_PLAIN.fullmatch(field.strip().strip('"')) for field in fields)


def _ids_in(path: Path, texts: Sequence[str], where: str, numbers: Sequence[int]) -> Int64s:
    if all(map(_PLAIN.fullmatch, texts)):
        return np.fromiter(map(int, texts), np.int64, len(texts))
    found = np.zeros(len(texts), dtype=np.int64)
    for at, text in enumerate(texts):
        try:
            found[at] = whole_id(text)
        except NoIdError as error:
            problem = f"{where} {numbers[at]} {error}: {text[:60]!r}, expected whole numbers up to 2**63 - 1"
            raise UnusableFileError(path, problem, "Mend the line.") from error
    return found


def _unique(arrays: Sequence[IdArray]) -> tuple[IdArray, ...]:
    """The rows ascending, none twice; texts by their places among all of them."""
    found = [np.unique(ids, return_inverse=True) if is_text(ids) else (None, ids) for ids in arrays]
    rows = np.unique(np.stack([np.ravel(codes) for _, codes in found], axis=1), axis=0)
    columns = zip((known for known, _ in found), rows.T, strict=True)
    return tuple(np.ascontiguousarray(codes if known is None else known[codes]) for known, codes in columns)
