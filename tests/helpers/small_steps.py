"""Small rankers and batches for tests of single training steps."""

import dataclasses

import numpy as np
import torch
from small import jitter, run_config, tables
from torch.nn.functional import binary_cross_entropy_with_logits

from sdk.base.config import DLRMConfig, NCFConfig, TrainingConfig
from sdk.features.loaders import PairBatch
from sdk.models.pair_model import Batch, PairModel
from sdk.models.ranker import build_ranker

CONFIG = TrainingConfig(learning_rate=1e-3, embedding_l2=0.1, bias_l2=0.05)


KINDS = ("dlrm", "bare", "ncf", "neumf")


BARE = DLRMConfig(embedding_dim=5, bottom_mlp=(7,), top_mlp=(6, 4), dot_dim=0, biases=False, id_dropout=0.0)


def ranker(kind, seed=0, id_dropout=0.0):
    """A ranker with weights that are not small, over tables with a category and a list."""
    dlrm = BARE if kind == "bare" else dataclasses.replace(BARE, dot_dim=3, biases=True)
    ncf = NCFConfig(variant="neumf" if kind == "neumf" else "dot", embedding_dim=4, mlp_layers=(6,))
    config = run_config(
        dlrm=dataclasses.replace(dlrm, id_dropout=id_dropout), ncf=dataclasses.replace(ncf, id_dropout=id_dropout)
    )
    return jitter(build_ranker("dlrm" if kind in ("dlrm", "bare") else "ncf", config, *tables(seed)), seed)


def batch_of(size, seed=0):
    """Random pairs, a third of them sampled negatives; few users and items, so that rows repeat."""
    rng = np.random.default_rng(seed)
    rated = rng.random(size) < 0.67
    label = rated & (rng.random(size) < 0.5)
    users, items = rng.integers(2, 23, size), rng.integers(2, 18, size)
    floats = (torch.from_numpy(values.astype(np.float32)) for values in (label, rated))
    return PairBatch(torch.from_numpy(users), torch.from_numpy(items), *floats)


def adam(model):
    return torch.optim.Adam(model.parameters(), lr=CONFIG.learning_rate)


@dataclasses.dataclass(frozen=True)
class PlainStep:
    """A step by torch's autograd, on any device: what the others must equal."""

    model: PairModel
    optimiser: torch.optim.Optimizer
    config: TrainingConfig

    def __call__(self, pairs, generator):
        """Take one step; the batch's mean loss without penalties."""
        self.optimiser.zero_grad(set_to_none=True)
        device = self.model.users.dense.device
        users, items, label, rated = (column.to(device) for column in pairs)
        logits, vectors, biases = self.model.training_forward(users, items, Batch(label, rated, generator))
        loss = binary_cross_entropy_with_logits(logits, label)
        (loss + self.config.embedding_l2 * vectors + self.config.bias_l2 * biases).backward()
        self.optimiser.step()
        return float(loss.detach())
