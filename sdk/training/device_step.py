"""The training step for a GPU: torch's autograd over a batch that lies on the device, in parts where memory is short.

Batches of the size of the first are copied into buffers that stay where they are, so that forward pass, backward pass
and optimiser can be one CUDA graph; others, as an epoch's last, take the same step kernel by kernel. It runs on the CPU
as well, and is tested there against a plain step by autograd.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from sdk.base.config import TrainingConfig
from sdk.base.errors import ScoreError
from sdk.features.loaders import PairBatch
from sdk.models.pair_model import Batch, PairModel, uniform
from sdk.training.device_graph import CudaGraph, Work
from sdk.training.process_share import ALONE, Shard

log = logging.getLogger(__name__)
Drawn = tuple[Tensor, Tensor] | None
Repeat = Callable[[Work], Tensor]


class DeviceStep:
    """A step of which the loss stays on the device, so that no step waits for the one before it.

    Where the GPU runs out of memory, the batch is cut into halves, quarters and so on, whose gradients are added up:
    the same step in more parts. The number of parts is kept for the steps that follow.

    Args:
        model: trained in place.
        optimiser: over all its parameters.
        config: penalties.
        shard: this process's share of every batch.
        bf16: whether matrix products are computed in bfloat16; weights, penalties and the loss stay in float32.
        repeat: does a step that reads and writes the same memory each time; None makes it a CUDA graph where the model
            is on a GPU and this process trains it alone.
    """

    def __init__(
        self,
        model: PairModel,
        optimiser: torch.optim.Optimizer,
        config: TrainingConfig,
        *,
        shard: Shard = ALONE,
        bf16: bool = False,
        repeat: Repeat | None = None,
    ) -> None:
        self.model, self.optimiser, self.config, self.shard, self.bf16 = model, optimiser, config, shard, bf16
        self.num_parts = 1
        self._repeat = repeat
        if repeat is None and model.users.dense.device.type == "cuda" and shard.size == 1:
            self._repeat = CudaGraph(optimiser)
        self._buffers: tuple[Tensor, ...] | None = None

    def __call__(self, pairs: PairBatch, generator: torch.Generator) -> Tensor:
        """Take one step; the whole batch's mean loss without penalties, on the device.

        Raises:
            ScoreError: the GPU's memory does not hold a step of one row.
        """
        device = self.model.users.dense.device
        pairs = PairBatch(*(column.to(device) for column in pairs))
        size = len(pairs.label)
        drawn = (uniform(size, generator), uniform(size, generator)) if self.model.id_dropout else None
        loss = self._repeated(pairs, drawn, generator)
        return self._single(pairs, drawn, generator) if loss is None else loss

    def _repeated(self, pairs: PairBatch, drawn: Drawn, generator: torch.Generator) -> Tensor | None:
        """Take the step through the buffers; None, and no step, where that is not possible."""
        columns = (*pairs, *(drawn or ()))
        if self._repeat is None:
            return None
        if self._buffers is None:
            self._buffers = tuple(torch.empty_like(column) for column in columns)
        buffers = self._buffers
        if len(buffers[0]) != len(pairs.label):
            return None
        for buffer, column in zip(buffers, columns, strict=True):
            buffer.copy_(column)
        try:
            return self._repeat(lambda: self._whole_step(buffers, generator))
        except RuntimeError as error:  # also where memory runs out
            log.warning("a training step does not become a CUDA graph, and is taken kernel by kernel: %s", error)
        self._repeat = self._buffers = None
        return None

    def _whole_step(self, buffers: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        """One step over what lies in the buffers: user, item, label, rated, and what was drawn if anything was."""
        pairs, drawn = PairBatch(*buffers[:4]), buffers[4:]
        self.optimiser.zero_grad(set_to_none=True)
        loss = self._backward(pairs, (drawn[0], drawn[1]) if drawn else None, generator, 0, len(pairs.label))
        self.optimiser.step()
        return loss

    def _single(self, pairs: PairBatch, drawn: Drawn, generator: torch.Generator) -> Tensor:
        """Take the step as it comes, in as many parts as memory asks for."""
        loss = self._gradients(pairs, drawn, generator)
        while loss is None:  # the failed attempt's tensors are gone by now
            self._use_more_parts(len(pairs.label))
            loss = self._gradients(pairs, drawn, generator)
        self.shard.sum_gradients(self.model.parameters())
        self.optimiser.step()
        return self.shard.total(loss)

    def _use_more_parts(self, size: int) -> None:
        if self.num_parts >= size:
            message = "the GPU's memory does not hold one training step of this model; train with --device cpu"
            raise ScoreError(message)
        self.num_parts *= 2
        torch.cuda.empty_cache()

    def _gradients(self, pairs: PairBatch, drawn: Drawn, generator: torch.Generator) -> Tensor | None:
        """Leave this process's gradients in the parameters; its part of the loss, or None where memory ran out."""
        self.optimiser.zero_grad(set_to_none=True)
        first, last = self.shard.bounds(len(pairs.label))
        parts = max(1, min(self.num_parts, last - first))
        edges = [first + (last - first) * n // parts for n in range(parts + 1)]
        loss = torch.zeros((), device=pairs.label.device)
        try:
            for n in range(parts):
                loss += self._backward(pairs, drawn, generator, edges[n], edges[n + 1])
        except torch.cuda.OutOfMemoryError:
            return None
        return loss

    def _backward(self, pairs: PairBatch, drawn: Drawn, generator: torch.Generator, first: int, last: int) -> Tensor:
        """Add the gradients of the rows from ``first`` up to ``last``; their part of the batch's mean loss.

        A share without a row takes one row at weight 0: every process then has the same gradients to add up.
        """
        share = (last - first) / len(pairs.label)
        rows = slice(first, last) if last > first else slice(0, 1)
        users, items, label, rated = (column[rows] for column in pairs)
        cut = None if drawn is None else (drawn[0][rows], drawn[1][rows])
        precision = torch.autocast(label.device.type, torch.bfloat16, enabled=self.bf16, cache_enabled=False)
        with precision:  # a graph must not keep the weights of its first time
            batch = Batch(label, rated, generator, drawn=cut)
            logits, vectors, biases = self.model.training_forward(users, items, batch)
        loss = binary_cross_entropy_with_logits(logits.float(), label)
        whole: Tensor = loss + self.config.embedding_l2 * vectors + self.config.bias_l2 * biases
        (whole * share).backward()
        return loss.detach() * share
