"""The training step for a GPU: torch's autograd over a batch that lies on the device, in parts where memory is short.

Batches of the size of the first are copied into buffers that stay where they are, so that forward pass, backward pass
and optimiser can be one CUDA graph; others, as an epoch's last, take the same step kernel by kernel. It runs on the CPU
as well, and is tested there against a plain step by autograd.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from sdk.base.config import TrainingConfig
from sdk.base.errors import ScoreError
from sdk.features.loaders import PairBatch
from sdk.models.pair_model import Batch, PairModel, uniform
from sdk.training.process_share import ALONE, Share

log = logging.getLogger(__name__)
Columns = tuple[Tensor, ...]
"""A batch on the device: user, item, label, rated, and the numbers drawn for both sides if any were."""
Work = Callable[[], Tensor]
_WARM_UPS = 3  # torch asks for some, so that libraries have made their buffers and the optimiser its moments


class DeviceStep:
    """A step of which the loss stays on the device, so that no step waits for the one before it.

    Where the GPU runs out of memory, the batch is cut into halves, quarters and so on, whose gradients are added up:
    the same step in more parts. The number of parts is kept for the steps that follow.

    Args:
        model: trained in place.
        optimiser: over all its parameters.
        config: penalties.
        share: this process's share of every batch.
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
        share: Share = ALONE,
        bf16: bool = False,
        repeat: Callable[[Work], Tensor] | None = None,
    ) -> None:
        self.model, self.optimiser, self.config, self.share, self.bf16 = model, optimiser, config, share, bf16
        self.device = model.users.dense.device
        self.num_parts = 1
        self.repeat = repeat
        if repeat is None and self.device.type == "cuda" and share.size == 1:
            self.repeat = CudaGraph(optimiser)
        self.buffers: Columns = ()

    def __call__(self, pairs: PairBatch, generator: torch.Generator) -> Tensor:
        """Take one step; the whole batch's mean loss without penalties, on the device.

        Raises:
            ScoreError: the GPU's memory does not hold a step of one row.
        """
        size = len(pairs.label)
        drawn = [uniform(size, generator) for _ in range(2)] if self.model.id_dropout else []
        columns = tuple(column.to(self.device) for column in (*pairs, *drawn))
        loss = self._repeated(self.repeat, columns, generator) if self.repeat is not None else None
        return self._in_parts(columns, generator) if loss is None else loss

    def _repeated(
        self, repeat: Callable[[Work], Tensor], columns: Columns, generator: torch.Generator
    ) -> Tensor | None:
        """Take the step through the buffers; None, and no step, where that is not possible."""
        buffers = self.buffers = self.buffers or tuple(torch.empty_like(column) for column in columns)
        if len(buffers[0]) != len(columns[0]):
            return None
        for buffer, column in zip(buffers, columns, strict=True):
            buffer.copy_(column)

        def whole_step() -> Tensor:
            self.optimiser.zero_grad(set_to_none=True)
            loss = self._backward(buffers, generator, 0, len(buffers[0]))
            self.optimiser.step()
            return loss

        try:
            return repeat(whole_step)
        except RuntimeError as error:  # also where memory runs out
            log.warning("a training step does not become a CUDA graph, and is taken kernel by kernel: %s", error)
        self.repeat, self.buffers = None, ()
        return None

    def _in_parts(self, columns: Columns, generator: torch.Generator) -> Tensor:
        """Take the step as it comes, in as many parts as memory asks for."""
        loss = self._gradients(columns, generator)
        while loss is None:  # the failed attempt's tensors are gone by now
            if self.num_parts >= len(columns[0]):
                message = "the GPU's memory does not hold one training step of this model; train with --device cpu"
                raise ScoreError(message)
            self.num_parts *= 2
            torch.cuda.empty_cache()
            loss = self._gradients(columns, generator)
        self.share.sum_gradients(self.model.parameters())
        self.optimiser.step()
        return self.share.total(loss)

    def _gradients(self, columns: Columns, generator: torch.Generator) -> Tensor | None:
        """Leave this process's gradients in the parameters; its part of the loss, or None where memory ran out."""
        self.optimiser.zero_grad(set_to_none=True)
        first, last = self.share.bounds(len(columns[0]))
        parts = max(1, min(self.num_parts, last - first))
        edges = [first + (last - first) * n // parts for n in range(parts + 1)]
        loss = torch.zeros((), device=self.device)
        try:
            for edge in itertools.pairwise(edges):
                loss += self._backward(columns, generator, *edge)
        except torch.cuda.OutOfMemoryError:
            return None
        return loss

    def _backward(self, columns: Columns, generator: torch.Generator, first: int, last: int) -> Tensor:
        """Add the gradients of the rows from ``first`` up to ``last``; their part of the batch's mean loss.

        A share without a row takes one row at weight 0: every process then has the same gradients to add up.
        """
        weight = (last - first) / len(columns[0])
        rows = slice(first, last) if last > first else slice(0, 1)
        users, items, label, rated, *drawn = (column[rows] for column in columns)
        precision = torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16, cache_enabled=False)
        with precision:  # a graph must not keep the weights of its first time
            batch = Batch(label, rated, generator, drawn=(drawn[0], drawn[1]) if drawn else None)
            logits, vectors, biases = self.model.training_forward(users, items, batch)
        loss = binary_cross_entropy_with_logits(logits.float(), label)
        whole: Tensor = loss + self.config.embedding_l2 * vectors + self.config.bias_l2 * biases
        (whole * weight).backward()
        return loss.detach() * weight


class CudaGraph:
    """Does some work, and from the fourth time on by replaying a graph of it (torch.cuda.graphs).

    A step of a small network is some hundred kernels of a few microseconds; started one by one from Python they would
    take longer to start than to run. The work must read and write the same memory each time, and must not wait for the
    device.

    Args:
        optimiser: takes its steps within the work.
    """

    def __init__(self, optimiser: torch.optim.Optimizer) -> None:
        self.optimiser = optimiser
        self.stream = torch.cuda.Stream()
        self.captured: tuple[torch.cuda.CUDAGraph, Tensor] | None = None
        self.done = 0

    def __call__(self, work: Work) -> Tensor:
        """What the work returns, in memory of its own.

        Raises:
            torch.cuda.OutOfMemoryError: memory does not hold it.
            RuntimeError: something in the work cannot be captured.
        """
        if self.done < _WARM_UPS:
            self.done += 1
            return self._aside(work)
        if self.captured is None:
            graph = torch.cuda.CUDAGraph()
            with capturable(self.optimiser), torch.cuda.graph(graph, capture_error_mode="thread_local"):
                result = work()
            self.captured = graph, result
        graph, result = self.captured
        graph.replay()
        return result.clone()

    def _aside(self, work: Work) -> Tensor:
        """Do the work on a stream of its own, as torch asks for before a capture."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            result = work().clone()
        torch.cuda.current_stream().wait_stream(self.stream)
        result.record_stream(torch.cuda.current_stream())
        return result


@contextmanager
def capturable(optimiser: torch.optim.Optimizer) -> Iterator[None]:
    """Let the optimiser be captured meanwhile; not for longer, because its state is stored and may go on on a CPU."""
    for group in optimiser.param_groups:
        group["capturable"] = True
    try:
        yield
    finally:
        for group in optimiser.param_groups:
            group["capturable"] = False
