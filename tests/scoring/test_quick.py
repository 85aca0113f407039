"""A few users' lists without the engine: its very rows, and its scores to the bit."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN
from sdk.models.content.neighbours import NeighbourIndex
from sdk.models.pair_form import NO_MLP, PairForm, Side
from sdk.scoring.engine import Engine
from sdk.scoring.quick import fused_scores, quick_lists

NUM_USERS = 4
DRAWS = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "equal": lambda rng, shape: rng.integers(-1, 2, size=shape) / 2,
    "of any size": lambda rng, shape: rng.normal(size=shape) * 10.0 ** rng.integers(-30, 8, size=shape),
}


def form_of(rng, kind, num_items, rank):
    def drawn(*shape):
        return DRAWS[kind](rng, shape).astype(np.float32)

    users = Side.plain(drawn(NUM_USERS), drawn(NUM_USERS, rank))
    return PairForm(users, Side.plain(drawn(num_items), drawn(num_items, rank)), NO_MLP)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(DRAWS)),
    st.integers(0, 2**32 - 1),
    st.integers(1, 90),
    st.integers(0, 40),
    st.integers(1, 30),
)
def test_lists_are_the_engines_to_the_bit(kind, seed, num_items, rank, k):
    rng = np.random.default_rng(seed)
    rows = num_items + FIRST_KNOWN
    form, users = form_of(rng, kind, rows, rank), np.arange(NUM_USERS)
    seen = Seen.build(*np.nonzero(rng.random((NUM_USERS, rows)) < 0.2), NUM_USERS)
    allowed = None if seed % 2 else rng.random(rows) < 0.8
    expected, got = Engine(form, allowed).top_k(users, seen, k), quick_lists(form, users, seen, k, allowed)
    for name in ("row", "scores", "lengths"):
        theirs, ours = getattr(expected, name), getattr(got, name)
        assert (theirs.dtype, theirs.shape, theirs.tobytes()) == (ours.dtype, ours.shape, ours.tobytes()), name


@given(st.integers(0, 2**32 - 1))
def test_each_term_is_added_as_if_to_its_exact_product(seed):
    rng = np.random.default_rng(seed)
    form = form_of(rng, "of any size", 8, 12)
    expected = form.users.bias[:1] + form.items.bias
    for weight, column in zip(form.users.dot[0], form.items.dot.T, strict=True):
        exact = [
            Fraction(float(s)) + Fraction(float(weight)) * Fraction(float(x))
            for s, x in zip(expected, column, strict=True)
        ]
        expected = np.array([nearest(value) for value in exact], np.float32)
    got = fused_scores(form.users.take(slice(0, 1)), form.items)
    assert got.tobytes() == (expected + np.float32(0)).tobytes()


def nearest(value):
    """The float32 nearest to a fraction, of two the even one."""
    about = np.float32(float(value))
    near = [about, np.nextafter(about, np.float32(np.inf)), np.nextafter(about, np.float32(-np.inf))]
    return min(near, key=lambda one: (abs(Fraction(float(one)) - value), int(one.view(np.uint32)) & 1))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_what_may_overflow_is_left_to_the_engine(value):
    form = form_of(np.random.default_rng(1), "normal", 9, 3)
    form.items.dot[5] = value
    form.users.dot[:] = 1e9
    assert quick_lists(form, np.arange(2), Seen.nothing(2), 3, None) is None


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 25))
def test_a_few_look_alikes_are_those_of_the_compiled_loops(seed, num_rows, k):
    rng = np.random.default_rng(seed)
    drawn = rng.random((2, num_rows, 6)).astype(np.float32) * (rng.random((2, num_rows, 6)) < 0.5)
    found, asked = (scipy.sparse.csr_matrix(values.astype(np.float32)) for values in drawn)
    few, many = NeighbourIndex(found, asked=asked), NeighbourIndex(found, asked=asked)
    everything = many.nearest(np.tile(np.arange(num_rows), 17), k)
    for row in range(min(num_rows, 16)):
        one = few.nearest(np.array([row]), k)
        for name in ("row", "scores", "lengths"):
            assert getattr(one, name)[0].tobytes() == getattr(everything, name)[row].tobytes()
