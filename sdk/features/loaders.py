"""PyTorch loaders over encoded interactions: whole batches cut from tensors in memory, no Python per row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset

from sdk.features.encode import EncodedInteractions
from sdk.features.negatives import NegativeSampling


class PairBatch(NamedTuple):
    """A batch of pairs.

    Attributes:
        user_index: (B,) int64 rows of the users' table.
        item_index: (B,) int64 rows of the items' table.
        label: (B,) float32, 1 = liked.
        rated: (B,) float32, 0 where the pair is a sampled negative.
    """

    user_index: Tensor
    item_index: Tensor
    label: Tensor
    rated: Tensor


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
        return [torch.from_numpy(np.ascontiguousarray(column)).to(self.device) for column in columns]

    def _with_negatives(self, negatives: NegativeSampling) -> list[NDArray[Any]]:
        liked = self.interactions.label == 1
        users, items = self.interactions.user_index[liked], self.interactions.item_index[liked]
        rng = np.random.default_rng([self.seed or 0, self.epoch])
        drawn_for = np.repeat(users, negatives.per_positive)
        drawn, found = negatives.sample(drawn_for, rng)
        user_index = np.concatenate([users, drawn_for[found]])
        positive = np.zeros(len(user_index), dtype=np.int8)
        positive[: len(users)] = 1
        return [user_index, np.concatenate([items, drawn[found]]), positive, positive]


def _mix(seed: int, epoch: int) -> int:
    """One 63-bit seed of two numbers."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> np.uint64(1))
