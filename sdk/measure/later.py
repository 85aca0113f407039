"""What came after a bundle was trained: later events that its lists should have named, repeats among them.

A bundle's own test part holds pairs that its users did not have before. What people come back for is measured on
events from after the last one that the bundle knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sdk.base.errors import DataError
from sdk.base.ids import rows_of
from sdk.bundles.fresh import rows_among
from sdk.data.events import Loaded
from sdk.features.interactions import TEST, StoredInteractions
from sdk.features.tables import FIRST_KNOWN, EncodedInteractions

if TYPE_CHECKING:
    from sdk.bundles.bundle import Bundle


def later_pairs(bundle: Bundle, loaded: Loaded, *, include_seen: bool) -> StoredInteractions:
    """The pairs of a table that came after what a bundle knows, of its own users and items.

    Args:
        bundle: its newest interaction says from when on; where it has no times, or the table has none, all count.
        loaded: the table.
        include_seen: whether pairs that the bundle knows count, too.

    Raises:
        DataError: no pair remains.
    """
    if bundle.about.feedback == "explicit" and loaded.feedback == "implicit":
        message = f"the later pairs have no ratings, and {bundle.path} learnt from some; name their column rating"
        raise DataError(message)
    sizes = len(bundle.encoded_users), len(bundle.encoded_items)
    known = StoredInteractions.read(bundle.path / "seen.parquet", sizes, with_times=True)
    pairs = loaded.interactions
    newest = 0 if known.timestamp is None or not loaded.has_times else int(known.timestamp.max(initial=0))
    users = rows_among(bundle.encoded_users, loaded.user_id, pairs.user_id)
    items = rows_among(bundle.encoded_items, loaded.item_id, pairs.item_id)
    counts = (users >= FIRST_KNOWN) & (items >= FIRST_KNOWN) & ((pairs.timestamp > newest) | (newest == 0))
    if not include_seen:
        keys = np.unique(known.rows.user_index.astype(np.int64) * sizes[1] + known.rows.item_index)
        counts &= rows_of(keys, users * sizes[1] + items) < 0
    if not counts.any():
        when = f" after {np.datetime64(newest, 's')} UTC" if newest else ""
        raise DataError(
            f"{len(pairs):,} later pairs: none{when} is of a user and an item of {bundle.path}"
            f"{'' if include_seen else ' that the user does not have yet'}; expected what came after its training. "
            "Give later events, or train the bundle on earlier ones."
        )
    found = [column[counts].astype(np.int32) for column in (users, items)]
    rows = EncodedInteractions(found[0], found[1], np.ones(len(found[0]), np.int8))
    return StoredInteractions(rows, np.full(len(rows), TEST, np.int8), pairs.rating[counts], pairs.timestamp[counts])
