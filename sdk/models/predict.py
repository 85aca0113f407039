"""A ranker's logits of many pairs, on every core or on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch

from sdk.base.types import Float32s
from sdk.features.tables import EncodedInteractions
from sdk.machine.device import usable_cores
from sdk.models.pair_model import PairModel

_SCORING_BATCH = 4096  # on a CPU: what a core's cache holds
_DEVICE_BATCH = 65_536


def predict(model: PairModel, rows: EncodedInteractions) -> Float32s:
    """(N,) float32 logits of encoded pairs, by the model's own forward pass; on a CPU a batch per core at a time."""
    model.eval()
    device = model.users.dense.device
    size, workers = (_SCORING_BATCH, usable_cores()) if device.type == "cpu" else (_DEVICE_BATCH, 1)

    def scores(first: int, last: int) -> Float32s:
        """Of the rows from ``first`` up to ``last``; a GPU short of memory is asked for half of them at a time."""
        try:
            columns = rows.user_index[first:last], rows.item_index[first:last]
            pairs = (torch.from_numpy(column).to(device).long() for column in columns)
            with torch.no_grad():
                found: Float32s = model(*pairs).cpu().numpy()
            return found
        except torch.cuda.OutOfMemoryError:
            if last - first == 1:
                raise
        torch.cuda.empty_cache()
        middle = (first + last) // 2
        return np.concatenate([scores(first, middle), scores(middle, last)])

    edges = [*range(0, len(rows), size), len(rows)]
    with one_torch_thread(), ThreadPoolExecutor(workers, "marquee-predict", single_threaded) as pool:
        parts = list(pool.map(scores, edges[:-1], edges[1:]))
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Let torch's operations run single-threaded meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def single_threaded() -> None:
    """Prepare a worker thread: torch's operations stay in it, denormal numbers count as 0."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
