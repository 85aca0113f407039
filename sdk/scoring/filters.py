"""What may be recommended, as the engine takes it: a mask over item rows, and what each user must not be given."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sdk.base.ids import count_of, ids_of, title_rows
from sdk.base.types import Bools, Ids, Int64s
from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN, EncodedTable


def allowed_rows(
    items: EncodedTable,
    *,
    candidates: Ids | None = None,
    deny: Ids = (),
    min_ratings: int = 0,
) -> Bools | None:
    """(R_item,) bool, True for the rows that may be recommended; None where nothing is filtered.

    Args:
        items: the items' encoded table.
        candidates: item_ids, the only ones allowed; None allows all.
        deny: item_ids never to be recommended.
        min_ratings: titles with fewer training ratings are left out.

    Raises:
        UnknownItemError: an item_id is not in the catalogue.
        UsageError: min_ratings is negative.
    """
    min_ratings = count_of(min_ratings, "min_ratings", 0)
    denied = ids_of(deny, "deny", items.ids)
    if candidates is None and not len(denied) and not min_ratings:
        return None
    allowed = np.ones(len(items), dtype=np.bool_)
    if candidates is not None:
        allowed[:] = False
        allowed[item_rows(items, candidates, "candidates")] = True
    allowed[item_rows(items, denied)] = False
    allowed &= items.statistics.count >= min_ratings
    allowed[:FIRST_KNOWN] = False
    return allowed


def item_rows(items: EncodedTable, item_ids: Ids, name: str = "item_ids") -> Int64s:
    """(N,) int64 rows of known item_ids.

    Raises:
        UnknownItemError: an item_id is not in the catalogue.
        UsageError: one is no id; the message calls them by ``name``.
    """
    return title_rows(items.known_ids, ids_of(item_ids, name, items.ids)) + FIRST_KNOWN


def with_denied(seen: Seen, denied: Mapping[int, Ids], items: EncodedTable) -> Seen:
    """What each query row has seen and what it is denied, in one.

    Args:
        seen: aligned with the queries.
        denied: query row -> item_ids; unknown ids deny nothing.
        items: the items' encoded table.
    """
    num_users = len(seen.indptr) - 1
    found = [items.index_of(ids_of(item_ids, "deny_by_user", items.ids)) for item_ids in denied.values()]
    lengths = [*np.diff(seen.indptr), *map(len, found)]
    users = np.repeat(np.array([*range(num_users), *denied], dtype=np.int64), lengths)
    return Seen.build(users, np.concatenate([seen.items, *found]), num_users)
