"""The compiled engine against the pair form written out, and against itself to the last bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pair_forms import WIDE, WIDTHS, all_scores, check, random_form, random_seen

from sdk.base.errors import ScoreError, UsageError
from sdk.base.types import BestRows
from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN
from sdk.models.pair_form import PairForm, Side
from sdk.scoring import engine as engine_module
from sdk.scoring.engine import Engine
from sdk.scoring.kernels import LANES
from sdk.scoring.selection import buffer_size, buffers, clean, finish_all, keep_largest, key_of, row_of, score_of


@settings(max_examples=150, deadline=None)
@given(WIDTHS, st.booleans(), st.integers(1, 40), st.integers(FIRST_KNOWN, 150), st.integers(1, 60), st.integers(0, 99))
def test_lists_are_the_best_of_all_pairs_for_every_shape(widths, mlp, num_users, num_items, k, seed):
    form = random_form(num_users, num_items, widths, mlp=mlp, seed=seed)
    seen = random_seen(num_users, num_items, (seed % 10) / 9, seed)
    check(Engine(form).top_k(np.arange(num_users), seen, k), all_scores(form), seen, k)


@settings(max_examples=80, deadline=None)
@given(WIDTHS, st.booleans(), st.integers(1, 300), st.integers(0, 99))
def test_ties_go_to_the_smaller_row_exactly(widths, mlp, k, seed):
    form = random_form(9, 250, widths, mlp=mlp, seed=seed, grid=True)  # sums of halves and quarters: no rounding
    seen = random_seen(9, 250, 0.2, seed)
    check(Engine(form).top_k(np.arange(9), seen, k), all_scores(form), seen, k, exact=True)


def test_equal_scores_everywhere_list_the_first_unseen_rows():
    form = random_form(3, 5000, (4, 1, 0, 0, 1, []), mlp=False)
    parts = (form.items.bias, form.items.dot, form.items.hidden, form.items.fields)
    flat = PairForm(form.users, Side(*(np.zeros_like(part) for part in parts)), form.head)
    seen = Seen.build(np.array([1, 1]), np.array([3, 5]), 3)
    got = Engine(flat).top_k(np.arange(3), seen, 100)
    assert got.item_index[0].tolist() == list(range(3, 103))
    assert got.item_index[1].tolist() == [4, *range(6, 105)]


@pytest.mark.parametrize("mlp", [False, True])
def test_threads_tiles_order_and_company_never_change_a_bit(mlp, monkeypatch):
    widths = (17, 23, 2, 3, 7, [9])
    form = random_form(203, 1007, widths, mlp=mlp, seed=3)
    seen = random_seen(203, 1007, 0.05)
    users = np.arange(203)
    want = Engine(form, threads=1).top_k(users, seen, 20)

    def same(got, rows):
        for name in ("item_index", "scores", "lengths"):
            np.testing.assert_array_equal(getattr(got, name), getattr(want, name)[rows])

    same(Engine(form, threads=3).top_k(users, seen, 20), users)
    same(Engine(form, prune=False).top_k(users, seen, 20), users)
    for memory_mib in (0.001, 0.2, 1000):
        same(Engine(form, memory_mib=memory_mib).top_k(users, seen, 20), users)
    shuffled = np.random.default_rng(1).permutation(203)
    same(Engine(form).top_k(shuffled, seen.take(shuffled), 20), shuffled)
    for user in (0, 7, 202):
        alone = np.array([user])
        same(Engine(form).top_k(alone, seen.take(alone), 20), alone)
    for tile in (1, 5, 64, 203):
        monkeypatch.setattr(engine_module, "_USERS_PER_TILE", tile)
        same(Engine(form).top_k(users, seen, 20), users)


def test_other_candidates_never_change_a_score_bit():
    form = random_form(11, 400, (8, 9, 2, 2, 5, [6]), seed=4)
    seen = Seen.nothing(11)
    everything = Engine(form).top_k(np.arange(11), seen, 400)
    allowed = np.random.default_rng(2).random(400) < 0.3
    some = Engine(form, allowed).top_k(np.arange(11), seen, 400)
    check(some, all_scores(form), seen, 400, allowed)
    for b in range(11):
        whole = dict(zip(everything.item_index[b].tolist(), everything.scores[b].tolist(), strict=True))
        n = some.lengths[b]
        assert some.scores[b, :n].tolist() == [whole[i] for i in some.item_index[b, :n].tolist()]


def trained_like(num_users, num_items, dim=16, seed=0):
    """Factors with the skew of trained ones: a few items of large norm and bias."""
    form = random_form(num_users, num_items, (dim, 1, 0, 0, 1, []), mlp=False, seed=seed)
    skew = (np.arange(1, num_items + 1, dtype=np.float32) ** -0.7)[np.random.default_rng(seed).permutation(num_items)]
    items = Side(form.items.bias * skew, form.items.dot * skew[:, None], form.items.hidden, form.items.fields)
    return PairForm(form.users, items, form.head)


def test_pruning_skips_most_items_and_changes_nothing(monkeypatch):
    form = trained_like(64, 20_000)
    seen = random_seen(64, 20_000, 0.01)
    computed = []
    original = engine_module.dot_tile
    monkeypatch.setattr(engine_module, "dot_tile", lambda *args: computed.append(original(*args)))
    pruned = Engine(form, threads=1).top_k(np.arange(64), seen, 50)
    whole = Engine(form, threads=1, prune=False).top_k(np.arange(64), seen, 50)
    for name in ("item_index", "scores", "lengths"):
        np.testing.assert_array_equal(getattr(pruned, name), getattr(whole, name))
    assert computed[1] == 64 * -(-(20_000 - FIRST_KNOWN) // LANES)
    assert computed[0] < computed[1] / 4


@pytest.mark.parametrize("mlp", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_audience_is_the_transpose(mlp, threads):
    form = random_form(150, 90, (6, 7, 2, 2, 4, [5]), mlp=mlp, seed=8)
    seen = random_seen(150, 90, 0.3)
    lists, audience = Engine(form, threads=threads).top_k_and_audience(np.arange(150), seen, 12)
    scores = all_scores(form)
    check(lists, scores, seen, 12)
    for row, item in enumerate(range(FIRST_KNOWN, 90)):
        column = scores[:, item].astype(np.float64)
        column[[u for u in range(150) if item in seen.row(u)]] = -np.inf
        best = np.lexsort((np.arange(150), -column))[:12]
        n = audience.lengths[row]
        assert n == (column > -np.inf)[best].sum()
        np.testing.assert_allclose(audience.scores[row, :n], column[best][:n], rtol=1e-5, atol=1e-5)


def test_nobody_and_nothing():
    form = random_form(4, 20, (3, 1, 0, 0, 1, []), mlp=False)
    assert Engine(form).top_k(np.zeros(0, np.int64), Seen.nothing(0), 5).item_index.shape == (0, 5)
    got = Engine(form, np.zeros(20, np.bool_)).top_k(np.arange(4), Seen.nothing(4), 5)
    assert got.lengths.tolist() == [0] * 4
    with pytest.raises(UsageError, match="k: got 0"):
        Engine(form).top_k(np.arange(4), Seen.nothing(4), 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_number_in_a_model_names_its_row(bad):
    form = random_form(4, 20, (3, 1, 0, 0, 1, []), mlp=False)
    form.items.dot[7, 1] = bad
    with pytest.raises(ScoreError, match="item row 7"):
        Engine(form)


def test_weights_that_overflow_are_an_error_that_names_the_user():
    form = random_form(4, 20, (3, 1, 0, 0, 1, []), mlp=False)
    form.users.dot[2] = 3e38
    form.items.dot[:] = 3e38
    with pytest.raises(ScoreError, match="user row"):
        Engine(form).top_k(np.array([2]), Seen.nothing(1), 5)


def test_huge_but_finite_scores_are_ranked():
    form = random_form(4, 20, (1, 1, 0, 0, 1, []), mlp=False)
    form.users.dot[:], form.items.dot[:] = 1e19, np.arange(20, dtype=np.float32)[:, None] * 1e17
    got = Engine(form).top_k(np.arange(4), Seen.nothing(4), 5)
    assert got.item_index[0].tolist() == [19, 18, 17, 16, 15]


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(0, 2**32 - 2))
def test_a_key_holds_its_score_and_row(score, row):
    key = np.uint64(key_of(np.float32(score), row))
    assert row_of(key) == row
    assert score_of(key) == np.float32(score)


@given(
    st.lists(
        st.tuples(st.floats(-2, 2, width=16), st.integers(0, 50)), min_size=1, max_size=60, unique_by=lambda t: t[1]
    ),
    st.integers(1, 60),
)
def test_the_best_keys_are_kept_in_order(pairs, k):
    keys = np.array([key_of(np.float32(score), row) for score, row in pairs], dtype=np.uint64)
    k = min(k, len(keys))
    kept = keys.copy()
    keep_largest(kept, len(kept), k)
    assert sorted(kept[:k].tolist()) == sorted(keys.tolist())[-k:]
    expected = sorted(pairs, key=lambda t: (-np.float32(t[0]), t[1]))[:k]
    scores, rows, counts, thresholds, scratch = buffers(1, k, len(pairs))
    scores[0, : len(pairs)] = [score for score, _ in pairs]
    rows[0, : len(pairs)] = [row for _, row in pairs]
    counts[0] = len(pairs)
    best = BestRows.empty(1, k)
    finish_all(k, scores, rows, counts, scratch, best.row, best.scores, best.lengths, 0)
    assert best.row.tolist() == [[row for _, row in expected]]
    assert best.lengths.tolist() == [k]
    clean(0, k, scores, rows, counts, thresholds, scratch)
    assert sorted(rows[0, : counts[0]].tolist()) == sorted(row for _, row in expected)
    assert len(pairs) == k or thresholds[0] == np.float32(expected[-1][0])


def test_a_buffer_has_room_for_k_and_one_more_strip():
    for k in (1, 2, 100, 5000):
        for candidates in (0, 1, 50, 100_000):
            assert buffer_size(k, candidates) >= k + LANES


OLDER_MACHINE = """
import sys
import llvmlite.binding as llvm
features = llvm.get_host_cpu_features()
llvm.get_host_cpu_features = lambda: {name: has and "avx512" not in name for name, has in features.items()}
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from sdk.scoring import kernels
from sdk.scoring.engine import Engine
from pair_forms import random_form, random_seen
assert kernels.LANES == 16
for mlp in (False, True):
    form = random_form(70, 900, (17, 23, 2, 3, 7, [9]), mlp=mlp, seed=3)
    got = Engine(form).top_k(np.arange(70), random_seen(70, 900, 0.05), 20)
    np.savez(f"{sys.argv[1]}/{mlp}.npz", rows=got.item_index, scores=got.scores)
"""


def test_a_machine_without_avx512_gives_the_same_bits(tmp_path):
    root = Path(__file__).resolve().parents[2]
    env = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root}/tests/helpers", "NUMBA_CACHE_DIR": str(tmp_path),
           "NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+sse4.2,+avx,+avx2,+fma,+bmi,+popcnt"}  # fmt: skip
    subprocess.run([sys.executable, "-c", OLDER_MACHINE, str(tmp_path)], env=env, check=True, timeout=300)
    for mlp in (False, True):
        form = random_form(70, 900, (17, 23, 2, 3, 7, [9]), mlp=mlp, seed=3)
        here_too = Engine(form).top_k(np.arange(70), random_seen(70, 900, 0.05), 20)
        there = np.load(tmp_path / f"{mlp}.npz")
        np.testing.assert_array_equal(there["rows"], here_too.item_index)
        np.testing.assert_array_equal(there["scores"], here_too.scores)


STRICT_MEMORY = """
import sys
import numpy as np
from sdk.scoring.engine import Engine
from pair_forms import WIDE, random_form, random_seen
got = Engine(random_form(9, 40, WIDE[sys.argv[1]], seed=3), threads=1).top_k(np.arange(9), random_seen(9, 40, 0.05), 20)
np.savez(sys.argv[2], rows=got.item_index, scores=got.scores)
"""


@pytest.mark.parametrize("part", WIDE)
def test_no_memory_is_used_after_it_was_freed(tmp_path, part):
    """Work arrays so large that freeing them gives their pages back to the system: touching them then is a crash."""
    root, file = Path(__file__).resolve().parents[2], tmp_path / "lists.npz"
    env = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root}/tests/helpers", "MALLOC_MMAP_THRESHOLD_": "131072"}
    subprocess.run([sys.executable, "-c", STRICT_MEMORY, part, str(file)], env=env, check=True, timeout=300)
    expected = Engine(random_form(9, 40, WIDE[part], seed=3)).top_k(np.arange(9), random_seen(9, 40, 0.05), 20)
    got = np.load(file)
    np.testing.assert_array_equal(got["rows"], expected.item_index)
    np.testing.assert_array_equal(got["scores"], expected.scores)
