"""Work that a GPU is asked for again and again, as one CUDA graph: its kernels are started together, not one by one.

A step of a small network is some hundred kernels of a few microseconds; started one by one from Python they would take
longer to start than to run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

Work = Callable[[], Tensor]
_WARM_UPS = 3  # torch asks for some, so that libraries have made their buffers and the optimiser its moments


class CudaGraph:
    """Does some work, and from the fourth time on by replaying a graph of it (torch.cuda.graphs).

    The work must read and write the same memory each time, and must not wait for the device.

    Args:
        optimiser: takes its steps within the work.
    """

    def __init__(self, optimiser: torch.optim.Optimizer) -> None:
        self.optimiser = optimiser
        self._stream = torch.cuda.Stream()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._result: Tensor | None = None
        self._done = 0

    def __call__(self, work: Work) -> Tensor:
        """What the work returns, in memory of its own.

        Raises:
            torch.cuda.OutOfMemoryError: memory does not hold it.
            RuntimeError: something in the work cannot be captured.
        """
        if self._done < _WARM_UPS:
            self._done += 1
            return self._aside(work)
        if self._graph is None or self._result is None:
            graph = torch.cuda.CUDAGraph()
            with _capturable(self.optimiser), torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._result = work()
            self._graph = graph
        self._graph.replay()
        return self._result.clone()

    def _aside(self, work: Work) -> Tensor:
        """Do the work on a stream of its own, as torch asks for before a capture."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            result = work().clone()
        torch.cuda.current_stream().wait_stream(self._stream)
        result.record_stream(torch.cuda.current_stream())
        return result


@contextmanager
def _capturable(optimiser: torch.optim.Optimizer) -> Iterator[None]:
    """Let the optimiser be captured meanwhile; not for longer, because its state is stored and may go on on a CPU."""
    for group in optimiser.param_groups:
        group["capturable"] = True
    try:
        yield
    finally:
        for group in optimiser.param_groups:
            group["capturable"] = False
