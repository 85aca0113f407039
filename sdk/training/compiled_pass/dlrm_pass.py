"""A DLRM's gradients for some rows, by the compiled pass of ``strip_kernels``: what autograd computes.

The network is laid out once: which line of a strip holds which value, and which layer reads and writes which lines.
Embedding vectors are gathered from their tables and their gradients come out row by row; those of all other weights
come out as one flat array.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

from sdk.base.config import TrainingConfig
from sdk.base.types import Float32s, Int64s
from sdk.features.loaders import PairBatch
from sdk.features.tables import UNKNOWN
from sdk.models.dlrm import DLRM, SideArch, by_field
from sdk.models.pair_model import TableBuffers
from sdk.scoring.kernels import LANES
from sdk.training.compiled_pass.strip_kernels import pass_rows

_STRIPS = 16  # of a block: their activations stay in a core's second cache


class Gathered(NamedTuple):
    """Rows of a table that go into lines of a strip.

    Attributes:
        table: (R, width) float32, contiguous.
        line: the first one.
        rows: which of the pass's indices says which rows.
        embedding: of which the table is the weight; None where it is not trained.
        penalised: whether the L2 penalty on vectors counts it.
    """

    table: Tensor
    line: int
    rows: str
    embedding: nn.Embedding | None = None
    penalised: bool = True


@dataclass(slots=True, eq=False)
class StripLayout:
    """A network on the lines of a strip; the numbers are those of ``strip_kernels.pass_rows``.

    Attributes:
        num_weights: length of the flat array of weights so far, the zeros in front of them included.
        num_lines: lines given out so far.
        layers: rows of the table of layers.
        places: each parameter that is no table looked up row by row, and where it starts in the flat array.
        gathered: what is read from tables.
        penalised: lines that an L2 penalty counts here, and which one.
    """

    num_weights: int
    num_lines: int = 0
    layers: list[tuple[int, ...]] = field(default_factory=list)
    places: dict[int, Tensor] = field(default_factory=dict)
    gathered: list[Gathered] = field(default_factory=list)
    penalised: list[tuple[int, int]] = field(default_factory=list)

    def take(self, count: int) -> int:
        """The first of so many new lines."""
        self.num_lines += count
        return self.num_lines - count

    def place(self, parameter: Tensor) -> int:
        """Give a parameter its place in the flat array."""
        self.places[self.num_weights] = parameter
        self.num_weights += parameter.numel()
        return self.num_weights - parameter.numel()

    def add_mlp(self, layers: nn.Sequential, x: int, out: int, *, last_relu: bool, passes_back: bool) -> None:
        """Linear layers from line ``x`` to line ``out``."""
        linears = [layer for layer in layers if isinstance(layer, nn.Linear)]
        for number, linear in enumerate(linears, start=1):
            is_last = number == len(linears)
            y = out if is_last else self.take(linear.out_features)
            places = (self.place(linear.weight), self.place(linear.bias))
            flags = (last_relu or not is_last, passes_back or number > 1, False)
            self.layers.append((linear.in_features, linear.out_features, x, y, *places, *flags))
            x = y

    def add_list(self, index: str, shares: Tensor, weight: Tensor, y: int) -> None:
        """A list-valued field: its vector, from line ``y`` on, is the shares times the embeddings."""
        x, (inputs, outputs) = self.take(shares.shape[1]), weight.shape
        self.gathered.append(Gathered(shares, x, index))
        self.layers.append((inputs, outputs, x, y, self.place(weight), 0, False, False, True))
        self.penalised += [(line, 1) for line in range(y, y + outputs)]

    def add_side(self, side: str, arch: SideArch, table: TableBuffers, fields: Iterator[int]) -> tuple[int, int, int]:
        """One side's tables, lists and bottom MLP; the lines of its dense vector, its dot part and its bias.

        Raises:
            ValueError: a code has no row in its table. The compiled pass reads rows without looking.
        """
        for name, embedding in by_field(arch.embeddings):
            _check_codes(f"{side} {name}", getattr(table, f"codes_{name}"), embedding)
            self.gathered.append(Gathered(embedding.weight, next(fields), f"{side} {name}", embedding))
        for name, embedding in by_field(arch.lists):
            self.add_list(f"{side} row", getattr(table, f"multi_{name}"), embedding.weight, next(fields))
        x, dense = self.take(table.num_dense), next(fields)
        self.gathered.append(Gathered(table.left_out(), x, f"{side} statistics"))
        self.add_mlp(arch.bottom_mlp, x, dense, last_relu=True, passes_back=False)
        dot, bias = self.take(arch.dot.embedding_dim if arch.dot is not None else 0), self.take(1)
        if arch.dot is not None:
            self.gathered.append(Gathered(arch.dot.weight, dot, f"{side} id", arch.dot))
        if arch.bias is not None:
            self.gathered.append(Gathered(arch.bias.weight, bias, f"{side} id", arch.bias, penalised=False))
            self.penalised.append((bias, 2))
        return dense, dot, bias


class DLRMPass:
    """Forward and backward for some rows of a batch, on one core.

    Args:
        model: a DLRM on the CPU; its weights are read anew by ``prepare``.
        config: penalties.
    """

    def __init__(self, model: DLRM, config: TrainingConfig) -> None:
        self.model, self.config = model, config
        self.layout = layout = StripLayout(
            max(layer.in_features for layer in model.modules() if isinstance(layer, nn.Linear))
        )
        dim, archs = model.config.embedding_dim, (model.user_arch, model.item_arch)
        vectors = [[layout.take(dim) for _ in range(arch.num_fields)] for arch in archs]
        lines = [
            layout.add_side(name, arch, table, iter(own))
            for name, arch, table, own in zip(("user", "item"), archs, (model.users, model.items), vectors, strict=True)
        ]
        self.num_below = len(layout.layers)
        assert model.top_mlp is not None
        top, out = layout.take(model.top_linears()[0].in_features), layout.take(1)
        layout.add_mlp(model.top_mlp, top, out, last_relu=False, passes_back=True)
        tops, meetings = _meetings(vectors, dim, top)
        self.sides = _table([(dense, at, dot, bias) for (dense, dot, bias), at in zip(lines, tops, strict=True)], 4)
        self.meetings, self.penalised = _table(meetings, 3), _table(layout.penalised, 2)
        self.shape = np.array([dim, sum(map(len, vectors)), model.config.dot_dim, out], dtype=np.int64)
        self.layers = _table(layout.layers, 9)
        self.trained = [entry for entry in layout.gathered if entry.embedding is not None]
        self.index_names = list(dict.fromkeys(entry.rows for entry in layout.gathered))
        self.gathers = _table(
            [(e.table.data_ptr(), e.table.shape[1], e.line, self.index_names.index(e.rows)) for e in layout.gathered], 4
        )
        self.weights, self.transposed, self.total = np.zeros((3, layout.num_weights), dtype=np.float32)
        self.copies = list(self._copies())
        self.gradients = [
            (parameter, torch.from_numpy(self.total)[at : at + parameter.numel()].view_as(parameter))
            for at, parameter in layout.places.items()
        ]
        self.rooms = threading.local()

    @staticmethod
    def fits(model: nn.Module) -> TypeGuard[DLRM]:
        """Whether a model is one that this computes."""
        at_home = all(p.device.type == "cpu" and p.dtype == torch.float32 for p in model.parameters())
        return type(model) is DLRM and at_home

    def prepare(self) -> None:
        """Read the weights: once per step, before its rows."""
        for place, weight in self.copies:
            place[:] = weight

    def indices(self, pairs: PairBatch, drawn: tuple[Tensor, Tensor] | None) -> Int64s:
        """(I, B) int64 rows of the gathered tables, in the order of ``index_names``."""
        kind = (pairs.rated * (1 + pairs.label)).long()
        found: dict[str, Tensor] = {}
        sides = (("user", pairs.user_index, self.model.users), ("item", pairs.item_index, self.model.items))
        for (side, rows, table), numbers in zip(sides, drawn or (None, None), strict=True):
            found |= {f"{side} {name}": table.codes_of(name, rows) for name in table.code_names}
            found |= {f"{side} row": rows, f"{side} statistics": kind * table.num_rows + rows}
            if numbers is not None:
                found[f"{side} id"] = found[f"{side} id"].masked_fill(numbers < self.model.id_dropout, UNKNOWN)
        return np.stack([found[name].numpy() for name in self.index_names])

    def __call__(
        self, rows: slice, index: Int64s, labels: Float32s, outputs: Sequence[Float32s]
    ) -> tuple[float, Float32s]:
        """Forward and backward for some rows of a batch of B.

        Args:
            rows: which.
            index: of the batch, from ``indices``.
            labels: (B,) float32.
            outputs: (B, width) float32 contiguous arrays for the gradients of the vectors of ``trained``, in which the
                rows are written.

        Returns:
            The rows' part of the mean loss without penalties, and the flat gradient of all other weights.
        """
        values, gradient = self._room()
        flat = np.zeros(self.layout.num_weights, dtype=np.float32)
        scatters = [(out.ctypes.data, out.shape[1], e.line) for e, out in zip(self.trained, outputs, strict=True)]
        penalties = (1.0, 2 * self.config.embedding_l2, 2 * self.config.bias_l2)
        loss = pass_rows(
            self.layers, self.num_below, self.sides, self.meetings, self.penalised, self.shape,
            self.gathers, _table(scatters, 3), index, labels, rows.start, rows.stop,
            np.array(penalties, dtype=np.float32) / np.float32(len(labels)),
            self.weights, self.transposed, values, gradient, flat,
        )  # fmt: skip
        return float(loss), flat

    def set_gradients(self, flats: Sequence[Float32s]) -> None:
        """Add up flat gradients, as calls return them, and give each parameter its own."""
        np.add.reduce(flats, out=self.total)
        for parameter, gradient in self.gradients:
            parameter.grad = gradient

    def _room(self) -> Float32s:
        """(2, S, lines, LANES) float32 of this thread's own, for activations and their gradients."""
        if not hasattr(self.rooms, "arrays"):
            self.rooms.arrays = np.zeros((2, _STRIPS, self.layout.num_lines, LANES), dtype=np.float32)
        room: Float32s = self.rooms.arrays
        return room

    def _copies(self) -> Iterator[tuple[Float32s, Float32s]]:
        """Places in the flat arrays, and views of the parameters that belong there."""
        parameters = {at: parameter.detach().numpy() for at, parameter in self.layout.places.items()}
        for _, outputs, _, _, at, bias_at, _, _, is_list in self.layout.layers:
            weight = parameters[at].T if is_list else parameters[at]
            for flat, matrix in ((self.weights, weight), (self.transposed, weight.T)):
                yield flat[at : at + weight.size].reshape(matrix.shape), matrix
            if not is_list:
                yield self.weights[bias_at : bias_at + outputs], parameters[bias_at]


def _meetings(vectors: Sequence[Sequence[int]], dim: int, top: int) -> tuple[tuple[int, int], list[tuple[int, ...]]]:
    """Where the top MLP's input, from line ``top`` on, has each side's dense vector and every pair's dot product."""
    users, items = (list(itertools.combinations(own, 2)) for own in vectors)
    tops = (top, top + dim + len(users))
    outs = itertools.chain(range(top + dim, tops[1]), itertools.count(tops[1] + dim))
    pairs = [*users, *items, *itertools.product(*vectors)]
    return tops, [(*pair, out) for pair, out in zip(pairs, outs, strict=False)]


def _table(rows: Sequence[tuple[int, ...]], width: int) -> Int64s:
    return np.array(rows, dtype=np.int64).reshape(-1, width)


def _check_codes(name: str, codes: Tensor, embedding: nn.Embedding) -> None:
    lowest, highest = int(codes.min()), int(codes.max())
    if not 0 <= lowest <= highest < embedding.num_embeddings:
        raise ValueError(f"{name}: codes run from {lowest} to {highest}, expected 0 to {embedding.num_embeddings - 1}")
