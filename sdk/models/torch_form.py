"""The pair form in torch: one statement of its formula, for pairs and for tiles, on any device and as TorchScript.

No ``from __future__ import annotations`` here: TorchScript reads the annotations and wants types, not strings.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sdk.base.types import Float32s, Int64s
from sdk.models.pair_form import Head, Side


class TorchSide(NamedTuple):
    """Rows of one side, as ``Side`` has them."""

    bias: Tensor
    dot: Tensor
    hidden: Tensor
    fields: Tensor


def side_on(side: Side, rows: Int64s | slice, device: torch.device) -> TorchSide:
    """The given rows of a side, moved to the device."""
    return TorchSide(*(torch.from_numpy(np.ascontiguousarray(part[rows])).to(device) for part in side.parts))


def taken(part: TorchSide, rows: slice | Tensor) -> TorchSide:
    """Some of the rows."""
    return TorchSide(*(values[rows] for values in part))


class TorchHead(nn.Module):
    """The head of a pair form, which scores what it is given of both sides.

    Args:
        head: the head.
    """

    cross: Tensor

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.register_buffer("cross", torch.from_numpy(np.array(head.cross)))
        self.tail = nn.ModuleList(linear(*layer) for layer in head.tail)
        self.has_mlp, self.has_cross = head.has_mlp, head.cross.shape[1] > 0

    def forward(self, users: TorchSide, items: TorchSide) -> Tensor:
        """The logits of users and items whose leading dimensions broadcast: (N,) each, or (B, 1) and (T,)."""
        score = users.bias + items.bias + torch.einsum("...d,...d->...", [users.dot, items.dot])
        if self.has_mlp:
            hidden = users.hidden + items.hidden
            if self.has_cross:
                z = torch.einsum("...fd,...gd->...fg", [users.fields, items.fields]).flatten(-2)
                hidden = hidden + z @ self.cross.t()
            for layer in self.tail:
                hidden = layer(torch.relu_(hidden))
            score = score + hidden[..., 0]
        return score


@torch.no_grad()
def linear(weight: Tensor | Float32s, bias: Tensor | Float32s) -> nn.Linear:
    """A layer with the given weights (out, in) and biases (out,)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.copy_(torch.as_tensor(weight))
    layer.bias.copy_(torch.as_tensor(bias))
    return layer
