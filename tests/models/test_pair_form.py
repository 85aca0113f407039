"""The pair form is algebra on a network: for every shape of it, the same scores."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import all_pairs, encoded_table, jitter

from sdk.base.config import DLRMConfig, NCFConfig
from sdk.base.errors import ScoreError
from sdk.models.dlrm import DLRM
from sdk.models.ncf import NCF

WIDTHS = st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple)
DLRM_CONFIGS = st.builds(
    DLRMConfig,
    embedding_dim=st.integers(1, 5),
    bottom_mlp=st.lists(st.integers(1, 6), max_size=2).map(tuple),
    top_mlp=WIDTHS,
    dot_dim=st.sampled_from([0, 1, 4]),
    biases=st.booleans(),
)
NCF_CONFIGS = st.builds(
    NCFConfig,
    variant=st.sampled_from(["dot", "neumf"]),
    embedding_dim=st.integers(1, 5),
    mlp_layers=WIDTHS,
    biases=st.booleans(),
)
FIELDS = st.dictionaries(st.sampled_from(["gender", "occupation", "decade"]), st.integers(3, 6), max_size=3)
LISTS = st.dictionaries(st.sampled_from(["genres", "tags"]), st.integers(3, 6), max_size=2)
SIDES = st.fixed_dictionaries({"fields": FIELDS, "lists": LISTS, "num_numbers": st.integers(0, 3)})


def build(config, user_side, item_side, seed):
    rng = np.random.default_rng(seed)
    users, items = encoded_table(rng, 6, **user_side), encoded_table(rng, 5, **item_side)
    model = (DLRM if isinstance(config, DLRMConfig) else NCF)(config, users, items)
    return jitter(model, seed, scale=0.5)


@settings(max_examples=60, deadline=None)
@given(st.one_of(DLRM_CONFIGS, NCF_CONFIGS), SIDES, SIDES, st.integers(0, 2**31))
def test_the_pair_form_scores_as_the_network_does(config, user_side, item_side, seed):
    model = build(config, user_side, item_side, seed)
    users, items = all_pairs(model.users.num_rows, model.items.num_rows)
    with torch.no_grad():
        expected = model(users, items).numpy()
    got = model.lower().score_pairs(users.numpy(), items.numpy())
    assert model.lower().score_pairs(users.numpy()[:0], items.numpy()[:0]).shape == (0,)
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(got / scale, expected / scale, rtol=1e-5, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.one_of(DLRM_CONFIGS, NCF_CONFIGS), SIDES, st.integers(0, 2**31))
def test_some_rows_are_encoded_as_they_are_among_all(config, side, seed):
    model = build(config, side, side, seed)
    rows = torch.tensor([4, 0, 4, 2])
    for encode, table in ((model.encode_users, model.users), (model.encode_items, model.items)):
        whole = encode(torch.arange(table.num_rows))
        for some, among_all in zip(encode(rows), whole, strict=True):
            torch.testing.assert_close(some, among_all[rows], rtol=1e-5, atol=1e-6)


def test_a_dot_product_model_lowers_to_nothing_but_the_dot_product():
    form = build(NCFConfig(embedding_dim=3), {}, {}, 0).lower()
    assert not form.head.has_mlp
    assert form.users.hidden.shape == (9, 0)
    assert form.users.fields.shape[1] == 0


@pytest.mark.parametrize(
    ("side", "part"), [("users", "bias"), ("items", "dot"), ("users", "hidden"), ("items", "fields")]
)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_found_and_placed(side, part, bad):
    form = build(DLRMConfig(embedding_dim=3, dot_dim=2), {}, {}, 0).lower()
    getattr(getattr(form, side), part)[4] = bad
    with pytest.raises(ScoreError, match=rf"{side[:-1]} row 4: its '{part}'"):
        form.check()


def test_a_top_mlp_that_is_not_finite_is_found():
    form = build(DLRMConfig(embedding_dim=3), {}, {}, 0).lower()
    form.check()
    weight, bias = form.head.tail[-1]
    broken = dataclasses.replace(form, head=dataclasses.replace(form.head, tail=((weight * np.nan, bias),)))
    with pytest.raises(ScoreError, match="top MLP"):
        broken.check()
