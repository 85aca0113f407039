"""A whole table, such as of items or users, with every column of the type that all its values have.

Features in rows, as RecTools takes them, become a column each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sdk.base import schema
from sdk.base.errors import UnusableFileError
from sdk.base.types import Int64s
from sdk.data.readers import open_table
from sdk.data.validation import rejects_table

_CANONICAL = r"^(0|-?[1-9][0-9]{0,18})$"
_DECIMAL = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$"
_LONG = ("id", "feature", "value")


@dataclass(frozen=True, slots=True, eq=False)
class Whole:
    """A table that was read at once.

    Attributes:
        table: its rows.
        files: (N,) the file of each.
        numbers: (N,) int64, its number there.
        rejects: ``schema.REJECTS``, the rows that could not be read.
        where: what it is, for messages.
        untyped: columns that are text only because the source has no types.
    """

    table: pa.Table
    files: list[str]
    numbers: Int64s
    rejects: pa.Table
    where: str
    untyped: frozenset[str]


def read_whole(given: Any, name: str) -> Whole:
    """Read all of a table.

    Args:
        given: as ``readers.open_table`` takes it.
        name: what it is called in messages.

    Raises:
        UsageError: it is no table.
        DataError: it cannot be read, or its files differ in their columns' types.
    """
    source = open_table(given, name)
    tables: list[pa.Table] = []
    files: list[str] = []
    numbers, rejects = [np.zeros(0, np.int64)], [schema.REJECTS.empty_table()]
    for part in source.parts():
        tables.append(part.rows)
        files += [part.file] * part.rows.num_rows
        numbers.append(part.numbers(np.arange(part.rows.num_rows)))
        rejects.append(rejects_table(part.file, part.bad))
    table = _together(tables, source.columns, source.where)
    for at, column in enumerate(table.column_names):
        if column in source.untyped:
            table = table.set_column(at, column, typed(table[column]))
    if sorted(table.column_names) == sorted(_LONG):  # its rows are of features
        table = wide(table)
        files, numbers = [source.where] * len(table), [np.arange(1, len(table) + 1)]
    return Whole(table, files, np.concatenate(numbers), pa.concat_tables(rejects), source.where, source.untyped)


def _together(tables: Sequence[pa.Table], columns: Sequence[str], where: str) -> pa.Table:
    if not tables:
        return pa.table({name: pa.array([], pa.string()) for name in columns})
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        problem = f"its files do not have the same columns ({error})"
        raise UnusableFileError(where, problem, "Write them anew, each column of one type.") from error


def typed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of text as what all its values are: whole numbers, decimals, True and False, or text as it came.

    Numbers with a leading zero, a plus or a blank are text: nothing is lost that could be part of an id.
    """
    texts = column.cast(pa.string())
    if texts.null_count == len(texts):
        return texts
    for pattern, kind in ((_CANONICAL, pa.int64()), (_DECIMAL, pa.float64()), ("^(?i)(true|false)$", pa.bool_())):
        if pc.all(pc.match_substring_regex(texts, pattern)).as_py():
            try:
                return texts.cast(kind)
            except pa.ArrowInvalid:  # past 64 bits
                continue
    return texts


def wide(table: pa.Table) -> pa.Table:
    """A table with a row per id and a column per feature, by name; where some id has several values, of lists.

    Args:
        table: ``id``, ``feature`` and ``value``; rows without a value say nothing.
    """
    table = table.filter(pc.is_valid(table["value"]))
    known = pa.table({"id": table["id"].unique()})
    for feature in sorted(table["feature"].unique().drop_null().to_pylist(), key=str):
        rows = table.filter(pc.equal(table["feature"], feature)).select(["id", "value"])
        values = rows.group_by("id", use_threads=False).aggregate([("value", "list")])
        several = pc.any(pc.greater(pc.list_value_length(values["value_list"]), 1)).as_py()
        column = values["value_list"] if several else pc.list_element(values["value_list"], 0)
        at = pc.index_in(known["id"], value_set=values["id"].combine_chunks())
        known = known.append_column(str(feature), column.combine_chunks().take(at.combine_chunks()))
    return known
