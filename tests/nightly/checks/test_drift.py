"""Figures that compare lists, against slow obvious versions, SciPy and the SDK's own metrics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import entropy

from batch.checks.drift import (
    NOT_LISTED,
    SCORE_BINS,
    gini,
    jaccard,
    one_order,
    population_stability,
    sameness,
    score_histogram,
    tops,
)
from sdk.features.seen import Seen
from sdk.metrics import lists as list_metrics

FLOATS = st.floats(width=32, allow_nan=False)


@given(arrays(np.float32, st.integers(0, 20), elements=FLOATS))
def test_histogram_bins_ascend_as_scores_do(scores):
    bins = [int(np.flatnonzero(score_histogram(np.array([score])))[0]) for score in np.sort(scores)]
    assert bins == sorted(bins)
    expected = np.bincount(np.array(bins, dtype=np.int64), minlength=SCORE_BINS)
    np.testing.assert_array_equal(score_histogram(scores), expected)


def test_a_bin_is_narrow_at_any_scale():
    for value in (1e-20, 0.5, 3.0, 1e20):
        near, far = np.float32([value, value * 1.0005]), np.float32([value, value * 1.02])
        assert len(np.flatnonzero(score_histogram(far))) == 2
        assert len(np.flatnonzero(score_histogram(near))) <= 2


@pytest.mark.parametrize("seed", range(8))
def test_one_order_for_all_is_as_alike_as_its_lists(seed):
    rng = np.random.default_rng(seed)
    num_lists, num_titles, depth = int(rng.integers(2, 40)), int(rng.integers(12, 60)), int(rng.integers(1, 11))
    barred = rng.random((num_lists, num_titles)) < rng.random((num_lists, 1)) * 0.5
    listed_in = rng.permutation(num_titles)
    order = np.argsort(-listed_in)
    listed = np.zeros((num_lists, num_titles), np.bool_)
    for each in range(num_lists):
        listed[each, [item for item in order if not barred[each, item]][:depth]] = True
    expected = sameness(listed.sum(axis=0), (~barred).sum(axis=0))
    assert one_order(listed_in, Seen.build(*np.nonzero(barred), num_lists), depth) == pytest.approx(expected)


@pytest.mark.parametrize("shift", [0.0, 0.1, 1.0, 5.0])
def test_stability_index_is_the_sum_of_both_divergences(shift):
    """PSI is Jeffreys' divergence: KL(p, q) + KL(q, p), over the previous night's deciles."""
    rng = np.random.default_rng(3)
    before, after = rng.normal(size=200_000).astype(np.float32), rng.normal(shift, size=50_000).astype(np.float32)
    got = population_stability(score_histogram(before), score_histogram(after))
    edges = np.quantile(before, np.arange(1, 10) / 10)
    q, p = (np.bincount(np.searchsorted(edges, x), minlength=10) / len(x) for x in (before, after))
    p, q = np.maximum(p, 1e-4), np.maximum(q, 1e-4)
    expected = float((p * np.log(p / q)).sum() + (q * np.log(q / p)).sum())
    assert got == pytest.approx(expected, rel=0.05, abs=1e-3)  # a bin is up to 1/128 wide
    if shift < 1:  # entropy() of SciPy makes shares of what it is given
        assert got == pytest.approx(entropy(p, q) + entropy(q, p), rel=0.05, abs=1e-3)


def test_stability_index_of_special_cases():
    nothing, one = np.zeros(SCORE_BINS, dtype=np.int64), score_histogram(np.full(9, 2.5, np.float32))
    spread = score_histogram(np.linspace(-3, 3, 1000, dtype=np.float32))
    assert population_stability(nothing, spread) is None
    assert population_stability(spread, nothing) is None
    assert population_stability(spread, spread * 3) == pytest.approx(0)
    assert population_stability(spread, one) > 5
    assert population_stability(spread, score_histogram(np.linspace(-30, 30, 1000, dtype=np.float32))) > 1
    assert population_stability(one, one) == pytest.approx(0)
    assert population_stability(one, score_histogram(np.full(9, 7.0, np.float32))) > 5


TOPS = arrays(np.int32, st.tuples(st.integers(1, 8), st.just(4)), elements=st.integers(0, 6))


def without_repeats(rows):
    out = np.full(rows.shape, NOT_LISTED, dtype=np.int32)
    for n, row in enumerate(rows):
        unique = list(dict.fromkeys(row.tolist()))
        out[n, : len(unique)] = unique
    return out


@given(TOPS, st.randoms(use_true_random=False))
def test_jaccard_is_the_one_of_sets(rows, random):
    left = without_repeats(rows)
    right = without_repeats(np.array([random.sample(range(7), 4) for _ in rows], dtype=np.int32))
    left[0] = NOT_LISTED
    sets = [
        tuple({x for x in row.tolist() if x != NOT_LISTED} for row in pair) for pair in zip(left, right, strict=True)
    ]
    np.testing.assert_allclose(jaccard(left, right), [len(a & b) / len(a | b) if a | b else 1.0 for a, b in sets])
    np.testing.assert_array_equal(jaccard(left, left), 1.0)


@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(3, 9))
def test_sameness_is_the_mean_over_places_and_other_lists(seed, num_lists, num_titles):
    rng = np.random.default_rng(seed)
    barred = rng.random((num_lists, num_titles)) < 0.3
    listed = (rng.random((num_lists, num_titles)) < 0.5) & ~barred
    got = sameness(listed.sum(axis=0), (~barred).sum(axis=0))
    shares = []
    for one in range(num_lists):
        for title in np.flatnonzero(listed[one]):
            others = [o for o in range(num_lists) if o != one and not barred[o, title]]
            if others:
                shares.append(np.mean([listed[o, title] for o in others]))
    assert got == (pytest.approx(np.mean(shares)) if shares else None)


def test_one_list_for_all_is_fully_the_same_though_each_has_rated_other_titles():
    listed = np.array([5, 5, 3, 2, 0])
    assert sameness(listed, listed) == 1.0
    assert sameness(np.ones(50, dtype=np.int64), np.full(50, 50)) == 0.0


@given(arrays(np.int64, st.integers(2, 12), elements=st.integers(0, 9)))
def test_gini_is_the_one_of_the_list_metrics(counts):
    lists = [[title] for title, count in enumerate(counts.tolist()) for _ in range(count)]
    if lists:
        assert gini(counts) == pytest.approx(list_metrics.gini(np.array(lists), np.arange(len(counts))), abs=1e-12)
    else:
        assert gini(counts) is None


def test_tops_follow_the_ranks():
    got = tops(np.array([0, 0, 0, 1]), np.array([2, 1, 9, 1], np.int32), np.array([7, 4, 5, 6]), 3, 2)
    assert got.tolist() == [[4, 7], [6, NOT_LISTED], [NOT_LISTED, NOT_LISTED]]
