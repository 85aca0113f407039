"""Lists as Arrow tables, one row per (query, rank), and whatever holds a table as one of Arrow's."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sdk.base.errors import DataError, UsageError

_NOT_NUMBERS = "these are no numbers"


def numbers_in(column: pa.ChunkedArray | pa.Array) -> NDArray[Any]:
    """(N,) of an Arrow column of integers or floats without nulls; ``to_numpy`` would load pandas, which takes longer
    than an answer.

    Raises:
        ValueError: it has nulls, or is of another type.
    """
    values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if values.null_count or not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        raise ValueError(f"a column of {values.type} with {values.null_count} nulls, expected numbers and none")
    kind = np.dtype(values.type.to_pandas_dtype())
    buffer = values.buffers()[1]
    return (
        np.zeros(0, kind) if buffer is None else np.frombuffer(buffer, kind, len(values), values.offset * kind.itemsize)
    )


def real_places(lengths: NDArray[np.int32], width: int) -> NDArray[np.bool_]:
    """(B, k) bool, True where a list has an answer."""
    return np.asarray(np.arange(width) < lengths[:, None])


def long_form(
    layout: pa.Schema,
    real: NDArray[np.bool_],
    queries: NDArray[Any] | pa.Array,
    answers: NDArray[Any] | pa.Array,
    scores: NDArray[np.float32],
    names: NDArray[np.str_],
    codes: NDArray[np.integer[Any]],
) -> pa.Table:
    """What is real of (B, k) lists, row after row: query, rank (1 = best), answer, score, source.

    Args:
        layout: one of the lists' schemas of ``sdk.base.schema``.
        real: (B, k) bool, where there is an answer.
        queries: (B,) the id that each list answers.
        answers: (N,) ids, the real ones.
        scores: (N,) float32, theirs.
        names: what sources there are.
        codes: (N,) which of them made each answer.
    """
    rank = np.broadcast_to(np.arange(1, real.shape[1] + 1, dtype=np.int32), real.shape)[real]
    named = pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(names.astype(str)))
    asked = pa.array(queries, layout.field(0).type).take(pa.array(np.repeat(np.arange(len(real)), real.sum(axis=1))))
    columns = [asked, rank, answers, scores, named.cast(pa.string())]
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, layout, strict=True)], schema=layout
    )


def named_by(ids: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any] | pa.Array:
    """The ids in some rows of a table; texts as an Arrow array, without an object for each row."""
    if ids.dtype != object:
        return ids[rows]
    used, at = np.unique(rows, return_inverse=True)
    return pa.array(ids[used], pa.string()).take(pa.array(at.ravel()))


def as_table(given: Any, layout: pa.Schema, name: str) -> pa.Table:
    """A table of pyarrow, Polars, pandas, DuckDB or of whatever else has ``__arrow_c_stream__``.

    Args:
        given: the table. Columns that the layout does not name are left as they are.
        layout: the types that columns of these names are cast to.
        name: of the argument, for the message.

    Returns:
        The very table that was given, where it is an Arrow table of these types.

    Raises:
        UsageError: it is no table.
        DataError: a column cannot be cast, or this pyarrow cannot read it.
    """
    table = given if isinstance(given, pa.Table) else _read(given, name)
    for at, field in enumerate(table.schema):
        wanted = layout.field(field.name).type if field.name in layout.names else field.type
        if field.type != wanted:
            table = table.set_column(at, field.name, _cast(table[at], wanted, f"{name}: column {field.name!r}"))
    return table


def _read(given: Any, name: str) -> pa.Table:
    pandas = sys.modules.get("pandas")  # whoever gives a table of pandas has imported it
    if pandas is not None and isinstance(given, pandas.DataFrame):  # it has the interface from 2.2 on
        return pa.Table.from_pandas(given, preserve_index=False).replace_schema_metadata()
    if hasattr(given, "__arrow_c_stream__"):
        try:
            return pa.table(given)
        except pa.ArrowException as error:  # before 16 it has no string_view, which is what Polars gives
            message = f"{name}: pyarrow {pa.__version__} cannot read it ({error}). Install a newer one, or give a table of pyarrow's."  # noqa: E501
            raise DataError(message) from error
    message = f"{name}: got {type(given).__name__}, expected a table of pyarrow, pandas or Polars, or one that has __arrow_c_stream__"  # noqa: E501
    raise UsageError(message)


def _cast(column: pa.ChunkedArray, wanted: pa.DataType, where: str) -> pa.ChunkedArray:
    try:
        if _is_number(wanted) and not _is_number(column.type) and not pa.types.is_null(column.type):
            raise TypeError(_NOT_NUMBERS)  # Arrow would read text and True
        if "string_view" in str(column.type):  # what Polars gives, and pyarrow 17 cannot cast
            return pa.chunked_array([pa.array(column.to_pylist(), wanted)])
        return column.cast(wanted)
    except (pa.ArrowException, TypeError) as error:
        raise DataError(f"{where} is {column.type}, expected {wanted}: {error}") from error


def _is_number(kind: pa.DataType) -> bool:
    """Whether values of a type are whole numbers, floats or decimals."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))
