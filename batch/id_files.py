"""Files that name users and titles: one id a line, or a column of a CSV or Parquet file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from sdk.data.arrow_memory import reader_of
from sdk.errors import MissingColumnError, MissingFileError, UnusableFileError
from sdk.types import Int64s

USER_ID, ITEM_ID = "user_id", "item_id"
_ID = re.compile(r"[0-9]{1,18}", re.ASCII)
_NAME = re.compile(r"[^0-9]*[A-Za-z_]")


@dataclass(frozen=True, slots=True, eq=False)
class IdFile:
    """What a file names.

    Attributes:
        columns: (N,) int64 each, as asked for; rows ascending, none twice.
        sha256: of the file, hex.
    """

    columns: tuple[Int64s, ...]
    sha256: str

    @property
    def ids(self) -> Int64s:
        """(N,) int64, the only column."""
        (column,) = self.columns
        return column

    def __len__(self) -> int:
        return len(self.columns[0])


def read_ids(path: Path, *columns: str, may_be_empty: bool = False) -> IdFile:
    """Read ids: the named columns of a Parquet file, or of a CSV whose first line names them, or bare lines.

    A bare line holds one id for each column, with a comma between them. Empty lines are passed over.

    Args:
        path: the file; Parquet where its name ends in ``.parquet``.
        columns: ``user_id``, ``item_id`` or both.
        may_be_empty: whether a file without an id will do.

    Raises:
        MissingFileError: there is no such file.
        MissingColumnError: a column is not there.
        UnusableFileError: the file cannot be read, or holds something that is no id, or no id at all.
    """
    if path.is_dir():
        raise UnusableFileError(path, f"it is a folder, expected a file of {' and '.join(columns)}", "Name the file.")
    if not path.is_file():
        raise MissingFileError(path, f"file of {' and '.join(columns)}")
    try:
        data = path.read_bytes()
        table = _parquet(path, data, columns) if path.suffix == ".parquet" else _text(path, data, columns)
        arrays = [_whole_numbers(path, table, name) for name in columns]
    except PermissionError:
        raise  # an input that this account may not read: the run says so
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UnusableFileError(path, f"it cannot be read ({error})", "Write it again.") from error
    if not may_be_empty and not len(arrays[0]):
        raise UnusableFileError(path, "it names nothing", "Leave the option out, or write the file again.")
    return IdFile(_unique(arrays), hashlib.sha256(data).hexdigest())


def _parquet(path: Path, data: bytes, columns: Sequence[str]) -> pa.Table:
    file = pq.ParquetFile(reader_of(data))
    _require(path, columns, file.schema_arrow.names)
    return file.read(columns=list(columns))


def _text(path: Path, data: bytes, columns: Sequence[str]) -> pa.Table:
    text = data.decode("utf-8-sig")
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if lines and _NAME.match(lines[0][1]):
        return _csv(path, text, columns)
    rows = [_row(path, number, line, columns) for number, line in lines]
    values = np.array(rows, dtype=np.int64).reshape(-1, len(columns))
    return pa.table({name: values[:, i] for i, name in enumerate(columns)})


def _row(path: Path, number: int, line: str, columns: Sequence[str]) -> list[int]:
    fields = [field.strip() for field in line.split(",")]
    if len(fields) != len(columns) or not all(_ID.fullmatch(field) for field in fields):
        problem = f"line {number} is {line[:60]!r}, expected {', '.join(columns)} as whole numbers"
        raise UnusableFileError(path, problem, "Mend the line.")
    return [int(field) for field in fields]


def _csv(path: Path, text: str, columns: Sequence[str]) -> pa.Table:
    header = next(line for line in text.splitlines() if line.strip())
    _require(path, columns, [name.strip().strip('"') for name in header.split(",")])
    convert = pa_csv.ConvertOptions(include_columns=list(columns), column_types=dict.fromkeys(columns, pa.int64()))
    return pa_csv.read_csv(reader_of(text.lstrip().encode()), convert_options=convert)


def _require(path: Path, columns: Sequence[str], found: Sequence[str]) -> None:
    for name in columns:
        if name not in found:
            raise MissingColumnError(path, name, found)


def _whole_numbers(path: Path, table: pa.Table, name: str) -> Int64s:
    column = table.column(name)
    if not pa.types.is_integer(column.type):
        raise UnusableFileError(path, f"column {name!r} holds {column.type}, expected int64", "Write it as numbers.")
    if column.null_count:
        raise UnusableFileError(path, f"column {name!r} holds {column.null_count} nulls", "Leave those rows out.")
    return np.asarray(column.cast(pa.int64()).to_numpy(), dtype=np.int64)


def _unique(arrays: Sequence[Int64s]) -> tuple[Int64s, ...]:
    rows = np.unique(np.stack(arrays, axis=1), axis=0)
    return tuple(np.ascontiguousarray(rows[:, i]) for i in range(len(arrays)))
