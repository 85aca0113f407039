"""Training's parts of the GPU benchmark: speed in each precision, AUC beside it, and the CPU's AUC on the same rows."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gpu_run import Run
from training import flop_per_row, interactions, tables

from sdk.base.config import DLRMConfig, NCFConfig, TrainingConfig
from sdk.features.tables import FIRST_KNOWN, EncodedInteractions
from sdk.models.dlrm import DLRM
from sdk.models.ncf import NCF
from sdk.training import device_step
from sdk.training.loop import seeded, train

SEEDS = (42, 43)
TASTES = 8
NCF_64 = NCFConfig(embedding_dim=64)
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """Generated rows, cut in two, and the tables of the first part."""

    rows: EncodedInteractions
    held_out: EncodedInteractions
    tables: tuple[Any, ...]

    @classmethod
    def generate(cls, num_users: int, num_items: int, num_rows: int, num_held_out: int) -> Data:
        """Rows of MovieLens's skew, liked by quality and by tastes that have to be learnt."""
        whole = with_tastes(interactions(num_users, num_items, num_rows + num_held_out))
        rows = whole.take(np.arange(num_rows))
        held_out = whole.take(np.arange(num_rows, len(whole)))
        return cls(rows, held_out, tables(rows, num_users, num_items, num_numbers=9))


def with_tastes(rows: EncodedInteractions) -> EncodedInteractions:
    """The same pairs with labels drawn anew: a title's quality plus the product of two vectors of tastes."""
    rng = np.random.default_rng(1)
    users = rng.normal(size=(int(rows.user_index.max()) + 1, TASTES)).astype(np.float32)
    items = rng.normal(size=(int(rows.item_index.max()) + 1, TASTES)).astype(np.float32)
    quality = rng.normal(0.3, 1, len(items)).astype(np.float32)
    label = np.empty(len(rows), dtype=np.int8)
    for start in range(0, len(rows), _CHUNK):
        part = slice(start, start + _CHUNK)
        user, item = rows.user_index[part], rows.item_index[part]
        logit = quality[item] + np.einsum("nd,nd->n", users[user], items[item]) * np.float32(1.5 / TASTES**0.5)
        label[part] = rng.random(len(logit), dtype=np.float32) < 1 / (1 + np.exp(-logit))
    return EncodedInteractions(rows.user_index, rows.item_index, label)


def training(run: Run, data: Data, precision: str) -> dict[str, Any]:
    """The DLRM in one precision, a training per seed: the median epoch but each first, and every AUC."""
    if precision == "bf16" and run.device == "cpu":
        return {"skipped": "the CPU's own step computes in float32"}
    speeds, firsts, aucs = [], [], []
    for seed in SEEDS:
        config = TrainingConfig(batch_size=run.size.batch, seed=seed)
        model = seeded(lambda: DLRM(DLRMConfig(), *data.tables), config)
        history = train(
            model, data.rows, data.held_out, config, name=precision, num_epochs=run.size.epochs,
            device=run.device, bf16=precision == "bf16",
        ).history  # fmt: skip
        firsts.append(history[0].rows_per_s)
        speeds += [record.rows_per_s for record in history[1:]]
        aucs.append(max(record.auc for record in history))
        run.models.setdefault("dlrm", model)
    rows = len(data.rows)
    found = {"rows": rows, "batch": run.size.batch, "rows_s": statistics.median(speeds), "low": min(speeds),
             "high": max(speeds), "epoch_s": rows / statistics.median(speeds), "first_epoch_s": rows / min(firsts),
             "auc": aucs}  # fmt: skip
    return {**found, "limit": training_limit(run, run.models["dlrm"])}


def training_uncaptured(run: Run, data: Data) -> dict[str, Any]:
    """One training in float32 whose kernels are started one by one: what the CUDA graph saves."""
    if run.device == "cpu":
        return {"skipped": "the CPU's own step is no CUDA graph"}
    config = TrainingConfig(batch_size=run.size.batch)
    model = seeded(lambda: DLRM(DLRMConfig(), *data.tables), config)
    with _no_graphs():
        history = train(model, data.rows, None, config, name="uncaptured", num_epochs=2, device=run.device).history
    return {"rows_s": history[-1].rows_per_s, "epoch_s": len(data.rows) / history[-1].rows_per_s}


@contextmanager
def _no_graphs() -> Iterator[None]:
    before = device_step.CudaGraph
    device_step.CudaGraph = lambda _: None
    try:
        yield
    finally:
        device_step.CudaGraph = before


def training_ncf(run: Run, data: Data) -> dict[str, Any]:
    """One epoch of the dot-product NCF, so that the night has its scores to tell apart."""
    config = TrainingConfig(batch_size=run.size.batch)
    run.models["ncf"] = seeded(lambda: NCF(NCF_64, *data.tables), config)
    result = train(run.models["ncf"], data.rows, data.held_out, config, name="ncf", num_epochs=1, device=run.device)
    return {"rows_s": result.history[0].rows_per_s, "auc": result.history[0].auc}


def training_limit(run: Run, model: DLRM) -> dict[str, float]:
    """Rows a second that arithmetic alone and memory alone would allow.

    Adam reads and writes each weight and both moments, and its gradient is zeroed, added to and read: nine moves of
    four bytes a weight and step. A row moves its looked-up vectors, and their gradients, about four times.
    """
    weights = sum(parameter.numel() for parameter in model.parameters())
    width = sum(module.embedding_dim for module in model.modules() if isinstance(module, torch.nn.Embedding))
    dense = 3 * 4 * (model.users.num_dense + model.items.num_dense)
    step_bytes = 9 * 4 * weights + run.size.batch * (4 * 4 * width + dense + 10)
    flop, rate = flop_per_row(model), run.figures["limits"]
    return {
        "weights": weights, "bytes_per_step": step_bytes, "flop_per_row": flop,
        "rows_s_by_memory": run.size.batch * rate["gb_s"] * 1e9 / step_bytes,
        "rows_s_by_arithmetic": rate["tflop_s_float32"] * 1e12 / flop,
    }  # fmt: skip


def training_agreement(run: Run) -> dict[str, Any]:
    """AUC after two epochs over the same rows, trained on the CPU and on the device."""
    users, items = run.size.users // 20 + FIRST_KNOWN, run.size.items // 20 + FIRST_KNOWN
    data = Data.generate(users, items, run.size.compared_rows, run.size.held_out // 5)
    config = TrainingConfig(batch_size=min(run.size.batch, 4_096))
    found = {}
    for device in ("cpu", run.device):
        model = seeded(lambda: DLRM(DLRMConfig(), *data.tables), config)
        result = train(model, data.rows, data.held_out, config, name=device, num_epochs=2, device=device)
        found[f"auc_{device}"] = result.history[-1].auc
    return {**found, "difference": abs(found["auc_cpu"] - found[f"auc_{run.device}"])}
