"""What a ``Dataset`` must be, looked at once, when it is made: ascending ids, pairs of known ids, described columns."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sdk.base import schema
from sdk.base.description import Description
from sdk.base.errors import DataError

_DENSE = 1 << 26  # ids below it are looked up in a table of bits
_REMEDY = "Make it by sdk.dataset, which puts things in order and sets aside what cannot be used."


def check_side(
    side: Literal["items", "users"], table: pa.Table, about: Description, keys: NDArray[np.int64],
    known: NDArray[np.int64],
) -> None:  # fmt: skip
    """Hold one side of a data set to what is promised of it; that each pair occurs once is not looked at.

    Args:
        side: which it is.
        table: its table.
        about: what the columns mean.
        keys: (N,) int64, that side of each pair.
        known: (R,) int64, ascending: the keys of the table's rows.

    Raises:
        DataError: ids are null, of another type, do not ascend or occur twice; a column is not as described; or a pair
            is of an unknown user or item.
    """
    name = "item_id" if side == "items" else "user_id"
    _check_columns(table, schema.table_layout(name, about, table.schema), side)
    if (wrong := ~_known(known, keys)).any():
        place = int(wrong.argmax())
        found = f"interactions: {wrong.sum():,} are of a {name} that is not in {side}"
        raise DataError(f"Dataset: {found}, the first, {keys[place]}, in row {place + 1}. {_REMEDY}")


def check_ids(side: str, table: pa.Table, name: str) -> None:
    """Hold a table's ids to what is promised of them.

    Raises:
        DataError: they are not there, null, of another type, do not ascend or occur twice.
    """
    where = f"Dataset.{side}: column {name!r}"
    if name not in table.column_names:
        raise DataError(f"Dataset.{side}: no column {name!r} (it has {', '.join(table.column_names)}). {_REMEDY}")
    column = table[name].combine_chunks()
    if column.type not in (pa.int64(), pa.string()) or column.null_count:
        found = f"is {column.type} with {column.null_count:,} nulls, expected int64 or string without nulls"
        raise DataError(f"{where} {found}. {_REMEDY}")
    if len(column) > 1 and not pc.all(pc.less(column[:-1], column[1:])).as_py():
        after = pc.index(pc.less(column[:-1], column[1:]), value=False).as_py() + 1
        found = f"{column[after - 1].as_py()!r} stands before {column[after].as_py()!r}"
        raise DataError(f"{where}: {found}, expected each id once, ascending. Sort it (table.sort_by), or: {_REMEDY}")


def _check_columns(table: pa.Table, layout: pa.Schema, side: str) -> None:
    found = {field.name: field.type for field in table.schema}
    expected = {field.name: field.type for field in layout}
    if found != expected:
        wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))[0]
        got, want = found.get(wrong, "not there"), expected.get(wrong, "no such column")
        raise DataError(f"Dataset.{side}: column {wrong!r} is {got}, expected by its description: {want}. {_REMEDY}")
    for field in layout:
        if table[field.name].null_count and not field.nullable:
            count = table[field.name].null_count
            raise DataError(f"Dataset.{side}: column {field.name!r} has {count:,} nulls, expected none. {_REMEDY}")


def _known(known: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(N,) bool, which keys are known; a table of bits where they are small, as places and most ids are."""
    if not len(keys) or not len(known):
        return np.zeros(len(keys), np.bool_)
    top = int(known[-1])
    if not 0 <= top < _DENSE or int(known[0]) < 0:
        return np.isin(keys, known)
    bits = np.zeros(top + 1, np.bool_)
    bits[known] = True
    inside = (keys >= 0) & (keys <= top)
    return inside & bits[np.where(inside, keys, 0)]
