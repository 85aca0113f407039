"""Baselines against hand-made sums, planted tastes and MovieLens latest-small."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdk.base.errors import ScoreError
from sdk.measure import baselines
from sdk.measure.baselines import BiasedMF, MeansBaseline, popularity_scores
from sdk.metrics.pointwise import auc, calibration, log_loss

ROOT = Path(__file__).resolve().parents[2]
MODELS = (MeansBaseline, BiasedMF)


def logit(share):
    return math.log(share / (1 - share))


def probability(scores):
    return 1 / (1 + np.exp(-scores.astype(np.float64)))


@pytest.fixture(scope="module")
def planted():
    """Users of two tastes and items of two kinds, beside generous users and good items; 20% kept for the test."""
    rng = np.random.default_rng(0)
    num_users, num_items = 300, 80
    user, item = (grid.ravel() for grid in np.meshgrid(np.arange(num_users), np.arange(num_items), indexing="ij"))
    taste, kind = rng.choice([-1, 1], num_users), rng.choice([-1, 1], num_items)
    score = 1.5 * taste[user] * kind[item] + rng.normal(size=num_users)[user] + rng.normal(size=num_items)[item]
    labels = rng.random(len(user)) < probability(score)
    rows = rng.permutation(len(user))[:8000]
    return (user, item, labels, num_users, num_items), rows[1600:], rows[:1600], score


def fitted(model, planted, seed=0):
    (user, item, labels, num_users, num_items), train, _, _ = planted
    return model.fit(user[train], item[train], labels[train], num_users, num_items, seed)


def test_matrix_factorisation_finds_planted_tastes_that_means_cannot(planted):
    (user, item, labels, *_), _, test, truth = planted
    values = {kind: auc(labels[test], fitted(kind(), planted).predict(user[test], item[test])) for kind in MODELS}
    best = auc(labels[test], truth[test])
    assert values[MeansBaseline] > 0.70
    assert values[BiasedMF] > values[MeansBaseline] + 0.05
    assert values[BiasedMF] > best - 0.08  # 20 rows per user cannot reach the truth itself


@pytest.mark.parametrize("kind", MODELS)
def test_scores_are_calibrated_logits(kind, planted):
    (user, item, labels, *_), train, test, _ = planted
    scores = fitted(kind(), planted).predict(user[test], item[test])
    share = labels[train].mean()
    assert log_loss(labels[test], scores) < log_loss(labels[test], np.full(len(test), logit(share)))
    assert calibration(labels[test], probability(scores), 5).expected_error < 0.06


@pytest.mark.parametrize("kind", MODELS)
def test_one_seed_gives_one_answer(kind, planted):
    (user, item, *_), _, test, _ = planted
    first, again = (fitted(kind(), planted, seed=5).predict(user[test], item[test]) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.dtype == np.float32


def test_another_seed_gives_other_factors_of_the_same_quality(planted):
    (user, item, labels, *_), _, test, _ = planted
    one, other = (fitted(BiasedMF(), planted, seed=seed).predict(user[test], item[test]) for seed in (1, 2))
    assert not np.array_equal(one, other)
    assert auc(labels[test], one) == pytest.approx(auc(labels[test], other), abs=0.02)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_a_pair_of_strangers_gets_the_mean_and_a_half_known_pair_only_the_known_half(kind, dtype):
    user, item = np.array([0, 0, 1, 1], dtype), np.array([0, 1, 0, 1], dtype)
    labels = np.array([1, 1, 1, 0])
    model = kind().fit(user, item, labels, 3, 3, seed=0)
    stranger, known_user, known_item, both = model.predict(np.array([2, 0, 2, 0]), np.array([2, 2, 0, 0]))
    assert stranger == pytest.approx(logit(3 / 4), abs=1e-6)
    assert known_user > stranger  # user 0 liked both
    assert known_item > stranger
    assert both > max(known_user, known_item)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.booleans()), min_size=2, max_size=30))
def test_means_are_damped_shares_on_the_logit_scale(rows):
    rows = [(0, 0, True), (1, 1, False), *rows]
    user, item, labels = (np.array(column) for column in zip(*rows, strict=True))
    model = MeansBaseline(user_damping=3, item_damping=7).fit(user, item, labels, 4, 5)
    share = labels.mean()
    for u, i in ((0, 0), (1, 4), (3, 2)):
        of_user = [liked for a, _, liked in rows if a == u]
        of_item = [liked for _, b, liked in rows if b == i]
        user_part = logit((sum(of_user) + 3 * share) / (len(of_user) + 3))
        item_part = logit((sum(of_item) + 7 * share) / (len(of_item) + 7))
        expected = user_part + item_part - logit(share)
        assert model.predict(np.array([u]), np.array([i]))[0] == pytest.approx(expected, abs=1e-5)


def test_row_order_does_not_matter_to_means(planted):
    (user, item, labels, num_users, num_items), train, test, _ = planted
    backwards = MeansBaseline().fit(user[train[::-1]], item[train[::-1]], labels[train[::-1]], num_users, num_items)
    forwards = fitted(MeansBaseline(), planted)
    np.testing.assert_array_equal(
        backwards.predict(user[test], item[test]), forwards.predict(user[test], item[test])
    )  # fmt: skip


def one_step(rng, rate, l2):
    """State before, and the state after one compiled step on row (user 1, item 0, label 1)."""
    before = [rng.normal(size=2), rng.normal(size=2), rng.normal(size=(2, 3)), rng.normal(size=(2, 3))]
    after = [values.copy() for values in before]
    row = (np.array([1]), np.array([0]), np.array([1.0]), np.array([0]))
    baselines.compiled_epoch()(*row, 0.3, *after, rate, *l2)
    return before, after


def test_a_step_follows_the_gradient_of_the_penalised_loss():
    rate, l2, h = 1e-3, (0.2, 0.7), 1e-6
    before, after = one_step(np.random.default_rng(1), rate, l2)

    def loss(state):
        user_bias, item_bias, p, q = state
        z = 0.3 + user_bias[1] + item_bias[0] + p[1] @ q[0]
        penalty = l2[0] * (user_bias[1] ** 2 + item_bias[0] ** 2) + l2[1] * (p[1] @ p[1] + q[0] @ q[0])
        return math.log1p(math.exp(-z)) + penalty / 2

    for part in range(4):
        for place in np.ndindex(before[part].shape):
            up, down = ([values.copy() for values in before] for _ in range(2))
            up[part][place] += h
            down[part][place] -= h
            slope = (loss(up) - loss(down)) / (2 * h)
            step = (after[part][place] - before[part][place]) / rate
            assert step == pytest.approx(-slope, abs=1e-7), f"part {part}, place {place}"


def test_thecompiled_epoch_does_what_its_python_source_says():
    rng = np.random.default_rng(2)
    user, item, likes = rng.integers(0, 5, 60), rng.integers(0, 6, 60), rng.integers(0, 2, 60).astype(np.float64)
    start = [rng.normal(size=5), rng.normal(size=6), rng.normal(size=(5, 4)), rng.normal(size=(6, 4))]
    results = []
    for epoch in (baselines.sgd_epoch, baselines.compiled_epoch()):
        state = [values.copy() for values in start]
        epoch(user, item, likes, np.arange(60), 0.1, *state, 0.05, 0.02, 0.04)
        results.append(state)
    for python, compiled in zip(*results, strict=True):
        np.testing.assert_allclose(compiled, python, rtol=1e-10)


def test_prediction_in_parts_equals_prediction_at_once(planted, monkeypatch):
    (user, item, *_), _, test, _ = planted
    model = fitted(BiasedMF(num_epochs=2), planted)
    whole = model.predict(user[test], item[test])
    monkeypatch.setattr(baselines, "_ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(model.predict(user[test], item[test]), whole, rtol=0, atol=1e-6)


def test_divergence_is_an_error_that_says_what_to_lower(planted):
    with np.errstate(all="ignore"), pytest.raises(ScoreError, match=r"not finite after epoch \d+.*Lower learning_rate"):
        fitted(BiasedMF(learning_rate=1e4, vector_l2=1.0), planted)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=40))
def test_popularity_ranks_by_likes_alone(rows):
    item = np.array([i for i, _ in rows], np.int64)
    labels = np.array([liked for _, liked in rows], bool)
    got = popularity_scores(item, labels, 6)
    likes = [sum(liked for i, liked in rows if i == wanted) for wanted in range(6)]
    np.testing.assert_allclose(got, np.log(np.array(likes) + 1), rtol=1e-6)
    assert got.dtype == np.float32


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize(
    ("user", "item", "labels", "cause"),
    [
        ([0, 2], [0, 1], [0, 1], "user_index runs from 0 to 2, expected 0 to 1"),
        ([0, 1], [-1, 1], [0, 1], "item_index runs from -1 to 1, expected 0 to 1"),
        ([0, 1, 1], [0, 1], [0, 1], r"user_index is \(3,\), expected \(2,\)"),
        ([0, 1], [0, 1], [0, 3.5], "label 3.5 in row 1"),
        ([0, 1], [0, 1], [1, 1], "2 of 2 labels are 1"),
        ([], [], [], "0 of 0 labels are 1"),
    ],
)
def test_unusable_rows_are_refused_with_their_place(kind, user, item, labels, cause):
    with pytest.raises(ValueError, match=cause):
        kind().fit(np.array(user, np.int64), np.array(item, np.int64), np.array(labels), 2, 2)


@pytest.mark.parametrize("kind", MODELS)
def test_prediction_refuses_an_index_it_never_knew(kind):
    model = kind().fit(np.array([0, 1]), np.array([0, 1]), np.array([0, 1]), 2, 2)
    with pytest.raises(ValueError, match="item_index runs from -1 to -1"):
        model.predict(np.array([0]), np.array([-1]))
    with pytest.raises(ValueError, match="expected"):
        model.predict(np.array([0, 1]), np.array([0]))
    assert model.predict(np.array([], np.int64), np.array([], np.int64)).shape == (0,)


def movielens_small(path):
    with path.open(newline="", encoding="utf-8") as lines:
        table = np.array([[float(value) for value in row[:3]] for row in list(csv.reader(lines))[1:]])
    user, item = (np.unique(table[:, column], return_inverse=True)[1] for column in (0, 1))
    return user, item, table[:, 2] > 3


@pytest.mark.real_data
def test_quality_on_movielens_latest_small(real_data):
    user, item, labels = movielens_small(real_data("ml-latest-small", "ratings.csv"))
    order = np.random.default_rng(42).permutation(len(user))
    test, train = order[: len(order) // 5], order[len(order) // 5 :]
    shape = int(user.max()) + 1, int(item.max()) + 1
    values = {
        kind: auc(
            labels[test],
            kind().fit(user[train], item[train], labels[train], *shape, seed=0).predict(user[test], item[test]),
        )
        for kind in MODELS
    }
    popular = auc(labels[test], popularity_scores(item[train], labels[train], shape[1])[item[test]])
    assert values[MeansBaseline] == pytest.approx(0.7901, abs=0.001)
    assert values[BiasedMF] > 0.800
    assert 0.60 < popular < values[MeansBaseline]
