"""Items in tiles: a catalogue of which only a part is laid out at a time, and the tiles' lists merged exactly.

A score's bits depend on its user and its item alone, and lists are ordered by score, then row. So the best of all
items are the best of the tiles' bests, to the bit. Where the items' side is mapped from a file, as a stored form is,
the rows of a tile alone lie in memory. Each tile is laid out again for every call: a copy of the items for each shard.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy

import numpy as np

from sdk.base.stored_arrays import copied
from sdk.base.types import BestRows, Bools, Int64s
from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN
from sdk.models.pair_form import PairForm, Side
from sdk.scoring.engine import Engine, check_length


class TiledEngine:
    """What ``Engine`` gives, with at most so many items laid out at a time.

    Args:
        form: a lowered model; its items may be mapped from a file.
        allowed: (R_item,) bool, the rows that may be recommended; None allows all. The reserved rows never are.
        items_per_tile: at least 1.
        threads: see ``Engine``.
        memory_mib: see ``Engine``.

    Raises:
        ScoreError: the users' side holds a NaN or an infinity; of an item's it is said when its tile is scored.
    """

    def __init__(
        self,
        form: PairForm,
        allowed: Bools | None = None,
        *,
        items_per_tile: int,
        threads: int | None = None,
        memory_mib: float | None = None,
    ) -> None:
        form.users.check("user")
        self.form, self._allowed, self._size = form, allowed, items_per_tile
        self._threads, self._memory_mib = threads, memory_mib
        rows = np.arange(FIRST_KNOWN, len(form.items), dtype=np.int64)
        self.candidates = rows if allowed is None else rows[allowed[FIRST_KNOWN:]]

    def for_users(self, form: PairForm) -> TiledEngine:
        """The same items for the users of another form with the same items and head.

        Raises:
            ScoreError: a user's row holds a NaN or an infinity.
        """
        form.users.check("user")
        other = copy(self)
        other.form = form
        return other

    def top_k(self, user_index: Int64s, seen: Seen, k: int) -> BestRows:
        """Each user row's k best candidates that the user has not seen; arguments and errors as ``Engine.top_k``."""
        check_length(k)
        best = BestRows.empty(len(user_index), min(k, len(self.candidates)))
        for rows in self._tiles():
            items = Side(*(copied(part, rows) for part in self.form.items.parts))
            items.check("item", rows)
            tile = PairForm(self.form.users, items, self.form.head)
            engine = Engine(tile, threads=self._threads, memory_mib=self._memory_mib)
            found = engine.top_k(user_index, seen.only(rows), min(k, len(rows) - FIRST_KNOWN))
            best = merged(best, found, rows)
        return best

    def _tiles(self) -> Iterator[Int64s]:
        """Rows of the items' side: the reserved ones, and some candidates."""
        for start in range(0, len(self.candidates), self._size):
            yield np.concatenate([np.arange(FIRST_KNOWN), self.candidates[start : start + self._size]])


def merged(best: BestRows, found: BestRows, rows: Int64s) -> BestRows:
    """The best of both, as many as ``best`` has columns: by higher score, then smaller row.

    Args:
        best: (B, k), of rows before those of ``found``.
        found: (B, n), of places among ``rows``.
        rows: ascending.
    """
    later = np.where(found.row >= 0, rows[found.row], -1)
    row, scores = np.hstack([best.row, later]), np.hstack([best.scores, found.scores])
    real = np.hstack([np.arange(each.row.shape[1]) < each.lengths[:, None] for each in (best, found)])
    key = np.where(real, scores, np.float32(-np.inf))
    order = np.argsort(-key, axis=1, kind="stable")[:, : best.row.shape[1]]  # of equal ones the earlier column
    out = BestRows.empty(*best.row.shape)
    kept = np.take_along_axis(real, order, axis=1)
    out.row[kept] = np.take_along_axis(row, order, axis=1)[kept]
    out.scores[kept] = np.take_along_axis(scores, order, axis=1)[kept]
    out.lengths[:] = kept.sum(axis=1)
    return out
