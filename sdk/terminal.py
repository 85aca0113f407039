"""What commands print: tables for a person at a terminal, plain text for a pipe or a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Group


@dataclass(frozen=True, slots=True)
class Page:
    """A table with its title.

    Attributes:
        title: printed above the table.
        header: names of the columns.
        rows: as many cells each, plain text; a cell may have several lines.
        figures: the columns that are aligned to the right.
        note: printed below the title.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    figures: frozenset[str]
    note: str = ""


def show(plain: str, pages: Callable[[], Sequence[Page]]) -> None:
    """Print the pages as tables where stdout is a terminal, else the plain text, and no escape sequences.

    Colours follow ``NO_COLOR``, and the width is the terminal's.

    Args:
        plain: the same content as lines.
        pages: asked for them on a terminal only.
    """
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        sys.stdout.write(f"{plain}\n")
        return
    from rich.console import Console

    console = Console(file=sys.stdout)
    for number, page in enumerate(pages()):
        console.print("\n" if number else "", _drawn(page), sep="", end="")


def _drawn(page: Page) -> Group:
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in page.header:
        table.add_column(Text(name), justify="right" if name in page.figures else "left")
    for row in page.rows:
        table.add_row(*(Text(_printable(cell)) for cell in row))
    note = [Text(_printable(page.note))] if page.note else []
    return Group(Text(_printable(page.title), style="bold"), *note, table)


def _printable(text: str) -> str:
    """Titles are data: a control character in one must not reach the terminal."""
    return "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)
