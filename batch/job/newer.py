"""What a job puts beside its bundle: ratings, events and items newer than it, read as those it was trained on."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from sdk.base.errors import UnusableFileError
from sdk.base.ids import as_texts, is_text, rows_of
from sdk.base.types import IdArray, Int64s
from sdk.bundles.bundle import Bundle
from sdk.bundles.fresh import FreshBundle, FreshRatings, nothing_known, read_newer
from sdk.bundles.new_items import NewItems
from sdk.data.movielens import load_ratings
from sdk.data.side_tables import described, films_of, read_side

log = logging.getLogger(__name__)
_MOVIELENS = frozenset({".csv", ".dat", ".data", ".zip", ".gz"})


def fresh_ratings(bundle: Bundle, path: Path, until: int) -> tuple[FreshRatings, pa.Table]:
    """Newer ratings, in MovieLens's forms for a bundle of films, else in any form that training takes.

    Args:
        bundle: the bundle, which says what the columns are called and what an event weighs.
        path: the file, or a folder.
        until: seconds since 1970-01-01 UTC; later ones are passed over.

    Returns:
        The ratings, and ``schema.REJECTS``, the rows that were set aside.

    Raises:
        DataError: it cannot be used.
    """
    config, about = bundle.info.config.data, bundle.about
    if _is_movielens(bundle, path):
        read = load_ratings(path, config=config, until=until)
        return FreshRatings.of(bundle, read.interactions), read.rejects
    loaded = read_newer(bundle, str(path), name="ratings", until=until)
    if loaded.feedback != about.feedback:
        kinds = {"explicit": "ratings", "implicit": "no ratings: each row is an event"}
        problem = f"it holds {kinds[loaded.feedback]}, where the bundle was trained on {kinds[about.feedback]}"
        raise UnusableFileError(path, problem, "Give rows of the kind that it was trained on.")
    if about.feedback == "implicit" and not loaded.has_times:
        log.warning("%s: no times say which of its events the bundle has already: all are added", path)
    pairs, known = loaded.interactions, (bundle.encoded_users.ids, bundle.encoded_items.ids)
    user_id, users = _named(pairs.user_id, loaded.user_id, known[0], path, "users")
    item_id, items = _named(pairs.item_id, loaded.item_id, known[1], path, "items")
    pairs = replace(pairs, user_id=user_id, item_id=item_id)
    return FreshRatings.of(bundle, pairs, users, items), loaded.rejects


def _is_movielens(bundle: Bundle, path: Path) -> bool:
    numbers = not is_text(bundle.encoded_users.ids) and not is_text(bundle.encoded_items.ids)
    films = bundle.about.is_preset("items") and bundle.about.feedback == "explicit" and not bundle.about.columns
    return numbers and films and (path.is_dir() or path.suffix.lower() in _MOVIELENS)


def _named(keys: Int64s, ids: IdArray, known: IdArray, path: Path, side: str) -> tuple[Int64s, IdArray | None]:
    """Keys and what they are places in, None where they are ids; numbers are text where the bundle's ids are."""
    if not is_text(known):
        if is_text(ids):
            raise _text_ids(path, side, ids)
        return keys, None
    return (keys, ids) if is_text(ids) else (rows_of(ids, keys), as_texts(ids))


def with_new_items(bundle: Bundle, path: Path | None) -> Bundle:
    """A bundle with the items of a table beside its own, or as it is without one; errors as ``new_items``."""
    return bundle if path is None else FreshBundle(bundle, None, new_items(bundle, path)[0])


def new_items(bundle: Bundle, path: Path) -> tuple[NewItems, int, pa.Table]:
    """Items that a bundle does not have, in its own form; columns that it does not have are passed over.

    Args:
        bundle: the bundle.
        path: a table of items, as training takes it.

    Returns:
        The items, how many others the table holds, and ``schema.REJECTS``, the rows that were set aside.

    Raises:
        UsageError: the bundle has no content model.
        DataError: the table cannot be used, or its ids are text and the bundle's are not.
    """
    about, known = bundle.about, bundle.encoded_items.ids
    side = read_side(str(path), "items", about.columns, bundle.info.config.data).like(known)
    if is_text(side.ids) and not is_text(known):
        raise _text_ids(path, "items", side.ids)
    side = films_of(side) if about.is_preset("items") else side
    roles = {
        name: about.items[plain] for name in side.table.column_names if (plain := name.partition(":")[0]) in about.items
    }
    table, _, notes = described(side.table, "items", side.ids, roles, side.where)
    for note in notes:
        log.warning("%s", note)
    new = NewItems.of(bundle, _in_form_of(table, bundle.items.schema))
    return new, len(table) - len(new.table), side.rejects


def _in_form_of(table: pa.Table, layout: pa.Schema) -> pa.Table:
    """The columns of a layout; where the table lacks one, nothing is known."""
    columns = [
        table[f.name].cast(f.type) if f.name in table.column_names else nothing_known(f, len(table)) for f in layout
    ]
    return pa.table(columns, schema=layout)


def _text_ids(path: Path, side: str, ids: IdArray) -> UnusableFileError:
    problem = f"the ids of its {side} are text, such as {ids[0]!r}, and those of the bundle are whole numbers"
    return UnusableFileError(path, problem, "Give the ids that the bundle was trained with.")
