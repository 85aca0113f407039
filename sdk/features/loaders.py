"""PyTorch loaders over encoded interactions: whole batches cut from tensors in memory, no Python per row.

Sampled negatives are titles that a user has not rated, drawn anew for every epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset

from sdk.base.config import NegativeKind, TrainingConfig
from sdk.base.ids import rows_of
from sdk.base.types import Bools, Float64s, Int32s, Int64s
from sdk.features.tables import FIRST_KNOWN, EncodedInteractions

_MAX_ROUNDS = 50  # of drawing anew what a user has rated


class PairBatch(NamedTuple):
    """A batch of pairs.

    Attributes:
        user_index: (B,) int64 rows of the users' table.
        item_index: (B,) int64 rows of the items' table.
        label: (B,) float32, 1 = liked.
        rated: (B,) float32, 1 where the pair's own rating is left out of the statistics of its user and item. Where
            negatives are sampled it is 0 for all: a like whose own was left out would be told apart by that alone.
    """

    user_index: Tensor
    item_index: Tensor
    label: Tensor
    rated: Tensor


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


def against_sampled(
    rows: EncodedInteractions, known: EncodedInteractions, num_items: int, config: TrainingConfig, seed: int
) -> EncodedInteractions:
    """Likes, and after them as many sampled unseen items for each as training draws: what held-out likes are held to.

    Args:
        rows: the likes.
        known: every pair that must not be drawn: those of all parts.
        num_items: rows of the items' table.
        config: ``negatives`` and ``num_negatives`` say how they are drawn.
        seed: of the draw; the same rows, pairs and seed give the same items.
    """
    sampling = NegativeSampling.build(known, num_items, config.negatives, config.num_negatives)
    if sampling is None:
        return rows
    users = np.repeat(rows.user_index, config.num_negatives)
    items, found = sampling.sample(users, np.random.default_rng([seed, len(rows)]))
    label = np.zeros(len(rows) + int(found.sum()), dtype=np.int8)
    label[: len(rows)] = rows.label
    return EncodedInteractions(
        np.concatenate([rows.user_index, users[found]]), np.concatenate([rows.item_index, items[found]]), label
    )


class InteractionLoader(IterableDataset[PairBatch]):
    """Batches of encoded interactions, in an order that depends on the seed and the epoch alone.

    Args:
        interactions: encoded ratings.
        batch_size: rows per batch; the last one may be shorter.
        seed: of order and sampling. None keeps the order of the rows.
        negatives: if given, likes alone are used and negatives drawn for them, anew each epoch.
        device: where the rows are kept, shuffled and cut, in torch's words. The order of a seed is the device's own.
    """

    def __init__(
        self,
        interactions: EncodedInteractions,
        batch_size: int,
        *,
        seed: int | None = None,
        negatives: NegativeSampling | None = None,
        device: str = "cpu",
    ) -> None:
        self.interactions, self.batch_size, self.seed, self.negatives = interactions, batch_size, seed, negatives
        self.device = torch.device(device)
        self._kept: list[Tensor] | None = None
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order and negatives the next iteration uses."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Number of batches (an upper bound where negatives are sampled)."""
        return -(-self.num_rows // self.batch_size)

    @property
    def num_rows(self) -> int:
        """Rows of an epoch (an upper bound where negatives are sampled)."""
        if self.negatives is None:
            return len(self.interactions)
        return int(self.interactions.label.sum()) * (1 + self.negatives.per_positive)

    def __iter__(self) -> Iterator[PairBatch]:
        columns = self._epoch_columns()
        order = None
        if self.seed is not None:
            generator = torch.Generator(self.device).manual_seed(_mix(self.seed, self.epoch))
            order = torch.randperm(len(columns[0]), generator=generator, device=self.device)
        for start in range(0, len(columns[0]), self.batch_size):
            rows = slice(start, start + self.batch_size)
            picked = [column[rows] if order is None else column[order[rows]] for column in columns]
            yield PairBatch(picked[0].long(), picked[1].long(), picked[2].float(), picked[3].float())

    def _epoch_columns(self) -> list[Tensor]:
        """The epoch's rows as compact tensors on the device, where they stay: user, item, label, rated."""
        if self.negatives is not None:
            return self._moved(self._with_negatives(self.negatives))
        if self._kept is None:
            rows = self.interactions
            rated = np.ones(len(rows), dtype=np.int8)
            self._kept = self._moved([rows.user_index, rows.item_index, rows.label, rated])
        return self._kept

    def _moved(self, columns: list[NDArray[Any]]) -> list[Tensor]:
        return [torch.from_numpy(np.require(column, requirements=["C", "W"])).to(self.device) for column in columns]

    def _with_negatives(self, negatives: NegativeSampling) -> list[NDArray[Any]]:
        liked = self.interactions.label == 1
        users, items = self.interactions.user_index[liked], self.interactions.item_index[liked]
        rng = np.random.default_rng([self.seed or 0, self.epoch])
        drawn_for = np.repeat(users, negatives.per_positive)
        drawn, found = negatives.sample(drawn_for, rng)
        user_index = np.concatenate([users, drawn_for[found]])
        positive = np.zeros(len(user_index), dtype=np.int8)
        positive[: len(users)] = 1
        return [user_index, np.concatenate([items, drawn[found]]), positive, np.zeros_like(positive)]


def _mix(seed: int, epoch: int) -> int:
    """One 63-bit seed of two numbers."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> np.uint64(1))
