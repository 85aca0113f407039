"""How far a score computed in lower precision can lie from the same score in float32: a bound per user, proven.

The bound follows the pair form layer by layer (Higham 2002, "Accuracy and Stability of Numerical Algorithms", sections
3.1 and 3.5): a sum of n products computed with unit roundoff u, in any order, is off by at most n u / (1 - n u) times
the sum of the products' absolute values. Products and field vectors are bounded by their norms (Cauchy and Schwarz),
items by the largest of them all, and relu never enlarges a difference. What is taken for granted of the hardware is in
``UNITS``, with room above what the formats say.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sdk.models.pair_form import Head, Side
from sdk.models.torch_form import TorchSide

_FLOAT32 = 2.0**-23  # a rounding: twice float32's unit, so that n u / (1 - n u) stays below n times it


@dataclass(frozen=True, slots=True)
class Unit:
    """How a matrix product rounds.

    Attributes:
        operand: relative error of one product, from its rounded operands.
        sum: relative error of one addition.
    """

    operand: float
    sum: float

    def of(self, terms: int) -> float:
        """Error of a sum of so many products, as a share of the sum of their absolute values."""
        return self.operand + terms * self.sum * (1 + self.operand)


UNITS = {
    "ieee": Unit(_FLOAT32, _FLOAT32),
    "tf32x3": Unit(2.0**-17, 2.0**-21),
    "tf32": Unit(2.0**-8, 2.0**-21),
}
"""By Triton's name of the precision. TF32 keeps 11 bits, and the operands may be cut instead of rounded: 2^-10 each.
Three TF32 products leave out the product of the two remainders, 2^-20, and cut each remainder, 2^-20 each. Sums within
a tensor core may be cut too (Fasi et al. 2021, "Numerical behavior of NVIDIA tensor cores")."""


class ErrorBound:
    """A model's bound on the difference between its two ways to score.

    Args:
        items: the items that are scored; at least one.
        head: the head.
        precision: of the tail's products, a key of ``UNITS``; all else is in float32.
        device: where bounds are computed.
    """

    def __init__(self, items: Side, head: Head, precision: str, device: torch.device) -> None:
        self._unit = UNITS[precision]
        bias, dot, hidden, fields = (torch.from_numpy(part).double() for part in items.parts)
        sizes = (bias.abs(), dot.norm(dim=1), hidden.abs(), fields.norm(dim=2))
        self._items = TorchSide(*(size.amax(0).to(device) for size in sizes))  # of vectors, the norm
        self._cross, *tail = (
            torch.from_numpy(weight).double().abs().to(device)
            for weight in (head.cross, *(part for layer in head.tail for part in layer))
        )
        self._tail = list(zip(tail[::2], tail[1::2], strict=True))

    def __call__(self, users: TorchSide) -> Tensor:
        """(B,) float64, for B users: no item's two scores are further apart."""
        bias, dot, hidden, fields = users
        reach = dot.double().norm(dim=1) * self._items.dot
        error = UNITS["ieee"].of(dot.shape[1] + 2) * reach
        if self._tail:
            outputs = [self._output(hidden.double(), fields.double(), unit) for unit in (self._unit, UNITS["ieee"])]
            mlp_error = sum((output[1] for output in outputs), start=torch.zeros_like(reach))
            reach, error = reach + outputs[0][0], 2 * error + mlp_error
        whole = reach + bias.double().abs() + self._items.bias
        return error + 2 * 6 * _FLOAT32 * (whole + error)

    def _output(self, hidden: Tensor, fields: Tensor, unit: Unit) -> tuple[Tensor, Tensor]:
        """(B,) bounds on the MLP's output and on its distance from the real number."""
        exact = UNITS["ieee"]
        z = (fields.norm(dim=2)[:, :, None] * self._items.fields).flatten(1)
        carried = exact.of(fields.shape[2] + 2) * z @ self._cross.T
        size = hidden.abs() + self._items.hidden + z @ self._cross.T + carried
        error = carried + exact.of(z.shape[1] + 4) * size
        for number, (weight, bias) in enumerate(self._tail):
            is_last = number == len(self._tail) - 1  # it has one output: no matrix product
            size, error = (size + error) @ weight.T + bias, error @ weight.T
            error = error + (exact if is_last else unit).of(weight.shape[1] + 2) * size
        return (size + error)[:, 0], error[:, 0]
