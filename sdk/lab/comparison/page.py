"""Writing a comparison: tables and charts in a folder and, if asked, inside a page of the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sdk.base.errors import OutputError, UsageError
from sdk.base.files import write_file
from sdk.base.rights import reason
from sdk.lab.comparison.plots import draw
from sdk.lab.comparison.run import Comparison
from sdk.lab.comparison.table import as_json, as_markdown

BEGIN = "<!-- compare: begin -->"
END = "<!-- compare: end -->"


@dataclass(frozen=True, slots=True)
class Rendered:
    """A comparison as text and charts.

    Attributes:
        markdown: the tables.
        json: every figure.
        charts: file name -> PNG bytes.
    """

    markdown: str
    json: str
    charts: Mapping[str, bytes]

    @classmethod
    def of(cls, comparison: Comparison) -> Rendered:
        """Render a comparison."""
        return cls(as_markdown(comparison), as_json(comparison), draw(comparison))

    @property
    def page(self) -> str:
        """The tables with the charts below them."""
        links = (f"![{name.removesuffix('.png').replace('_', ' ')}]({name})\n" for name in self.charts)
        return f"{self.markdown}\n{''.join(links)}"


def write(rendered: Rendered, folder: Path) -> None:
    """Write ``compare.md``, ``compare.json`` and the charts; files of these names are replaced.

    Raises:
        OutputError: the folder or a file cannot be written.
    """
    files = {"compare.md": rendered.page.encode(), "compare.json": rendered.json.encode()}
    _write(folder, {**files, **rendered.charts})


def write_into(rendered: Rendered, page: Path) -> None:
    """Replace what stands between the two marker lines of a Markdown page, and put the charts beside it.

    Raises:
        UsageError: the page is absent or lacks the marker lines.
        OutputError: a file cannot be written.
    """
    check_page(page)
    before, rest = page.read_text("utf-8").split(BEGIN)
    text = f"{before}{BEGIN}\n\n{rendered.page}\n{END}{rest.split(END)[1]}"
    _write(page.parent, {page.name: text.encode(), **rendered.charts})


def check_page(page: Path) -> None:
    """Refuse a page that ``write_into`` could not fill.

    Raises:
        UsageError: the page is absent or lacks the marker lines.
    """
    text = page.read_text("utf-8") if page.is_file() else ""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        message = (
            f"{page}: expected a page with the lines {BEGIN} and {END}, once each; add them where the table shall stand"
        )
        raise UsageError(message)


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_file(folder / name, content)
    except OSError as error:
        message = (
            f"{error.filename or folder}: the comparison cannot be written ({reason(error)}); choose another folder"
        )
        raise OutputError(message) from error
