"""What a user has and may be given again: scored with its bonus, and merged exactly into the list of the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sdk.base.ids import rows_of
from sdk.base.types import BestRows, Bools, Float32s, Int32s, Int64s, taken
from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN
from sdk.models.pair_form import PairForm

_PAIRS = 1 << 16  # scored at a time


@dataclass(frozen=True, slots=True, eq=False)
class Again:
    """What users have and may be given again.

    Attributes:
        has: by user row.
        bonus: (N,) float32, what is added to the score of each of ``has.items``.
    """

    has: Seen
    bonus: Float32s

    @classmethod
    def build(
        cls, user_index: Int32s, item_index: Int32s, bonus: Float32s, num_users: int, items: Bools | None = None
    ) -> Again:
        """Sort (N,) pairs of known items, each once, into rows; ``items``: (R_item,) bool, what may be given again."""
        known = item_index >= FIRST_KNOWN
        kept = np.flatnonzero(known if items is None else known & items[item_index])
        kept = kept[np.lexsort((item_index[kept], user_index[kept]))]
        return cls(Seen.build(user_index[kept], item_index[kept], num_users), bonus[kept])

    def take(self, rows: Int64s) -> Again:
        """The given user rows, in that order."""
        indptr, places = taken(self.has.indptr, rows)
        return Again(Seen(indptr, self.has.items[places]), self.bonus[places])

    def bonus_of(self, row: int, items: Int64s) -> Float32s:
        """(N,) float32 bonus of each of (N,) items for one user row; 0 of what the user does not have."""
        own = slice(*self.has.indptr[row : row + 2])
        at = rows_of(self.has.items[own], items)
        return np.where(at >= 0, np.append(self.bonus[own], np.float32(0))[at], np.float32(0))

    def merged(
        self, others: BestRows, form: PairForm, user_index: Int64s, seen: Seen, allowed: Bools | None
    ) -> BestRows:
        """The best rows of others and of these together, as many as ``others`` has columns; equal ones by row.

        Args:
            others: (B, k), the lists of what they do not have.
            form: what scores them.
            user_index: (B,) int64 rows of the form's users; row b here is about the b-th.
            seen: what of these must not be given, aligned with ``user_index``.
            allowed: (R_item,) bool, what may be given; None allows all.
        """
        row, item = self.has.users, self.has.items.astype(np.int64)
        barred = np.isin(_keys(row, item, form), _keys(seen.users, seen.items.astype(np.int64), form))
        kept = ~barred if allowed is None else ~barred & allowed[item]
        row, item = row[kept], item[kept]
        scores = _scores(form, user_index[row], item) + self.bonus[kept]
        real = np.arange(others.row.shape[1]) < others.lengths[:, None]
        all_rows = np.concatenate([row, np.nonzero(real)[0]])
        all_items = np.concatenate([item, others.row[real]])
        all_scores = np.concatenate([scores, others.scores[real]])
        order = np.lexsort((all_items, -all_scores, all_rows))
        counts = np.bincount(all_rows, minlength=len(others.row))
        rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        best = BestRows.empty(*others.row.shape)
        top = rank < others.row.shape[1]
        place = all_rows[order[top]], rank[top]
        best.row[place], best.scores[place] = all_items[order[top]], all_scores[order[top]]
        best.lengths[:] = np.minimum(counts, others.row.shape[1])
        return best


def _keys(row: Int64s, item: Int64s, form: PairForm) -> Int64s:
    return row * len(form.items) + item


def _scores(form: PairForm, user_index: Int64s, item: Int64s) -> Float32s:
    parts = (slice(start, start + _PAIRS) for start in range(0, len(item), _PAIRS))
    found = [form.score_pairs(user_index[part], item[part]) for part in parts]
    return np.concatenate([np.zeros(0, np.float32), *found])
