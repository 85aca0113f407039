"""A data set from tables in memory: of pandas, Polars, DuckDB, pyarrow or whatever has the Arrow PyCapsule interface.

Nothing is set aside, as rows of files are: what cannot be used is refused, for the program that has the tables to mend.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from sdk.base import schema
from sdk.base.arrow_tables import as_table
from sdk.base.config import DataConfig
from sdk.base.errors import DataError, MissingColumnError
from sdk.base.ids import rows_of
from sdk.base.types import Bools, Dataset, Interactions, Table
from sdk.data.fingerprint import fingerprint
from sdk.data.validation import MAX_TIMESTAMP, sorted_order, superseded

_DEFAULT = DataConfig()


def from_tables(
    ratings: Table, items: Table, users: Table | None = None, *, name: str = "tables", config: DataConfig = _DEFAULT
) -> Dataset:
    """A data set of tables of pandas, Polars, pyarrow or DuckDB, validated; rows may come in any order.

    Args:
        ratings: ``user_id``, ``item_id``, ``rating`` (stars) and ``timestamp`` (seconds since 1970-01-01 UTC, or times;
            those without a zone are UTC), one row per user and title.
        items: ``item_id`` and ``title``; ``year``, ``genres``, ``tags``, ``overview`` and the other columns of
            ``schema.ITEMS`` where they are known.
        users: ``user_id`` and what is known of the columns of ``schema.USERS``; None takes who has rated.
        name: what the data set is called in reports.
        config: the rating scale.

    Raises:
        UsageError: one of them is no table.
        MissingColumnError: a column is missing.
        DataError: a column is of another kind or has nulls, an id occurs twice, a rating is off the scale or of an
            unknown user or title, or there is no rating.
    """
    titles = _by_id(items, schema.ITEMS, "items")
    rated = _whole(_in_seconds(as_table(ratings, pa.schema([]), "ratings")), schema.RATINGS, "ratings")
    interactions = Interactions(*(rated[column].to_numpy() for column in schema.RATINGS.names))
    if users is None:
        users = pa.table({"user_id": np.unique(interactions.user_id)})
    people = _by_id(users, schema.USERS, "users")
    order = sorted_order(interactions.user_id, interactions.item_id)
    _check(interactions, titles, people, config)
    again = superseded(interactions.user_id, interactions.item_id, interactions.timestamp, order)
    _refuse(again if again is not None else np.zeros(0, np.bool_), "are of a user and title that have another rating")
    digest = fingerprint(interactions, titles, people, order)
    return Dataset(name, interactions, titles, people, schema.REJECTS.empty_table(), digest)


def _check(rated: Interactions, items: pa.Table, users: pa.Table, config: DataConfig) -> None:
    if not len(rated):
        message = "ratings: the table is empty, expected one or more ratings"
        raise DataError(message)
    low, high = config.rating_min, config.rating_max
    _refuse(rows_of(items["item_id"].to_numpy(), rated.item_id) < 0, "are of a title that is not in items")
    _refuse(rows_of(users["user_id"].to_numpy(), rated.user_id) < 0, "are of a user who is not in users")
    _refuse(~((rated.rating >= low) & (rated.rating <= high)), f"are not on the scale from {low} to {high} stars")
    _refuse((rated.timestamp < 0) | (rated.timestamp > MAX_TIMESTAMP), "were made before 1970 or after 2100")


def _refuse(wrong: Bools, what: str) -> None:
    if wrong.any():
        raise DataError(f"ratings: {wrong.sum():,} {what}, the first in row {int(wrong.argmax()) + 1}. Mend the table.")


def _by_id(given: Table, layout: pa.Schema, name: str) -> pa.Table:
    """The whole table, ascending by its first column, in which no id occurs twice."""
    key = layout.names[0]
    table = _whole(given, layout, name).sort_by(key).combine_chunks()
    ids = table[key].to_numpy()
    if len(twice := np.flatnonzero(ids[1:] == ids[:-1])):
        raise DataError(f"{name}: {key} {ids[twice[0]]} occurs twice, expected each id once. Mend the table.")
    return table


def _whole(given: Table, layout: pa.Schema, name: str) -> pa.Table:
    """The layout's columns, those that are missing and may be so filled with nothing."""
    table = as_table(given, layout, name)
    columns = [_column(table, field, name) for field in layout]
    for field, column in zip(layout, columns, strict=True):
        if column.null_count and not field.nullable:
            raise DataError(f"{name}: column {field.name!r} has {column.null_count:,} nulls, expected none")
        if field.name in ("user_id", "item_id"):
            _refuse_negative(column, field.name, name)
    return pa.table(columns, schema=layout)


def _refuse_negative(column: pa.ChunkedArray, key: str, name: str) -> None:
    if (negative := column.to_numpy() < 0).any():
        raise DataError(f"{name}: {key} {column.to_numpy()[negative][0]} is negative, expected ids from 0 to 2**63 - 1")


def _column(table: pa.Table, field: pa.Field, name: str) -> pa.ChunkedArray:
    if field.name in table.column_names:
        return table[field.name]
    if field.nullable:
        return pa.chunked_array([pa.nulls(len(table), field.type)])
    if field.name != "overview" and not pa.types.is_list(field.type):
        raise MissingColumnError(name, field.name, table.column_names)
    nothing = [] if pa.types.is_list(field.type) else ""
    return pa.chunked_array([pa.array([nothing] * len(table), field.type)])


def _in_seconds(table: pa.Table) -> pa.Table:
    """Times as seconds since 1970-01-01 UTC; numbers are such seconds."""
    at = table.schema.get_field_index("timestamp")
    if at < 0 or not pa.types.is_timestamp(table.schema.field(at).type):
        return table
    seconds = table[at].cast(pa.timestamp("s", table.schema.field(at).type.tz), safe=False)
    return table.set_column(at, "timestamp", seconds.cast(pa.int64()))
