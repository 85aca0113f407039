"""DLRM: deep learning recommendation model (Naumov et al. 2019, arXiv:1906.00091), split so that it lowers.

    user id ─ embedding ─┐                                     ┌─ embedding ─ item id
    user attributes ─ embeddings ─┤ dot products of all pairs ├─ mean of embeddings ─ genres
    user numbers ─ bottom MLP ────┘            │              └─ bottom MLP ─ item numbers
                                            top MLP
                                               │
                        score = top + <p[u], q[i]> + a[u] + b[i]

Two things differ from the paper. The numbers of the user and of the item go through a bottom MLP each (one joint MLP
would not split into sides), and a regularised dot path with biases stands beside the top MLP: biased matrix
factorisation alone beats a bare DLRM on MovieLens (Rendle et al. 2020, arXiv:2005.09683, for the general point).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from sdk.base.config import DLRMConfig
from sdk.features.tables import EncodedTable
from sdk.models import pair_model
from sdk.models.pair_model import Batch, PairModel, SideTensors, TableBuffers, look_up, look_up_bias, mlp

_FIELD = "field "
_OWN_NAMES = frozenset({"id", "gender", "occupation", "zip_prefix", "genres"})  # as bundles of MovieLens have them


class DLRM(PairModel):
    """The DLRM over two encoded tables.

    Args:
        config: widths and switches.
        users: the users' encoded table.
        items: the items' encoded table.
    """

    def __init__(self, config: DLRMConfig, users: EncodedTable, items: EncodedTable) -> None:
        super().__init__(users, items, id_dropout=config.id_dropout)
        self.config = config
        self.user_arch = SideArch(config, self.users)
        self.item_arch = SideArch(config, self.items)
        cross = self.user_arch.num_fields * self.item_arch.num_fields
        width = self.user_arch.mlp_in_width + self.item_arch.mlp_in_width + cross
        self.top_mlp = mlp((width, *config.top_mlp, 1), last_relu=False)

    def encode_users(self, rows: Tensor, batch: Batch | None = None) -> SideTensors:
        """The user side of (B,) int64 rows; with a batch, as training sees it."""
        return self.user_arch(self.users, rows, self.pick_ids(self.users.codes_of("id", rows), batch), batch)

    def encode_items(self, rows: Tensor, batch: Batch | None = None) -> SideTensors:
        """The item side of (B,) int64 rows; with a batch, as training sees it."""
        return self.item_arch(self.items, rows, self.pick_ids(self.items.codes_of("id", rows), batch, 1), batch)


class SideArch(nn.Module):
    """One side's sparse and dense architecture: every field becomes a vector of width D."""

    def __init__(self, config: DLRMConfig, table: TableBuffers) -> None:
        super().__init__()
        dim = config.embedding_dim
        sizes = table.cardinalities
        self.embeddings = nn.ModuleDict({_module(name): nn.Embedding(sizes[name], dim) for name in table.code_names})
        self.lists = nn.ModuleDict({_module(name): nn.Embedding(sizes[name], dim) for name in table.multi_hot_names})
        self.bottom_mlp = mlp((table.num_dense, *config.bottom_mlp, dim), last_relu=True)
        num_ids = table.cardinalities["id"]
        self.dot = nn.Embedding(num_ids, config.dot_dim) if config.dot_dim else None
        self.bias = nn.Embedding(num_ids, 1) if config.biases else None
        self.num_fields = len(self.embeddings) + len(self.lists) + 1
        own = torch.triu_indices(self.num_fields, self.num_fields, offset=1)
        self.register_buffer("own_pairs", own, persistent=False)
        self.mlp_in_width = dim + own.shape[1]

    own_pairs: Tensor

    def forward(self, table: TableBuffers, rows: Tensor, ids: Tensor, batch: Batch | None) -> SideTensors:
        """One encoded side; ``ids`` are the (B,) id codes, some of them perhaps dropped."""
        dense: Tensor = self.bottom_mlp(table.dense_of(rows, batch))  # (B, D)
        lookups = batch.lookups if batch is not None else None
        codes = {name: ids if name == "id" else table.codes_of(name, rows) for name, _ in by_field(self.embeddings)}
        vectors = [look_up(each, codes[name], lookups) for name, each in by_field(self.embeddings)]
        lists = [table.shares_of(name, rows) @ each.weight for name, each in by_field(self.lists)]
        fields = torch.stack([*vectors, *lists, dense], dim=1)  # (B, F, D)
        own = pair_model.pairs_within(fields, self.own_pairs)
        dot = look_up(self.dot, ids, lookups)
        penalised = pair_model.squared_norms([*lists, *([] if lookups is not None else [dot, *vectors])], dense)
        bias = look_up_bias(self.bias, ids, lookups)
        return SideTensors(bias, dot, fields, torch.cat([dense, own], dim=1), penalised)


def _module(field: str) -> str:
    """What a field's embedding is called among torch's modules, which refuse names of their own, such as ``type``."""
    return field if field in _OWN_NAMES else _FIELD + field


def by_field(embeddings: nn.ModuleDict) -> Iterator[tuple[str, nn.Embedding]]:
    """The embeddings of ``SideArch.embeddings`` or ``lists`` with their fields' names."""
    for name, embedding in embeddings.items():
        yield name.removeprefix(_FIELD), embedding  # type: ignore[misc]
