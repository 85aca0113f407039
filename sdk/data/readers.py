"""Any table as Arrow, part by part: files of every common form, folders of them, stores, queries, tables in memory.

Text files have no types, so their columns come as text and only a look at all values makes numbers of them
(``whole_tables.typed``): an id "00417" stays what it is. What else a source says about types is kept.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sdk.base.arrow_memory import buffer_of
from sdk.base.arrow_tables import as_table
from sdk.base.errors import DataError, MissingColumnError, UnusableFileError, UsageError, how_to_get
from sdk.base.paths import QUERY
from sdk.base.types import Int64s
from sdk.data import stores
from sdk.data.columns import is_listed
from sdk.data.stores import File
from sdk.data.text_tables import csv_lists, csv_names, csv_parts, json_names, json_parts

_ROWS = 1 << 20  # of one part, where the source has no parts of its own
_MOST_OF_A_PLACE = 6  # bytes
_TEXTS = ("string_view", "large_string", "binary", "large_binary")
_DATABASES = ("postgresql", "postgres", "mysql", "mariadb", "sqlite", "mssql", "oracle", "snowflake", "bigquery")


@dataclass(frozen=True, slots=True, eq=False)
class TablePart:
    """Some rows of one file.

    Attributes:
        file: its name, for messages and rejects.
        first: number of the first row, counted from 1; in text files the header counts as one.
        rows: the rows, with the columns that were asked for; those of an id may be dictionaries.
        bad: rows among them that could not be read: number, reason, text; ascending.
    """

    file: str
    first: int
    rows: pa.Table
    bad: tuple[tuple[int, str, str], ...] = ()

    def numbers(self, rows: Int64s) -> Int64s:
        """The numbers in the file of rows of ``rows``."""
        if not self.bad:
            return rows + self.first
        every = np.arange(self.first, self.first + self.rows.num_rows + len(self.bad))
        return np.delete(every, [number - self.first for number, _, _ in self.bad])[rows]


@dataclass(frozen=True, slots=True, eq=False)
class OpenTable:
    """A table that can be read part by part, as often as is wanted.

    Attributes:
        where: what it is, for messages.
        columns: the names of its columns.
        untyped: those that are text only because the source has no types.
        num_rows: how many rows there are; None where nobody knows before reading.
    """

    where: str
    columns: tuple[str, ...]
    untyped: frozenset[str]
    num_rows: int | None
    _read: Callable[[Sequence[str], Collection[str]], Iterator[TablePart]] = field(repr=False)

    def parts(self, columns: Sequence[str] | None = None, ids: Collection[str] = ()) -> Iterator[TablePart]:
        """Its rows.

        Args:
            columns: those to read, in this order; None reads all.
            ids: those whose values repeat: they come as dictionaries where that is cheaper.

        Raises:
            MissingColumnError: a file lacks one of them.
            UnusableFileError: a file is damaged or is no table.
        """
        return self._read(self.columns if columns is None else columns, ids)


def open_table(given: Any, name: str, *, header: bool = True) -> OpenTable:
    """Find out what a table is.

    Args:
        given: a table in memory (pandas, Polars, Arrow, DuckDB), or the path or URL of a file (Parquet, CSV with any
            separator, JSON lines, Arrow or Feather; the text ones also packed) or of a folder: of parts, partitioned
            as Hive does, or of Delta Lake; or a query, ``duckdb:SELECT …``; or a list of such, one after the other.
        name: what it is called in messages, such as ``interactions``.
        header: whether the first row of a CSV names its columns; without, they are called ``1``, ``2`` …

    Raises:
        UsageError: it is nothing of these.
        DataError: it is not there, is damaged, or needs a package that is not installed.
    """
    if isinstance(given, list | tuple) and given:
        return _one_after_the_other([open_table(one, name, header=header) for one in given])
    if not isinstance(given, str | os.PathLike):
        return _in_memory(_given(given, name), name)
    text = os.fspath(given)
    if text.lower().startswith(f"{QUERY}:"):
        return _queried(text[len(QUERY) + 1 :].strip(), name)
    if text.partition("://")[0].partition("+")[0].lower() in _DATABASES:
        message = f"{name}: databases are not read by their URL. Give a query, 'duckdb:SELECT …' with DuckDB's ATTACH or its scanners, or a Parquet file of the rows."  # noqa: E501
        raise UsageError(message)
    if (place := stores.Place.of(text)).is_delta:
        return _delta(place)
    return _of_files(place, header=header)


def open_counted(given: Any, name: str, columns: Mapping[str, str]) -> OpenTable:
    """``open_table``; without a header where ``columns`` (role -> column) counts and no header has such names.

    Raises:
        UsageError: as ``open_table``; DataError likewise.
    """
    named = {column for column in columns.values() if column}
    if not named or not all(map(str.isdecimal, named)):
        return open_table(given, name)
    with contextlib.suppress(UnusableFileError):  # of a first row that is none: two of its fields may be the same
        if named <= set((source := open_table(given, name)).columns):
            return source
    return open_table(given, name, header=False)


# ---------------------------------------------------------------------------------------------- sources


def _given(given: Any, name: str) -> pa.Table:
    try:
        return as_table(given, pa.schema([]), name)
    except pa.ArrowException as error:
        message = f"{name}: a column holds values of several kinds ({error}). Make them of one, as by astype(str)."
        raise DataError(message) from error


def _in_memory(table: pa.Table, name: str) -> OpenTable:
    table = _plain(table)

    def parts(columns: Sequence[str], ids: Collection[str]) -> Iterator[TablePart]:
        chosen = _chosen(table, columns, name)
        for start in range(0, max(1, table.num_rows), _ROWS):
            yield TablePart(name, start + 1, chosen.slice(start, _ROWS))

    return OpenTable(name, tuple(table.column_names), frozenset(), table.num_rows, parts)


def _one_after_the_other(tables: Sequence[OpenTable]) -> OpenTable:
    def parts(columns: Sequence[str], ids: Collection[str]) -> Iterator[TablePart]:
        for table in tables:
            yield from table.parts(columns, ids)

    rows = [table.num_rows for table in tables]
    total = None if None in rows else sum(filter(None, rows))
    untyped = frozenset.intersection(*(table.untyped for table in tables))
    return OpenTable(", ".join(table.where for table in tables), tables[0].columns, untyped, total, parts)


def _plain(table: pa.Table) -> pa.Table:
    """Without types that few functions take: text is plain strings, and so are UUIDs."""
    for at, column in enumerate(table.schema):
        if pa.types.is_dictionary(column.type) and not pa.types.is_string(column.type.value_type):
            table = table.set_column(at, column.name, _of_categories(table[at]))
        elif str(column.type) in _TEXTS:
            table = table.set_column(at, column.name, _cast(table[at], pa.string()))
        elif is_listed(column.type) and str(column.type.value_type) in _TEXTS:
            table = table.set_column(at, column.name, _cast(table[at], pa.list_(pa.string())))
        elif str(column.type) in ("extension<arrow.uuid>", "uuid"):
            chunks = [_uuid_text(chunk) for chunk in table[at].chunks]
            table = table.set_column(at, column.name, pa.chunked_array(chunks, pa.string()))
    return table


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    try:
        return column.cast(kind)
    except pa.ArrowNotImplementedError:  # pyarrow 17 casts no string_view
        return pa.chunked_array([pa.array(column.to_pylist(), kind)])


def _of_categories(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Categories of any text as those of plain strings, others as what they are of."""
    if str(column.type.value_type) not in _TEXTS:
        return pa.chunked_array(
            [chunk.dictionary.take(chunk.indices) for chunk in column.chunks], column.type.value_type
        )
    places = ((chunk.indices.cast(pa.int32()), chunk.dictionary.cast(pa.string())) for chunk in column.chunks)
    kind = pa.dictionary(pa.int32(), pa.string())
    return pa.chunked_array([pa.DictionaryArray.from_arrays(*one) for one in places], kind)


def _uuid_text(values: pa.Array) -> pa.Array:
    """UUIDs of 16 bytes in their usual form, 8-4-4-4-12 hexadecimal digits."""
    storage = values.storage
    if storage.null_count:
        return pa.array([None if value is None else str(value) for value in values.to_pylist()], pa.string())
    raw = np.frombuffer(storage.buffers()[1], np.uint8)[16 * storage.offset : 16 * (storage.offset + len(storage))]
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    text = np.full((len(storage), 36), ord("-"), np.uint8)
    places = [at for at in range(36) if at not in (8, 13, 18, 23)]
    text[:, places] = np.stack([digits[raw >> 4], digits[raw & 15]], axis=1).reshape(len(storage), 32)
    offsets = np.arange(0, 36 * len(storage) + 1, 36, dtype=np.int32)
    return pa.StringArray.from_buffers(len(storage), buffer_of(offsets.tobytes()), buffer_of(text.tobytes()))


def _queried(query: str, name: str) -> OpenTable:
    """What DuckDB answers; it is asked again for each reading."""
    try:
        import duckdb
    except ImportError as error:
        message = f"{name}: a query needs DuckDB, which is not installed: {how_to_get('duckdb')}. Or give a file."
        raise UsageError(message) from error

    def asked() -> Any:
        try:
            relation = duckdb.connect().sql(query)
        except duckdb.Error as error:
            raise DataError(f"{name}: DuckDB refuses the query ({error}). Try it in DuckDB first.") from error
        if relation is None:
            raise UsageError(f"{name}: the query returns no table. Begin it with SELECT or FROM.")
        return relation

    def parts(columns: Sequence[str], ids: Collection[str]) -> Iterator[TablePart]:
        first = 1
        for batch in asked().to_arrow_reader(_ROWS):
            yield TablePart(name, first, _chosen(_plain(pa.Table.from_batches([batch])), columns, name))
            first += batch.num_rows

    return OpenTable(f"{name} (a query)", tuple(asked().columns), frozenset(), None, parts)


def _delta(place: stores.Place) -> OpenTable:
    """The rows that stand in a Delta table; its files alone would give deleted rows, too."""
    try:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError
    except ImportError as error:
        problem = "it is a Delta table, and the package deltalake, which knows its live rows, is not installed"
        raise UnusableFileError(place.where, problem, f"Get it: {how_to_get('delta')}.") from error
    try:
        rows = DeltaTable(place.where).to_pyarrow_dataset()
    except (DeltaError, OSError) as error:
        remedy = "Write it as Parquet with what wrote it, and give that folder."
        raise UnusableFileError(place.where, f"deltalake cannot read it ({error})", remedy) from error
    names = tuple(rows.schema.names)

    def parts(columns: Sequence[str], ids: Collection[str]) -> Iterator[TablePart]:
        _require(columns, names, place.where)
        for fragment in sorted(rows.get_fragments(), key=lambda one: str(one.path)):
            first = 1
            for batch in fragment.to_batches(schema=rows.schema, columns=list(columns), batch_size=_ROWS):
                yield TablePart(PurePath(fragment.path).name, first, _plain(pa.Table.from_batches([batch])))
                first += batch.num_rows

    return OpenTable(place.where, names, frozenset(), rows.count_rows(), parts)


def _of_files(place: stores.Place, *, header: bool) -> OpenTable:
    files = place.files()
    kinds = {one.where: one.kind() for one in files}
    names = _names(files[0], kinds[files[0].where], header=header)
    hive = tuple(name for name in files[0].partition if name not in names)
    is_text = kinds[files[0].where] == "csv"

    def parts(columns: Sequence[str], ids: Collection[str]) -> Iterator[TablePart]:
        for one in files:
            own = one.partition
            wanted = [name for name in columns if name not in hive]
            for part in _file_parts(one, kinds[one.where], wanted, ids, header=header):
                yield TablePart(part.file, part.first, _with_constants(part.rows, own, columns), part.bad)

    rows = [_num_rows(one) for one in files] if set(kinds.values()) == {"parquet"} else [None]
    total = None if None in rows else sum(filter(None, rows))
    lists = csv_lists(files[0], header=header) if is_text else frozenset()
    untyped = (frozenset(names) - lists if is_text else frozenset()) | frozenset(hive)
    return OpenTable(place.where, (*names, *hive), untyped, total, parts)


def _with_constants(rows: pa.Table, constants: Mapping[str, str | None], columns: Sequence[str]) -> pa.Table:
    for name, value in constants.items():
        if name in columns and name not in rows.column_names:
            text = pa.nulls(len(rows), pa.string()) if value is None else pa.repeat(pa.scalar(value), len(rows))
            rows = rows.append_column(name, text)
    return rows.select(list(columns))


def _names(one: File, kind: str, *, header: bool) -> tuple[str, ...]:
    with one.readable():
        if kind == "csv":
            return csv_names(one, header=header)
        if kind == "json":
            return json_names(one)
        if kind == "parquet":
            return tuple(pq.ParquetFile(one.open()).schema_arrow.names)
        try:
            return tuple(_ipc(one).schema.names)
        except UnicodeDecodeError as error:
            raise DataError(f"{one.where}: damaged, a column's name is no text ({error}). Write it again.") from error


def _num_rows(one: File) -> int | None:
    with one.readable():
        return int(pq.ParquetFile(one.open()).metadata.num_rows)


def _file_parts(
    one: File, kind: str, columns: Sequence[str], ids: Collection[str], *, header: bool
) -> Iterator[TablePart]:
    with one.readable():
        _require(columns, _names(one, kind, header=header), one.where)
        if kind in ("csv", "json"):
            read = csv_parts(one, columns, header=header) if kind == "csv" else json_parts(one, columns)
            for first, rows, bad in read:
                yield TablePart(one.name, first, rows, tuple(bad))
            return
        first = 1
        for batch in _parquet(one, columns, ids) if kind == "parquet" else _ipc_batches(one):
            batch.validate(full=True)  # what a damaged file gives would crash whoever reads it
            yield TablePart(one.name, first, _plain(pa.Table.from_batches([batch])).select(list(columns)))
            first += batch.num_rows


def _parquet(one: File, columns: Sequence[str], ids: Collection[str]) -> Iterator[pa.RecordBatch]:
    plain = pq.ParquetFile(one.open())
    texts = [name for name in columns if name in ids and pa.types.is_string(plain.schema_arrow.field(name).type)]
    coded = [name for name in texts if _is_coded(plain.metadata, name)]
    file = pq.ParquetFile(one.open(), read_dictionary=coded)
    yield from file.iter_batches(_ROWS, columns=list(columns))


def _is_coded(about: pq.FileMetaData, name: str) -> bool:
    """Whether a column is stored as places in a dictionary.

    Who writes a file gives up a dictionary that grows too large. From then on Arrow is quicker to read the texts alone,
    for us to look them up.
    """
    groups = (about.row_group(at) for at in range(about.num_row_groups))
    chunks = [group.column(at) for group in groups for at in range(group.num_columns)]
    chunks = [chunk for chunk in chunks if chunk.path_in_schema == name]
    size, values = (sum(getattr(chunk, what) for chunk in chunks) for what in ("total_uncompressed_size", "num_values"))
    return bool(values and size / values < _MOST_OF_A_PLACE)


def _ipc(one: File) -> Any:
    file = one.open()
    start = file.read(8)
    file.seek(0)
    return pa.ipc.open_file(file) if start.startswith(b"ARROW1") else pa.ipc.open_stream(file)


def _ipc_batches(one: File) -> Iterable[pa.RecordBatch]:
    reader = _ipc(one)
    if isinstance(reader, pa.ipc.RecordBatchFileReader):
        return (reader.get_batch(at) for at in range(reader.num_record_batches))
    return iter(reader)


def _chosen(table: pa.Table, columns: Sequence[str], where: str) -> pa.Table:
    _require(columns, table.column_names, where)
    return table.select(list(columns))


def _require(columns: Sequence[str], found: Collection[str], where: str) -> None:
    for name in columns:
        if name not in found:
            raise MissingColumnError(where, name, list(found))
