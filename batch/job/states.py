"""What each user's list follows from beyond the bundle, as one hash a user: where two nights agree, the list stands."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sdk.base.files import sha256_of
from sdk.base.schema import id_type
from sdk.base.types import Bools, Int64s
from sdk.bundles.bundle import Bundle
from sdk.bundles.fresh import FreshBundle
from sdk.features.seen import Seen

_RATING = np.dtype([("item", "<i4"), ("rating", "<f4"), ("time", "<i8"), ("out", "?")])
_DIGITS = 32


def states_of(bundle: Bundle, blocked: Seen | None) -> pa.Table:
    """The state of every user with newer ratings or blocked items; all others are as the bundle has them.

    Args:
        bundle: with the job's newer ratings in it.
        blocked: what must not be given to whom, by the rows of the users' table; None where nothing is.

    Returns:
        ``user_id``, ascending, and ``state``, 32 digits of a sha256 of all their ratings and blocked items.
    """
    if blocked is None and not (isinstance(bundle, FreshBundle) and bundle.fresh is not None):
        return pa.table({"user_id": pa.nulls(0), "state": pa.array([], pa.string())})  # without a look at all users
    users = bundle.encoded_users
    ratings, starts = _ratings(bundle, _with_newer_ratings(bundle))
    barred = blocked or Seen.nothing(len(users))
    rows = np.flatnonzero((np.diff(starts) > 0) | (np.diff(barred.indptr) > 0))
    states = [_state(ratings[starts[row] : starts[row + 1]], barred.row(row)) for row in rows.tolist()]
    ids = users.ids[rows]
    return pa.table({"user_id": pa.array(ids, id_type(users.ids)), "state": pa.array(states, pa.string())})


def _state(ratings: NDArray[np.void], barred: NDArray[np.int32]) -> str:
    return sha256_of(len(ratings).to_bytes(8, "little") + ratings.tobytes() + barred.tobytes())[:_DIGITS]


def _with_newer_ratings(bundle: Bundle) -> Bools:
    """(R_user,) bool."""
    found = np.zeros(len(bundle.encoded_users), np.bool_)
    if isinstance(bundle, FreshBundle) and bundle.fresh is not None:
        found[bundle.encoded_users.index_of(bundle.fresh.user_ids)] = True
    return found


def _ratings(bundle: Bundle, users: Bools) -> tuple[NDArray[np.void], Int64s]:
    """All ratings of the marked users by user and item, and where those of each user row begin."""
    if not users.any():
        return np.zeros(0, _RATING), np.zeros(len(users) + 1, np.int64)
    stored = bundle.interactions
    mine = np.flatnonzero(users[stored.rows.user_index])
    user, item = stored.rows.user_index[mine], stored.rows.item_index[mine]
    order = np.lexsort((item, user))
    mine, found = mine[order], np.zeros(len(mine), _RATING)
    found["item"], found["rating"], found["out"] = item[order], stored.rating[mine], True
    if stored.timestamp is not None:
        found["time"] = stored.timestamp[mine]
    if stored.takes_out is not None:
        found["out"] = stored.takes_out[mine]
    counts = np.bincount(user, minlength=len(users))
    return found, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
