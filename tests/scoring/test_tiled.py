"""Items in tiles of any size give the lists of the engine that lays all of them out, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pair_forms import WIDTHS, random_form, random_seen

from sdk.base.errors import ScoreError, UsageError
from sdk.base.stored_arrays import write_arrays
from sdk.features.seen import Seen
from sdk.models.form_files import form_arrays, read_form
from sdk.models.pair_form import PairForm
from sdk.scoring.engine import Engine
from sdk.scoring.tiled import TiledEngine

USERS = np.arange(9)


def assert_same(one, other):
    np.testing.assert_array_equal(one.lengths, other.lengths)
    np.testing.assert_array_equal(one.row, other.row)
    np.testing.assert_array_equal(one.scores, other.scores)


@settings(max_examples=40)
@given(WIDTHS, st.booleans(), st.booleans(), st.integers(1, 60), st.integers(1, 40), st.integers(0, 9), st.booleans())
def test_tiles_give_the_engines_lists_to_the_bit(widths, mlp, grid, size, k, seed, narrowed):
    """On a grid many scores are equal, so the order of ties counts."""
    rng = np.random.default_rng(seed)
    form = random_form(len(USERS), 50, widths, mlp=mlp, seed=seed, grid=grid)
    seen = random_seen(len(USERS), 50, 0.3, seed)
    allowed = rng.random(50) < 0.5 if narrowed else None
    tiled, whole = TiledEngine(form, allowed, items_per_tile=size, threads=1), Engine(form, allowed, threads=1)
    assert tiled.candidates.tolist() == whole.candidates.tolist()
    assert_same(tiled.top_k(USERS, seen, k), whole.top_k(USERS, seen, k))


def test_other_users_have_their_own_lists():
    form = random_form(20, 50, (4, 4, 2, 2, 3, [3]), seed=1)
    some = PairForm(form.users.take(np.arange(8, 17)), form.items, form.head)
    for engine in (TiledEngine(form, items_per_tile=7), Engine(form)):
        moved = engine.for_users(some).top_k(USERS, Seen.nothing(9), 5)
        assert_same(moved, Engine(form).top_k(8 + USERS, Seen.nothing(9), 5))


def test_a_mapped_form_is_read_in_tiles(tmp_path):
    form = random_form(9, 50, (4, 4, 2, 2, 3, [3]), seed=2)
    write_arrays(tmp_path / "lists.npz", form_arrays(form))
    mapped = read_form(tmp_path / "lists.npz", 9, 50)
    assert not mapped.items.dot.flags.writeable
    expected = Engine(form).top_k(USERS, Seen.nothing(9), 5)
    for _ in range(2):
        assert_same(TiledEngine(mapped, items_per_tile=6).top_k(USERS, Seen.nothing(9), 5), expected)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_item_that_is_no_number_is_named_by_its_row(value):
    form = random_form(9, 50, (4, 4, 2, 2, 3, [3]), seed=3)
    form.items.dot[33, 1] = value
    with pytest.raises(ScoreError, match="item row 33"):
        TiledEngine(form, items_per_tile=10).top_k(USERS, Seen.nothing(9), 5)


def test_a_list_of_nothing_is_refused():
    with pytest.raises(UsageError, match="k: got 0"):
        TiledEngine(random_form(9, 50, (4, 4, 2, 2, 3, []), seed=3), items_per_tile=10).top_k(USERS, Seen.nothing(9), 0)
