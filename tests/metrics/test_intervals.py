"""Intervals over users against row copies, scikit-learn and the interval of a mean."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from sdk.metrics import intervals as resampling
from sdk.metrics.intervals import (
    auc_interval,
    draws,
    likelihood_intervals,
    mean_intervals,
    ratio_intervals,
    samples_for,
    weighted_auc,
)
from sdk.metrics.pointwise import auc, calibration, sigmoid

ROWS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 1), st.integers(-3, 3).map(lambda n: n / 2)), min_size=2, max_size=40
)


def rated(seed=0, num_users=30, num_rows=600):
    """(user, label, logit): users differ in how many rows they have and in how often they like."""
    rng = np.random.default_rng(seed)
    user = np.minimum(rng.geometric(0.1, num_rows), num_users) * 7  # ids with gaps
    logit = (rng.normal(size=num_rows) + np.sin(user)).round(1).astype(np.float32)
    return user, (rng.random(num_rows) < sigmoid(logit)).astype(np.int8), logit


def copies(user, weight):
    """Row numbers where every row stands as often as its user was drawn: the bootstrap as it is usually told."""
    number = np.unique(user, return_inverse=True)[1]
    return np.repeat(np.arange(len(user)), weight[number])


def test_a_draw_takes_as_many_users_as_there_are_and_repeats():
    first, again = (list(draws(9, 50, seed=3)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert {int(weight.sum()) for weight in first} == {9}
    assert np.mean(first) == 1
    assert any((one != other).any() for one, other in itertools.pairwise(first))


@given(ROWS, st.lists(st.integers(0, 3), min_size=5, max_size=5))
def test_a_weighted_auc_is_scikit_learns(rows, weights):
    user, label, score = (np.array(column) for column in zip(*rows, strict=True))
    weight = np.array(weights)
    got = weighted_auc(user, label == 1, score)(weight)
    kept = weight[user] > 0
    if len(set(label[kept].tolist())) < 2:
        assert math.isnan(got)
    else:
        assert got == pytest.approx(roc_auc_score(label, score, sample_weight=weight[user]), abs=1e-9)


def test_the_auc_of_all_weights_one_is_the_auc():
    user, label, logit = rated()
    number = np.unique(user, return_inverse=True)[1]
    assert weighted_auc(number, label == 1, logit)(np.ones(number.max() + 1, np.int64)) == auc(label, logit)


def test_the_intervals_are_those_of_copied_rows():
    user, label, logit = rated()
    bins = calibration(label, sigmoid(logit))
    number_of_users = len(np.unique(user))
    aucs, losses, errors = [], [], []
    for weight in draws(number_of_users, 60):
        rows = copies(user, weight)
        aucs.append(roc_auc_score(label[rows], logit[rows]))
        losses.append(sklearn_log_loss(label[rows], 1 / (1 + np.exp(-logit[rows].astype(np.float64)))))
        errors.append(slow_error(label[rows], sigmoid(logit[rows]), bins.edges))
    expected = [np.quantile(values, [0.025, 0.975]) for values in (aucs, losses, errors)]
    got = [auc_interval(user, label, logit, 60), *likelihood_intervals(user, label, logit, bins, 60)]
    np.testing.assert_allclose(got, expected, atol=2e-6)  # ends are rounded to six decimals


def slow_error(label, probability, edges):
    total = 0.0
    for b, (low, high) in enumerate(itertools.pairwise(edges)):
        last = b == len(edges) - 2
        inside = (probability >= low) & ((probability <= high) if last else (probability < high))
        if inside.any():
            total += inside.sum() * abs(label[inside].mean() - probability[inside].mean(dtype=np.float64))
    return total / len(label)


def test_rows_of_one_user_say_less_than_rows_of_many():
    rng = np.random.default_rng(5)
    user = np.repeat(np.arange(40), 50)
    like_rate = rng.beta(0.5, 0.5, 40)[user]  # users differ, their own rows agree
    label, score = (rng.random(2000) < like_rate).astype(np.int8), like_rate + rng.normal(0, 0.3, 2000)
    together, apart = auc_interval(user, label, score, 300), auc_interval(np.arange(2000), label, score, 300)
    assert together[1] - together[0] > 1.5 * (apart[1] - apart[0])


def test_the_interval_of_a_mean_is_the_one_drawn_user_by_user():
    values = np.random.default_rng(1).exponential(size=(80, 3))
    got = mean_intervals(values, 150, seed=4)
    for column, interval in zip(values.T, got, strict=True):
        rng = np.random.default_rng(4)
        means = [column[rng.integers(0, 80, 80)].mean() for _ in range(150)]
        assert interval == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=2e-6)


def test_the_interval_of_a_mean_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(7)
    inside = 0
    for trial in range(200):
        ((low, high),) = mean_intervals(rng.exponential(size=(80, 1)), 200, seed=trial)
        inside += low <= 1 <= high
    assert 0.87 <= inside / 200 <= 0.99  # binomial noise of 200 trials is 0.015


def test_the_interval_of_a_mean_has_the_width_theory_gives_and_repeats():
    values = np.random.default_rng(8).normal(size=(2000, 1))
    ((low, high),) = mean_intervals(values, seed=3)
    half_width = 1.96 * values.std() / math.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half_width, abs=0.15 * half_width)
    assert high == pytest.approx(values.mean() + half_width, abs=0.15 * half_width)
    assert mean_intervals(values, seed=3) == [(low, high)]
    assert mean_intervals(values, seed=4) != [(low, high)]


def test_users_with_several_values_are_drawn_with_all_of_them():
    user, values = np.array([0, 0, 0, 1, 2, 2]), np.array([1.0, 2.0, 4.0, 8.0, 0.5, 0.25])
    means = [np.repeat(values, weight[user]).mean() for weight in draws(3, 60, seed=2)]
    total, count = np.bincount(user, values)[:, None], np.bincount(user)[:, None]
    (got,) = ratio_intervals(total, count, 60, seed=2)
    assert got == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=2e-6)


def test_users_with_nothing_to_measure_are_left_out_of_a_mean(monkeypatch):
    monkeypatch.setattr(resampling, "_DRAWS_AT_ONCE", 7)
    values = np.array([[1.0, np.nan, np.nan], [1.0, 4.0, np.nan], [1.0, np.nan, np.nan]])
    assert mean_intervals(values, 20)[:2] == [(1, 1), (4, 4)]
    assert all(math.isnan(end) for end in mean_intervals(values, 20)[2])


def test_more_rows_get_fewer_resamplings_within_bounds():
    assert samples_for(20_000) == samples_for(200_000) == 1000
    assert samples_for(500_000) == 400
    assert samples_for(5_000_000) == samples_for(10**9) == 100
    assert samples_for(5_000_000, 10) == samples_for(1, 10) == 10
