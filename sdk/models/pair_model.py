"""What DLRM and NCF share: they gather from encoded tables, score pairs of rows, and lower to the pair form.

Training takes embedding lookups apart: rows go in as leaves of the graph, and their gradients come out. Left to
autograd, each lookup's gradient is a tensor as large as the whole table. Here a chunk of a batch looks its vectors up
as leaves; ``sdk.training.steps`` asks for the leaves' gradients and adds them to the tables row by row.
"""

from __future__ import annotations

import abc
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sdk.base.types import Float32s
from sdk.features.tables import STATISTIC_NAMES, UNKNOWN, EncodedTable
from sdk.models.pair_form import NO_MLP, Head, PairForm, Side


class Lookup(NamedTuple):
    """One lookup of a chunk.

    Attributes:
        table: the embedding it reads.
        ids: (C,) int64 rows of the table. Lookups by the same ids share the tensor.
        vectors: (C, D) float32, the rows: a leaf that wants a gradient.
        penalised: whether the L2 penalty on looked-up vectors counts them. It is left to whoever updates the table,
            since its gradient is a multiple of the row itself.
    """

    table: nn.Embedding
    ids: Tensor
    vectors: Tensor
    penalised: bool


class Batch(NamedTuple):
    """What an encoder may use while training.

    Attributes:
        label: (B,) float32, to be left out of the pair's own statistics.
        rated: (B,) float32, 1 where the pair's own rating is left out of its statistics, see ``PairBatch``.
        generator: the source of randomness.
        lookups: gathers embedding lookups, taken apart, in the order they are made in; None leaves them to autograd.
        drawn: the user side's and the item side's (B,) uniform numbers; None draws them when they are needed.
    """

    label: Tensor
    rated: Tensor
    generator: torch.Generator
    lookups: list[Lookup] | None = None
    drawn: tuple[Tensor, Tensor] | None = None


class TableBuffers(nn.Module):
    """One encoded table as non-trained tensors, gathered by row.

    The buffers are not part of ``state_dict``: a bundle stores the table once, in Parquet.
    """

    codes: Tensor
    dense: Tensor
    count: Tensor
    likes: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, table: EncodedTable) -> None:
        super().__init__()
        self.code_names = tuple(table.codes)
        self.multi_hot_names = tuple(table.multi_hot)
        self.cardinalities = dict(table.cardinalities)
        self.dense_names, self.num_dense = table.dense_names, table.dense.shape[1]
        self.num_rows = len(table)
        self._left_out: Tensor | None = None
        stats = table.statistics
        self.prior_rate, self.prior_count = stats.prior_rate, stats.prior_count
        kept: dict[str, Any] = {"dense": table.dense, **{f"codes_{name}": codes for name, codes in table.codes.items()}}
        kept |= {f"multi_{name}": shares for name, shares in table.multi_hot.items()}
        kept |= {name: getattr(stats, name).astype(np.float32) for name in ("count", "likes", "mean", "std")}
        for name, values in kept.items():
            self.register_buffer(name, torch.from_numpy(values.copy()), persistent=False)

    def codes_of(self, name: str, rows: Tensor) -> Tensor:
        """(B,) int64 codes of a single-valued field."""
        codes: Tensor = getattr(self, f"codes_{name}")
        return codes.index_select(0, rows)

    def shares_of(self, name: str, rows: Tensor) -> Tensor:
        """(B, G) float32 shares of a list-valued field."""
        shares: Tensor = getattr(self, f"multi_{name}")
        return shares.index_select(0, rows)

    def dense_of(self, rows: Tensor, batch: Batch | None) -> Tensor:
        """(B, F) float32 dense features; with a batch, the statistics leave each pair's own rating out."""
        if batch is None:
            return self.dense.index_select(0, rows)
        kind = (batch.rated * (1 + batch.label)).long()  # which of the three forms of each row
        return self.left_out().index_select(0, kind * self.num_rows + rows)

    def left_out(self) -> Tensor:
        """(3 R, F) float32 dense features of every row as training sees it: whole, less a rating that was not
        liked, and less one that was. Kept from the first call on.
        """
        if self._left_out is None or self._left_out.device != self.dense.device:
            self._left_out = torch.cat([self._without(rated, label) for rated, label in ((0, 0), (1, 0), (1, 1))])
        return self._left_out

    def _without(self, rated: int, label: int) -> Tensor:
        count = (self.count - rated).clamp_min(0)
        likes = (self.likes - label * rated).clamp_min(0)
        rate = (likes + self.prior_count * self.prior_rate) / (count + self.prior_count).clamp_min(1e-9)
        if self.prior_count == 0:
            rate = rate.masked_fill(count == 0, self.prior_rate)
        statistics = (torch.stack([torch.log1p(count), rate], dim=1) - self.mean) / self.std
        return torch.cat([statistics, self.dense[:, len(STATISTIC_NAMES) :]], dim=1)


class SideTensors(NamedTuple):
    """One side of a batch of pairs, as a model's encoder gives it.

    Attributes:
        bias: (B,) float32.
        dot: (B, d) float32, the side's part of the dot path; d may be 0.
        fields: (B, F, D) float32, the vectors that meet the other side's in the interactions; F may be 0.
        mlp_in: (B, M) float32, the side's own part of the top MLP's input.
        penalised: (B,) float32, squared norm of the looked-up vectors, which the L2 penalty holds small; without those
            that ``Batch.lookups`` took.
    """

    bias: Tensor
    dot: Tensor
    fields: Tensor
    mlp_in: Tensor
    penalised: Tensor


class TopInputWidths(NamedTuple):
    """How wide the parts of a top MLP's input are, in their order; the interactions are (user fields, item fields).

    Attributes:
        user: columns of the user's own part.
        item: columns of the item's own part.
        user_fields: number of vectors of the user that meet the item's.
        item_fields: number of vectors of the item that meet the user's.
    """

    user: int
    item: int
    user_fields: int
    item_fields: int


class PairModel(nn.Module, abc.ABC):
    """Base of the models that score (user row, item row) pairs.

    A model encodes each side on its own; this class lets the two meet, in one of two ways that give the same scores:
    ``forward`` builds the top MLP's whole input pair by pair, as the papers draw it, and ``lower`` takes the network
    apart into the pair form.

    Args:
        users: the users' encoded table.
        items: the items' encoded table.
        id_dropout: share of ids replaced by the out-of-vocabulary id while training.
    """

    top_mlp: nn.Sequential | None

    def __init__(self, users: EncodedTable, items: EncodedTable, *, id_dropout: float) -> None:
        super().__init__()
        self.users, self.items = TableBuffers(users), TableBuffers(items)
        self.id_dropout = id_dropout

    @abc.abstractmethod
    def encode_users(self, rows: Tensor, batch: Batch | None = None) -> SideTensors:
        """The user side of (B,) int64 rows; with a batch, as training sees it."""

    @abc.abstractmethod
    def encode_items(self, rows: Tensor, batch: Batch | None = None) -> SideTensors:
        """The item side of (B,) int64 rows; with a batch, as training sees it."""

    def forward(self, user_rows: Tensor, item_rows: Tensor) -> Tensor:
        """(B,) float32 logits of (B,) int64 user rows against (B,) int64 item rows."""
        return self.meet(self.encode_users(user_rows), self.encode_items(item_rows))

    def training_forward(self, user_rows: Tensor, item_rows: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """(B,) logits, and the two L2 penalties, unscaled: of the looked-up vectors and of the looked-up biases.

        Each pair's own label is left out of its statistics, and some ids are replaced by the unknown one. With
        ``batch.lookups``, the vectors' penalty lacks those lookups.
        """
        user, item = self.encode_users(user_rows, batch), self.encode_items(item_rows, batch)
        biases = (user.bias.square() + item.bias.square()).mean()
        logits = self.meet(user, item)
        return logits, (user.penalised + item.penalised).mean(), biases

    def meet(self, user: SideTensors, item: SideTensors) -> Tensor:
        """(B,) logits of encoded pairs: dot path, biases, and the top MLP over both sides and their interactions."""
        score = user.bias + item.bias + (user.dot * item.dot).sum(1)
        if self.top_mlp is None:
            return score
        cross = pairs_across(user.fields, item.fields)
        top: Tensor = self.top_mlp(torch.cat([user.mlp_in, item.mlp_in, cross], dim=1))
        return score + top[:, 0]

    def pick_ids(self, codes: Tensor, batch: Batch | None, side: int = 0) -> Tensor:
        """The codes of a side (0 user, 1 item); while training, a random share of them replaced by the unknown id, so
        that its row learns.
        """
        if batch is None or self.id_dropout == 0:
            return codes
        drawn = uniform(len(codes), batch.generator) if batch.drawn is None else batch.drawn[side]
        return codes.masked_fill(drawn.to(codes.device) < self.id_dropout, UNKNOWN)

    @torch.no_grad()
    def lower(self) -> PairForm:
        """The whole model in pair form: one row per user_index and per item_index."""
        device = self.users.dense.device
        user = self.encode_users(torch.arange(self.users.num_rows, device=device))
        item = self.encode_items(torch.arange(self.items.num_rows, device=device))
        if self.top_mlp is None:
            users, items = (Side.plain(array(side.bias), array(side.dot)) for side in (user, item))
            return PairForm(users, items, NO_MLP)
        first, *rest = self.top_linears()
        widths = [user.mlp_in.shape[1], item.mlp_in.shape[1], user.fields.shape[1] * item.fields.shape[1]]
        *own, cross = first.weight.split(widths, dim=1)
        users, items = (
            Side(array(side.bias), array(side.dot), array(side.mlp_in @ weight.T + bias), array(side.fields))
            for side, weight, bias in zip((user, item), own, (first.bias, 0), strict=True)
        )
        tail = tuple((array(layer.weight), array(layer.bias)) for layer in rest)
        return PairForm(users, items, Head(array(cross), tail))

    def top_linears(self) -> list[nn.Linear]:
        """The top MLP's linear layers, first to last; none where there is no top MLP."""
        return [layer for layer in (self.top_mlp or ()) if isinstance(layer, nn.Linear)]

    def top_input_widths(self) -> TopInputWidths:
        """How wide the parts of the top MLP's input are."""
        nobody = torch.full((1,), UNKNOWN, device=self.users.dense.device)
        user, item = self.encode_users(nobody), self.encode_items(nobody)
        return TopInputWidths(user.mlp_in.shape[1], item.mlp_in.shape[1], user.fields.shape[1], item.fields.shape[1])


def look_up(table: nn.Embedding | None, ids: Tensor, lookups: list[Lookup] | None, *, penalised: bool = True) -> Tensor:
    """(C, D) float32 rows of a table: through ``lookups`` if given, else through autograd; (C, 0) without a table."""
    if table is None:
        return torch.zeros(len(ids), 0, device=ids.device)
    vectors: Tensor = table(ids) if lookups is None else table.weight.detach().index_select(0, ids).requires_grad_()
    if lookups is not None:
        lookups.append(Lookup(table, ids, vectors, penalised))
    return vectors


def look_up_bias(table: nn.Embedding | None, ids: Tensor, lookups: list[Lookup] | None) -> Tensor:
    """(C,) float32 of a table of width 1; 0 without one."""
    columns = look_up(table, ids, lookups, penalised=False).unbind(1)
    return columns[0] if columns else torch.zeros(len(ids), device=ids.device)


def pairs_across(left: Tensor, right: Tensor) -> Tensor:
    """(B, F * G) float32: every field of ``left`` (B, F, D) with every field of ``right`` (B, G, D)."""
    return torch.einsum("bfd,bgd->bfg", left, right).flatten(1)


def pairs_within(fields: Tensor, places: Tensor) -> Tensor:
    """(B, F * (F - 1) / 2) float32: every pair of the fields (B, F, D); ``places`` is ``torch.triu_indices``."""
    return torch.einsum("bfd,bgd->bfg", fields, fields)[:, places[0], places[1]]


def uniform(size: int, generator: torch.Generator) -> Tensor:
    """(size,) float32 uniform numbers from 0 to 1, on the generator's device."""
    return torch.rand(size, generator=generator, device=generator.device)


def initialise_embeddings(model: PairModel, std: float, seed: int) -> None:
    """Draw every embedding from N(0, std^2): the N(0, 1) of torch and Merlin costs a model its AUC here."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Embedding):
                module.weight.normal_(0, std, generator=generator)


def squared_norms(vectors: Sequence[Tensor], like: Tensor) -> Tensor:
    """(B,) float32 sum of the squared norms of (B, D) vectors; zeros like ``like`` where there are none."""
    return sum((vector.square().sum(1) for vector in vectors), start=like.new_zeros(len(like)))


def array(tensor: Tensor) -> Float32s:
    """A tensor as a float32 NumPy array of its own."""
    result: Float32s = tensor.detach().to("cpu", torch.float32).contiguous().numpy().copy()
    return result


def mlp(widths: tuple[int, ...], *, last_relu: bool) -> nn.Sequential:
    """Linear layers of the given widths (input first) with ReLU between them, and after the last if asked."""
    layers: list[nn.Module] = []
    for width_in, width_out in itertools.pairwise(widths):
        layers += [nn.Linear(width_in, width_out), nn.ReLU()]
    return nn.Sequential(*(layers if last_relu else layers[:-1]))
