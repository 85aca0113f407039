"""What a job puts beside its bundle: ratings or events that are newer than it, read as those it was trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from sdk.base.errors import UnusableFileError
from sdk.base.ids import is_text
from sdk.base.types import IdArray, Int64s
from sdk.bundles.bundle import Bundle
from sdk.bundles.fresh import FreshRatings
from sdk.data.events import as_text, read_interactions
from sdk.data.movielens import load_ratings

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
    loaded = read_interactions(
        str(path), name="ratings", columns=about.columns, events=about.events, seen=about.seen, config=config,
        until=until,
    )  # fmt: skip
    if loaded.feedback != about.feedback:
        kinds = {"explicit": "ratings", "implicit": "no ratings: each row is an event"}
        problem = f"it holds {kinds[loaded.feedback]}, where the bundle was trained on {kinds[about.feedback]}"
        raise UnusableFileError(path, problem, "Give rows of the kind that it was trained on.")
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
            problem = f"the ids of its {side} are text, such as {ids[0]!r}, and those of the bundle are whole numbers"
            raise UnusableFileError(path, problem, "Give the ids that the bundle was trained with.")
        return keys, None
    return (keys, ids) if is_text(ids) else (np.searchsorted(ids, keys), as_text(ids))
