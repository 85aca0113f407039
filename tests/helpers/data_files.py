"""Tiny MovieLens and TMDB files, written as published."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MOVIES_CSV = 'movieId,title,genres\n1,Toy Story (1995),Adventure|Animation\n2,"Matrix, The (1999)",Sci-Fi\n'
RATINGS_CSV = "userId,movieId,rating,timestamp\n7,1,4.0,100\n7,2,0.5,101\n5,1,5.0,90\n"
GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip


def write(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write files into a folder, text as UTF-8; the folder is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def csv_form(folder: Path, ratings: str | bytes = RATINGS_CSV, **more: str | bytes) -> Path:
    """MovieLens in its CSV form; ``movies=...`` and the like replace or add files."""
    files: dict[str, str | bytes] = {"ratings": ratings, "movies": MOVIES_CSV, **more}
    return write(folder, {f"{name}.csv": content for name, content in files.items()})


def ratings_csv(*lines: str) -> str:
    """A ratings file of these lines."""
    return "\n".join(["userId,movieId,rating,timestamp", *lines]) + "\n"


def zipped(folder: Path, target: Path, top: str = "") -> Path:
    """The folder's files as a zip, below one top folder if ``top`` names it."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"{top}/{file.name}" if top else file.name)
    return target


def flags(*genres: str) -> str:
    """100K's nineteen genre flags."""
    return "|".join("1" if genre in genres else "0" for genre in GENRES_100K)


def named(*names: str, **more: Any) -> str:
    """A TMDB column: JSON objects with these names."""
    return json.dumps([{"id": number, "name": name, **more} for number, name in enumerate(names)])


def csv_text(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A CSV file as Kaggle writes it."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([header, *rows])
    return out.getvalue()


TMDB_MOVIES = ("id", "title", "release_date", "genres", "overview", "keywords", "production_companies", "budget")
TMDB_CREDITS = ("movie_id", "title", "cast", "crew")


def film(id_: Any, title: str = "Film", *, released: str = "1999-03-30", **columns: str) -> list[Any]:
    """One row of tmdb_5000_movies.csv."""
    values = {"genres": "[]", "overview": "", "keywords": "[]", "production_companies": "[]", **columns}
    return [id_, title, released, *values.values(), 0]


def tmdb_form(folder: Path, films: Sequence[Sequence[Any]], credits_: Sequence[Sequence[Any]] = ()) -> Path:
    """TMDB's two files."""
    movies, people = csv_text(TMDB_MOVIES, films), csv_text(TMDB_CREDITS, credits_)
    return write(folder, {"tmdb_5000_movies.csv": movies, "tmdb_5000_credits.csv": people})
