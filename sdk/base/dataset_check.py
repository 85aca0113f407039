"""What a ``Dataset`` must be, looked at once, when it is made: ascending ids, pairs of known ids, described columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sdk.base import schema
from sdk.base.errors import DataError
from sdk.base.ids import rows_of
from sdk.base.types import Bools, Int64s, keys_of

if TYPE_CHECKING:
    from sdk.base.types import Dataset

_DENSE = 1 << 26  # ids below it are looked up in a table of bits
_REMEDY = "Make it by sdk.dataset, which puts things in order and sets aside what cannot be used."


def check_dataset(dataset: Dataset) -> None:
    """Hold a data set to what is promised of it. Whether a pair occurs once only is not looked at: it would take long.

    Raises:
        DataError: ids are null, of another type, do not ascend or occur twice; a column is not as described; or a pair
            is of an unknown user or item.
    """
    for table, name, side in ((dataset.items, "item_id", "items"), (dataset.users, "user_id", "users")):
        _check_ids(table, name, side)
        _check_columns(table, schema.table_layout(name, dataset.about, table.schema), side)
    pairs = dataset.interactions
    for keys, table, name, side in (
        (pairs.item_id, dataset.items, "item_id", "items"),
        (pairs.user_id, dataset.users, "user_id", "users"),
    ):
        wrong = ~_known(keys_of(table, name), keys)
        if wrong.any():
            place = int(wrong.argmax())
            found = f"interactions: {wrong.sum():,} are of a {name} that is not in {side}"
            raise DataError(f"Dataset: {found}, the first, {keys[place]}, in row {place + 1}. {_REMEDY}")


def _check_ids(table: pa.Table, name: str, side: str) -> None:
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


def _known(known: Int64s, keys: Int64s) -> Bools:
    """(N,) bool, which keys are known; a table of bits where they are small, as places and most ids are."""
    if not len(keys) or not len(known):
        return np.zeros(len(keys), np.bool_)
    top = int(known[-1])
    if not 0 <= top < _DENSE or int(known[0]) < 0:
        return rows_of(known, keys) >= 0
    bits = np.zeros(top + 1, np.bool_)
    bits[known] = True
    inside = (keys >= 0) & (keys <= top)
    return inside & bits[np.where(inside, keys, 0)]
