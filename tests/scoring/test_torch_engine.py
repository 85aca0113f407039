"""The torch engine, run on the CPU, against the compiled one: the same lists, ties and errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pair_forms import WIDTHS, all_scores, check, random_form, random_seen

from sdk.base.errors import ScoreError, UsageError
from sdk.features.seen import Seen
from sdk.machine.device import resolve_device
from sdk.models.pair_form import PairForm
from sdk.scoring import torch_engine
from sdk.scoring.engine import Engine
from sdk.scoring.torch_engine import TorchEngine


@settings(max_examples=60, deadline=None)
@given(WIDTHS, st.booleans(), st.integers(1, 20), st.integers(3, 90), st.integers(1, 40), st.integers(0, 99))
def test_lists_are_the_best_of_all_pairs(widths, mlp, num_users, num_items, k, seed):
    form = random_form(num_users, num_items, widths, mlp=mlp, seed=seed)
    seen = random_seen(num_users, num_items, (seed % 10) / 9, seed)
    check(TorchEngine(form, device="cpu").top_k(np.arange(num_users), seen, k), all_scores(form), seen, k)


@pytest.mark.parametrize("mlp", [False, True])
def test_ties_and_filters_are_the_compiled_engines(mlp, monkeypatch):
    monkeypatch.setattr(torch_engine, "_ITEMS_PER_TILE", 37)
    form = random_form(9, 250, (3, 4, 2, 1, 2, [3]), mlp=mlp, seed=1, grid=True)
    seen, allowed = random_seen(9, 250, 0.2), np.random.default_rng(0).random(250) < 0.7
    want = Engine(form, allowed).top_k(np.arange(9), seen, 60)
    got = TorchEngine(form, allowed, device="cpu").top_k(np.arange(9), seen, 60)
    for name in ("item_index", "scores", "lengths"):
        np.testing.assert_array_equal(getattr(got, name), getattr(want, name))


def test_out_of_memory_is_met_with_smaller_tiles(monkeypatch):
    form = random_form(20, 50, (4, 1, 0, 0, 1, []), mlp=False)
    engine, sizes, whole = TorchEngine(form, device="cpu"), [], torch.isfinite

    def short_of_memory(scores):
        sizes.append(len(scores))
        if len(scores) > 6:
            raise torch.cuda.OutOfMemoryError
        return whole(scores)

    monkeypatch.setattr(torch, "isfinite", short_of_memory)
    got = engine.top_k(np.arange(20), Seen.nothing(20), 5)
    assert sizes[0] == 20
    assert sizes[-7:] == [16, 8, 4, 4, 4, 4, 4], "the same users again, half as many at a time"
    np.testing.assert_array_equal(got.item_index, Engine(form).top_k(np.arange(20), Seen.nothing(20), 5).item_index)


def test_scores_that_overflow_name_the_user():
    form = random_form(4, 20, (3, 1, 0, 0, 1, []), mlp=False)
    form.users.dot[2] = 3e38
    form.items.dot[:] = 3e38
    with pytest.raises(ScoreError, match="user row 2"):
        TorchEngine(form, device="cpu").top_k(np.arange(4), Seen.nothing(4), 5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_asking_for_a_gpu_that_is_not_there_is_one_clear_line():
    assert resolve_device("auto") == "cpu"
    with pytest.raises(UsageError, match="no GPU"):
        resolve_device("cuda")
    with pytest.raises(UsageError, match="abacus"):
        resolve_device("abacus")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpus_lists_are_the_cpus_up_to_near_ties():
    form = random_form(200, 5000, (32, 64, 2, 3, 16, [32]), seed=2)
    seen = random_seen(200, 5000, 0.02)
    check(TorchEngine(form, device="cuda").top_k(np.arange(200), seen, 100), all_scores(form), seen, 100)


@pytest.mark.parametrize("mlp", [False, True])
def test_other_users_of_the_same_items_have_their_own_lists(mlp):
    form = random_form(20, 60, (8, 5, 2, 2, 4, [4]), mlp=mlp, seed=7)
    some = PairForm(form.users.take(np.arange(6, 15)), form.items, form.head)
    rows, seen = np.arange(9), random_seen(9, 60, 0.2)
    moved = TorchEngine(form, device="cpu").for_users(some).top_k(rows, seen, 10)
    whole = TorchEngine(form, device="cpu").top_k(6 + rows, seen, 10)
    np.testing.assert_array_equal(moved.row, whole.row)
    np.testing.assert_array_equal(moved.scores, whole.scores)
    engine = TorchEngine(some, device="cpu")
    form.users.dot[7, 0] = np.nan
    with pytest.raises(ScoreError, match="user row 1"):
        engine.for_users(PairForm(form.users.take(rows + 6), form.items, form.head))
