"""A trained ranker as a network of Merlin Models' own blocks, with the same weights and the same scores.

    network = merlin_dlrm(bundle.model("dlrm"))
    probability = network(merlin_inputs(bundle.model("dlrm"), user_rows, item_rows))

Marquee trains plain PyTorch modules and translates them here, instead of training Merlin's, because those (23.12):
hold lazy layers, whose shapes are unknown until data has passed through them, so neither an optimiser nor a weights
file can be made for a fresh model; start their embeddings from N(0, 1), which leaves a DLRM of ids alone near AUC
0.5 on MovieLens; apply the sigmoid before the loss; take nine seconds to import; cannot be installed beside the
newer Python of GPU images; and include no NCF, no bias terms and no dot path. What both can express is the bare
DLRM of the paper, and NCF put together from blocks. ``tests/models/test_merlin.py`` holds both to 1e-5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from sdk.base.errors import UsageError
from sdk.features.tables import UNKNOWN
from sdk.machine.cluster import dask_for_merlin
from sdk.models.dlrm import DLRM
from sdk.models.ncf import NCF
from sdk.models.pair_model import PairModel, TableBuffers

_SIDES = ("user", "item")


def merlin_dlrm(model: DLRM) -> Any:
    """The ``merlin.models.torch.DLRMModel`` that computes what a bare DLRM computes.

    It takes what ``merlin_inputs`` gives and returns (B, 1) float32 probabilities: the sigmoid of the model's logits.

    Raises:
        UsageError: the model has a dot path or bias terms, which Merlin's DLRM has no place for.
    """
    config = model.config
    if config.dot_dim or config.biases:
        raise UsageError(
            f"merlin_dlrm: the model has dot_dim={config.dot_dim} and biases={config.biases}; Merlin's DLRM has "
            "neither a dot path nor biases. Train one with DLRMConfig(dot_dim=0, biases=False)."
        )
    mm = _merlin()
    names = _field_names(model)
    numbers = {_dense_name(side): _number_schema(side, _table(model, side)) for side in _SIDES}
    widths = [*config.bottom_mlp, config.embedding_dim]
    bottom = {name: mm.Block(mm.SelectKeys(columns), mm.MLPBlock(widths)) for name, columns in numbers.items()}
    network = mm.DLRMModel(
        _schema(model, numbers=True),
        dim=config.embedding_dim,
        bottom_block=mm.ParallelBlock(bottom),
        interaction=_DenseAndPairs([names.index(name) for name in numbers]),
        top_block=mm.MLPBlock(list(config.top_mlp)),
        output_block=mm.BinaryOutput(_target()),
    )
    _materialise(network, model)
    _load_dlrm(network, model, names)
    return network.eval()


def merlin_ncf(model: NCF) -> Any:
    """A ``merlin.models.torch.Block`` that computes what an NCF computes, ``dot`` or ``neumf``.

    It takes what ``merlin_inputs`` gives and returns (B, 1) float32 logits. Its branches are ``dot``, ``mlp`` (NeuMF)
    and the two biases (if the model has them); they are summed.
    """
    mm = _merlin()
    ids = _schema(model, numbers=False).select_by_name([f"{side}_id" for side in _SIDES])
    dot = mm.Block(mm.EmbeddingTables(model.config.embedding_dim, ids), mm.Stack(dim=1), _dot_products())
    branches: dict[str, Any] = {"dot": dot}
    if model.top_mlp is not None:
        tables = mm.EmbeddingTables(model.config.embedding_dim, ids)
        hidden = mm.MLPBlock(list(model.config.mlp_layers))
        branches["mlp"] = mm.Block(tables, hidden, nn.LazyLinear(1))
    if model.config.biases:
        branches["bias"] = mm.EmbeddingTables(1, ids)
    network = mm.Block(mm.ParallelBlock(branches), _summed())
    _materialise(network, model)
    _load_ncf(branches, model)
    return network.eval()


def merlin_inputs(model: PairModel, user_rows: Tensor, item_rows: Tensor) -> dict[str, Tensor]:
    """The features of (B,) int64 user and item rows, as Merlin Models takes them.

    Returns:
        ``SIDE_FIELD`` -> (B,) int64 codes, ``SIDE_FIELD__values`` and ``SIDE_FIELD__offsets`` of list-valued fields,
        ``SIDE_dense_N`` -> (B, 1) float32 numbers.

    Raises:
        UsageError: a list holds a value twice: Merlin's ragged lists are read back from shares, which must be equal.
    """
    inputs: dict[str, Tensor] = {}
    for side, rows in zip(_SIDES, (user_rows, item_rows), strict=True):
        table = _table(model, side)
        inputs |= {f"{side}_{name}": table.codes_of(name, rows) for name in table.code_names}
        for name in table.multi_hot_names:
            inputs |= _ragged(f"{side}_{name}", table.shares_of(name, rows))
        dense = table.dense_of(rows, None)
        inputs |= {name: dense[:, [n]] for n, name in enumerate(_number_names(side, table))}
    return inputs


class _DenseAndPairs(nn.Module):
    """The paper's top-MLP input: the bottom MLPs' outputs, then the dot products of all pairs of fields.

    Merlin's ``DLRMModel`` passes one joint bottom MLP's output on by itself; with one per side, this module does it.

    Args:
        dense: places of the bottom MLPs' outputs among the stacked fields.
    """

    def __init__(self, dense: Sequence[int]) -> None:
        super().__init__()
        self.dense = list(dense)
        self.pairs = _dot_products()

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, F, D) float32 stacked fields to (B, M) float32."""
        return torch.cat([inputs[:, self.dense].flatten(1), self.pairs(inputs)], dim=1)


def _merlin() -> Any:
    with dask_for_merlin():
        import merlin.models.torch as module
    return module


def _dot_products() -> Any:
    from merlin.models.torch.blocks.dlrm import DLRMInteraction

    return DLRMInteraction()


def _summed() -> Any:
    from merlin.models.torch.transforms.agg import ElementWiseSum

    return ElementWiseSum()


def _table(model: PairModel, side: str) -> TableBuffers:
    return model.users if side == "user" else model.items


def _dense_name(side: str) -> str:
    return f"{side}_~dense"  # sorts after every field, and is no field's name


def _number_names(side: str, table: TableBuffers) -> list[str]:
    return [f"{side}_dense_{n:04d}" for n in range(table.num_dense)]  # Merlin sorts by name


def _field_names(model: PairModel) -> list[str]:
    """The names of all fields' vectors in the order in which Merlin stacks them."""
    return sorted(name for side in _SIDES for name in _side_fields(model, side))


def _side_fields(model: PairModel, side: str) -> list[str]:
    """One side's fields in the order in which Marquee stacks them."""
    table = _table(model, side)
    return [*(f"{side}_{name}" for name in (*table.code_names, *table.multi_hot_names)), _dense_name(side)]


def _schema(model: PairModel, *, numbers: bool) -> Any:
    from merlin.schema import Schema

    columns = []
    for side in _SIDES:
        table = _table(model, side)
        columns += [_code_column(side, name, table.cardinalities[name]) for name in table.code_names]
        columns += [_code_column(side, name, table.cardinalities[name], ragged=True) for name in table.multi_hot_names]
    schema = Schema(columns)
    return schema + sum((_number_schema(s, _table(model, s)) for s in _SIDES), Schema()) if numbers else schema


def _code_column(side: str, name: str, cardinality: int, *, ragged: bool = False) -> Any:
    from merlin.schema import ColumnSchema, Tags

    domain = {"min": 0, "max": cardinality - 1, "name": f"{side}_{name}"}
    return ColumnSchema(
        f"{side}_{name}", tags=[Tags.CATEGORICAL], dtype="int64", properties={"domain": domain},
        is_list=ragged, is_ragged=ragged,
    )  # fmt: skip


def _number_schema(side: str, table: TableBuffers) -> Any:
    from merlin.schema import ColumnSchema, Schema, Tags

    return Schema([ColumnSchema(name, tags=[Tags.CONTINUOUS], dtype="float32") for name in _number_names(side, table)])


def _target() -> Any:
    from merlin.schema import ColumnSchema, Tags

    return ColumnSchema("label", tags=[Tags.TARGET, Tags.BINARY_CLASSIFICATION], dtype="float32")


def _ragged(name: str, shares: Tensor) -> dict[str, Tensor]:
    present = shares > 0
    lengths = present.sum(1)
    if not torch.allclose(shares, present / lengths.clamp_min(1)[:, None]):
        raise UsageError(
            f"merlin_inputs: a list of {name!r} holds a value twice; make the lists unique and encode again"
        )
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    return {f"{name}__values": present.nonzero()[:, 1], f"{name}__offsets": offsets}


def _materialise(network: Any, model: PairModel) -> None:
    """Pass two pairs through, which gives Merlin's lazy layers their shapes."""
    nobody = torch.full((2,), UNKNOWN)
    with torch.no_grad():
        network(merlin_inputs(model, nobody, nobody))


def _linears(network: Any) -> Iterator[nn.Linear]:
    return (module for module in network.modules() if isinstance(module, nn.Linear))


@torch.no_grad()
def _copy_linears(source: Any, target: Any, columns: Sequence[int] | None = None) -> None:
    """Copy every linear layer; the first one's input columns in the given order."""
    for number, (mine, theirs) in enumerate(zip(_linears(source), _linears(target), strict=True)):
        weight = mine.weight if number or columns is None else mine.weight[:, list(columns)]
        theirs.weight.copy_(weight)
        theirs.bias.copy_(mine.bias)


@torch.no_grad()
def _copy_tables(tables: Any, weights: Mapping[str, Tensor]) -> None:
    for name, weight in weights.items():
        table = next(t for t in tables.modules() if name in getattr(t, "feature_to_domain", {}))
        table.table.weight.copy_(weight)


def _load_dlrm(network: Any, model: DLRM, names: Sequence[str]) -> None:
    inputs = network[0][0]
    for side, arch in zip(_SIDES, (model.user_arch, model.item_arch), strict=True):
        embeddings: dict[str, Any] = {**dict(arch.embeddings.items()), **dict(arch.lists.items())}
        _copy_tables(inputs, {f"{side}_{name}": table.weight for name, table in embeddings.items()})
        _copy_linears(arch.bottom_mlp, inputs["continuous"][_dense_name(side)])
    top = nn.ModuleList([network[0][2], network[1]])
    _copy_linears(model.top_mlp, top, _top_columns(model, names))


def _top_columns(model: DLRM, names: Sequence[str]) -> list[int]:
    """For every input of Merlin's top MLP, the column of ours that holds the same number."""
    at = {key: column for column, key in enumerate(_top_keys(model))}
    keys = [frozenset([_dense_name(side), d]) for side in _SIDES for d in range(model.config.embedding_dim)]
    return [at[key] for key in [*keys, *map(frozenset, combinations(names, 2))]]


def _top_keys(model: DLRM) -> Iterator[frozenset[Any]]:
    """What each column of our top MLP's input is: (side's dense vector, place), or a pair of fields."""
    users, items = (_side_fields(model, side) for side in _SIDES)
    for side, fields in zip(_SIDES, (users, items), strict=True):
        yield from (frozenset([_dense_name(side), d]) for d in range(model.config.embedding_dim))
        yield from map(frozenset, combinations(fields, 2))
    yield from (frozenset([user, item]) for user in users for item in items)


def _load_ncf(branches: Mapping[str, Any], model: NCF) -> None:
    user, item = model.user_arch, model.item_arch
    scale = 1 if model.gmf_weight is None else model.gmf_weight
    _copy_tables(branches["dot"], {"user_id": user.gmf.weight * scale, "item_id": item.gmf.weight})
    if user.bias is not None and item.bias is not None:
        _copy_tables(branches["bias"], {"user_id": user.bias.weight, "item_id": item.bias.weight})
    if user.mlp is not None and item.mlp is not None:
        dim = model.config.embedding_dim
        _copy_tables(branches["mlp"], {"user_id": user.mlp.weight, "item_id": item.mlp.weight})
        item_first = [*range(dim, 2 * dim), *range(dim)]  # Merlin concatenates by name
        _copy_linears(model.top_mlp, branches["mlp"], item_first)
