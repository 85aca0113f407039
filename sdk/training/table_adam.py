"""Adam over embedding tables (Kingma and Ba 2015, arXiv:1412.6980, algorithm 1), from the gradients of single lookups.

It does what ``torch.optim.Adam`` does with a table's whole gradient, every row in every step, but adds up each row's
lookups where it updates the row, so no gradient as large as the table is ever made. It keeps its moments in the
torch optimiser's own state: a checkpoint holds them, and a run may go on with either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sdk.base.types import Float32s, Int64s
from sdk.machine.compiled import compiled_loosely

ELEMENTS_PER_TASK = 1 << 18  # of a table, updated by one worker at a time


class Grouped(NamedTuple):
    """Places of a batch grouped by the table row that they look up.

    Attributes:
        order: (B,) int64 places, ascending within each row.
        starts: (R + 1,) int64; row r's places are ``order[starts[r]:starts[r + 1]]``.
    """

    order: Int64s
    starts: Int64s


class Looked(NamedTuple):
    """What a step looked up of one table.

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


def update_tables(
    optimiser: torch.optim.Optimizer, looked: Sequence[Looked], penalty: float, run: Callable[..., list[Any]]
) -> None:
    """Take one step of every table.

    Args:
        optimiser: Adam, of whose state the moments are.
        looked: one entry per table.
        penalty: where an entry counts it, added to a row's gradient per lookup, times the row.
        run: ``run(work, tasks)`` does some work for each of several tasks, perhaps at once.
    """
    shared = {id(each.ids): each for each in looked}
    places = run(lambda each: group_places(each.ids, each.table.num_embeddings), list(shared.values()))
    grouped = dict(zip(shared, places, strict=True))
    tasks = []
    for each in looked:
        rows, width = each.table.weight.shape
        arrays = _next_step(optimiser, each.table.weight, penalty * each.penalised)
        size = max(1, ELEMENTS_PER_TASK // width)
        tasks += [
            (*arrays, each.gradients, *grouped[id(each.ids)], first, min(first + size, rows))
            for first in range(0, rows, size)
        ]
    run(lambda task: _update(*task), tasks)


def _next_step(optimiser: torch.optim.Optimizer, weight: Tensor, penalty: float) -> tuple[Float32s, ...]:
    """Count one more step of a table: its constants, weights and moments, which start at zero."""
    state, group = optimiser.state[weight], optimiser.param_groups[0]
    if not state:
        state["step"] = torch.tensor(0.0)
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(weight), torch.zeros_like(weight)
    state["step"] += 1
    step, (beta1, beta2) = float(state["step"]), group["betas"]
    rate, root = group["lr"] / (1 - beta1**step), 1 / np.sqrt(1 - beta2**step)
    constants = np.array([penalty, 1 - beta1, beta2, 1 - beta2, rate, root, group["eps"]], dtype=np.float32)
    return constants, weight.detach().numpy(), state["exp_avg"].numpy(), state["exp_avg_sq"].numpy()


def group_places(ids: Int64s, num_rows: int) -> Grouped:
    """Group places by row: a counting sort."""
    order, starts = np.empty(len(ids), dtype=np.int64), np.zeros(num_rows + 1, dtype=np.int64)
    _count_sort(ids, order, starts)
    return Grouped(order, starts)


@compiled_loosely
def _count_sort(ids: Int64s, order: Int64s, starts: Int64s) -> None:
    for row in ids:
        starts[row] += 1
    total = 0
    for row in range(len(starts)):
        total += starts[row]
        starts[row] = total  # behind the row's places, then moved to their front below
    for place in range(len(ids) - 1, -1, -1):
        row = ids[place]
        starts[row] -= 1
        order[starts[row]] = place


@compiled_loosely
def _update(
    constants: Float32s, weight: Float32s, mean: Float32s, square: Float32s, gradients: Float32s,
    order: Int64s, starts: Int64s, first: int, last: int,
) -> None:  # fmt: skip
    penalty, towards, keep, take, rate, root, eps = constants
    gradient = np.empty(weight.shape[1], dtype=np.float32)
    for row in range(first, last):
        w, m, v = weight[row], mean[row], square[row]
        scale = penalty * np.float32(starts[row + 1] - starts[row])
        for d in range(len(w)):
            gradient[d] = scale * w[d]
        for at in range(starts[row], starts[row + 1]):
            vector = gradients[order[at]]
            for d in range(len(w)):
                gradient[d] += vector[d]
        for d in range(len(w)):
            m[d] += towards * (gradient[d] - m[d])
            v[d] = keep * v[d] + take * gradient[d] * gradient[d]
            w[d] -= rate * m[d] / (np.sqrt(v[d]) * root + eps)
