"""The chunked training step computes what torch's autograd and Adam compute."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_steps import CONFIG, KINDS, PlainStep, adam, batch_of, ranker

from sdk.models.pair_model import pairs_across, pairs_within
from sdk.training import steps, table_adam
from sdk.training.steps import ChunkedStep
from sdk.training.table_adam import group_places


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(steps, "SMALLEST_CHUNK", 16)
    monkeypatch.setattr(steps, "LARGEST_CHUNK", 16)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def moments(model, optimiser):
    """Adam's moments of every parameter: what is left of all gradients so far. Absent ones are 0."""
    return {
        f"{name}.{moment}": optimiser.state[weight].get(moment, torch.zeros_like(weight))
        for name, weight in model.named_parameters()
        for moment in ("exp_avg", "exp_avg_sq")
    }


def assert_close(got, expected, atol):
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=1e-4, atol=atol, msg=lambda text, n=name: f"{n}: {text}")


def stepped(kind, seed, batches, make_step, id_dropout=0.0, **options):
    model = ranker(kind, seed, id_dropout)
    optimiser = adam(model)
    generator = torch.Generator().manual_seed(9)
    if make_step is PlainStep:
        losses = [PlainStep(model, optimiser, CONFIG)(batch, generator) for batch in batches]
    else:
        with ChunkedStep(model, optimiser, CONFIG, **options) as step:
            losses = [step(batch, generator) for batch in batches]
    return model, optimiser, losses


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 1000), st.integers(1, 70), st.sampled_from([0.0, 0.4]))
def test_every_gradient_is_autograds(kind, seed, size, id_dropout):
    batch = batch_of(size, seed)
    expected, reference, loss = stepped(kind, seed, [batch], PlainStep, id_dropout)
    got, optimiser, mine = stepped(kind, seed, [batch], ChunkedStep, id_dropout, num_workers=2)
    assert mine == pytest.approx(loss, rel=1e-5)
    wanted = moments(expected, reference)
    assert max(float(value.abs().max()) for value in wanted.values()) > 1e-4, "no gradient to compare"
    assert_close(moments(got, optimiser), wanted, atol=1e-6)


@pytest.mark.parametrize(("kind", "is_compiled"), [("dlrm", True), ("bare", True), ("ncf", False), ("neumf", False)])
def test_a_dlrm_is_trained_by_the_compiled_pass(kind, is_compiled):
    model = ranker(kind)
    assert (ChunkedStep(model, adam(model), CONFIG).compiled is not None) == is_compiled


def test_a_code_without_a_row_is_refused():
    model = ranker("dlrm")
    model.users.codes_id[3] = 10**6
    with pytest.raises(ValueError, match=r"user id: codes run from \d+ to 1000000, expected 0 to"):
        ChunkedStep(model, adam(model), CONFIG)


def test_blocks_of_strips_give_the_gradient_of_one(monkeypatch):
    """More rows than a block holds, the last block and strip partly filled, in one chunk."""
    monkeypatch.setattr(steps, "SMALLEST_CHUNK", 4096)
    monkeypatch.setattr(steps, "LARGEST_CHUNK", 4096)
    batch = batch_of(1337)
    expected, reference, loss = stepped("dlrm", 0, [batch], PlainStep)
    got, optimiser, mine = stepped("dlrm", 0, [batch], ChunkedStep, num_workers=1)
    assert mine == pytest.approx(loss, rel=1e-5)
    assert_close(moments(got, optimiser), moments(expected, reference), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_after_many_steps_the_weights_are_adams(kind):
    batches = [batch_of(size, size) for size in (50, 50, 33, 50, 7)]
    expected, reference, losses = stepped(kind, 0, batches, PlainStep)
    got, optimiser, mine = stepped(kind, 0, batches, ChunkedStep)
    assert mine == pytest.approx(losses, rel=1e-4)
    assert_close(got.state_dict(), expected.state_dict(), atol=1e-5)
    assert {float(state["step"]) for state in optimiser.state.values()} == {5.0}
    del reference


@pytest.mark.parametrize("kind", KINDS)
def test_the_number_of_workers_changes_no_bit(kind, monkeypatch):
    monkeypatch.setattr(table_adam, "ELEMENTS_PER_TASK", 16)
    batches = [batch_of(60, seed) for seed in range(4)]
    weights = [
        stepped(kind, 0, batches, ChunkedStep, id_dropout=0.2, num_workers=workers)[0].state_dict()
        for workers in (1, 2, 5)
    ]
    for other in weights[1:]:
        assert all(torch.equal(other[name], weight) for name, weight in weights[0].items())


def test_dropped_ids_teach_the_unknown_row_and_no_other():
    batch = batch_of(64)._replace(user_index=torch.full((64,), 7))
    model, optimiser, _ = stepped("ncf", 0, [batch], ChunkedStep, id_dropout=0.5)
    taught = moments(model, optimiser)["user_arch.gmf.weight.exp_avg"].abs().sum(1).nonzero()[:, 0].tolist()
    assert taught == sorted({2, int(model.users.codes_id[7])})


@given(st.lists(st.integers(0, 9), max_size=40))
def test_places_are_grouped_by_row_in_their_order(ids):
    grouped = group_places(np.array(ids, dtype=np.int64), 10)
    for row in range(10):
        places = grouped.order[grouped.starts[row] : grouped.starts[row + 1]].tolist()
        assert places == [place for place, value in enumerate(ids) if value == row]


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 20), st.integers(0, 5), st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_interactions_are_the_dot_products_of_every_pair_once(f, g, d, size, seed):
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(size, n, d, generator=generator) for n in (f, g))
    across = [(left[:, a] * right[:, b]).sum(1) for a in range(f) for b in range(g)]
    within = [(left[:, a] * left[:, b]).sum(1) for a in range(f) for b in range(a + 1, f)]
    got = torch.cat([pairs_across(left, right), pairs_within(left, torch.triu_indices(f, f, offset=1))], dim=1)
    torch.testing.assert_close(got, torch.stack([*across, *within], dim=1), rtol=1e-4, atol=1e-4)
