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
from typing import TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

from sdk.base.config import TrainingConfig
from sdk.base.types import Float32s, Int64s
from sdk.features.loaders import PairBatch
from sdk.features.tables import UNKNOWN
from sdk.models.dlrm import DLRM, SideArch
from sdk.models.pair_model import TableBuffers
from sdk.scoring.kernels import LANES
from sdk.training.compiled_pass.strip_kernels import BIASES, pass_rows

_STRIPS = 16  # of a block: their activations stay in a core's second cache


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """A layer's weights.

    Attributes:
        weight: (outputs, inputs), or a list's (inputs, outputs) embeddings.
        bias: (outputs,); None for a list.
        at: where its entries start in the flat arrays of matrices.
        bias_at: where its bias starts in the flat array of biases; -1 for a list.
    """

    weight: Tensor
    bias: Tensor | None
    at: int
    bias_at: int


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """Rows of a table that go into lines of a strip.

    Attributes:
        table: (R, width) float32, contiguous.
        line: the first one.
        index: which of the pass's indices says which rows.
        embedding: of which the table is the weight; None where it is not trained.
        penalised: whether the L2 penalty on vectors counts it.
    """

    table: Tensor
    line: int
    index: str
    embedding: nn.Embedding | None = None
    penalised: bool = True


@dataclass(slots=True)
class _Lines:
    """Lines given out so far."""

    used: int = 0

    def take(self, count: int) -> int:
        """The first of so many new ones."""
        self.used += count
        return self.used - count


@dataclass(slots=True, eq=False)
class Layout:
    """A network on the lines of a strip; the arrays are those of ``strip_kernels.pass_rows``."""

    lines: _Lines = field(default_factory=_Lines)
    layers: list[tuple[int, ...]] = field(default_factory=list)
    matrices: list[Matrix] = field(default_factory=list)
    gathered: list[Gathered] = field(default_factory=list)
    num_weights: int = 0
    num_biases: int = 0

    def add_matrix(self, weight: Tensor, bias: Tensor | None) -> Matrix:
        """Give a layer's weights their place."""
        matrix = Matrix(weight, bias, self.num_weights, self.num_biases if bias is not None else -1)
        self.matrices.append(matrix)
        self.num_weights += weight.numel()
        self.num_biases += 0 if bias is None else bias.numel()
        return matrix

    def add_mlp(self, layers: nn.Sequential, x: int, last: int | None, *, last_relu: bool, passes_back: bool) -> int:
        """Linear layers from line ``x`` on; the line of the last one's output, ``last`` if given."""
        linears = [layer for layer in layers if isinstance(layer, nn.Linear)]
        for number, linear in enumerate(linears):
            is_last = number == len(linears) - 1
            y = last if is_last and last is not None else self.lines.take(linear.out_features)
            matrix = self.add_matrix(linear.weight, linear.bias)
            has_relu, back = int(last_relu or not is_last), int(passes_back or number > 0)
            sizes = (linear.in_features, linear.out_features)
            self.layers.append((*sizes, x, y, matrix.at, matrix.bias_at, has_relu, back, 0))
            x = y
        return x


class DLRMPass:
    """Forward and backward for some rows of a batch, on one core.

    Args:
        model: a DLRM on the CPU; its weights are read anew by ``prepare``.
        config: penalties.
    """

    def __init__(self, model: DLRM, config: TrainingConfig) -> None:
        self.model, self.config, self.layout = model, config, Layout()
        sides = [
            self._lay_out(name, arch, table)
            for name, arch, table in (("user", model.user_arch, model.users), ("item", model.item_arch, model.items))
        ]
        self.num_below = len(self.layout.layers)
        assert model.top_mlp is not None
        top = self.layout.lines.take(model.top_linears()[0].in_features)
        out = self.layout.add_mlp(model.top_mlp, top, None, last_relu=False, passes_back=True)
        dim, dot_dim = model.config.embedding_dim, model.config.dot_dim
        self.shape = np.array([dim, dot_dim, model.config.biases, top, out], dtype=np.int64)
        self.sides = np.array(sides, dtype=np.int64)
        self.num_lines = self.layout.lines.used
        self.layers = self._layer_table()
        self.trained = [entry for entry in self.layout.gathered if entry.embedding is not None]
        names = dict.fromkeys(entry.index for entry in self.layout.gathered)
        self.index_names = {name: place for place, name in enumerate(names)}
        self.gathers = np.array(
            [(e.table.data_ptr(), e.table.shape[1], e.line, self.index_names[e.index]) for e in self.layout.gathered],
            dtype=np.int64,
        )
        num_weights, num_biases = self.layout.num_weights, self.layout.num_biases
        self.matrices, self.transposed = np.zeros((2, num_weights), dtype=np.float32)
        self.biases = np.zeros(num_biases + self.num_lines, dtype=np.float32)
        self.total = np.zeros(num_weights + num_biases, dtype=np.float32)
        self._share_memory()
        self.rooms = threading.local()

    @staticmethod
    def fits(model: nn.Module) -> TypeGuard[DLRM]:
        """Whether a model is one that this computes."""
        at_home = all(p.device.type == "cpu" and p.dtype == torch.float32 for p in model.parameters())
        return type(model) is DLRM and at_home

    def prepare(self) -> None:
        """Read the weights: once per step, before its rows."""
        for matrix, weight, bias in zip(self.layout.matrices, self.weights, self.bias_values, strict=True):
            ahead, back = (weight.T, weight) if bias is None else (weight, weight.T)
            self.matrices[matrix.at : matrix.at + weight.size].reshape(ahead.shape)[:] = ahead
            self.transposed[matrix.at : matrix.at + weight.size].reshape(back.shape)[:] = back
            if bias is not None:
                self.biases[matrix.bias_at : matrix.bias_at + len(bias)] = bias

    def indices(self, pairs: PairBatch, drawn: tuple[Tensor, Tensor] | None) -> Int64s:
        """(I, B) int64 rows of the gathered tables, in the order of ``index_names``."""
        index = np.empty((len(self.index_names), len(pairs.label)), dtype=np.int64)
        kind = (pairs.rated * (1 + pairs.label)).long()
        for number, (side, rows, table) in enumerate(
            (("user", pairs.user_index, self.model.users), ("item", pairs.item_index, self.model.items))
        ):
            found = {"row": rows, "statistics": kind * table.num_rows + rows}
            found |= {name: table.codes_of(name, rows) for name in table.code_names}
            if drawn is not None:
                found["id"] = found["id"].masked_fill(drawn[number] < self.model.id_dropout, UNKNOWN)
            for name, values in found.items():
                if (place := self.index_names.get(f"{side} {name}")) is not None:
                    index[place] = values.numpy()
        return index

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
        flat = np.zeros(self.layout.num_weights + self.layout.num_biases, dtype=np.float32)
        scatters = [(out.ctypes.data, out.shape[1], e.line) for e, out in zip(self.trained, outputs, strict=True)]
        loss = pass_rows(
            self.layers, self.num_below, self.sides, self.shape, self.gathers, np.array(scatters, dtype=np.int64),
            index, labels, rows.start, rows.stop, self._scales(len(labels)),
            self.matrices, self.transposed, self.biases, values, gradient,
            flat[: self.layout.num_weights], flat[self.layout.num_weights :],
        )  # fmt: skip
        return float(loss), flat

    def set_gradients(self, flats: Sequence[Float32s]) -> None:
        """Add up flat gradients, as calls return them, and give each parameter its own."""
        np.add.reduce(flats, out=self.total)
        for parameter, gradient in self.gradients:
            parameter.grad = gradient

    def _scales(self, batch_size: int) -> Float32s:
        penalties = (2 * self.config.embedding_l2, 2 * self.config.bias_l2)
        return np.array([1.0, *penalties], dtype=np.float32) / np.float32(batch_size)

    def _room(self) -> tuple[Float32s, Float32s]:
        """Two arrays of this thread's own."""
        if not hasattr(self.rooms, "arrays"):
            shape = (_STRIPS, self.num_lines, LANES)
            self.rooms.arrays = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
        room: tuple[Float32s, Float32s] = self.rooms.arrays
        return room

    def _lay_out(self, side: str, arch: SideArch, table: TableBuffers) -> tuple[int, ...]:
        """One side's tables, lists and bottom MLP; where its fields, dot part and bias are."""
        layout, dim = self.layout, self.model.config.embedding_dim
        fields = layout.lines.take(arch.num_fields * dim)
        lines: Iterator[int] = itertools.count(fields, dim)
        for name, embedding in arch.embeddings.items():
            assert isinstance(embedding, nn.Embedding)
            _check_codes(f"{side} {name}", getattr(table, f"codes_{name}"), embedding)
            layout.gathered.append(Gathered(embedding.weight, next(lines), f"{side} {name}", embedding))
        for name, embedding in arch.lists.items():
            self._lay_out_list(f"{side} row", getattr(table, f"multi_{name}"), embedding, next(lines))
        x = layout.lines.take(table.num_dense)
        layout.gathered.append(Gathered(table.left_out(), x, f"{side} statistics"))
        layout.add_mlp(arch.bottom_mlp, x, next(lines), last_relu=True, passes_back=False)
        dot, bias = layout.lines.take(self.model.config.dot_dim), layout.lines.take(1)
        if arch.dot is not None:
            layout.gathered.append(Gathered(arch.dot.weight, dot, f"{side} id", arch.dot))
        if arch.bias is not None:
            layout.gathered.append(Gathered(arch.bias.weight, bias, f"{side} id", arch.bias, penalised=False))
        return fields, arch.num_fields, dot, bias

    def _lay_out_list(self, index: str, shares: Tensor, embedding: nn.Module, y: int) -> None:
        """A list-valued field: its vector is the shares times the embeddings."""
        assert isinstance(embedding, nn.Embedding)
        x = self.layout.lines.take(shares.shape[1])
        self.layout.gathered.append(Gathered(shares, x, index))
        matrix = self.layout.add_matrix(embedding.weight, None)
        self.layout.layers.append((*embedding.weight.shape, x, y, matrix.at, matrix.bias_at, 0, 0, 1))

    def _layer_table(self) -> Int64s:
        """(L, 9) int64; layers without a bias get the zeros behind all biases."""
        table = np.array(self.layout.layers, dtype=np.int64)
        table[table[:, BIASES] < 0, BIASES] = self.layout.num_biases
        return table

    def _share_memory(self) -> None:
        """Views of the weights, and of the flat gradient for each of them: both are changed in place from here on."""
        matrices = self.layout.matrices
        self.weights = [matrix.weight.detach().numpy() for matrix in matrices]
        self.bias_values = [None if matrix.bias is None else matrix.bias.detach().numpy() for matrix in matrices]
        dense = [matrix.weight for matrix in matrices] + [m.bias for m in matrices if m.bias is not None]
        parts = torch.from_numpy(self.total).split([parameter.numel() for parameter in dense])
        self.gradients = [(parameter, part.view_as(parameter)) for parameter, part in zip(dense, parts, strict=True)]


def _check_codes(name: str, codes: Tensor, embedding: nn.Embedding) -> None:
    """The compiled pass reads rows without looking: a code that has none must not reach it."""
    lowest, highest = int(codes.min()), int(codes.max())
    if not 0 <= lowest <= highest < embedding.num_embeddings:
        message = f"{name}: codes run from {lowest} to {highest}, expected 0 to {embedding.num_embeddings - 1}"
        raise ValueError(message)
