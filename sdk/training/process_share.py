"""One process's share of data-parallel training: which rows of a batch are its own, and sums over all processes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Share:
    """A process among several that train one model; every one of them holds the whole model.

    Attributes:
        rank: number of the process, from 0.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    def bounds(self, num_rows: int) -> tuple[int, int]:
        """First and last (excluded) of the batch's rows that are this process's; shares differ by one row at most."""
        return num_rows * self.rank // self.size, num_rows * (self.rank + 1) // self.size

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its sum over the processes. All must call this."""
        for parameter in parameters:
            if self.size > 1 and parameter.grad is not None:
                dist.all_reduce(parameter.grad)

    def total(self, value: Tensor) -> Tensor:
        """The sum of a number over the processes. All must call this."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def meet(self) -> None:
        """Wait for the others, so that none leaves while another still hears from it. All must call this."""
        if self.size > 1:
            dist.barrier()

    def first_ones(self, value: float, device: torch.device) -> float:
        """Process 0's number, so that all decide alike. All must call this."""
        if self.size == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64, device=device)
        dist.broadcast(shared, src=0)
        return float(shared)


ALONE = Share()
