"""Epochs of a ranker as Merlin Models' blocks, under Lightning and from Merlin's data loader: ``--trainer merlin``.

The loop around them is ``sdk.training.loop``'s, and so are initial weights, the order of the ratings, dropped ids,
penalties, optimiser, whole-set validation and early stopping: a seed gives both trainers the same batches, and the same
weights but for the order of float32 sums. What Merlin's ``Model`` would do of itself (23.12) is left aside: it starts
embeddings from N(0, 1), always takes Adam at 1e-3, logs means of each batch's AUC, and fails under Lightning 2 where
it formats an enum.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from sdk.base.config import TrainingConfig
from sdk.features.loaders import InteractionLoader, PairBatch
from sdk.machine.cluster import dask_for_merlin
from sdk.models.merlin import copy_weights, embeddings_of, merlin_inputs, merlin_network
from sdk.models.pair_model import Batch, PairModel, uniform
from sdk.models.predict import one_torch_thread


class MerlinEpochs:
    """Trains a ranker's ``merlin_network`` for an epoch at a time, and gives the ranker its weights.

    Args:
        model: trained in place; on the device where it is to be trained.
        config: penalties, and the learning rate.
    """

    def __init__(self, model: PairModel, config: TrainingConfig) -> None:
        self.model, self.config = model, config
        with _quiet():
            self.module = _Module(merlin_network(model).to(model.users.dense.device), config)

    @property
    def optimiser(self) -> torch.optim.Optimizer:
        """Over the network's parameters."""
        return self.module.optimiser

    def __call__(
        self, pairs: InteractionLoader, generator: torch.Generator, advance: Callable[[int], object]
    ) -> tuple[Tensor, int]:
        """One pass over the pairs: summed loss without penalties, and the number of rows."""
        module, device = self.module, self.model.users.dense.device
        module.begin(advance)
        copy_weights(module.network, self.model)
        with _quiet(), one_torch_thread():  # threads of its own would not flush denormals
            trainer = pl.Trainer(
                max_epochs=1, accelerator="cpu" if device.type == "cpu" else "gpu", devices=1, barebones=True
            )
            try:
                trainer.fit(module, self._loader(pairs, generator))
            except SystemExit as end:  # how Lightning ends on Ctrl-C
                raise end.__context__ or end from None
        module.to(device)
        copy_weights(module.network, self.model, back=True)
        return module.summed, module.done

    def _loader(self, pairs: InteractionLoader, generator: torch.Generator) -> Any:
        """Merlin's loader over the epoch's pairs, in their order; each batch is given its features as it comes out."""
        from merlin.dataloader.torch import Loader
        from merlin.io import Dataset
        from merlin.schema import ColumnSchema, Schema, Tags

        names = PairBatch._fields
        columns = [torch.cat(column).cpu().numpy() for column in zip(*pairs, strict=True)]
        frame = pd.DataFrame(dict(zip(names, columns, strict=True)))
        kinds = [Tags.CATEGORICAL, Tags.CATEGORICAL, Tags.TARGET, Tags.CONTINUOUS]
        schema = Schema([ColumnSchema(n, tags=[k], dtype=frame[n].dtype) for n, k in zip(names, kinds, strict=True)])
        device = self.model.users.dense.device

        def with_features(rows: dict[str, Tensor], label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
            users, items, rated, label = (
                column.flatten().to(device) for column in (rows[names[0]], rows[names[1]], rows[names[3]], label)
            )
            drawn = (uniform(len(label), generator), uniform(len(label), generator)) if self.model.id_dropout else None
            batch = Batch(label, rated, generator, drawn=drawn)
            return merlin_inputs(self.model, users, items, batch), label

        return Loader(Dataset(frame, cpu=True, schema=schema), batch_size=pairs.batch_size).map(with_features)


class _Module(pl.LightningModule):
    """Merlin's network as Lightning trains it."""

    def __init__(self, network: Any, config: TrainingConfig) -> None:
        super().__init__()
        self.network = network
        self.optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate, fused=True)
        self.looked_up: list[Tensor] = []
        for name, branch in network[0].branches.items():
            weight = config.bias_l2 if name == "bias" else config.embedding_l2
            for table in embeddings_of(branch):
                table.register_forward_hook(self._penalise(weight))

    def _penalise(self, weight: float) -> Callable[..., None]:
        def keep(_module: Any, _inputs: Any, vectors: dict[str, Tensor]) -> None:
            self.looked_up += [weight * vector.square().sum() for vector in vectors.values()]

        return keep

    def begin(self, advance: Callable[[int], object]) -> None:
        """Count from 0."""
        self.advance, self.summed, self.done = advance, torch.zeros(()), 0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The same in every epoch, so that its moments go on."""
        return self.optimiser

    def training_step(self, batch: tuple[dict[str, Tensor], Tensor], _: int) -> Tensor:
        """The batch's loss with the penalties on what it looked up."""
        features, label = batch
        self.looked_up.clear()
        loss = binary_cross_entropy_with_logits(self.network(features)[:, 0], label)
        self.summed = self.summed.to(label.device) + loss.detach() * len(label)
        self.done += len(label)
        self.advance(len(label))
        return loss + torch.stack(self.looked_up).sum() / len(label)


@contextmanager
def _quiet() -> Iterator[None]:
    """Merlin's Dask, and no word of Lightning's or Merlin's on the machine, on workers or on what they deprecate."""
    logs = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric")]
    before = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        with dask_for_merlin():
            yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)
