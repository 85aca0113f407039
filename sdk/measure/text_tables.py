"""Tables of figures as plain text for terminals and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sdk.measure.charts import display
from sdk.measure.slices import Slice
from sdk.metrics.pointwise import Interval, SliceFigures

NOT_MEASURED = "–"
BORDERS = "In brackets: the training ratings that a user or title has."


@dataclass(frozen=True, slots=True)
class Table:
    """Cells of text; the first column is a name, the others are figures.

    Attributes:
        header: names of the columns.
        rows: as many cells each.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def as_text(self) -> list[str]:
        """Lines with aligned columns."""
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]
        return [
            "  ".join(cell.rjust(width) if n else cell.ljust(width) for n, (cell, width) in enumerate(pairs)).rstrip()
            for pairs in (list(zip(row, widths, strict=True)) for row in (self.header, *self.rows))
        ]

    def as_markdown(self) -> list[str]:
        """Lines of a Markdown table."""
        rule = "|".join(["---", *["---:"] * (len(self.header) - 1)])
        lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in (self.header, *self.rows)]
        return [f"| {lines[0]} |", f"|{rule}|", *(f"| {line} |" for line in lines[1:])]


def figure(value: float | None, interval: Interval | None = None, decimals: int = 4) -> str:
    """``0.8223 ±0.0148``: a value and half the width of its interval; a dash where it was not measured."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    text = f"{value:.{decimals}f}"
    if interval is None or not all(map(math.isfinite, interval)):
        return text
    return f"{text} ±{(interval[1] - interval[0]) / 2:.{decimals}f}"


def slice_table(slices: Sequence[Slice], rows: Sequence[SliceFigures], name: str, decimals: int = 4) -> Table:
    """One figure per slice and model.

    Args:
        slices: whose order and borders are shown; one without rows is left out.
        rows: one per model and slice.
        name: the figure's name in ``values``.
        decimals: shown of each figure.
    """
    models = list(dict.fromkeys(row.model for row in rows))
    found = {(row.part, row.model): row for row in rows}
    lines = []
    for part in slices:
        mine = [found[part.name, model] for model in models if (part.name, model) in found]
        if mine:
            figures = [figure(row.values.get(name), row.intervals.get(name), decimals) for row in mine]
            counts = (f"{mine[0].num_users:,}", f"{mine[0].num_rows:,}")
            lines.append((f"{part.name} ({part.rule})", *counts, *figures))
    return Table(("slice", "users", "rows", *map(display, models)), tuple(lines))
