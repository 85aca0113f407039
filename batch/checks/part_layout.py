"""Whether a part has the columns that it should have, in words."""

from __future__ import annotations

import pyarrow as pa


def other_ids(table: pa.Table, layout: pa.Schema) -> str:
    """Which of a part's columns of ids are numbers where the layout has text, or the other way round; in words."""
    for ids in (layout.field(0), layout.field(2)):
        got = [_value_type(found.type) for found in table.schema if found.name == ids.name]
        if set(map(str, got)) | {str(ids.type)} == {"int64", "string"}:
            return f"its {ids.name} is {got[0]}, tonight's {ids.type}"
    return ""


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def layout_problem(name: str, table: pa.Table, layout: pa.Schema) -> str:
    """How a part's columns differ from the layout's, in words; empty where they do not.

    A dictionary of strings is as good as strings.
    """
    got = [(field.name, _value_type(field.type)) for field in table.schema]
    wanted = [(f.name, f.type) for f in layout]
    if got == wanted:
        return ""
    have, want = (", ".join(f"{column} {kind}" for column, kind in columns) for columns in (got, wanted))
    return f"{name}: its columns are {have}, expected {want}"
