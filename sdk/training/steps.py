"""A training step on a CPU: what torch's autograd and Adam compute, by chunks of a batch.

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
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import binary_cross_entropy_with_logits

from sdk.base.config import TrainingConfig
from sdk.base.types import Float32s, Int64s
from sdk.features.loaders import PairBatch
from sdk.machine.device import usable_cores
from sdk.models.pair_model import Batch, Lookup, PairModel, uniform
from sdk.models.predict import single_threaded
from sdk.training.compiled_pass.dlrm_pass import DLRMPass
from sdk.training.table_adam import Looked, update_tables

SMALLEST_CHUNK, LARGEST_CHUNK = 512, 2048  # rows; a batch makes four chunks where that keeps them between the two
Drawn = tuple[Tensor, Tensor] | None
T = TypeVar("T")
S = TypeVar("S")


class _Chunk(NamedTuple):
    """What a chunk leaves behind.

    Attributes:
        loss: its part of the batch's mean loss.
        gradients: of the penalised loss by each dense parameter; None where it has no part in it.
        lookups: those that it made.
    """

    loss: float
    gradients: dict[Parameter, Tensor | None]
    lookups: list[Lookup]


class ChunkedStep:
    """A step by chunks and compiled row updates, on the CPU. Use as a context manager, for its workers.

    Args:
        model: trained in place.
        optimiser: ``torch.optim.Adam`` over all its parameters, without extras.
        config: penalties.
        num_workers: threads; None takes one per usable core.
    """

    def __init__(
        self, model: PairModel, optimiser: torch.optim.Optimizer, config: TrainingConfig, num_workers: int | None = None
    ) -> None:
        self.model, self.optimiser, self.config = model, optimiser, config
        self.num_workers = num_workers or usable_cores()
        self.parameters = list(model.parameters())
        self.rooms: dict[tuple[int, int], Float32s] = {}
        self.compiled = DLRMPass(model, config) if DLRMPass.fits(model) else None

    def __enter__(self) -> ChunkedStep:
        self.pool = ThreadPoolExecutor(self.num_workers, "marquee-train", single_threaded)
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown()

    def __call__(self, pairs: PairBatch, generator: torch.Generator) -> float:
        """Take one step; the batch's mean loss without penalties."""
        size = len(pairs.label)
        drawn = (uniform(size, generator), uniform(size, generator)) if self.model.id_dropout else None
        if self.compiled is not None:
            loss, looked = self._by_compiled(self.compiled, pairs, drawn)
        else:
            loss, looked = self._by_autograd(pairs, drawn, generator)
        update_tables(self.optimiser, looked, 2 * self.config.embedding_l2 / size, self._map)
        self.optimiser.step()
        return loss

    def _map(self, work: Callable[[T], S], tasks: Sequence[T]) -> list[S]:
        return list(map(work, tasks) if len(tasks) == 1 else self.pool.map(work, tasks))

    def _room(self, number: int, size: int, width: int) -> Float32s:
        """(size, width) float32 room for a lookup's gradients, kept between steps.

        Workers may ask for it at once: a dictionary keeps the first array that is offered.
        """
        if (number, size) not in self.rooms:
            self.rooms.setdefault((number, size), np.empty((size, width), dtype=np.float32))
        return self.rooms[number, size]

    def _by_compiled(self, compiled: DLRMPass, pairs: PairBatch, drawn: Drawn) -> tuple[float, list[Looked]]:
        """A DLRM's chunks, forward and backward, without torch."""
        size, labels, entries = len(pairs.label), pairs.label.numpy(), compiled.trained
        compiled.prepare()
        index = compiled.indices(pairs, drawn)
        gradients = [self._room(n, size, entry.table.shape[1]) for n, entry in enumerate(entries)]
        done = self._map(lambda rows: compiled(rows, index, labels, gradients), _cut(size, SMALLEST_CHUNK))
        compiled.set_gradients([flat for _, flat in done])
        ids = dict(zip(compiled.index_names, index, strict=True))
        looked = [
            Looked(entry.embedding, ids[entry.rows], gradient, entry.penalised)
            for entry, gradient in zip(entries, gradients, strict=True)
            if entry.embedding is not None
        ]
        return sum(loss for loss, _ in done), looked

    def _by_autograd(self, pairs: PairBatch, drawn: Drawn, generator: torch.Generator) -> tuple[float, list[Looked]]:
        """Any model's chunks, by torch's autograd."""
        self.model.users.left_out()
        self.model.items.left_out()
        size = len(pairs.label)
        chunks = _cut(size, 2 * SMALLEST_CHUNK)  # fewer rows take torch as long
        done = self._map(lambda rows: self._backward(rows, pairs, drawn, generator), chunks)
        for parameter in done[0].gradients:
            parts = [part for chunk in done if (part := chunk.gradients[parameter]) is not None]
            parameter.grad = torch.stack(parts).sum(0) if parts else None
        ids: dict[int, Int64s] = {}  # lookups by the same ids share the array
        looked = []
        for number, lookup in enumerate(done[0].lookups):
            if id(lookup.ids) not in ids:
                ids[id(lookup.ids)] = torch.cat([chunk.lookups[number].ids for chunk in done]).numpy()
            gradients = self._room(number, size, lookup.vectors.shape[1])
            looked.append(Looked(lookup.table, ids[id(lookup.ids)], gradients, lookup.penalised))
        return sum(chunk.loss for chunk in done), looked

    def _backward(self, rows: slice, pairs: PairBatch, drawn: Drawn, generator: torch.Generator) -> _Chunk:
        """Some rows of a batch; the gradients of the vectors that they look up go into the rooms."""
        users, items, label, rated = (column[rows] for column in pairs)
        lookups: list[Lookup] = []
        share = len(label) / len(pairs.label)
        cut = None if drawn is None else (drawn[0][rows], drawn[1][rows])
        batch = Batch(label, rated, generator, lookups, cut)
        logits, vectors, biases = self.model.training_forward(users, items, batch)
        loss = binary_cross_entropy_with_logits(logits, label)
        whole = (loss + self.config.embedding_l2 * vectors + self.config.bias_l2 * biases) * share
        tables = {id(lookup.table.weight) for lookup in lookups}
        dense = [parameter for parameter in self.parameters if id(parameter) not in tables]
        leaves = [lookup.vectors for lookup in lookups]
        gradients = torch.autograd.grad(whole, [*dense, *leaves], allow_unused=True)
        for number, gradient in enumerate(gradients[len(dense) :]):
            self._room(number, len(pairs.label), gradient.shape[1])[rows] = gradient.numpy()
        return _Chunk(float(loss.detach()) * share, dict(zip(dense, gradients, strict=False)), lookups)


def _cut(size: int, smallest: int) -> list[slice]:
    """Chunks of nearly equal size. What is random was drawn for the whole batch, as the plain step draws it."""
    count = -(-size // min(LARGEST_CHUNK, max(smallest, size // 4)))
    edges = [size * n // count for n in range(count + 1)]
    return [slice(first, last) for first, last in itertools.pairwise(edges)]
