"""What both ways to score on a GPU share: a side's rows on the device, sortable keys, the formula for single pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sdk.base.types import Float32s, Int64s
from sdk.models.pair_form import Head, Side

NOTHING = -(2**63)
"""The least key, which stands for no item."""
LOW = 2**32 - 1
"""The bits of a key that hold the complement of a place."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Rows of one side on a device, as ``Side`` has them."""

    bias: Tensor
    dot: Tensor
    hidden: Tensor
    fields: Tensor

    @classmethod
    def of(cls, side: Side, rows: Int64s, device: torch.device) -> Part:
        """The given rows of a side, moved to the device."""
        parts = (side.bias, side.dot, side.hidden, side.fields)
        return cls(*(torch.from_numpy(np.ascontiguousarray(part[rows])).to(device) for part in parts))

    def take(self, rows: slice | Tensor) -> Part:
        """Some of the rows."""
        return Part(self.bias[rows], self.dot[rows], self.hidden[rows], self.fields[rows])

    def each(self) -> tuple[Tensor, ...]:
        """The four parts."""
        return self.bias, self.dot, self.hidden, self.fields


def keys_of(scores: Tensor, places: Tensor) -> Tensor:
    """int64 keys whose order is that of (score, smaller place first)."""
    bits = (scores + 0.0).view(torch.int32)  # -0.0 becomes 0.0
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(torch.int64)
    return (ordered << 32) | (LOW - places)


def scores_of(keys: Tensor) -> Tensor:
    """The float32 scores in keys."""
    upper = (keys >> 32).to(torch.int32)
    return torch.where(upper < 0, upper ^ 0x7FFFFFFF, upper).view(torch.float32)


def score_pairs(users: Part, items: Part, head: Head) -> Tensor:
    """(N,) float32 scores of N pairs, by the pair form's formula."""
    score = users.bias + items.bias + (users.dot * items.dot).sum(1)
    if not head.has_mlp:
        return score
    hidden = users.hidden + items.hidden
    if head.cross.shape[1]:
        z = torch.einsum("nfd,ngd->nfg", users.fields, items.fields).flatten(1)
        hidden = hidden + z @ _on(head.cross.T, hidden)
    for weight, bias in head.tail:
        hidden = torch.addmm(_on(bias, hidden), hidden.relu(), _on(weight.T, hidden))
    return score + hidden[:, 0]


def _on(array: Float32s, like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(like.device)
