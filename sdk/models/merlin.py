"""Rankers as networks of Merlin Models' own blocks, with the same weights and the same scores.

    network = merlin_dlrm(bundle.model("dlrm"))
    probability = network(merlin_inputs(bundle.model("dlrm"), user_rows, item_rows))

``sdk.training.merlin_route`` trains them, with ``copy_weights`` to and fro; the rankers themselves stay plain PyTorch,
because Merlin's modules (23.12): hold lazy layers, whose shapes are unknown until data has passed through them, so
neither an optimiser nor a weights file can be made for a fresh model; start their embeddings from N(0, 1), which leaves
a DLRM of ids alone near AUC 0.5 on MovieLens; apply the sigmoid before the loss; take nine seconds to import; are not
everywhere; and include no NCF, no bias terms and no dot path. Those are put together from blocks, and stand beside the
``DLRMModel`` of the paper. ``tests/models/test_merlin.py`` holds all of it to 1e-5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sdk.base.errors import UsageError
from sdk.features.tables import UNKNOWN
from sdk.machine.cluster import dask_for_merlin
from sdk.models.dlrm import DLRM, by_field
from sdk.models.ncf import NCF
from sdk.models.pair_model import Batch, PairModel, TableBuffers

SIDES = ("user", "item")


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
    network = _dlrm_model(model)
    _materialise(network, model)
    _copy(_dlrm_twins(dlrm_parts(network), model))
    return network.eval()


def merlin_network(model: PairModel) -> Any:
    """A ``merlin.models.torch.Block`` that computes what a DLRM or an NCF (``dot`` or ``neumf``) computes.

    It takes what ``merlin_inputs`` gives and returns (B, 1) float32 logits, the sum of its branches: ``dlrm``, a
    ``DLRMModel`` without its sigmoid; ``dot``, a dot product of two embeddings; ``mlp``, NeuMF's; and the two biases.
    """
    mm = _merlin()
    if not isinstance(model, DLRM | NCF):
        raise UsageError(f"trainer: 'merlin' has no blocks for a {type(model).__name__}; train it with 'builtin'")
    ids = _schema(model, numbers=False).select_by_name([f"{side}_id" for side in SIDES])
    branches: dict[str, Any] = {}
    if isinstance(model, DLRM):
        branches["dlrm"] = _dlrm_model(model)
        branches["dlrm"][1][1] = nn.Identity()
    if (dim := _dot_dim(model)) > 0:
        branches["dot"] = mm.Block(mm.EmbeddingTables(dim, ids), mm.Stack(dim=1), _dot_products())
    if isinstance(model, NCF) and model.top_mlp is not None:
        tables, hidden = mm.EmbeddingTables(dim, ids), mm.MLPBlock(list(model.config.mlp_layers))
        branches["mlp"] = mm.Block(tables, hidden, nn.LazyLinear(1))
    if model.config.biases:
        branches["bias"] = mm.EmbeddingTables(1, ids)
    network = mm.Block(mm.ParallelBlock(branches), _summed())
    _materialise(network, model)
    copy_weights(network, model)
    return network.eval()


@torch.no_grad()
def copy_weights(network: Any, model: PairModel, *, back: bool = False) -> None:
    """Copy a ranker's weights into its ``merlin_network``, or back."""
    _copy(_twins(network[0].branches, model), back=back)
    if isinstance(model, NCF) and model.gmf_weight is not None:  # folded into the user's vectors
        if back:
            model.gmf_weight.fill_(1)
        else:
            _tables_of(network[0].branches["dot"])["user_id"].mul_(model.gmf_weight)


def merlin_inputs(
    model: PairModel, user_rows: Tensor, item_rows: Tensor, batch: Batch | None = None
) -> dict[str, Tensor]:
    """The features of (B,) int64 user and item rows, as Merlin Models takes them; with a batch, as training sees them.

    Returns:
        ``SIDE_FIELD`` -> (B,) int64 codes, ``SIDE_FIELD__values`` and ``SIDE_FIELD__offsets`` of list-valued fields,
        ``SIDE_NUMBER`` -> (B, 1) float32 numbers.

    Raises:
        UsageError: a list holds a value twice: Merlin's ragged lists are read back from shares, which must be equal.
    """
    inputs: dict[str, Tensor] = {}
    for place, (side, rows) in enumerate(zip(SIDES, (user_rows, item_rows), strict=True)):
        table = table_of(model, side)
        inputs[f"{side}_id"] = model.pick_ids(table.codes_of("id", rows), batch, place)
        if isinstance(model, NCF):  # of ids alone
            continue
        inputs |= {f"{side}_{name}": table.codes_of(name, rows) for name in table.code_names if name != "id"}
        for name in table.multi_hot_names:
            inputs |= _ragged(f"{side}_{name}", table.shares_of(name, rows))
        dense = table.dense_of(rows, batch)
        inputs |= {name: dense[:, [n]] for n, name in enumerate(_number_names(side, table))}
    return inputs


class Parts(NamedTuple):
    """What a ``DLRMModel`` is made of.

    Attributes:
        tables: column -> (rows, D) float32 weights of its embedding.
        bottoms: name of a bottom MLP's output -> the columns that go in, in its order, and its linear layers.
        passed: which of these outputs the top MLP sees as they are, in front of the dot products.
        top: the top MLP's linear layers, the output's last.
    """

    tables: dict[str, Tensor]
    bottoms: dict[str, tuple[list[str], list[nn.Linear]]]
    passed: list[str]
    top: list[nn.Linear]


def dlrm_parts(network: Any) -> Parts:
    """The parts of a ``DLRMModel`` through which data have passed."""
    body = network[0]
    tables = _tables_of(body[0])
    bottoms = {name: (_columns_of(block), list(_linears(block))) for name, block in bottom_blocks(network).items()}
    names, passed = sorted([*tables, *bottoms]), [name for name in bottoms if name == "continuous"]
    passed += [names[place] for m in body[1].modules() if isinstance(m, DenseAndPairs) for place in m.dense]
    top = [*(layer for block in body[2:] for layer in _linears(block)), *_linears(network[1])]
    return Parts(tables, bottoms, passed, top)


def bottom_blocks(network: Any) -> dict[str, Any]:
    """A ``DLRMModel``'s bottom blocks by the name of their output: one for all numbers, one for each side, or none."""
    joint = {name: block for name, block in network[0][0].branches.items() if name == "continuous"}
    return dict(getattr(joint.get("continuous"), "branches", joint).items())


def load_parts(parts: Parts, model: DLRM) -> None:
    """Give a bare DLRM the weights of a ``DLRMModel``; what that one does not use becomes 0.

    Raises:
        KeyError: a column is none of the model's.
        RuntimeError: a layer or a table has another shape.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    _copy(_dlrm_twins(parts, model), back=True)


class _Twin(NamedTuple):
    """A weight of ours and Merlin's, and which of our columns are its columns."""

    ours: Tensor
    theirs: Tensor
    columns: Any = slice(None)


@torch.no_grad()
def _copy(twins: Iterable[_Twin], *, back: bool = False) -> None:
    for ours, theirs, columns in twins:
        if back:
            ours[..., columns] = theirs
        else:
            theirs.copy_(ours[..., columns])


def _twins(branches: Any, model: Any) -> Iterator[_Twin]:
    user, item = model.user_arch, model.item_arch
    if isinstance(model, DLRM):
        yield from _dlrm_twins(dlrm_parts(branches["dlrm"]), model)
    if _dot_dim(model):
        kind = "dot" if isinstance(model, DLRM) else "gmf"
        yield from _table_twins(branches["dot"], getattr(user, kind), getattr(item, kind))
    if "mlp" in branches:
        dim = model.config.embedding_dim
        item_first = [*range(dim, 2 * dim), *range(dim)]  # Merlin concatenates by name
        yield from _table_twins(branches["mlp"], user.mlp, item.mlp)
        yield from _linear_twins(_linears(model.top_mlp), _linears(branches["mlp"]), item_first)
    if "bias" in branches:
        yield from _table_twins(branches["bias"], user.bias, item.bias)


def _table_twins(block: Any, user: nn.Embedding, item: nn.Embedding) -> Iterator[_Twin]:
    tables = _tables_of(block)
    yield from (_Twin(user.weight, tables["user_id"]), _Twin(item.weight, tables["item_id"]))


def _linear_twins(ours: Iterable[nn.Linear], theirs: Iterable[nn.Linear], columns: Any) -> Iterator[_Twin]:
    """Every linear layer; the first one's input columns as given."""
    for number, (mine, its) in enumerate(zip(ours, theirs, strict=True)):
        yield from (_Twin(mine.weight, its.weight, slice(None) if number else columns), _Twin(mine.bias, its.bias))


def _dlrm_twins(parts: Parts, model: DLRM) -> Iterator[_Twin]:
    ours: dict[str, Any] = {}
    for side, arch in zip(SIDES, (model.user_arch, model.item_arch), strict=True):
        ours |= {f"{side}_{name}": table for name, table in (*by_field(arch.embeddings), *by_field(arch.lists))}
    for name, weight in parts.tables.items():
        yield _Twin(ours[name].weight, weight)
    fields = {name: name for name in parts.tables}
    for name, (columns, layers) in parts.bottoms.items():
        side = columns[0].partition("_")[0]
        fields[name] = _dense_name(side)
        places = [_number_names(side, table_of(model, side)).index(column) for column in columns]
        arch = model.user_arch if side == "user" else model.item_arch
        yield from _linear_twins(_linears(arch.bottom_mlp), layers, places)
    at = {key: column for column, key in enumerate(_top_keys(model))}
    keys = [frozenset([fields[name], place]) for name in parts.passed for place in range(model.config.embedding_dim)]
    keys += [frozenset([fields[one], fields[two]]) for one, two in combinations(sorted(fields), 2)]
    yield from _linear_twins(_linears(model.top_mlp), parts.top, [at[key] for key in keys])


def _top_keys(model: DLRM) -> Iterator[frozenset[Any]]:
    """What each column of our top MLP's input is: (side's dense vector, place), or a pair of fields."""
    users, items = (_side_fields(model, side) for side in SIDES)
    for side, fields in zip(SIDES, (users, items), strict=True):
        yield from (frozenset([_dense_name(side), d]) for d in range(model.config.embedding_dim))
        yield from map(frozenset, combinations(fields, 2))
    yield from (frozenset([user, item]) for user in users for item in items)


def _side_fields(model: PairModel, side: str) -> list[str]:
    """One side's fields in the order in which Marquee stacks them."""
    table = table_of(model, side)
    return [*(f"{side}_{name}" for name in (*table.code_names, *table.multi_hot_names)), _dense_name(side)]


class DenseAndPairs(nn.Module):
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


def _dlrm_model(model: DLRM) -> Any:
    """A ``DLRMModel`` of the DLRM's widths over its tables' columns, with a bottom MLP for each side."""
    mm, config = _merlin(), model.config
    names = sorted(name for side in SIDES for name in _side_fields(model, side))  # in which Merlin stacks them
    numbers = {_dense_name(side): _number_schema(side, table_of(model, side)) for side in SIDES}
    widths = [*config.bottom_mlp, config.embedding_dim]
    bottom = {name: mm.Block(mm.SelectKeys(columns), mm.MLPBlock(widths)) for name, columns in numbers.items()}
    return mm.DLRMModel(
        _schema(model, numbers=True),
        dim=config.embedding_dim,
        bottom_block=mm.ParallelBlock(bottom),
        interaction=DenseAndPairs([names.index(name) for name in numbers]),
        top_block=mm.MLPBlock(list(config.top_mlp)),
        output_block=mm.BinaryOutput(_target()),
    )


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


def _dot_dim(model: Any) -> int:
    return int(model.config.dot_dim if isinstance(model, DLRM) else model.config.embedding_dim)


def table_of(model: PairModel, side: str) -> TableBuffers:
    """A ranker's table of the ``user`` or the ``item`` side."""
    return model.users if side == "user" else model.items


def _dense_name(side: str) -> str:
    return f"{side}_~dense"  # sorts after every field, and is no field's name


def _number_names(side: str, table: TableBuffers) -> list[str]:
    return [f"{side}_{name}" for name in table.dense_names]


def _schema(model: PairModel, *, numbers: bool) -> Any:
    from merlin.schema import Schema

    columns = []
    for side in SIDES:
        table = table_of(model, side)
        columns += [_code_column(side, name, table.cardinalities[name]) for name in table.code_names]
        columns += [_code_column(side, name, table.cardinalities[name], ragged=True) for name in table.multi_hot_names]
    schema = Schema(columns)
    return schema + sum((_number_schema(s, table_of(model, s)) for s in SIDES), Schema()) if numbers else schema


def _code_column(side: str, name: str, cardinality: int, *, ragged: bool = False) -> Any:
    from merlin.schema import ColumnSchema, Tags

    domain = {"min": 0, "max": cardinality - 1, "name": f"{side}_{name}"}
    tags = [Tags.CATEGORICAL, _side_tag(side), *[Tags.ID] * (name == "id"), *[Tags.LIST] * ragged]
    return ColumnSchema(
        f"{side}_{name}", tags=tags, dtype="int64", properties={"domain": domain},
        is_list=ragged, is_ragged=ragged,
    )  # fmt: skip


def _number_schema(side: str, table: TableBuffers) -> Any:
    from merlin.schema import ColumnSchema, Schema, Tags

    tags = [Tags.CONTINUOUS, _side_tag(side)]
    return Schema([ColumnSchema(name, tags=tags, dtype="float32") for name in _number_names(side, table)])


def _side_tag(side: str) -> Any:
    from merlin.schema import Tags

    return Tags.USER if side == "user" else Tags.ITEM


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


def _columns_of(block: Any) -> list[str]:
    """The numbers that a bottom block selects, in the order in which Merlin concatenates them."""
    selections = [m.column_names for m in block.modules() if type(m).__name__ == "SelectKeys"]
    return sorted(set.intersection(*map(set, selections))) if selections else []


def embeddings_of(block: Any) -> list[Any]:
    """Merlin's embedding tables in a block."""
    return [module for module in block.modules() if hasattr(module, "feature_to_domain")]


def _tables_of(block: Any) -> dict[str, Tensor]:
    """Column -> weights of the embedding that it is looked up in."""
    return {name: table.table.weight for table in embeddings_of(block) for name in table.feature_to_domain}
