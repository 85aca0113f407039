"""The choice of a penalty against the model itself refitted, and the large matrices' algebra against NumPy."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.sparse import random as random_sparse

from sdk.base.config import HistoryConfig
from sdk.base.errors import ScoreError
from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN
from sdk.metrics.lists import RelevanceSets, ndcg, user_mean
from sdk.models.history import choice as history_choice
from sdk.models.history.choice import AXES, FALLBACK, ChoiceRatings, choose, climb, vertex
from sdk.models.history.fit import fit_regression, prepared
from sdk.models.history.gram import gram, inverse
from sdk.models.history.model import HistoryModel
from sdk.scoring.engine import Engine

WHOLE = HistoryConfig(rank=40)
"""Nothing cut: the lists of the model are those that the choice measures."""


def choice_of(user, item, stars, given, config):
    return choose(ChoiceRatings.of((user, item, stars), given, config))[1]


def tastes(seed=0, num_users=150, num_items=40):
    """(user rows, item rows, stars): users watch one of four kinds three times as often."""
    rng = np.random.default_rng(seed)
    same = np.arange(num_users)[:, None] % 4 == np.arange(num_items) % 4
    user, item = np.nonzero(rng.random((num_users, num_items)) < 0.15 * np.where(same, 3.0, 1.0))
    stars = np.where(same[user, item], 4.5, 3.5) + rng.choice([-0.5, 0.0, 0.5], len(user))
    return user + FIRST_KNOWN, item + FIRST_KNOWN, stars.astype(np.float32)


def features(num_items=40, width=3):
    return np.random.default_rng(9).normal(size=(num_items + FIRST_KNOWN, width)).astype(np.float32) / 4


def refitted(columns, given, config, num_users=150, num_items=40):
    """NDCG@10 of the model learnt without the first draw's likes, by the engine."""
    user, item, stars = (column[np.lexsort((columns[1], columns[0]))] for column in columns)
    held = (stars >= 4) & (np.random.default_rng((config.seed, 0)).random(len(user)) < 0.2)
    rest = (user[~held], item[~held], stars[~held])
    shape = (num_users + FIRST_KNOWN, num_items + FIRST_KNOWN)
    model = HistoryModel.fit(*rest, *shape, given, config)
    measured = np.intersect1d(user[held], user[~held])
    rated = np.isin(np.arange(shape[1]), item)
    engine = Engine(model.to_pair_form(*rest, shape[0]), rated)
    found = engine.top_k(measured, Seen.build(*rest[:2], shape[0]).take(measured), 10)
    relevant = RelevanceSets(np.searchsorted(measured, user[held]), item[held], len(measured))
    return user_mean(ndcg(found.item_index, relevant, 10, lengths=found.lengths))


@pytest.mark.parametrize("num_users", [35, 150])  # both forms of the algebra
def test_what_is_measured_is_the_model_refitted_without_the_held_out_likes(num_users, monkeypatch):
    monkeypatch.setattr(history_choice, "_MOST_DRAWS", 1)
    columns = tastes(num_users=num_users)
    given, config = features(), dataclasses.replace(WHOLE, item_exponent=0.08, popularity_weight=0.03)
    model = HistoryModel.fit(*columns, num_users + FIRST_KNOWN, 43, given, config)
    chosen = model.choice
    assert len(chosen.ndcg10) == 3
    for penalty, measured in chosen.ndcg10.items():
        tried = dataclasses.replace(model.config, penalty=penalty)
        assert measured == pytest.approx(refitted(columns, given, tried, num_users), abs=2e-3)
    whole = HistoryModel.fit(*columns, num_users + FIRST_KNOWN, 43, given, WHOLE).choice
    assert {step[0] for step in whole.steps} == set(AXES) - {"weighting", "session_gap_s"}


def test_neither_the_order_nor_the_numbers_of_users_matter():
    user, item, stars = tastes()
    order = np.random.default_rng(1).permutation(len(user))
    first = choice_of(user, item, stars, features(), WHOLE)
    second = choice_of(user[order] * 7, item[order], stars[order], features(), WHOLE)
    assert dataclasses.replace(first, ndcg10={}, steps=[]) == dataclasses.replace(second, ndcg10={}, steps=[])
    assert first.ndcg10 == pytest.approx(second.ndcg10, abs=1e-6)
    assert [step[:2] for step in first.steps] == [step[:2] for step in second.steps]


def test_the_cost_is_bounded_by_the_most_rated_titles_and_a_sample_of_users(monkeypatch):
    columns = tastes()
    for name, value in (("MAX_MATRIX", 12), ("MAX_USERS", 100), ("MAX_MEASURED", 30)):
        monkeypatch.setattr(history_choice, name, value)
    choice = choice_of(*columns, features(), WHOLE)
    assert (choice.num_titles, choice.num_measured, choice.num_draws) == (12, 30, 1)
    assert 90 <= choice.num_users <= 100
    assert choice == choice_of(*columns, features(), WHOLE), "the sample is drawn anew"


def test_with_too_few_likes_the_fallback_is_taken():
    user, item, stars = tastes()
    assert choice_of(user, item, np.minimum(stars, 3.5), features(), WHOLE).penalty == FALLBACK["penalty"]
    few = user < 10
    model = HistoryModel.fit(user[few], item[few], stars[few], 153, 43)
    assert (model.config.penalty, model.choice.ndcg10) == (FALLBACK["penalty"], {})


def test_a_given_penalty_is_kept():
    given = {name: 0.5 for name in FALLBACK if name not in ("weighting", "penalty")}
    model = HistoryModel.fit(*tastes(), 153, 43, config=HistoryConfig(penalty=77.0, **given))
    assert (model.config.penalty, model.choice) == (77.0, None)
    partly = HistoryModel.fit(*tastes(), 153, 43, config=HistoryConfig(penalty=77.0))
    assert (partly.config.penalty, partly.choice.penalty) == (77.0, 77.0)


@pytest.mark.parametrize("peak", [40.0, 75.0, 210.0, 700.0, 5000.0, 19_000.0])
def test_a_parabola_s_peak_is_found(peak):
    def height(penalty):
        return 0.3 - 0.01 * math.log(penalty / peak) ** 2

    looked = []
    climb(lambda penalty: looked.append(penalty) or height(penalty))
    best = max(looked, key=height)
    assert vertex({best * by: height(best * by) for by in (0.5, 1, 2)}) == pytest.approx(peak, rel=0.05)
    assert len(looked) <= 5


def test_a_peak_outside_gives_the_end():
    assert vertex({25.0: 3, 50.0: 2, 100.0: 1}) == 25
    assert vertex({25.0: 1, 50.0: 2, 100.0: 3}) == 100


@pytest.mark.parametrize(("num_users", "num_items"), [(50, 700), (300, 7), (20, 1100)])
def test_inner_products_are_numpys(num_users, num_items):
    matrix = random_sparse(num_users, num_items, 0.1, random_state=0, format="csr")
    np.testing.assert_allclose(gram(matrix), (matrix.T @ matrix).toarray(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(gram(matrix.T), (matrix @ matrix.T).toarray(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [1, 5, 1100])
def test_the_inverse_is_numpys(size):
    half = np.random.default_rng(0).normal(size=(size, size))
    matrix = half @ half.T + size * np.eye(size)
    expected = np.linalg.inv(matrix)
    np.testing.assert_allclose(inverse(matrix), expected, rtol=0, atol=1e-12)


def test_a_matrix_without_an_inverse_is_refused():
    with pytest.raises(ScoreError, match="3 x 3"):
        inverse(np.diag([1.0, -1.0, 1.0]))


@pytest.mark.parametrize("num_users", [20, 60])
def test_one_preparation_serves_every_penalty(num_users):
    ratings = csr_matrix(random_sparse(num_users, 30, 0.3, random_state=1))
    given, identity = features(30)[:30], np.eye(30, dtype=np.float32)
    solve = prepared(ratings, given)
    for penalty in (3.0, 50.0, 3.0):
        expected, got = fit_regression(ratings, given, penalty), solve(penalty, 1.0)
        np.testing.assert_array_equal(got.times(identity), expected.times(identity))
        np.testing.assert_array_equal(got.leave_out, expected.leave_out)
