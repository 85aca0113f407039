"""The ranker as TorchScript, for Triton's libtorch backend.

No ``from __future__ import annotations`` here: TorchScript reads the annotations and wants types, not strings.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from sdk.models.pair_form import PairForm, Side
from sdk.models.torch_form import TorchHead, TorchSide


class _Rows(nn.Module):
    """One side, from which rows are taken."""

    bias: Tensor
    dot: Tensor
    hidden: Tensor
    fields: Tensor

    def __init__(self, side: Side) -> None:
        super().__init__()
        for name, values in zip(TorchSide._fields, side.parts, strict=True):
            self.register_buffer(name, torch.from_numpy(values.copy()))

    def forward(self, rows: Tensor) -> TorchSide:
        return TorchSide(self.bias[rows], self.dot[rows], self.hidden[rows], self.fields[rows])


class _PairModule(nn.Module):
    """A model in pair form: (B, 1) int64 user rows and (B, 1) int64 item rows in, (B, 1) float32 logits out."""

    def __init__(self, form: PairForm) -> None:
        super().__init__()
        self.users, self.items, self.head = _Rows(form.users), _Rows(form.items), TorchHead(form.head)

    def forward(self, user_index: Tensor, item_index: Tensor) -> Tensor:
        """The scores of one batch."""
        score: Tensor = self.head(self.users(user_index.reshape(-1)), self.items(item_index.reshape(-1)))
        return score.unsqueeze(1)


def write_torchscript(form: PairForm, path: Path) -> None:
    """Write ``model.pt``, which libtorch loads without Python."""
    scripted = torch.jit.script(_PairModule(form).eval())
    torch.jit.freeze(scripted).save(str(path))
