"""Tables in text files, block by block: CSV with any separator, and JSON with a value a line.

Nothing is guessed of types in CSV: each column comes as text, and a row that cannot be read with its number and why.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json

from sdk.base.arrow_memory import reader_of
from sdk.base.errors import UnusableFileError
from sdk.data.column_names import COUNTED, is_no_header
from sdk.data.stores import HEAD, File
from sdk.data.validation import NOT_UTF8, TOO_FEW_FIELDS, TOO_MANY_FIELDS

_BLOCK = 1 << 24  # bytes
_MOST_OPEN = 1 << 26  # bytes in which a quote must be closed again
_MOST_LINES = 1000  # of one row
_SEPARATORS = "\t,;|"
_BOM = b"\xef\xbb\xbf"
_ATOMIC = re.compile(r"(.+):(token|token_seq|float|float_seq)")
_NOT_JSON = "not JSON: each line must be one {…}"
Bad = list[tuple[int, str, str]]
Block = tuple[int, pa.Table, Bad]
"""Number of the first row, the rows that could be read, and those that could not: number, reason, text."""


def csv_names(file: File, *, header: bool) -> tuple[str, ...]:
    """The columns' names; ``1``, ``2`` … where there is no header. RecBole's types after them are left out.

    Raises:
        UnusableFileError: it has one column only, or two of one name.
    """
    fields, _ = _first_row(file)
    if len(fields) < 2:
        problem = f"it has no columns: its first line is {fields[:1]!r} and holds no comma, tab, semicolon or bar"
        raise UnusableFileError(file.where, problem, "Give a table whose first line names its columns.")
    names = tuple(_recbole(fields) or fields) if header else tuple(str(at + 1) for at in range(len(fields)))
    if twice := [name for name in names if names.count(name) > 1]:
        remedy = COUNTED if is_no_header(names) else "Rename one of them."
        raise UnusableFileError(file.where, f"two of its columns are called {twice[0]!r}", remedy)
    return names


def csv_lists(file: File, *, header: bool) -> frozenset[str]:
    """Columns that hold several values, parted by blanks, as RecBole's header says: ``genre:token_seq``."""
    fields, _ = _first_row(file)
    names = _recbole(fields) if header else {}
    return frozenset(name for name, kind in names.items() if kind.endswith("_seq"))


def _recbole(fields: Sequence[str]) -> dict[str, str]:
    """Name -> type where every field of a header has one, as in RecBole's atomic files."""
    found = {match[1]: match[2] for one in fields if (match := _ATOMIC.fullmatch(one.strip()))}
    return found if len(found) == len(fields) else {}


def _first_row(file: File) -> tuple[list[str], str]:
    """Its fields, and what parts them: the one of our separators that makes most."""
    head = file.head().removeprefix(_BOM).decode("utf-8", "replace").lstrip("\r\n")
    line = head.partition("\n")[0].rstrip("\r")
    separator = max(_SEPARATORS, key=lambda one: len(_fields(file, line, one)))
    return _fields(file, head, separator), separator


def _fields(file: File, text: str, separator: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])
    except csv.Error as error:
        remedy = "Give a table whose first line names its columns."
        raise UnusableFileError(file.where, f"its first line is not one of a CSV ({error})", remedy) from error


def csv_parts(file: File, columns: Sequence[str], *, header: bool) -> Iterator[Block]:
    """The rows of a CSV, all columns as text; an empty field is null, an empty line is no row.

    Args:
        file: the file.
        columns: those to read.
        header: whether the first row is one.

    Raises:
        UnusableFileError: a quote is never closed.
    """
    names, separator = csv_names(file, header=header), _first_row(file)[1]
    lists = csv_lists(file, header=header)
    first, skip = 1, int(header)
    for data in _blocks(file, _balanced):
        table, bad = _csv_block(data, names, columns, separator, skip)
        total = table.num_rows + len(bad)
        if data.count(b'"') and skip + total < data.count(b"\n"):
            _require_closed(file, data, separator, first)
        for at, name in enumerate(columns):
            if name in lists:
                table = table.set_column(at, name, pc.split_pattern_regex(table[name], " +"))
        yield first + skip, table, [(first + number, reason, text) for number, reason, text in bad]
        first, skip = first + skip + total, 0


def _csv_block(
    data: bytes, names: Sequence[str], columns: Sequence[str], separator: str, skip: int
) -> tuple[pa.Table, Bad]:
    """The rows of a block, and those that cannot be read, numbered from 0 on; a header is number 0."""
    data, is_sound = _as_utf8(data)
    bad: Bad = []

    def refused(row: Any) -> str:
        reason = TOO_FEW_FIELDS if row.actual_columns < row.expected_columns else TOO_MANY_FIELDS
        bad.append((row.number - 1, reason, row.text))
        return "skip"

    kinds = dict.fromkeys(columns, pa.string())
    converting = pa_csv.ConvertOptions(
        column_types=kinds, include_columns=list(columns), null_values=[""], strings_can_be_null=True, check_utf8=False
    )

    def read(*, threads: bool) -> pa.Table:
        reading = pa_csv.ReadOptions(column_names=list(names), skip_rows=skip, use_threads=threads)
        handler = None if threads else refused
        parsing = pa_csv.ParseOptions(delimiter=separator, newlines_in_values=True, invalid_row_handler=handler)
        return pa_csv.read_csv(reader_of(data), reading, parsing, converting)

    try:
        table = read(threads=True)
    except pa.ArrowInvalid:
        table = read(threads=False)
    return (table, bad) if is_sound else _without_mojibake(table, bad, skip)


def _as_utf8(data: bytes) -> tuple[bytes, bool]:
    """The same in UTF-8, and whether it was; what was not is now U+FFFD."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace").encode(), False
    return data, True


def _without_mojibake(table: pa.Table, bad: Bad, skip: int) -> tuple[pa.Table, Bad]:
    """Rows with U+FFFD, which stands for bytes that were no UTF-8, join the bad ones."""
    wrong = np.zeros(table.num_rows, np.bool_)
    texts = (column for column in table.columns if column.type == pa.string())
    for column in texts:
        found = pc.match_substring(column, "\ufffd").fill_null(False)
        wrong |= np.asarray(found)
    rows = np.flatnonzero(wrong)
    every = np.arange(skip, skip + table.num_rows + len(bad))
    numbers = np.delete(every, [number - skip for number, _, _ in bad])[rows]
    shown = (" ".join(str(value) for value in row.values()) for row in table.take(rows).to_pylist())
    more = [(int(number), NOT_UTF8, text) for number, text in zip(numbers, shown, strict=True)]
    return table.filter(pa.array(~wrong)), sorted(bad + more)


def _require_closed(file: File, data: bytes, separator: str, first: int) -> None:
    """Where records have several lines: that none has a thousand, and none goes on to the end."""
    text, before = io.StringIO(data.decode("utf-8", "replace"), newline=""), 0
    rows = csv.reader(text, delimiter=separator, strict=True)
    number = first - 1
    try:
        for number, _ in enumerate(rows, first):  # noqa: B007
            if rows.line_num - before > _MOST_LINES:
                break
            before = rows.line_num
        else:
            return
    except csv.Error as error:
        if "end of data" not in str(error):
            return  # a quote inside a field, which Arrow takes as it comes
        number += 1
    problem = f"the quote that opens in row {number} is not closed"
    raise UnusableFileError(file.where, problem, "Close it, or write two quotes for one inside a field.")


def _blocks(file: File, cut_at: Callable[[bytes], int]) -> Iterator[bytes]:
    """A text file without its mark, in blocks of whole lines that end where ``cut_at`` finds an end."""
    rest = b""
    with file.unpacked() as stream:
        if (start := stream.read(len(_BOM))) != _BOM:
            rest = start
        while chunk := stream.read(_BLOCK):
            rest += chunk
            cut = cut_at(rest) or (rest.rfind(b"\n") + 1 if len(rest) > _MOST_OPEN else 0)
            if cut:
                yield rest[:cut]
                rest = rest[cut:]
    if rest:
        yield rest


def _balanced(data: bytes) -> int:
    """Where the last line ends before which no quote is open; 0 where there is none."""
    end = data.rfind(b"\n") + 1
    is_open = data.count(b'"', 0, end) % 2
    while end and is_open:
        before = data.rfind(b"\n", 0, end - 1) + 1
        is_open ^= data.count(b'"', before, end) % 2
        end = before
    return end


# ---------------------------------------------------------------------------------------------- JSON


def json_names(file: File) -> tuple[str, ...]:
    """The names in its first lines, in the order in which they come."""
    return tuple(_json_kinds(file))


def _json_kinds(file: File) -> dict[str, pa.DataType | None]:
    """Name -> type by the first lines; None leaves it to Arrow."""
    head = file.head()
    lines = head.removeprefix(_BOM).splitlines()
    found: dict[str, list[Any]] = {}
    for line in lines if len(head) < HEAD else lines[:-1]:
        with contextlib.suppress(ValueError, AttributeError):
            for name, value in json.loads(line).items():
                found.setdefault(name, []).append(value)
    return {name: _kind_of(values) for name, values in found.items()}


def _kind_of(values: Sequence[Any]) -> pa.DataType | None:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {str}:
        return pa.string()
    if kinds == {int}:
        return pa.int64()
    return pa.float64() if kinds and kinds <= {int, float} else None


def json_parts(file: File, columns: Sequence[str]) -> Iterator[Block]:
    """The rows of JSON lines; a name that a line lacks is null there."""
    kinds = {name: kind for name, kind in _json_kinds(file).items() if name in columns}
    first = 1
    for data in _blocks(file, lambda data: data.rfind(b"\n") + 1):
        table, bad = _json_block(file, data, columns, kinds)
        yield first, table, [(first + number, reason, text) for number, reason, text in bad]
        first += table.num_rows + len(bad)


def _json_block(
    file: File, data: bytes, columns: Sequence[str], kinds: dict[str, pa.DataType | None]
) -> tuple[pa.Table, Bad]:
    data, is_sound = _as_utf8(data)
    bad: Bad = []
    try:
        table = _json_table(data, columns, kinds)
    except pa.ArrowInvalid:
        good, bad = _json_lines(data)
        table = _json_promoted(file, b"\n".join(good), columns, kinds)
    return (table, bad) if is_sound else _without_mojibake(table, bad, 0)


def _json_lines(data: bytes) -> tuple[list[bytes], Bad]:
    good, bad = [], []
    for number, line in enumerate(one for one in data.splitlines() if one.strip()):
        try:
            if not isinstance(json.loads(line), dict):
                raise ValueError
            good.append(line)
        except ValueError:
            bad.append((number, _NOT_JSON, line.decode("utf-8", "replace")))
    return good, bad


def _json_promoted(file: File, data: bytes, columns: Sequence[str], kinds: dict[str, pa.DataType | None]) -> pa.Table:
    """The rows, where a number that was whole in the first lines is not everywhere."""
    whole = [name for name, kind in kinds.items() if kind == pa.int64()]
    for names in ([], *([name] for name in whole), whole):
        try:
            return _json_table(data, columns, kinds | dict.fromkeys(names, pa.float64()))
        except pa.ArrowInvalid as error:
            problem = f"a name has values of several kinds ({error})"
    raise UnusableFileError(file.where, problem, "Write each name's values alike: all text, or all numbers.")


def _json_table(data: bytes, columns: Sequence[str], kinds: dict[str, pa.DataType | None]) -> pa.Table:
    layout = pa.schema([(name, kind) for name, kind in kinds.items() if kind is not None])
    guessed = "infer" if len(layout) < len(columns) else "ignore"
    if not data.strip():
        return layout.empty_table()
    parsing = pa_json.ParseOptions(explicit_schema=layout, unexpected_field_behavior=guessed)
    longest = max(len(data) + 1, 1 << 20)
    table = pa_json.read_json(reader_of(data), pa_json.ReadOptions(block_size=longest), parsing)
    for name in columns:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(len(table)))
    return table.select(list(columns))
