"""One training step: the plain one, by torch's autograd, and on a CPU one that computes the same by chunks.

A chunk is so few rows that what it computes stays in a core's own cache. Workers, one per core, take a chunk each,
forward and backward; then they take ranges of the embedding tables' rows, for Adam. A worker runs single-threaded
torch, and waits for the others twice a step only: threads inside each operation would wait for each other a hundred
times, which costs a hundredfold where cores are shared.

Neither the chunks nor the order of any sum depends on the number of workers, so a seed gives the same weights on any
number of cores.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from sdk.base.config import TrainingConfig
from sdk.base.types import Float32s, Int64s
from sdk.features.loaders import PairBatch
from sdk.machine.device import usable_cores
from sdk.models.pair_model import Batch, Lookup, Lookups, PairModel, uniform
from sdk.models.predict import single_threaded
from sdk.training.compiled_pass.dlrm_pass import DLRMPass
from sdk.training.table_adam import Grouped, RowUpdate, count_step, group_places, ranges, update_rows

SMALLEST_CHUNK, LARGEST_CHUNK = 512, 2048  # rows; a batch makes four chunks where that keeps them between the two
T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True, slots=True, eq=False)
class PlainStep:
    """A step by autograd, on any device: what the chunked one must equal.

    Attributes:
        model: trained in place.
        optimiser: over all its parameters.
        config: penalties.
    """

    model: PairModel
    optimiser: torch.optim.Optimizer
    config: TrainingConfig

    def __call__(self, pairs: PairBatch, generator: torch.Generator) -> float:
        """Take one step; the batch's mean loss without penalties."""
        self.optimiser.zero_grad(set_to_none=True)
        device = self.model.users.dense.device
        users, items, label, rated = (column.to(device) for column in pairs)
        logits, vectors, biases = self.model.training_forward(users, items, Batch(label, rated, generator))
        loss = binary_cross_entropy_with_logits(logits, label)
        (loss + self.config.embedding_l2 * vectors + self.config.bias_l2 * biases).backward()
        self.optimiser.step()
        return float(loss.detach())


class _Chunk(NamedTuple):
    """Some rows of a batch.

    Attributes:
        rows: their places in the batch.
        pairs: the rows.
        drawn: the uniform numbers of the user and the item side; None where nothing is random.
        share: of the batch's rows.
    """

    rows: slice
    pairs: PairBatch
    drawn: tuple[Tensor, Tensor] | None
    share: float


class _Looked(NamedTuple):
    """What a step found of one table.

    Attributes:
        table: the embedding.
        ids: (B,) int64 its rows; tables looked up by the same ids share the array.
        gradients: (B, D) float32, of the loss by each looked-up vector.
        penalised: whether the L2 penalty on vectors counts it.
    """

    table: nn.Embedding
    ids: Int64s
    gradients: Float32s
    penalised: bool


class _Done(NamedTuple):
    """What a chunk leaves behind, beside what it writes into the batch's buffers.

    Attributes:
        loss: its part of the batch's mean loss.
        gradients: of the penalised loss by each dense parameter; None where it has no part in it.
        lookups: those that it made.
    """

    loss: float
    gradients: tuple[Tensor | None, ...]
    lookups: list[Lookup]


class _Buffers:
    """The looked-up ids of a batch and the gradients of the vectors, one array per lookup, kept between steps."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.ids: dict[int, Int64s] = {}
        self.gradients: dict[int, Float32s] = {}

    def put(self, number: int, rows: slice, lookup: Lookup, gradient: Tensor) -> None:
        """Store a chunk's part. Workers may call this at once: a dictionary keeps the first array that is offered."""
        if number not in self.ids:
            self.ids.setdefault(number, np.empty(self.size, dtype=np.int64))
        self.ids[number][rows] = lookup.ids.numpy()
        self.gradient(number, gradient.shape[1])[rows] = gradient.numpy()

    def gradient(self, number: int, width: int) -> Float32s:
        """(size, width) float32 room for a lookup's gradients."""
        if number not in self.gradients:
            self.gradients.setdefault(number, np.empty((self.size, width), dtype=np.float32))
        return self.gradients[number]


class ChunkedStep:
    """A step by chunks and compiled row updates, on the CPU. Use as a context manager, for its workers.

    Args:
        model: trained in place.
        optimiser: ``torch.optim.Adam`` over all its parameters, without extras.
        config: penalties.
        num_workers: threads; None takes one per usable core.
    """

    def __init__(
        self,
        model: PairModel,
        optimiser: torch.optim.Optimizer,
        config: TrainingConfig,
        num_workers: int | None = None,
    ) -> None:
        self.model, self.optimiser, self.config = model, optimiser, config
        self.num_workers = num_workers or usable_cores()
        self.parameters = list(model.parameters())
        self.buffers = _Buffers(0)
        self.compiled = DLRMPass(model, config) if DLRMPass.fits(model) else None

    def __enter__(self) -> ChunkedStep:
        self.pool = ThreadPoolExecutor(self.num_workers, "marquee-train", single_threaded)
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown()

    def __call__(self, pairs: PairBatch, generator: torch.Generator) -> float:
        """Take one step; the batch's mean loss without penalties."""
        size = len(pairs.label)
        if self.buffers.size < size:
            self.buffers = _Buffers(size)
        drawn = (uniform(size, generator), uniform(size, generator)) if self.model.id_dropout else None
        chunks = _cut(pairs, drawn)
        loss, looked = self._compiled(chunks, pairs, drawn) if self.compiled else self._autograd(chunks, generator)
        updates = self._row_updates(looked)
        for update in updates:
            count_step(self.optimiser, update.table.weight)
        tasks = [(update, *rows) for update in updates for rows in ranges(update.table)]
        self._map(lambda task: update_rows(self.optimiser, *task), tasks)
        self.optimiser.step()
        return loss

    def _map(self, work: Callable[[T], S], tasks: Sequence[T]) -> list[S]:
        return list(map(work, tasks) if len(tasks) == 1 else self.pool.map(work, tasks))

    def _compiled(
        self, chunks: Sequence[_Chunk], pairs: PairBatch, drawn: tuple[Tensor, Tensor] | None
    ) -> tuple[float, list[_Looked]]:
        """A DLRM's chunks, forward and backward, without torch."""
        compiled, size = self.compiled, len(pairs.label)
        assert compiled is not None
        compiled.prepare()
        index = compiled.indices(pairs, drawn)
        labels, entries = pairs.label.numpy(), compiled.trained
        gradients = [self.buffers.gradient(n, entry.table.shape[1])[:size] for n, entry in enumerate(entries)]
        done = self._map(lambda chunk: compiled(chunk.rows, index, labels, gradients), chunks)
        compiled.set_gradients([flat for _, flat in done])
        ids = {name: index[place] for name, place in compiled.index_names.items()}
        looked = [
            _Looked(entry.embedding, ids[entry.index], gradient, entry.penalised)
            for entry, gradient in zip(entries, gradients, strict=True)
            if entry.embedding is not None
        ]
        return sum(loss for loss, _ in done), looked

    def _autograd(self, chunks: Sequence[_Chunk], generator: torch.Generator) -> tuple[float, list[_Looked]]:
        """Any model's chunks, by torch's autograd."""
        self.model.users.left_out()
        self.model.items.left_out()
        done = self._map(lambda chunk: self._backward(chunk, generator), chunks)
        self._sum_gradients(done)
        size = chunks[-1].rows.stop
        lookups = done[0].lookups
        first = {id(lookup.ids): number for number, lookup in reversed(list(enumerate(lookups)))}
        ids = {key: self.buffers.ids[number][:size] for key, number in first.items()}
        looked = [
            _Looked(lookup.table, ids[id(lookup.ids)], self.buffers.gradients[number][:size], lookup.penalised)
            for number, lookup in enumerate(lookups)
        ]
        return sum(chunk.loss for chunk in done), looked

    def _backward(self, chunk: _Chunk, generator: torch.Generator) -> _Done:
        lookups, pairs = Lookups(), chunk.pairs
        batch = Batch(pairs.label, pairs.rated, generator, lookups, chunk.drawn)
        logits, vectors, biases = self.model.training_forward(pairs.user_index, pairs.item_index, batch)
        loss = binary_cross_entropy_with_logits(logits, pairs.label)
        whole = (loss + self.config.embedding_l2 * vectors + self.config.bias_l2 * biases) * chunk.share
        dense = self._dense(lookups.made)
        leaves = [lookup.vectors for lookup in lookups.made]
        gradients = torch.autograd.grad(whole, [*dense, *leaves], allow_unused=True)
        for number, lookup in enumerate(lookups.made):
            self.buffers.put(number, chunk.rows, lookup, gradients[len(dense) + number])
        return _Done(float(loss.detach()) * chunk.share, gradients[: len(dense)], lookups.made)

    def _dense(self, lookups: Sequence[Lookup]) -> list[torch.nn.Parameter]:
        """The parameters that are not tables looked up row by row."""
        tables = {id(lookup.table.weight) for lookup in lookups}
        return [parameter for parameter in self.parameters if id(parameter) not in tables]

    def _sum_gradients(self, done: Sequence[_Done]) -> None:
        for parameter, *parts in zip(self._dense(done[0].lookups), *(chunk.gradients for chunk in done), strict=True):
            present = [part for part in parts if part is not None]
            parameter.grad = torch.stack(present).sum(0) if present else None

    def _row_updates(self, looked: Sequence[_Looked]) -> list[RowUpdate]:
        """Every table's update; lookups by the same ids are grouped once."""
        first = {id(each.ids): each for each in reversed(looked)}
        grouped = dict(zip(first, self._map(_group, list(first.values())), strict=True))
        penalty = 2 * self.config.embedding_l2 / len(looked[0].ids)  # the gradient of the mean squared norm
        return [
            RowUpdate(each.table, grouped[id(each.ids)], each.gradients, penalty * each.penalised) for each in looked
        ]


def _group(looked: _Looked) -> Grouped:
    return group_places(looked.ids, looked.table.num_embeddings)


def _cut(pairs: PairBatch, drawn: tuple[Tensor, Tensor] | None) -> list[_Chunk]:
    """Chunks of nearly equal size. What is random was drawn for the whole batch, as the plain step draws it."""
    size = len(pairs.label)
    count = -(-size // min(LARGEST_CHUNK, max(SMALLEST_CHUNK, size // 4)))
    edges = [size * n // count for n in range(count + 1)]
    return [
        _Chunk(
            slice(a, b),
            PairBatch(*(column[a:b] for column in pairs)),
            None if drawn is None else (drawn[0][a:b], drawn[1][a:b]),
            (b - a) / size,
        )
        for a, b in itertools.pairwise(edges)
    ]
