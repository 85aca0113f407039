"""MovieLens in every published form, from a folder or the zip as published, validated, with TMDB's details."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sdk.base.config import DataConfig
from sdk.base.errors import UnusableFileError
from sdk.base.paths import as_path
from sdk.base.types import Dataset
from sdk.data import tmdb as tmdb_films
from sdk.data.archive import Source
from sdk.data.fingerprint import fingerprint
from sdk.data.forms import METADATA_FILE, Form, find_form, find_ratings
from sdk.data.items import read_items, read_users
from sdk.data.rating_lines import layout_of
from sdk.data.ratings import Ratings, read_ratings
from sdk.data.records import TextFiles
from sdk.data.validation import MAX_TIMESTAMP

log = logging.getLogger(__name__)
_DEFAULT = DataConfig()
_SEPARATORS = {".csv": ",", ".dat": "::", ".data": "\t"}


def load(path: str | Path, *, tmdb: str | Path | None = None, config: DataConfig = _DEFAULT) -> Dataset:
    """Load and validate MovieLens.

    Ratings keep their file order. A pair rated twice counts once, with its latest rating. Rows that cannot be used
    are in ``rejects``, each with file, line, reason and text.

    Args:
        path: a folder or zip of MovieLens 100K, 1M, 10M, 20M, 25M, 32M, latest or latest-small; or of Kaggle's
            MovieLens 20M or The Movies Dataset. Timestamps may be seconds, milli-, micro- or nanoseconds since 1970,
            or dates and times (UTC).
        tmdb: a folder or zip of TMDB 5000 or The Movies Dataset, joined through ``links.csv``, or where the data set
            has none by title and year (``sdk.data.titles``). None takes those films' files that lie beside the
            ratings; without any, TMDB's fields are empty.
        config: the rating scale, and how many of a file's rows may be bad.

    Returns:
        The data set, named after the folder that holds the files.

    Raises:
        MissingFileError: a file is not there, or the folder has no known form.
        MissingColumnError: a file lacks a column.
        UnusableFileError: a file is empty, damaged or unsafe.
        TooManyRejectsError: more of a file's rows are bad than the configuration allows.
    """
    source, form = find_form(path)
    beside = tmdb_films.film_form(source.members) if tmdb is None or form.items == METADATA_FILE else None
    films = [tmdb_films.read_films(source, beside, config)] if beside else []
    films += [] if tmdb is None else [tmdb_films.load(tmdb, config)]
    files = TextFiles(source, config, form.encoding)
    items = read_items(files, form, films[0][0] if beside else None)
    for known_films, _ in films:
        items = _join(source, form, items, known_films)
    known = items["item_id"].to_numpy().astype(np.int64)
    layout = layout_of(source, form.ratings, form.separator)
    ratings = read_ratings(source, form.ratings, layout, known, config)
    users = read_users(files, form, ratings.interactions.user_id)
    rejects = pa.concat_tables([ratings.rejects, *files.rejects, *(table for _, table in films)]).combine_chunks()
    digest = fingerprint(ratings.interactions, items, users, ratings.order)
    counts = (len(ratings.interactions), items.num_rows, users.num_rows, rejects.num_rows)
    shown = (f"{count:,}" for count in counts)
    log.info("%s: %s ratings, %s titles, %s users; %s rows set aside", source.name, *shown)
    return Dataset(source.name, ratings.interactions, items, users, rejects, digest)


def _join(source: Source, form: Form, items: pa.Table, films: pa.Table) -> pa.Table:
    """Titles with TMDB's details; how many there are is logged."""
    has_links = form.links in source
    items = tmdb_films.add_to_items(items if has_links else tmdb_films.link_by_title(items, films), films)
    joined = pc.sum(pc.is_in(items["tmdb_id"], films["tmdb_id"].combine_chunks())).as_py()
    by = f"by {form.links}" if has_links else "by title and year (there is no links.csv)"
    level = logging.INFO if joined else logging.WARNING
    log.log(level, "TMDB: %s of %s titles joined %s", f"{joined:,}", f"{items.num_rows:,}", by)
    return items


def load_ratings(path: str | Path, *, config: DataConfig = _DEFAULT, until: int = MAX_TIMESTAMP) -> Ratings:
    """Load and validate a log of ratings alone, without the titles that they are of; any title is accepted.

    A pair may come again and again: the latest rating stands.

    Args:
        path: a ratings file (``.csv``, ``.dat`` or ``.data``, gzipped or not), or a folder or zip that holds one.
        config: the rating scale, and how many rows may be bad.
        until: seconds since 1970-01-01 UTC; later ratings are passed over.

    Raises:
        MissingFileError: there is no ratings file.
        MissingColumnError: it lacks a column.
        UnusableFileError: it is empty, damaged, unsafe or of no known form.
        TooManyRejectsError: more rows are bad than the configuration allows.
    """
    path = as_path(path)
    if path.is_file() and path.suffix.lower() != ".zip":
        file = path.name.removesuffix(".gz")
        source = Source(path.parent, path.parent.name, {file: str(path)}, zipped=False)
    else:
        source, file = find_ratings(path)
    suffix = Path(file).suffix
    if suffix not in _SEPARATORS:
        raise UnusableFileError(path, f"its name ends in {suffix!r}", "Name it .csv, .dat or .data, by its form.")
    layout = layout_of(source, file, _SEPARATORS[suffix])
    return read_ratings(source, file, layout, None, config, until=until, repeats_are_bad=False)
