"""BFM: a Bayesian factorisation machine, as the mean of its samples' scores (Freudenthaler, Schmidt-Thieme and Rendle
2011, "Bayesian factorization machines").

Users and items meet as one biased dot product whose vectors hold all that a sample knows of a row: its id, its
features, and what it was rated with. ``sdk.training.gibbs`` draws the samples; what is left to a model is a vector and
a bias for every row of both tables, so that it scores like the dot product NCF.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from sdk.base.config import BFMConfig
from sdk.base.types import Float32s
from sdk.features.tables import EncodedTable
from sdk.models.pair_model import Batch, PairModel, SideTensors


class BFM(PairModel):
    """The mean of a factorisation machine's samples over two encoded tables. ``sdk.training.sampled`` fills it.

    Args:
        config: the width of its dot path.
        users: the users' encoded table.
        items: the items' encoded table.
    """

    top_mlp = None

    def __init__(self, config: BFMConfig, users: EncodedTable, items: EncodedTable) -> None:
        super().__init__(users, items, id_dropout=0.0)
        self.config = config
        self.user_arch, self.item_arch = (_RowVectors(config.width, table) for table in (users, items))

    def encode_users(self, rows: Tensor, batch: Batch | None = None) -> SideTensors:
        """The user side of (B,) int64 rows."""
        side: SideTensors = self.user_arch(rows)
        return side

    def encode_items(self, rows: Tensor, batch: Batch | None = None) -> SideTensors:
        """The item side of (B,) int64 rows."""
        side: SideTensors = self.item_arch(rows)
        return side

    @torch.no_grad()
    def fill(self, users: tuple[Float32s, Float32s], items: tuple[Float32s, Float32s]) -> None:
        """Take (R, width) float32 vectors and (R,) float32 biases of both sides."""
        for arch, (vectors, bias) in ((self.user_arch, users), (self.item_arch, items)):
            arch.dot.weight.copy_(torch.from_numpy(vectors))
            arch.bias.weight.copy_(torch.from_numpy(bias[:, None]))


class _RowVectors(nn.Module):
    """One side: a vector and a bias for each row that it was trained with."""

    places: Tensor

    def __init__(self, width: int, table: EncodedTable) -> None:
        super().__init__()
        places = np.arange(len(table)) if table.trained_as is None else table.trained_as
        self.register_buffer("places", torch.from_numpy(places.astype(np.int64)), persistent=False)
        num_rows = int(places.max(initial=-1)) + 1
        self.dot, self.bias = nn.Embedding(num_rows, width), nn.Embedding(num_rows, 1)

    def forward(self, rows: Tensor) -> SideTensors:
        """One encoded side of (B,) int64 rows."""
        at = self.places.index_select(0, rows)
        dot, bias = self.dot(at), self.bias(at)[:, 0]
        return SideTensors(bias, dot, dot.new_zeros(len(at), 0, 1), dot.new_zeros(len(at), 0), torch.zeros_like(bias))
