"""A ``DLRMModel`` of Merlin Models that somebody trained elsewhere, as a DLRM of ours, which lowers to the pair form.

Its columns are a bundle's encoded ones: ``user_`` or ``item_`` and the name that the table has for it. What it does not
use becomes 0 in our DLRM; what cannot be split into a user's and an item's side is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from torch import nn

from sdk.base.config import DLRMConfig
from sdk.base.errors import UsageError
from sdk.features.tables import EncodedTable
from sdk.machine.cluster import dask_for_merlin
from sdk.models.dlrm import DLRM
from sdk.models.merlin import SIDES, Parts, bottom_blocks, dlrm_parts, embeddings_of, load_parts, merlin_inputs

_CHECKED_PAIRS = 4096
_LARGEST_GAP = 1e-4
_HARMLESS = ("Dropout", "Identity", "MaybeAgg", "Concat", "SelectKeys")
_PLAIN = "expected Merlin's own DLRMModel: embeddings, a bottom_block, DLRMInteraction, a top_block, one BinaryOutput"


def dlrm_of_merlin(network: Any, users: EncodedTable, items: EncodedTable) -> DLRM:
    """The DLRM that computes the logits of a trained ``merlin.models.torch.DLRMModel``.

    It is held to the network's own forward pass on pairs drawn from the tables.

    Args:
        network: trained on columns of the two tables; left as it is.
        users: the users' encoded table.
        items: the items' encoded table.

    Raises:
        UsageError: the network is no ``DLRMModel``, has no weights yet, has parts or columns that the pair form or the
            tables do not, or gives other scores than what was made of it.
    """
    _require_structure(network)
    parts, tables = dlrm_parts(network), dict(zip(SIDES, (users, items), strict=True))
    _require_columns(network, parts, tables)
    if len(parts.top) == 1:  # w x = relu(w x) - relu(-w x)
        parts = parts._replace(top=_as_two_layers(parts.top[0]))
    model = DLRM(_config_of(parts), users, items)
    load_parts(parts, model)
    _require_the_same_scores(network, model.eval())
    return model


def _refuse(what: str, remedy: str = _PLAIN) -> NoReturn:
    raise UsageError(f"from_merlin: {what}; {remedy}")


def _require_structure(network: Any) -> None:
    with dask_for_merlin():
        import merlin.models.torch as mm
    if not isinstance(network, mm.DLRMModel):
        _refuse(f"got a {type(network).__name__}")
    if any(isinstance(weight, nn.UninitializedParameter) for weight in network.parameters()):
        _refuse("the model has layers without weights", "train it first, or pass a batch through it")
    body: Any
    body, output, *more = network.values
    if more or len(body) > 3 or len(network.pre.values):
        _refuse("the model has further blocks")
    towers = [name for name in body[0].branches if name not in ("categorical", "continuous")]
    if towers or len(body[0].post):
        _refuse(f"its input has a further tower, {', '.join(towers) or _name(body[0].post[0])}")
    if others := {_name(leaf) for leaf in _leaves(body[1])} - {"Stack", "DLRMInteraction", "DenseAndPairs"}:
        _refuse(f"its interaction is {', '.join(sorted(others))}")
    outputs = list(getattr(output, "branches", {"": output}).values())
    heads = [head for each in outputs for head in each.modules() if type(head).__name__ == "BinaryOutput"]
    if len(outputs) != 1 or len(heads) != 1 or [_name(layer) for layer in heads[0].values] != ["Linear", "Sigmoid"]:
        _refuse(f"its outputs are {', '.join(map(_name, outputs))}")
    for block in (*bottom_blocks(network).values(), *body[2:]):
        _require_relu_layers(block)


def _require_relu_layers(block: Any) -> None:
    layers = [name for name in map(_name, _leaves(block)) if name not in _HARMLESS]
    if layers != ["Linear", "ReLU"] * (len(layers) // 2):
        _refuse(f"a block's layers are {', '.join(layers)}", "expected MLPBlocks of linear layers with ReLU after each")


def _require_columns(network: Any, parts: Parts, tables: Mapping[str, EncodedTable]) -> None:
    known = {f"{side}_{name}": size for side, table in tables.items() for name, size in table.cardinalities.items()}
    lists = {f"{side}_{name}" for side, table in tables.items() for name in table.multi_hot}
    for column, weight in parts.tables.items():
        if column not in known:
            _refuse(f"its column {column!r} is none of the bundle's", f"those are {', '.join(known)}")
        if len(weight) != known[column]:
            remedy = "train it on this bundle's codes, or lower it for the bundle that it was trained on"
            _refuse(f"its column {column!r} has {len(weight):,} codes, the bundle's {known[column]:,}", remedy)
    for table in embeddings_of(network[0][0]):
        if any(domain.min > 1 for domain in table.domains.values()):
            _refuse(f"the codes of {', '.join(table.feature_to_domain)} do not start at 0")
        if table.seq_combiner != "mean" and lists & set(table.feature_to_domain):
            _refuse(f"the lists of {', '.join(table.feature_to_domain)} are not combined by their mean")
    numbers = [f"{side}_{name}" for side, table in tables.items() for name in table.dense_names]
    of_sides = [_side_of(columns, numbers) for columns, _ in parts.bottoms.values()]
    if len(set(of_sides)) < len(of_sides):
        _refuse("several bottom blocks read one side's numbers", "expected at most one for each side")


def _side_of(columns: Sequence[str], numbers: Sequence[str]) -> str:
    """The side whose numbers a bottom block reads."""
    if unknown := [column for column in columns if column not in numbers]:
        _refuse(f"its column {unknown[0]!r} is none of the bundle's numbers", f"those are {', '.join(numbers)}")
    sides = {column.partition("_")[0] for column in columns}
    if len(sides) != 1:
        _refuse(
            "its bottom_block mixes users' and titles' numbers, so that no side can be computed on its own",
            "give it one side's numbers, or a block for each side, as sdk.models.merlin.merlin_dlrm does",
        )
    return sides.pop()


def _config_of(parts: Parts) -> DLRMConfig:
    bottoms = {tuple(layer.out_features for layer in layers) for _, layers in parts.bottoms.values()}
    if len(bottoms) > 1:
        _refuse(f"its bottom blocks have other widths, {' and '.join(map(str, sorted(bottoms)))}", "expected the same")
    dim = next(iter(parts.tables.values())).shape[1]
    hidden = next(iter(bottoms), (dim,))[:-1]
    top = tuple(layer.out_features for layer in parts.top[:-1])
    return DLRMConfig(
        embedding_dim=dim, bottom_mlp=hidden, top_mlp=top, dot_dim=0, biases=False, num_members=1, ncf_share=0.0
    )


@torch.no_grad()
def _as_two_layers(output: nn.Linear) -> list[nn.Linear]:
    """A model without a top_block: w x + b = relu(w x) - relu(-w x) + b."""
    first, last = nn.Linear(output.in_features, 2), nn.Linear(2, 1)
    first.weight.copy_(torch.cat([output.weight, -output.weight]))
    last.weight.copy_(torch.tensor([[1.0, -1.0]]))
    first.bias.zero_()
    last.bias.copy_(output.bias)
    return [first, last]


@torch.no_grad()
def _require_the_same_scores(network: Any, model: DLRM) -> None:
    rng = np.random.default_rng(0)
    users, items = (
        torch.from_numpy(rng.integers(0, table.num_rows, _CHECKED_PAIRS)) for table in (model.users, model.items)
    )
    device, was_training = next(network.parameters()).device, network.training
    inputs = {name: values.to(device) for name, values in merlin_inputs(model, users, items).items()}
    network.eval()
    try:
        given = network(inputs)
    except (KeyError, IndexError, RuntimeError, ValueError) as error:
        raise UsageError(f"from_merlin: the model does not take the bundle's columns ({error}); {_PLAIN}") from error
    finally:
        network.train(was_training)
    (probability,) = given.values() if isinstance(given, dict) else (given,)
    gap = float((probability[:, 0].cpu() - torch.sigmoid(model(users, items))).abs().max())
    if not gap < _LARGEST_GAP:  # nor where it is no number
        _refuse(f"what was made of the model gives other probabilities, by up to {gap:.2g}")


def _leaves(block: Any) -> Iterator[Any]:
    return (m for m in block.modules() if not any(True for _ in m.children()) and not isinstance(m, nn.ModuleList))


def _name(module: Any) -> str:
    return type(getattr(module, "to_wrap", module)).__name__
