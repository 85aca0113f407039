"""The ranker as TorchScript, for Triton's libtorch backend.

No ``from __future__ import annotations`` here: TorchScript reads the annotations and wants types, not strings.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from export.arrays import form_arrays
from sdk.models.pair_form import PairForm


class PairModule(nn.Module):
    """A model in pair form: (B, 1) int64 user rows and (B, 1) int64 item rows in, (B, 1) float32 logits out.

    Args:
        form: the lowered model.
    """

    def __init__(self, form: PairForm) -> None:
        super().__init__()
        for name, values in form_arrays(form).items():
            if not name.startswith("tail_"):
                self.register_buffer(name, torch.from_numpy(values.copy()))
        self.tail = nn.ModuleList(_linear(weight, bias) for weight, bias in form.head.tail)
        self.has_mlp = form.head.has_mlp
        self.has_cross = form.head.cross.shape[1] > 0 if form.head.has_mlp else False

    user_bias: Tensor
    user_dot: Tensor
    user_hidden: Tensor
    user_fields: Tensor
    item_bias: Tensor
    item_dot: Tensor
    item_hidden: Tensor
    item_fields: Tensor
    cross: Tensor

    def forward(self, user_index: Tensor, item_index: Tensor) -> Tensor:
        """The scores of one batch."""
        u, i = user_index.reshape(-1), item_index.reshape(-1)
        score = self.user_bias[u] + self.item_bias[i] + (self.user_dot[u] * self.item_dot[i]).sum(1)
        if self.has_mlp:
            hidden = self.user_hidden[u] + self.item_hidden[i]
            if self.has_cross:
                z = torch.bmm(self.user_fields[u], self.item_fields[i].transpose(1, 2))
                hidden = hidden + z.flatten(1) @ self.cross.t()
            for layer in self.tail:
                hidden = layer(torch.relu(hidden))
            score = score + hidden[:, 0]
        return score.unsqueeze(1)


def _linear(weight: object, bias: object) -> nn.Linear:
    weights, biases = torch.as_tensor(weight), torch.as_tensor(bias)
    layer = nn.Linear(weights.shape[1], weights.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weights)
        layer.bias.copy_(biases)
    return layer


def write_torchscript(form: PairForm, path: Path) -> None:
    """Write ``model.pt``, which libtorch loads without Python."""
    scripted = torch.jit.script(PairModule(form).eval())
    torch.jit.freeze(scripted).save(str(path))
