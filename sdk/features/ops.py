"""Operators of ours in NVTabular's form: named classes from an importable module, so no workflow pickles a lambda."""

from __future__ import annotations

from typing import Any

from sdk.machine.cluster import dask_for_merlin

with dask_for_merlin():
    from merlin.core.dispatch import DataFrameType
    from merlin.schema import Schema, Tags
    from nvtabular.ops import ColumnSelector, Operator


class BinarizeLabel(Operator):
    """1 where a rating lies above a threshold, else 0 (int8).

    Args:
        above: ratings strictly greater than this many stars are positive.
    """

    def __init__(self, above: float) -> None:
        super().__init__()
        self.above = above

    def transform(self, col_selector: ColumnSelector, df: DataFrameType) -> DataFrameType:
        """Replace each selected column by its label."""
        return (df[col_selector.names] > self.above).astype("int8")

    @property
    def output_tags(self) -> list[Any]:
        """The column is a target."""
        return [Tags.TARGET, Tags.BINARY_CLASSIFICATION]

    @property
    def output_dtype(self) -> str:
        """The label's type."""
        return "int8"

    def compute_output_schema(
        self, input_schema: Schema, col_selector: ColumnSelector, prev_output_schema: Schema | None = None
    ) -> Schema:
        """Tag and type the output columns."""
        return super().compute_output_schema(input_schema, col_selector, prev_output_schema)
