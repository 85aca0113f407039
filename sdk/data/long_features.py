"""Features of users or items in rows, as RecTools takes them, as one column each."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

NAMES = ("id", "feature", "value")


def is_long(names: list[str]) -> bool:
    """Whether a table of these columns has a row for each feature of each id."""
    return sorted(names) == sorted(NAMES)


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
