"""Sampled negatives: titles that a user has not rated, drawn anew for every epoch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sdk.base.config import NegativeKind
from sdk.base.ids import rows_of
from sdk.base.types import Bools, Float64s, Int32s, Int64s
from sdk.features.encode import EncodedInteractions
from sdk.features.tables import FIRST_KNOWN

_MAX_ROUNDS = 50


@dataclass(frozen=True, slots=True, eq=False)
class NegativeSampling:
    """Implicit training: positives alone, each with unrated items as negatives, drawn uniformly or by popularity.

    Attributes:
        per_positive: negatives for each positive.
        rated_keys: sorted (N,) int64, user_index * num_items + item_index of every known pair, never to be drawn.
        num_items: rows of the items' table.
        cumulative: (I,) float64 cumulative draw probabilities of the known items (rows 3 onwards).
        full_users: user rows that have rated every item: nothing can be drawn for them.
    """

    per_positive: int
    rated_keys: Int64s
    num_items: int
    cumulative: Float64s
    full_users: Int64s

    @classmethod
    def build(
        cls, known: EncodedInteractions, num_items: int, kind: NegativeKind, per_positive: int
    ) -> NegativeSampling | None:
        """The sampling that a training config asks for, which avoids the known pairs; None where it asks for none.

        Args:
            known: every pair that must not be drawn (all of a user's ratings, liked or not).
            num_items: rows of the items' table, the three reserved ones included.
            kind: ``none``, ``uniform``, or ``popularity``, proportional to count ** 0.75 (Mikolov et al. 2013, section
                2.2).
            per_positive: negatives for each positive.
        """
        if kind == "none":
            return None
        keys = np.unique(known.user_index.astype(np.int64) * num_items + known.item_index)
        weight = np.ones(num_items - FIRST_KNOWN)
        if kind == "popularity":
            count = np.bincount(known.item_index, minlength=num_items)[FIRST_KNOWN:]
            weight = np.maximum(count, 0.5) ** 0.75
        items_of_user = np.bincount((keys // num_items)[keys % num_items >= FIRST_KNOWN])
        full = np.flatnonzero(items_of_user >= num_items - FIRST_KNOWN)
        return cls(per_positive, keys, num_items, np.cumsum(weight) / weight.sum(), full.astype(np.int64))

    def sample(self, users: Int32s, rng: np.random.Generator) -> tuple[Int32s, Bools]:
        """One unrated item for each given user row.

        Returns:
            (B,) int32 item rows, and (B,) bool, False where none was found: the user has rated (nearly) everything.
        """
        items = np.zeros(len(users), dtype=np.int32)
        missing = np.flatnonzero(~np.isin(users, self.full_users))
        found = np.zeros(len(users), dtype=np.bool_)
        for _ in range(_MAX_ROUNDS):
            if not len(missing):
                break
            drawn = np.searchsorted(self.cumulative, rng.random(len(missing)), side="right")
            items[missing] = np.minimum(drawn, len(self.cumulative) - 1) + FIRST_KNOWN
            pairs = users[missing].astype(np.int64) * self.num_items + items[missing]
            clash = rows_of(self.rated_keys, pairs) >= 0
            found[missing[~clash]] = True
            missing = missing[clash]
        return items, found
