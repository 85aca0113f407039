"""What a command measured, put into a page of the documentation between two marker lines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sdk.base.errors import UsageError
from sdk.measure.evaluation_report import write_files


def markers(name: str) -> tuple[str, str]:
    """The two lines between which the command of this name writes."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def write_into(page: Path, name: str, text: str, beside: Mapping[str, bytes] | None = None) -> None:
    """Replace what stands between the two marker lines of a Markdown page.

    Args:
        page: the page.
        name: whose markers.
        text: what shall stand there, without its last line's end.
        beside: file name -> content of what the text shows; it goes into the page's folder.

    Raises:
        UsageError: the page is absent or lacks the marker lines.
        OutputError: a file cannot be written.
    """
    check_page(page, name)
    begin, end = markers(name)
    before, rest = page.read_text("utf-8").split(begin)
    filled = f"{before}{begin}\n\n{text}\n\n{end}{rest.split(end)[1]}"
    write_files(page.parent, {page.name: filled.encode(), **(beside or {})})


def check_page(page: Path, name: str) -> None:
    """Refuse a page that ``write_into`` could not fill, before anything is measured.

    Raises:
        UsageError: the page is absent or lacks the marker lines.
    """
    begin, end = markers(name)
    text = page.read_text("utf-8") if page.is_file() else ""
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise UsageError(
            f"{page}: expected a page with the lines {begin} and {end}, once each; add them where the text shall stand"
        )
