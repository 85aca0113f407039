"""One sha256 for the content of a data set, whatever order its rows came in."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pyarrow as pa

from sdk.base.description import Description
from sdk.base.types import Int64s, Interactions

_FILMS = Description()
_COLUMNS = (("user_id", "<i8"), ("item_id", "<i8"), ("rating", "<f4"), ("timestamp", "<i8"))
_ROWS = 1 << 20  # per step, so that no sorted copy of a whole column is made


def fingerprint(
    interactions: Interactions, items: pa.Table, users: pa.Table, order: Int64s | None, about: Description = _FILMS
) -> str:
    """Hash accepted ratings, titles and users, and what their columns mean where they are not MovieLens's.

    Args:
        interactions: ratings, unique by (user, item), with the events that they are of.
        items: ``schema.ITEMS``, ascending by item_id.
        users: ``schema.USERS``, ascending by user_id.
        order: (N,) row numbers that sort the ratings by user, then item; None where they are sorted.
        about: what the columns mean.

    Returns:
        64 hexadecimal digits: the same for the same content, on every machine.
    """
    digest = hashlib.sha256()
    takes_out = () if interactions.seen is None else (("seen", "?"),)
    for name, dtype in (*_COLUMNS, *takes_out):
        column = getattr(interactions, name)
        digest.update(f"{name}:{len(column)};".encode())
        for start in range(0, len(column), _ROWS):
            rows = slice(start, start + _ROWS)
            part = column[rows if order is None else order[rows]]
            digest.update(np.ascontiguousarray(part, dtype=dtype).data)
    if interactions.repeats is not None:
        repeats = interactions.repeats if order is None else interactions.repeats.take(order)
        for column, dtype in ((repeats.indptr, "<i8"), (repeats.weight, "<f4"), (repeats.timestamp, "<i8")):
            digest.update(np.ascontiguousarray(column, dtype=dtype).data)
    for table in (items, users):
        _update_table(digest, table)
    said = [[about.feedback], list(about.items.items()), list(about.users.items())]
    if said != [[_FILMS.feedback], list(_FILMS.items.items()), list(_FILMS.users.items())]:
        digest.update(json.dumps(said).encode())
    return digest.hexdigest()


def _update_table(digest: hashlib._Hash, table: pa.Table) -> None:
    digest.update(f"{table.column_names}:{table.num_rows};".encode())
    for start in range(0, table.num_rows, 4096):  # fixed: the text must not depend on Arrow's own chunks
        part = table.slice(start, 4096).to_pydict()
        digest.update(json.dumps(part, ensure_ascii=True, separators=(",", ":")).encode())
