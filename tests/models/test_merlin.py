"""The same weights in Merlin Models' own blocks give the same scores."""

import dataclasses

import numpy as np
import pytest
import torch
from small import all_pairs, encoded_table, jitter, tables

from sdk.base.config import DLRMConfig, NCFConfig
from sdk.base.errors import UsageError
from sdk.models.dlrm import DLRM
from sdk.models.merlin import merlin_dlrm, merlin_inputs, merlin_network
from sdk.models.ncf import NCF

TOLERANCE = 1e-5  # float32: the sums run in another order, nothing else differs
BARE = DLRMConfig(embedding_dim=6, bottom_mlp=(7,), top_mlp=(9, 5), dot_dim=0, biases=False)


def bare_tables():
    rng = np.random.default_rng(3)
    users = encoded_table(rng, 12, fields={"occupation": 6, "gender": 4}, num_numbers=1)
    return users, encoded_table(rng, 11, fields={"decade": 5}, lists={"genres": 8}, num_numbers=12)


@torch.no_grad()
def largest_difference(network, model, expected):
    users, items = all_pairs(model.users.num_rows, model.items.num_rows)
    got = network(merlin_inputs(model, users, items))[:, 0]
    want = expected(model(users, items))
    assert got.std() > 0.01, "the scores hardly differ, so that equality would say nothing"
    return float((got - want).abs().max())


@pytest.mark.needs("nvtabular")
@pytest.mark.parametrize("top_mlp", [(9, 5), (4,)])
def test_a_bare_dlrm_is_merlins_dlrm_model(top_mlp):
    import merlin.models.torch as mm

    model = jitter(DLRM(dataclasses.replace(BARE, top_mlp=top_mlp), *bare_tables()))
    network = merlin_dlrm(model)
    assert isinstance(network, mm.DLRMModel)
    assert largest_difference(network, model, torch.sigmoid) < TOLERANCE


@pytest.mark.needs("nvtabular")
def test_without_merlins_sigmoid_the_dlrms_logits_agree_too():
    model = jitter(DLRM(BARE, *bare_tables()), seed=5)
    network = merlin_dlrm(model)
    network[1][1] = torch.nn.Identity()
    assert largest_difference(network, model, lambda logits: logits) < TOLERANCE


@pytest.mark.needs("nvtabular")
@pytest.mark.parametrize("variant", ["dot", "neumf"])
@pytest.mark.parametrize("biases", [True, False])
def test_ncf_is_put_together_from_merlins_blocks(variant, biases):
    model = jitter(NCF(NCFConfig(variant=variant, biases=biases, embedding_dim=5, mlp_layers=(8, 4)), *tables()))
    assert largest_difference(merlin_network(model), model, lambda logits: logits) < TOLERANCE


@pytest.mark.parametrize("change", [{"dot_dim": 3}, {"biases": True}])
def test_a_dlrm_with_more_than_merlins_is_refused_with_the_remedy(change):
    model = DLRM(dataclasses.replace(BARE, **change), *bare_tables())
    with pytest.raises(UsageError, match=r"dot_dim=0, biases=False"):
        merlin_dlrm(model)


def test_a_list_with_a_value_twice_is_refused_rather_than_scored_otherwise():
    users, items = bare_tables()
    shares = items.multi_hot["genres"].copy()
    shares[4] = 0
    shares[4, 1:3] = [2 / 3, 1 / 3]
    model = DLRM(BARE, users, dataclasses.replace(items, multi_hot={"genres": shares}))
    with pytest.raises(UsageError, match="item_genres"):
        merlin_inputs(model, torch.tensor([3]), torch.tensor([4]))
