"""What commands print: tables for a person at a terminal, plain text for a pipe or a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from sdk.base.printable import one_line, printable
from sdk.base.streams import has_colours, is_terminal

if TYPE_CHECKING:
    from rich.console import Console, Group

_WIDE = 110  # columns, from which a page need not be narrow
_GAP = 2  # columns between a table's
_NAME = 12  # columns that a table's first one has at least, where its cells are that long


Cell: TypeAlias = "str | tuple[str, ...]"
"""One line, or several."""


@dataclass(frozen=True, slots=True)
class Page:
    """A table with its title.

    Attributes:
        title: printed above the table.
        header: names of the columns.
        rows: as many cells each, plain text.
        figures: the columns that are aligned to the right.
        note: printed below the title.
        narrow: shown in its place on a terminal of fewer than 110 columns.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    figures: frozenset[str]
    note: str = ""
    narrow: Page | None = None


def say(*lines: str) -> None:
    """Print lines for people: each stays one line, whatever titles stand in it, and holds no escape sequence."""
    for line in lines:
        print(one_line(line), flush=True)  # noqa: T201  # the one place where commands print text


def show(lines: Iterable[str], pages: Callable[[], Sequence[Page]]) -> None:
    """Print the pages as tables where stdout is a terminal, else the lines, and no escape sequences.

    Colours follow ``sdk.base.streams.has_colours``, and the width is the terminal's.

    Args:
        lines: the same content as plain text.
        pages: asked for them on a terminal only.
    """
    if not _is_terminal():
        say(*lines)
        return
    console = _console()
    for number, page in enumerate(pages()):
        shown = page.narrow if page.narrow is not None and console.width < _WIDE else page
        console.print("\n" if number else "", _drawn(shown, console.width), sep="", end="")


def show_markdown(text: str) -> None:
    """Print Markdown: drawn where stdout is a terminal, else line by line as it is written."""
    if not _is_terminal():
        say(*text.removesuffix("\n").split("\n"))
        return
    from rich.markdown import Markdown

    _console().print(Markdown(printable(text)))


def _console() -> Console:
    from rich.console import Console

    return Console(file=sys.stdout, color_system="auto" if has_colours(sys.stdout) else None)


def _is_terminal() -> bool:
    return is_terminal(sys.stdout) and os.environ.get("TERM") != "dumb"


def _drawn(page: Page, columns: int) -> Group:
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for name, (least, most) in zip(page.header, _widths(page, columns), strict=True):
        side: Literal["right", "left"] = "right" if name in page.figures else "left"
        table.add_column(Text(name), justify=side, min_width=least, max_width=most, overflow="fold")
    for row in page.rows:
        table.add_row(*(Text(_drawn_cell(cell)) for cell in row))
    note = [Text(one_line(page.note))] if page.note else []
    return Group(Text(one_line(page.title), style="bold"), *note, Text(), table)


def _drawn_cell(cell: Cell) -> str:
    return "\n".join(map(one_line, (cell,) if isinstance(cell, str) else cell))


def _widths(page: Page, columns: int) -> list[tuple[int, int | None]]:
    """Each column's least and largest width; where the whole table is too wide, figures are broken between words."""
    cells = list(zip(page.header, *(map(_drawn_cell, row) for row in page.rows), strict=True))
    words = [max(len(word) for cell in column for word in cell.split() or [""]) for column in cells]
    lines = [max(len(line) for cell in column for line in cell.splitlines() or [""]) for column in cells]
    too_wide = sum(lines) + _GAP * len(lines) > columns
    least = [max(map(len, name.split()), default=1) for name in page.header]
    least[0] = max(least[0], min(_NAME, lines[0]))
    most = [word if too_wide and name in page.figures else None for name, word in zip(page.header, words, strict=True)]
    return list(zip(least, most, strict=True))
