"""Encoded tables on disk: the raw columns and the encoded ones side by side in one Parquet file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sdk.base import schema
from sdk.base.arrow_tables import numbers_in
from sdk.base.description import Description
from sdk.base.errors import BundleError, DataError
from sdk.base.ids import ids_in, is_text
from sdk.base.types import Float32s, Int64s
from sdk.features.row_groups import HeldParquet
from sdk.features.tables import FIRST_KNOWN, STATISTIC_NAMES, EncodedTable, Statistics

_DAMAGE = (KeyError, ValueError, TypeError, AttributeError, IndexError, ArithmeticError, MemoryError, DataError,
           pa.ArrowException, OSError)  # fmt: skip
"""What reading a damaged table, or one that does not fit its facts, raises."""
_FILMS = Description()
_NEAR, _FAR = 1e-30, 1e6  # bounds of a mean and a deviation within which float32 features stay finite
ROWS_A_GROUP = 1 << 14
"""Of a Parquet row group, which is read as one: a few users are found without reading all of them."""
_CODE, _SHARES, _DENSE, _COUNT, _LIKES = "code_", "shares_", "dense", "train_count", "train_likes"


def write_table(raw: pa.Table, encoded: EncodedTable, path: Path) -> dict[str, Any]:
    """Write the known rows: raw columns, then ``code_*``, ``shares_*``, ``dense``, ``train_count``, ``train_likes``.

    Where a raw column has such a name, all of these have as many underscores in front as tell them apart.

    Args:
        raw: users or items, one row per known row of ``encoded``, in its order.
        encoded: the table; its three reserved rows follow from rules and are not written.
        path: the Parquet file.

    Returns:
        What ``read_table`` needs beside the file, as plain JSON values.
    """
    statistics, table = encoded.statistics, raw
    columns: dict[str, NDArray[Any]] = {
        **{_CODE + name: codes for name, codes in encoded.codes.items()},
        **{_SHARES + name: shares for name, shares in encoded.multi_hot.items()},
        **{_DENSE: encoded.dense, _COUNT: statistics.count, _LIKES: statistics.likes},
    }
    mark = ""
    while {mark + name for name in columns} & set(raw.column_names):
        mark += "_"
    for name, values in columns.items():
        known = values[FIRST_KNOWN:]
        table = table.append_column(mark + name, pa.array(known) if known.ndim == 1 else _fixed_lists(known))
    pq.write_table(table, path, compression="zstd", row_group_size=ROWS_A_GROUP)
    return {
        "codes": list(encoded.codes),
        "multi_hot": list(encoded.multi_hot),
        "cardinalities": dict(encoded.cardinalities),
        "dense_names": list(encoded.dense_names),
        "prior_rate": statistics.prior_rate,
        "prior_count": statistics.prior_count,
        "mean": statistics.mean.tolist(),
        "std": statistics.std.tolist(),
        **({"mark": mark} if mark else {}),
    }


def read_table(
    path: Path, id_name: str, facts: Mapping[str, Any], about: Description = _FILMS
) -> tuple[pa.Table, EncodedTable]:
    """The raw columns and the encoded table that ``write_table`` wrote.

    Args:
        path: the file.
        id_name: ``user_id`` or ``item_id``.
        facts: what ``write_table`` gave.
        about: what the raw columns should be.

    Raises:
        BundleError: the file is not what ``facts`` describe.
    """

    def whole() -> pa.Table:
        with pq.ParquetFile(path) as file:  # no data set: date=2026-11-23 above a bundle is no column of it
            return file.read()

    return _read(whole, path, id_name, facts, about)


def read_some(
    file: HeldParquet, rows: Int64s, id_name: str, facts: Mapping[str, Any], about: Description = _FILMS
) -> tuple[pa.Table, EncodedTable]:
    """``read_table`` of a few known rows alone, which follow the three reserved ones.

    Args:
        file: what ``write_table`` wrote.
        rows: (B,) int64, ascending, from 0: rows of the file.
        id_name: as there; ``facts`` and ``about``, too.

    Raises:
        BundleError: what was read is not what ``facts`` describe.
    """
    return _read(lambda: file.take(rows), file.path, id_name, facts, about)


def _read(
    read: Callable[[], pa.Table], path: Path, id_name: str, facts: Mapping[str, Any], about: Description
) -> tuple[pa.Table, EncodedTable]:
    try:
        table = read()
        table.validate(full=True)
        encoded_names = [_CODE + name for name in facts["codes"]] + [_SHARES + name for name in facts["multi_hot"]]
        mark = str(facts.get("mark", ""))
        ours = {mark + name for name in (*encoded_names, _DENSE, _COUNT, _LIKES)}
        raw = table.select([name for name in table.column_names if name not in ours])
        _check_raw(raw, id_name, about)
        encoded = _decode(table, id_name, facts)
        _check_encoded(encoded)
    except _DAMAGE as error:
        raise BundleError(f"{path}: not an encoded table of this release ({error}). Train the bundle again.") from error
    return raw, encoded


def _check_raw(raw: pa.Table, id_name: str, about: Description) -> None:
    """Refuse another schema, nulls where there must be none, and ids that do not rise.

    Raises:
        ValueError: the message says which.
    """
    expected = schema.table_layout(id_name, about, raw.schema)
    if not raw.schema.equals(expected):
        raise ValueError(f"its columns are {', '.join(f'{f.name} {f.type}' for f in raw.schema)}")
    if empty := [field.name for field in expected if not field.nullable and raw.column(field.name).null_count]:
        raise ValueError(f"{empty[0]} has nulls")
    ids = ids_in(raw.column(id_name))
    if not ((ids[1:] > ids[:-1]).all() and (is_text(ids) or (ids >= 0).all())):
        raise ValueError(f"{id_name} does not rise from row to row")


def _check_normalisation(statistics: Statistics) -> None:
    """Refuse a prior or a normalisation that no ratings give.

    Raises:
        ValueError: the message says which.
    """
    mean, std = statistics.mean, statistics.std
    ordinary = (abs(mean) < _FAR) & (std > _NEAR) & (std < _FAR) if mean.shape == std.shape else np.False_
    if mean.shape != (len(STATISTIC_NAMES),) or not ordinary.all():
        raise ValueError(f"mean and std are {mean.tolist()} and {std.tolist()}")
    if not (0 <= statistics.prior_rate <= 1 and 0 <= statistics.prior_count < np.inf):
        raise ValueError(f"the prior is {statistics.prior_rate} of {statistics.prior_count} ratings")


def _check_encoded(encoded: EncodedTable) -> None:
    """Refuse numbers that no table of ours holds; a NaN in a feature would reach every score.

    Raises:
        ValueError: the message says which.
    """
    statistics = encoded.statistics
    finite: dict[str, NDArray[Any]] = {"dense": encoded.dense, **encoded.multi_hot}
    wrong = [name for name, values in finite.items() if not np.isfinite(values).all()]
    wrong += [name for name, values in encoded.multi_hot.items() if values.shape[1] != encoded.cardinalities[name]]
    counted = (statistics.likes >= 0).all() and (statistics.likes <= statistics.count).all()
    if not (counted and np.isfinite(statistics.count).all()):
        wrong.append("train_count and train_likes")
    if "id" not in encoded.codes:
        wrong.append("code_id, which is absent,")
    if wrong:
        raise ValueError(f"{wrong[0]} holds values that it cannot have")


def _decode(table: pa.Table, id_name: str, facts: Mapping[str, Any]) -> EncodedTable:
    mark = str(facts.get("mark", ""))

    def known(name: str) -> np.ndarray[Any, Any]:
        return numbers_in(table.column(mark + name))

    prior = (float(facts["prior_rate"]), float(facts["prior_count"]))
    moments = (np.array(facts["mean"]), np.array(facts["std"]))
    statistics = Statistics(known(_COUNT), known(_LIKES), *prior, *moments)
    _check_normalisation(statistics)
    return EncodedTable(
        ids=ids_in(table.column(id_name)),
        codes={name: known(_CODE + name) for name in facts["codes"]},
        cardinalities=dict(facts["cardinalities"]),
        multi_hot={name: _matrix(table.column(mark + _SHARES + name)) for name in facts["multi_hot"]},
        dense=_matrix(table.column(mark + _DENSE)),
        dense_names=tuple(facts["dense_names"]),
        statistics=statistics,
    ).with_reserved_rows()


def _fixed_lists(matrix: Float32s) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(matrix).ravel()), matrix.shape[1])


def _matrix(column: pa.ChunkedArray) -> Float32s:
    lists = column.combine_chunks()
    values = lists.values.slice(lists.offset * lists.type.list_size, len(lists) * lists.type.list_size)
    if lists.null_count:
        raise ValueError(f"a list of {lists.type} is null")
    return numbers_in(values).reshape(len(lists), lists.type.list_size).astype(np.float32)
