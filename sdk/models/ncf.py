"""NCF: neural collaborative filtering on ids alone (He et al. 2017, arXiv:1708.05031).

Two variants: ``dot``, the dot product of a user's and an item's embedding, and ``neumf``, a generalised matrix
factorisation (GMF) and an MLP branch whose last layers are one (section 3.4). A tuned dot product is a strong
baseline for the MLP (Rendle et al. 2020, arXiv:2005.09683): measure both.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sdk.base.config import NCFConfig
from sdk.features.tables import EncodedTable
from sdk.models.pair_model import Batch, PairModel, SideTensors, look_up, look_up_bias, mlp, squared_norms


class NCF(PairModel):
    """NCF over two encoded tables, of which it reads the id codes only.

    Args:
        config: variant and widths.
        users: the users' encoded table.
        items: the items' encoded table.
    """

    def __init__(self, config: NCFConfig, users: EncodedTable, items: EncodedTable) -> None:
        super().__init__(users, items, id_dropout=config.id_dropout)
        self.config = config
        neumf = config.variant == "neumf"
        dim = config.embedding_dim
        self.user_arch = _IdArch(config, users.cardinalities["id"])
        self.item_arch = _IdArch(config, items.cardinalities["id"])
        self.gmf_weight = nn.Parameter(torch.ones(dim)) if neumf else None
        self.top_mlp = mlp((2 * dim, *config.mlp_layers, 1), last_relu=False) if neumf else None

    def encode_users(self, rows: Tensor, batch: Batch | None = None) -> SideTensors:
        """The user side of (B,) int64 rows; with a batch, as training sees it. GMF's weights are folded in here."""
        side: SideTensors = self.user_arch(self.pick_ids(self.users.codes_of("id", rows), batch), batch)
        return side if self.gmf_weight is None else side._replace(dot=side.dot * self.gmf_weight)

    def encode_items(self, rows: Tensor, batch: Batch | None = None) -> SideTensors:
        """The item side of (B,) int64 rows; with a batch, as training sees it."""
        side: SideTensors = self.item_arch(self.pick_ids(self.items.codes_of("id", rows), batch, 1), batch)
        return side


class _IdArch(nn.Module):
    """One side's embeddings: for GMF, for the MLP branch, and the bias."""

    def __init__(self, config: NCFConfig, num_ids: int) -> None:
        super().__init__()
        self.gmf = nn.Embedding(num_ids, config.embedding_dim)
        self.mlp = nn.Embedding(num_ids, config.embedding_dim) if config.variant == "neumf" else None
        self.bias = nn.Embedding(num_ids, 1) if config.biases else None

    def forward(self, ids: Tensor, batch: Batch | None) -> SideTensors:
        """One encoded side of (B,) int64 id codes."""
        lookups = batch.lookups if batch is not None else None
        dot = look_up(self.gmf, ids, lookups)
        mlp_in = look_up(self.mlp, ids, lookups)
        penalised = squared_norms([] if lookups is not None else [dot, mlp_in], dot)
        bias = look_up_bias(self.bias, ids, lookups)
        return SideTensors(bias, dot, dot.new_zeros(len(ids), 0, 1), mlp_in, penalised)
