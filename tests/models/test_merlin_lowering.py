"""A DLRMModel that was made elsewhere gives the same scores in the pair form, or is refused with the reason."""

import merlin.models.torch as mm
import numpy as np
import pytest
import torch
from merlin.schema import ColumnSchema, Schema, Tags
from small import all_pairs, encoded_table, jitter

from sdk.base.config import DLRMConfig
from sdk.base.errors import UsageError
from sdk.models.dlrm import DLRM
from sdk.models.merlin import merlin_dlrm, merlin_inputs
from sdk.models.merlin_lowering import dlrm_of_merlin

TARGET = ColumnSchema("liked", tags=[Tags.TARGET, Tags.BINARY_CLASSIFICATION], dtype="float32")
ALL_CODES = ("user_id", "user_occupation", "item_id", "item_decade", "item_genres")
USER_NUMBERS = ("user_number_0", "user_log_count")
ITEM_NUMBERS = ("item_number_10", "item_like_rate", "item_number_2")


@pytest.fixture(scope="module")
def both():
    rng = np.random.default_rng(3)
    users = encoded_table(rng, 12, fields={"occupation": 6}, num_numbers=1)
    return users, encoded_table(rng, 11, fields={"decade": 5}, lists={"genres": 8}, num_numbers=12)


def code_column(tables, name, **changes):
    side, _, field = name.partition("_")
    size = tables[side == "item"].cardinalities.get(field, 7)
    settings = {"domain": name, "first": 0, "size": size, "tags": [Tags.CATEGORICAL]} | changes
    ragged = field == "genres"
    domain = {"min": settings["first"], "max": settings["size"] - 1, "name": settings["domain"]}
    return ColumnSchema(
        name, tags=settings["tags"], dtype="int64", properties={"domain": domain}, is_list=ragged, is_ragged=ragged
    )


def columns(tables, codes=ALL_CODES, numbers=(), **changes):
    """A schema as somebody elsewhere writes it down."""
    listed = [code_column(tables, name, **changes.get(name, {})) for name in codes]
    listed += [ColumnSchema(name, tags=[Tags.CONTINUOUS], dtype="float32") for name in numbers]
    return Schema([*listed, TARGET])


def some_inputs(tables, extra=()):
    """Every pair's features, and numbers of further columns."""
    model = DLRM(DLRMConfig(dot_dim=0, biases=False), *tables)
    users, items = all_pairs(len(tables[0]), len(tables[1]))
    more = {name: torch.zeros(len(users)) if "price" in name else torch.zeros_like(users) for name in extra}
    return merlin_inputs(model, users, items) | more


def made(tables, schema, *, extra=(), seed=0, **options):
    """A DLRMModel with random weights."""
    options = {"bottom_block": mm.MLPBlock([6, 4]), "top_block": mm.MLPBlock([9, 5]), "dim": 4} | options
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = mm.DLRMModel(schema, **options)
        network(some_inputs(tables, extra))
    return jitter(network, seed)


def per_side(**changes):
    sides = {"of_users": ("user", USER_NUMBERS), "of_titles": ("item", ITEM_NUMBERS)}
    return mm.ParallelBlock(
        {
            name: mm.Block(mm.SelectKeys(Schema(list(numbers))), mm.MLPBlock(changes.get(side, [6, 4])))
            for name, (side, numbers) in sides.items()
        }
    )


MODELS = {
    "ids alone, no top block": lambda t: made(t, columns(t, ("user_id", "item_id")), top_block=None),
    "one top layer": lambda t: made(t, columns(t), top_block=mm.MLPBlock([7])),
    "users' numbers": lambda t: made(t, columns(t, numbers=USER_NUMBERS)),
    "titles' numbers, some fields": lambda t: made(t, columns(t, ("item_genres", "user_id"), ITEM_NUMBERS)),
    "titles' numbers through one layer": lambda t: made(
        t, columns(t, numbers=ITEM_NUMBERS), bottom_block=mm.MLPBlock([4])
    ),
    "a block for each side": lambda t: made(
        t, columns(t, numbers=USER_NUMBERS + ITEM_NUMBERS), bottom_block=per_side()
    ),
    "dropout": lambda t: made(t, columns(t), top_block=mm.MLPBlock([9, 5], dropout=0.5)),
    "one output by name": lambda t: made(t, columns(t), output_block=mm.BinaryOutput(TARGET)),
    "ours": lambda t: merlin_dlrm(jitter(DLRM(DLRMConfig(dot_dim=0, biases=False), *t))),
}


@pytest.mark.parametrize("kind", MODELS)
@torch.no_grad()
def test_its_pair_form_gives_the_scores_of_merlins_forward_pass(kind, both):
    network = MODELS[kind](both)
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    form = dlrm_of_merlin(network.train(), *both).lower()
    assert network.training
    given = network.eval()(some_inputs(both))
    probability = next(iter(given.values())) if isinstance(given, dict) else given
    users, items = (rows.numpy() for rows in all_pairs(len(both[0]), len(both[1])))
    scores = form.score_pairs(users, items).astype(np.float64)
    expected = probability[:, 0].double().numpy()
    assert expected.std() > 0.001
    np.testing.assert_allclose(1 / (1 + np.exp(-scores)), expected, atol=2e-6)
    assert all(torch.equal(weight, before[name]) for name, weight in network.state_dict().items())


class Doubled(torch.nn.Module):
    def forward(self, inputs):
        return inputs.flatten(1) * 2


def with_another_tower(tables):
    network = made(tables, columns(tables))
    network[0][0].branches["titles"] = mm.Block(torch.nn.Identity())
    return network


def with_a_block_more(tables):
    network = made(tables, columns(tables))
    network.values.append(mm.Block(torch.nn.Identity()))
    return network


def with_a_shortcut(tables):
    network = made(tables, columns(tables))
    before = network[0][1].forward
    network[0][1].forward = lambda inputs, batch=None: before(inputs, batch) + 1
    return network


def dcn(tables):
    return mm.DCNModel(columns(tables), deep_block=mm.MLPBlock([4]), output_block=mm.BinaryOutput(TARGET))


def two_outputs(tables):
    other = ColumnSchema("watched", tags=[Tags.TARGET, Tags.BINARY_CLASSIFICATION], dtype="float32")
    return made(tables, Schema([*columns(tables), other]))


def summed_lists(tables):
    network = made(tables, columns(tables))
    for table in network.modules():
        if hasattr(table, "feature_to_domain"):
            table.seq_combiner = "sum"
    return network


REFUSED = {
    "a DCN": (dcn, r"got a DCNModel; expected .*DLRMModel"),
    "no Merlin model": (lambda t: torch.nn.Linear(2, 1), r"got a Linear"),
    "no weights": (
        lambda t: mm.DLRMModel(columns(t), 4, mm.MLPBlock([4]), mm.MLPBlock([4])), r"without weights; train",
    ),
    "another tower": (with_another_tower, r"further tower, titles"),
    "another block": (with_a_block_more, r"further blocks"),
    "another interaction": (lambda t: made(t, columns(t), interaction=Doubled()), r"its interaction is Doubled"),
    "other layers": (
        lambda t: made(t, columns(t), top_block=mm.MLPBlock([4], activation=torch.nn.Tanh)),
        r"Linear, Tanh; expected MLPBlocks of linear layers with ReLU",
    ),
    "normalised layers": (
        lambda t: made(t, columns(t), top_block=mm.MLPBlock([4], normalization="batchnorm")), r"BatchNorm1d",
    ),
    "two outputs": (two_outputs, r"its outputs are BinaryOutput, BinaryOutput"),
    "an unknown column": (
        lambda t: made(t, columns(t, (*ALL_CODES, "item_studio")), extra=("item_studio",)),
        r"'item_studio' is none of the bundle's; those are user_id, user_occupation, item_id",
    ),
    "other codes": (
        lambda t: made(t, columns(t, item_id={"size": 20})), r"'item_id' has 20 codes, the bundle's 14; train it on",
    ),
    "an unknown number": (
        lambda t: made(t, columns(t, numbers=("item_price",)), extra=("item_price",)),
        r"'item_price' is none of the bundle's numbers; those are user_log_count",
    ),
    "both sides' numbers in one block": (
        lambda t: made(t, columns(t, numbers=USER_NUMBERS + ITEM_NUMBERS)),
        r"mixes users' and titles' numbers.*; give it one side's numbers, or a block for each side",
    ),
    "bottom blocks of other widths": (
        lambda t: made(
            t, columns(t, numbers=USER_NUMBERS + ITEM_NUMBERS), bottom_block=per_side(item=[3, 4])
        ), r"other widths, \(3, 4\) and \(6, 4\)",
    ),
    "summed lists": (summed_lists, r"item_genres are not combined by their mean"),
    "something that only the scores show": (with_a_shortcut, r"gives other probabilities, by up to"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_lowered_is_refused_in_one_line_with_the_reason(kind, both):
    build, words = REFUSED[kind]
    with pytest.raises(UsageError, match=words) as refused:
        dlrm_of_merlin(build(both), *both)
    assert str(refused.value).startswith("from_merlin: ")
    assert len(str(refused.value).splitlines()) == 1
