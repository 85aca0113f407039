"""The fused kernel on the CPU, by Triton's interpreter, against the compiled engine: lists, ties, filters, proofs.

``test_gpu_engine.py`` runs this file in a process of its own with TRITON_INTERPRET=1, which triton reads as it is
imported. By hand: ``TRITON_INTERPRET=1 python -m pytest tests/helpers/gpu_interpreted.py``.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from gpu_forms import DLRM, NCF, NEUMF, SHAPES, WIDE, cut_to_tf32
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version
from pair_forms import all_scores, check, random_form, random_seen

from sdk.base.errors import UsageError
from sdk.features.seen import Seen
from sdk.models.torch_form import TorchHead, TorchSide, side_on
from sdk.scoring import gpu_kernels
from sdk.scoring.engine import Engine
from sdk.scoring.gpu_engine import Tile
from sdk.scoring.torch_engine import TorchEngine


@triton.jit
def count_to(number, out):
    """As long a loop as the kernel's: its bounds are numbers of the call."""
    for value in range(0, number, 1):
        tl.store(out, value + 1)


def interpreter_works() -> bool:
    """Whether Triton's interpreter can run a loop at all: 3.6's cannot beside NumPy 2.5."""
    out = torch.zeros(1, dtype=torch.int32)
    try:
        count_to[(1,)](3, out)
    except triton.runtime.errors.InterpreterError:
        return False
    return out.item() == 3


if Version(np.__version__) >= Version("2.5") and not interpreter_works():  # anywhere else it must work
    pytest.skip(
        f"the interpreter of triton {triton.__version__} fails beside NumPy {np.__version__}", allow_module_level=True
    )


def fused(form, allowed=None, *, tile=Tile(16, 16, 4), **options):  # noqa: B008
    engine = TorchEngine(form, allowed, device="cpu", fused=True, **options)
    engine.fused.tile = tile
    return engine


def assert_equal_lists(got, want):
    for name in ("item_index", "scores", "lengths"):
        np.testing.assert_array_equal(getattr(got, name), getattr(want, name))


@settings(max_examples=8, deadline=None)
@given(SHAPES, st.booleans(), st.integers(1, 20), st.integers(4, 80), st.integers(1, 100), st.integers(0, 99))
def test_lists_are_the_best_of_all_pairs(widths, mlp, num_users, num_items, k, seed):
    form = random_form(num_users, num_items, widths, mlp=mlp, seed=seed)
    seen = random_seen(num_users, num_items, (seed % 10) / 9, seed)
    check(fused(form).top_k(np.arange(num_users), seen, k), all_scores(form), seen, k)


@pytest.mark.parametrize(("widths", "mlp"), [(DLRM, True), (NCF, False), (WIDE, False), (NEUMF, True)])
def test_the_shipped_models_shapes(widths, mlp):
    form, seen = random_form(18, 150, widths, mlp=mlp), random_seen(18, 150, 0.2)
    engine = TorchEngine(form, device="cpu", fused=True)  # at the model's own tile
    check(engine.top_k(np.arange(18), seen, 20), all_scores(form), seen, 20)


@pytest.mark.parametrize("mlp", [False, True])
def test_ties_and_filters_are_the_compiled_engines_to_the_bit(mlp):
    form = random_form(9, 700, (3, 4, 2, 1, 2, [3]), mlp=mlp, seed=1, grid=True)  # sums of halves: no rounding
    seen, allowed = random_seen(9, 700, 0.2), np.random.default_rng(0).random(700) < 0.7
    users = np.array([4, 0, 8, 3])
    want = Engine(form, allowed).top_k(users, seen.take(users), 30)
    assert_equal_lists(fused(form, allowed).top_k(users, seen.take(users), 30), want)


def test_k_beyond_the_catalogue_and_users_who_have_seen_it_all():
    form = random_form(3, 40, (4, 5, 1, 2, 3, [4]))
    everything = Seen.build(np.repeat(1, 40), np.arange(40), 3)
    got = fused(form).top_k(np.arange(3), everything, 100)
    assert got.lengths.tolist() == [37, 0, 37]
    check(got, all_scores(form), everything, 100)


def test_no_user_and_no_candidate():
    form = random_form(3, 40, (4, 1, 0, 0, 1, []), mlp=False)
    assert fused(form).top_k(np.zeros(0, np.int64), Seen.nothing(0), 5).item_index.shape == (0, 5)
    with pytest.raises(UsageError, match="no candidate"):
        fused(form, np.zeros(40, dtype=bool))


def launched_by(monkeypatch, launch):
    """From now on the kernel is started by ``launch(start, arguments, options)``, where start is its own way."""

    class Kernel:
        def __getitem__(self, grid):
            return lambda *arguments, **options: launch(real[grid], arguments, options)

    real = gpu_kernels.score_and_filter
    monkeypatch.setattr(gpu_kernels, "score_and_filter", Kernel())


def test_more_than_a_buffer_holds_is_done_again_in_halves(monkeypatch):
    """Every later item beats all before it, against the order that the scorer expects of the average user."""
    form, numbers = random_form(102, 2000, (1, 1, 0, 0, 1, []), mlp=False), np.arange(2000)
    form.users.bias[:], form.users.dot[:], form.users.dot[:2] = 0, 0, 3
    form.items.dot[:, 0], form.items.bias[:] = numbers, -numbers
    cuts = []

    def noted(start, arguments, options):
        cuts.append(arguments[-4:-2])
        start(*arguments, **options)

    launched_by(monkeypatch, noted)
    got = fused(form).top_k(np.arange(2), Seen.nothing(2), 4)
    assert_equal_lists(got, Engine(form).top_k(np.arange(2), Seen.nothing(2), 4))
    parts = [a for a in cuts if not any(a[0] <= b[0] and b[1] <= a[1] for b in cuts if b != a)]
    assert len(parts) < len(cuts), "nothing was cut"
    assert [0, *(last for _, last in sorted(parts))] == [*(first for first, _ in sorted(parts)), 1997], "each item once"


def test_tiles_and_company_never_change_a_list():
    form, seen = random_form(33, 90, (5, 6, 1, 2, 3, [4]), grid=True), random_seen(33, 90, 0.2)
    want = fused(form).top_k(np.arange(33), seen, 9)
    assert_equal_lists(fused(form, tile=Tile(32, 64, 4)).top_k(np.arange(33), seen, 9), want)
    engine = fused(form)
    engine._users_per_tile = 7
    assert_equal_lists(engine.top_k(np.arange(33), seen, 9), want)


@pytest.mark.parametrize("close", [False, True])
def test_a_selection_in_lower_precision_is_proven_or_done_again(close, monkeypatch):
    """With weights cut as TF32 cuts them. Scores close together cannot be proven apart: those users are done again."""
    form, seen = random_form(16, 200, (8, 16, 2, 1, 4, [16]), seed=3), random_seen(16, 200, 0.2)
    if close:
        for part in (form.items.bias, form.items.dot, form.items.hidden, form.items.fields):
            part *= np.float32(1e-3)
    engine = fused(form, precision="tf32")

    def rounding(start, arguments, options):
        if options["PRECISION"] == "tf32":
            weight_1 = 2 * len(TorchSide._fields) + 1  # behind both sides and cross
            arguments = (*arguments[:weight_1], cut_to_tf32(arguments[weight_1]), *arguments[weight_1 + 1 :])
        start(*arguments, **options | {"PRECISION": "ieee"})

    launched_by(monkeypatch, rounding)
    got = engine.top_k(np.arange(16), seen, 10)
    assert engine.fused.num_again == 16 if close else engine.fused.num_again < 16
    check(got, all_scores(form), seen, 10)
    pairs = (form.users, np.repeat(np.arange(16), 10)), (form.items, got.item_index)
    with torch.no_grad():
        plain = TorchHead(form.head)(*(side_on(side, rows.ravel(), torch.device("cpu")) for side, rows in pairs))
    np.testing.assert_allclose(got.scores.ravel(), plain.numpy(), rtol=0, atol=2e-6)
