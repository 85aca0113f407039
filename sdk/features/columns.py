"""What users and items are described by, made ready for both engines: names, heavy tails, and lists of many values.

All of it is done before an engine sees a column, so that both see the same. Names are those of the encoded table: a
column whose name stands there already, or cannot stand in the name of a tensor, bears another one.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sdk.base.description import FEATURES, Role
from sdk.base.types import Float32s, Float64s
from sdk.features.builtin import by_count
from sdk.features.tables import STATISTIC_NAMES

log = logging.getLogger(__name__)

CONTENT = "content_"
NO_GENRE = "(none)"  # NVTabular refuses a column whose lists are all empty
OTHER = "(other)"
"""Stands for the values of a column that are too many for codes of their own."""
MOST_VALUES = 100_000
"""Most values of a categorical column that have a code of their own: a vector each, in every network."""
MOST_LISTED = 1000
"""Most values of a list column that have one: each of them is a number in every row."""
_MOST_SHARES = 1 << 26  # numbers of a list column's shares: 256 MiB
_FAR = 1e100  # what lies beyond would be squared past the largest number
_TAIL = 20.0  # a number as many times the median, and the logarithm says more
_LEAST_LISTED = 16
_KINDS: Mapping[str, tuple[Role, ...]] = {
    "several": ("list",), "one": ("categorical", "group"), "numbers": ("continuous", "time"),
}  # fmt: skip


class Attributes(NamedTuple):
    """One side's attributes that anything is known of: a row per user or item, and what kind each column is.

    Attributes:
        frame: the columns by their encoded names.
        categorical: names of columns of one value.
        lists: names of columns of several.
        numeric: names of columns of numbers, those of the content last.
    """

    frame: pd.DataFrame
    categorical: tuple[str, ...]
    lists: tuple[str, ...]
    numeric: tuple[str, ...]


def attributes(table: pa.Table, roles: Mapping[str, Role], vectors: Float32s) -> Attributes:
    """The columns of ``FEATURES``' roles, and their content's numbers; an empty list is ``NO_GENRE``.

    Args:
        table: users or items.
        roles: of its columns.
        vectors: (R, C) float32, the content's.
    """
    known = [name for name, role in roles.items() if role in FEATURES and table[name].null_count < len(table)]
    content = {f"{CONTENT}{d}": vectors[:, d] for d in range(vectors.shape[1])}
    columns: dict[str, Any] = {}
    kinds: dict[str, list[str]] = {}
    for kind, of in _KINDS.items():
        kinds[kind] = []
        for name in (name for name in known if roles[name] in of):
            encoded, values = _ready(name, roles[name], table[name].combine_chunks())
            encoded = _free(encoded, {"id", *STATISTIC_NAMES, *columns})
            columns[encoded] = values
            kinds[kind].append(encoded)
    frame = pd.DataFrame({**columns, **content}, index=pd.RangeIndex(len(table)))
    return Attributes(frame, tuple(kinds["one"]), tuple(kinds["several"]), (*kinds["numbers"], *content))


def _ready(name: str, role: Role, column: pa.Array) -> tuple[str, Any]:
    """A column's name, not yet free, and its values."""
    if role in _KINDS["one"]:
        return name, _with_other(name, column).to_pandas()
    if role == "list":
        return name, _listed(name, column)
    values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    values = np.where(np.isfinite(values), np.clip(values, -_FAR, _FAR), np.nan)
    return (f"log_{name}", _logarithm(values)) if role != "time" and _has_tail(values) else (name, values)


def _free(name: str, taken: Collection[str]) -> str:
    """A name that no other column has, and that can stand in the name of a tensor and in Merlin's of a ragged list."""
    name = re.sub(r"_{2,}", "_", re.sub(r"\W", "_", name)) or "_"
    while name in taken or re.fullmatch(rf"{CONTENT}\d+", name):
        name += "x"
    return name


def _has_tail(values: Float64s) -> bool:
    """Whether a few numbers are so much larger than most that they alone would make the mean and the deviation.

    A price has such a tail, and a stock; a year and an age have not.
    """
    size = np.abs(values[~np.isnan(values)])
    return bool(len(size) and size.max() > _TAIL * np.median(size))


def _logarithm(values: Float64s) -> Float64s:
    """``log(1 + x)``, of numbers below 0 with the sign kept, to float32's precision: last bits are the processor's."""
    return np.asarray(np.sign(values) * np.log1p(np.abs(values)), np.float32).astype(np.float64)


def _with_other(name: str, column: pa.Array) -> pa.Array:
    """The column, with ``OTHER`` in place of all but its most frequent values."""
    common = _most_frequent(name, column, MOST_VALUES)
    if common is None:
        return column
    kept = pc.or_(pc.is_in(column, value_set=common), pc.is_null(column))
    return pc.if_else(kept, column, OTHER)


def _listed(name: str, column: pa.Array) -> list[list[str]]:
    """The lists, each value once, with ``OTHER`` in place of all but the most frequent ones."""
    most = min(MOST_LISTED, max(_LEAST_LISTED, _MOST_SHARES // max(len(column), 1)))
    common = _most_frequent(name, column.flatten(), most)
    known = None if common is None else set(common.to_pylist())
    lists = []
    for values in column.to_pylist():
        some = [value for value in values or () if value is not None]
        named = some if known is None else [value if value in known else OTHER for value in some]
        lists.append(list(dict.fromkeys(named)) or [NO_GENRE])
    return lists


def _most_frequent(name: str, values: pa.Array, most: int) -> pa.Array | None:
    """The values that are most frequent; None where there are no more than those."""
    if pc.count_distinct(values).as_py() <= most:
        return None
    known = by_count(values)
    remedy = "describe it as terms, which the content model alone reads, or group its values"
    log.warning(
        "column %r has %d values, of which the %d most frequent are told apart by the rankers; %s",
        name,
        len(known),
        most,
        remedy,
    )
    return known[:most]
