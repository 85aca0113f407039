"""Figures and tables of figures as text: plain for terminals and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from sdk.base.printable import number
from sdk.measure.slices import Slice
from sdk.metrics.pointwise import Interval, SliceFigures
from sdk.shell.terminal import Page

_BORDERS = "In brackets: how many rows of the training part a user or an item has."


def display(model: str) -> str:
    """A model's name as people write it: ``dlrm + history`` is "DLRM + history"."""
    return " ".join({"dlrm": "DLRM", "ncf": "NCF", "bfm": "BFM"}.get(word, word) for word in model.split(" "))


def figure(value: float | None, interval: Interval | None = None, decimals: int = 4) -> str:
    """``0.8223 ±0.0148``: a value and half the width of its interval; a dash where it was not measured."""
    if interval is None or not all(map(math.isfinite, interval)):
        return number(value, decimals)
    return f"{number(value, decimals)} ±{number((interval[1] - interval[0]) / 2, decimals)}"


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]], note: str = "") -> Page:
    """A table whose first column is a name and whose others are figures."""
    return Page(title, tuple(header), tuple(map(tuple, rows)), frozenset(header[1:]), note)


def as_text(page: Page) -> list[str]:
    """Title, note and lines with aligned columns."""
    cells = [page.header, *(tuple(map(str, row)) for row in page.rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    sides = [str.rjust if name in page.figures else str.ljust for name in page.header]
    lines = (
        "  ".join(side(cell, width) for side, cell, width in zip(sides, row, widths, strict=True)).rstrip()
        for row in cells
    )
    return [page.title, *([page.note] if page.note else []), "", *lines]


def as_markdown(page: Page, spaced_rule: bool = False) -> list[str]:
    """Lines of a Markdown table; with ``spaced_rule`` the line below its head is set like the others."""
    gap = " " if spaced_rule else ""
    rule = f"{gap}|{gap}".join("---:" if name in page.figures else "---" for name in page.header)
    cells = ([str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in (page.header, *page.rows))
    head, *rows = (f"| {' | '.join(row)} |" for row in cells)
    return [head, f"|{gap}{rule}{gap}|", *rows]


def as_section(page: Page) -> list[str]:
    """Lines of a Markdown section: title, note and table."""
    return [f"## {page.title}", *(["", page.note] if page.note else []), "", *as_markdown(page)]


def slice_table(
    title: str, slices: Sequence[Slice], rows: Sequence[SliceFigures], name: str, decimals: int = 4
) -> Page:
    """One figure per slice and model.

    Args:
        title: of the table.
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
            counts = map(number, (mine[0].num_users, mine[0].num_rows))
            lines.append((f"{part.name} ({part.rule})", *counts, *figures))
    return table(title, ("slice", "users", "rows", *map(display, models)), lines, _BORDERS)
