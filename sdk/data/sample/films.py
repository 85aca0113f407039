"""The sample's films: real titles with their public facts, and overviews in our own words.

The facts lie beside this module as tab-separated text, so that a person can read and mend them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sdk.base.errors import UnusableFileError

GENRES = (
    "Action", "Adventure", "Animation", "Children", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
COLUMNS = ("title", "year", "genres", "directors", "cast", "keywords", "overview")
FOLDER = Path(__file__).parent / "sample_films"
_REMEDY = "The installed package is damaged: install it again."


@dataclass(frozen=True, slots=True)
class Film:
    """One title of the sample.

    Attributes:
        item_id: 1 for the oldest title, and so on in order of year, then title.
        title: display name, without the year.
        year: of the first release.
        genres: MovieLens's names, one or more of ``GENRES``.
        directors: one or more.
        cast: billing order, one or more.
        keywords: one or more.
        overview: one sentence.
        is_favourite: whether it stands in our short list of widely loved films.
    """

    item_id: int
    title: str
    year: int
    genres: tuple[str, ...]
    directors: tuple[str, ...]
    cast: tuple[str, ...]
    keywords: tuple[str, ...]
    overview: str
    is_favourite: bool


def read_films(folder: Path = FOLDER) -> tuple[Film, ...]:
    """The catalogue that lies in a folder, ascending by item_id.

    Raises:
        UnusableFileError: a file of the package is absent or damaged.
    """
    rows = sorted(_rows(folder, "[0-9]_*.tsv", COLUMNS), key=lambda row: (int(row[1]), row[0]))
    loved = {(title, year) for title, year in _rows(folder, "favourites.tsv", ("title", "year"))}
    if unknown := loved - {(row[0], row[1]) for row in rows}:
        raise UnusableFileError(folder / "favourites.tsv", f"{min(unknown)} is not in the catalogue", _REMEDY)
    return tuple(_film(number, row, (row[0], row[1]) in loved) for number, row in enumerate(rows, start=1))


def _film(item_id: int, row: list[str], is_favourite: bool) -> Film:
    title, year, *lists, overview = row
    genres, directors, cast, keywords = (tuple(text.split("|")) for text in lists)
    return Film(item_id, title, int(year), genres, directors, cast, keywords, overview, is_favourite)


def _rows(folder: Path, pattern: str, columns: tuple[str, ...]) -> Iterator[list[str]]:
    paths = sorted(folder.glob(pattern))
    if not paths:
        raise UnusableFileError(folder, f"no {pattern} is there", _REMEDY)
    for path in paths:
        lines = [line.split("\t") for line in path.read_text("utf-8").splitlines()]
        if not lines or tuple(lines[0]) != columns:
            raise UnusableFileError(path, f"its header is not {', '.join(columns)}", _REMEDY)
        for number, line in enumerate(lines[1:], start=2):
            if len(line) != len(columns) or not all(line):
                raise UnusableFileError(path, f"line {number} does not hold {len(columns)} values", _REMEDY)
            yield line
