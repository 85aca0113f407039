"""The peers against slow or independent versions, and how their settings are chosen."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy.optimize import nnls
from small import planted, tables_for

from sdk.base.errors import DataError
from sdk.features.tables import FIRST_KNOWN
from sdk.lab.comparison import list_peers, rating_peers
from sdk.lab.comparison.autoencoder import variational_autoencoder
from sdk.lab.comparison.contenders import draw_settings, tune
from sdk.lab.comparison.list_peers import (
    RatingMatrix,
    ease,
    fit_ials,
    ials,
    item_knn,
    lists_of,
    popularity,
    recent_popularity,
    slim,
)
from sdk.lab.comparison.rating_peers import RatingProblem, biased_mf, gradient_boosting, means, pair_features
from sdk.metrics.pointwise import auc

# lists ---------------------------------------------------------------------------------------------------------------


def matrix(num_users=9, num_items=14, seed=0, share=0.4):
    rng = np.random.default_rng(seed)
    user, item = np.nonzero(rng.random((num_users, num_items)) < share)
    stars = rng.choice([1.0, 3.0, 4.0, 5.0], len(user)).astype(np.float32)
    return RatingMatrix(user, item, stars, np.arange(num_users) * 2, np.arange(num_items) * 3 + 1)


def dense(ratings, watched):
    out = np.zeros(ratings.shape)
    for user, item, stars in zip(ratings.user, ratings.item, ratings.stars, strict=True):
        out[user, item] = 1 if stars >= 4 else watched
    return out


@pytest.mark.parametrize(("num_users", "num_items"), [(9, 14), (14, 9)])
@pytest.mark.parametrize("watched", [0.0, 0.6])
def test_ease_is_the_published_closed_form(num_users, num_items, watched):
    ratings = matrix(num_users, num_items)
    history = dense(ratings, watched)
    inverse = np.linalg.inv(history.T @ history + 3 * np.eye(num_items))
    weights = -inverse / np.diag(inverse)[None, :]
    weights[np.diag_indices(num_items)] = 0
    got = ease(ratings, watched=watched, penalty=3.0)(np.arange(num_users))
    np.testing.assert_allclose(got, history @ weights, atol=1e-6)


@pytest.mark.parametrize(("num_users", "num_items"), [(9, 14), (14, 9)])
def test_with_dropout_it_is_edlae(num_users, num_items):
    """Equation 9 of the paper: each item's penalty has p / (1 - p) of its own inner product added."""
    ratings = matrix(num_users, num_items)
    history = dense(ratings, 0.6)
    gram = history.T @ history
    inverse = np.linalg.inv(gram + np.diag(3 + 0.25 / 0.75 * np.diag(gram)))
    weights = -inverse / np.diag(inverse)[None, :]
    weights[np.diag_indices(num_items)] = 0
    got = ease(ratings, watched=0.6, penalty=3.0, dropout=0.25)(np.arange(num_users))
    np.testing.assert_allclose(got, history @ weights, atol=1e-6)


@pytest.mark.parametrize("neighbours", [3, 99])
def test_slim_is_the_best_of_weights_of_at_least_0(neighbours):
    """Ridge alone is least squares with rows of sqrt(l2) below, which Lawson and Hanson's method solves exactly."""
    ratings = matrix()
    history = dense(ratings, 0.6)
    users, items = history.shape
    norms = np.maximum(np.linalg.norm(history, axis=0), 1e-9)
    expected = np.zeros((items, items))
    for item in range(items):
        cosine = history.T @ history[:, item] / (norms * norms[item])
        cosine[item] = 0
        near = np.sort(np.argsort(-cosine, kind="stable")[:neighbours])
        near = near[cosine[near] > 0]
        below = np.vstack([history[:, near], math.sqrt(2.0) * np.eye(len(near))])
        if np.count_nonzero(history[:, item]) >= 2 and len(near):
            expected[near, item] = nnls(below, np.concatenate([history[:, item], np.zeros(len(near))]))[0]
    got = slim(ratings, l1=1e-9, l2=2.0, neighbours=neighbours, watched=0.6)(np.arange(users))
    np.testing.assert_allclose(got, history @ expected, atol=0.01)
    none = slim(ratings, l1=1e3, l2=2.0, neighbours=neighbours, watched=0.6)(np.arange(users))
    assert not none.any()


def test_an_autoencoder_learns_who_likes_what():
    rng = np.random.default_rng(0)
    taste = rng.integers(2, size=200)
    users, items = np.nonzero(rng.random((200, 20)) < np.where(taste[:, None] == np.arange(20) % 2, 0.5, 0.02))
    ratings = RatingMatrix(users, items, np.ones(len(users), np.float32), np.arange(201), np.arange(20), like_at=0.0)
    settings = {"hidden": 16, "latent": 4, "num_epochs": 60, "most_beta": 0.1, "learning_rate": 0.01}
    scores = variational_autoencoder(ratings, **settings)(np.arange(201))
    known = np.flatnonzero(np.bincount(users, minlength=200) > 2)
    best = np.argsort(-scores[known], axis=1)[:, :10] % 2
    assert (best == taste[known, None]).mean() > 0.95
    assert not scores[200].any()  # of whom nothing is known
    np.testing.assert_array_equal(variational_autoencoder(ratings, **settings)(np.arange(201)), scores)


@pytest.mark.parametrize("neighbours", [3, 99])
def test_item_knn_listens_to_the_nearest_titles_alone(neighbours):
    ratings = matrix()
    history = dense(ratings, 0.4)
    users, items = history.shape
    expected = np.zeros((users, items))
    for target in range(items):
        cosines = []
        for other in range(items):
            norm = math.sqrt(float((history[:, target] ** 2).sum() * (history[:, other] ** 2).sum()))
            cosine = float(history[:, target] @ history[:, other]) / (norm + 2)
            cosines.append((0.0 if other == target else cosine, other))
        for cosine, other in sorted(cosines, reverse=True)[:neighbours]:
            expected[:, target] += history[:, other] * cosine
    got = item_knn(ratings, watched=0.4, neighbours=neighbours, shrinkage=2.0)(np.arange(users))
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_ials_solves_the_weighted_least_squares_of_its_paper():
    ratings = matrix(40, 30, share=0.3)
    settings = {"watched": 0.5, "factors": 2, "regularization": 0.5, "alpha": 4.0, "iterations": 60}
    model = fit_ials(ratings, **settings)
    confidence = 4 * dense(ratings, 0.5)
    x, y = model.user_factors.astype(np.float64), model.item_factors.astype(np.float64)
    for title in range(30):  # the last half step solved for the titles
        weight = np.where(confidence[:, title] > 0, confidence[:, title], 1.0)
        gram = (x * weight[:, None]).T @ x + 0.5 * np.eye(2)
        expected = np.linalg.solve(gram, x.T @ confidence[:, title])
        np.testing.assert_allclose(y[title], expected, atol=1e-3)
    np.testing.assert_allclose(ials(ratings, **settings)(np.arange(40)), x @ y.T, atol=1e-5)


def test_lists_leave_out_what_was_rated_and_break_ties_by_id():
    ratings = matrix(seed=3)
    likes = [int(((ratings.item == item) & (ratings.stars >= 4)).sum()) for item in range(14)]
    items, lengths = lists_of(popularity(ratings), ratings, np.arange(9), 5)
    for user in range(9):
        seen = set(ratings.item[ratings.user == user].tolist())
        unseen = [item for item in range(14) if item not in seen]
        expected = sorted(unseen, key=lambda item: (-likes[item], item))[:5]
        assert items[user, : lengths[user]].tolist() == [3 * item + 1 for item in expected]


@pytest.mark.parametrize("days", [7, 30])
def test_recent_popularity_counts_the_likes_of_the_last_days_and_then_of_all_time(days):
    rng, ratings = np.random.default_rng(days), matrix(seed=3)
    times = rng.integers(0, 60 * 86_400, len(ratings.item))
    timed = dataclasses.replace(ratings, timestamp=times)
    items, lengths = lists_of(recent_popularity(days)(timed), timed, np.arange(9), 8)
    rows = list(zip(ratings.item.tolist(), ratings.stars.tolist(), times.tolist(), strict=True))
    likes = [[when for item, stars, when in rows if item == each and stars >= 4] for each in range(14)]
    lately = [sum(when > times.max() - days * 86_400 for when in each) for each in likes]
    assert len(set(lately)) > 1
    for user in range(9):
        unseen = set(range(14)) - set(ratings.item[ratings.user == user].tolist())
        expected = sorted(unseen, key=lambda item: (-lately[item], -len(likes[item]), item))[:8]
        assert items[user, : lengths[user]].tolist() == [3 * item + 1 for item in expected]


def test_a_list_with_a_training_title_is_refused():
    ratings = matrix(seed=3)
    rows, rated = np.array([4]), ratings.item[ratings.user == 4][0]
    unseen = np.setdiff1d(range(14), ratings.item[ratings.user == 4])[0]
    lists = ratings.item_id[[[unseen, rated]]]
    with pytest.raises(DataError, match=f"user 8 names title {3 * rated + 1} at rank 2"):
        ratings.refuse_seen(rows, lists, np.array([2]))
    ratings.refuse_seen(rows, lists, np.array([1]))  # padding is not part of a list


def test_a_user_of_whom_a_model_says_nothing_gets_popular_titles():
    ratings = matrix(seed=3)
    kept = ratings.user != 4
    without = RatingMatrix(
        ratings.user[kept], ratings.item[kept], ratings.stars[kept], ratings.user_id, ratings.item_id
    )
    by_ease, _ = lists_of(ease(without, watched=0.6, penalty=1.0), without, np.array([4]), 6)
    popular, _ = lists_of(popularity(without), without, np.array([4]), 6)
    np.testing.assert_array_equal(by_ease, popular)


# single ratings ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def problem():
    rows, held_out = planted(0)
    return RatingProblem(*tables_for(rows), rows, held_out, seed=1)


def statistics_of(problem, side, pairs):
    """The two features of each row from (count, likes) of its user or title, by hand."""
    table = getattr(problem, side)
    stats = table.statistics
    rate = [(likes + stats.prior_count * stats.prior_rate) / (count + stats.prior_count) for count, likes in pairs]
    raw = np.stack([np.log1p([count for count, _ in pairs]), rate], axis=1)
    return (raw - stats.mean) / stats.std


def test_leave_one_out_features_do_not_know_the_pairs_own_rating(problem):
    got, names = pair_features(problem, problem.rows, "leave-one-out")
    index = {"users": problem.rows.user_index, "items": problem.rows.item_index}
    for side, column in (("users", "user_log_count"), ("items", "item_log_count")):
        pairs = []
        for row in range(60):
            others = [n for n in range(len(problem.rows)) if n != row and index[side][n] == index[side][row]]
            pairs.append((len(others), sum(int(problem.rows.label[n]) for n in others)))
        at = names.index(column)
        np.testing.assert_allclose(got[:60, at : at + 2], statistics_of(problem, side, pairs), atol=2e-5)


def test_out_of_fold_shares_know_no_rating_of_the_same_fold(problem):
    got, names = pair_features(problem, problem.rows, "out-of-fold")
    at = names.index("item_like_rate")
    folds = np.random.default_rng(problem.seed).integers(0, 5, len(problem.rows))
    pairs = []
    for row in range(60):
        others = (problem.rows.item_index == problem.rows.item_index[row]) & (folds != folds[row])
        pairs.append((others.sum(), problem.rows.label[others].sum()))
    np.testing.assert_allclose(got[:60, at], statistics_of(problem, "items", pairs)[:, 1], atol=2e-5)


def test_asked_pairs_have_the_tables_own_features(problem):
    got, _ = pair_features(problem, problem.asked, None)
    expected = np.hstack([problem.users.dense[problem.asked.user_index], problem.items.dense[problem.asked.item_index]])
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("statistics", ["leave-one-out", "out-of-fold"])
def test_gradient_boosting_stops_on_the_asked_ratings_only_where_no_rounds_are_given(problem, statistics, monkeypatch):
    monkeypatch.setattr(rating_peers, "_MAX_ROUNDS", 60)
    settings = {"statistics": statistics, "ids": True, "num_leaves": 7, "min_data_in_leaf": 5}
    stopped = gradient_boosting(problem, **settings)
    assert 1 <= stopped.settings["num_rounds"] <= 60
    swapped = dataclasses.replace(problem.asked, label=1 - problem.asked.label)
    given = gradient_boosting(problem, **stopped.settings)
    blind = gradient_boosting(dataclasses.replace(problem, asked=swapped), **stopped.settings)
    np.testing.assert_array_equal(given.logits, blind.logits)
    np.testing.assert_allclose(given.logits, stopped.logits, atol=1e-12)


def test_peers_learn_planted_tastes(problem):
    values = {
        "popularity": auc(problem.asked.label, rating_peers.popularity(problem).logits),
        "means": auc(problem.asked.label, means(problem, user_damping=5.0, item_damping=5.0).logits),
        "mf": auc(problem.asked.label, biased_mf(problem, embedding_dim=8, num_epochs=60, vector_l2=0.02).logits),
    }
    assert values["mf"] > values["means"] > values["popularity"] > 0.5, values


def test_popularity_gives_no_logits(problem):
    assert not rating_peers.popularity(problem).is_logit
    assert (problem.rows.item_index >= FIRST_KNOWN).all()


# tuning --------------------------------------------------------------------------------------------------------------

GRID = {"a": (1, 2, 3), "b": ("x", "y")}


def test_the_usual_setting_is_tried_first_and_none_twice():
    drawn = draw_settings(GRID, 4, seed=0)
    assert drawn[0] == {"a": 1, "b": "x"}
    assert len(drawn) == 4 == len({tuple(each.items()) for each in drawn})
    assert draw_settings(GRID, 4, seed=0) == drawn
    everything = {(a, b) for a in GRID["a"] for b in GRID["b"]}
    assert {tuple(each.values()) for each in draw_settings(GRID, 99, seed=0)} == everything
    assert draw_settings({}, 5, seed=0) == [{}]


def test_tuning_keeps_the_first_of_the_best_with_what_measuring_added():
    values = {1: 0.2, 2: 0.7, 3: 0.7}
    found = tune([{"a": a} for a in values], lambda s: (values[s["a"]], {**s, "rounds": 10 * s["a"]}), "model")
    assert found.settings == {"a": 2, "rounds": 20}
    assert (found.value, found.tried) == (0.7, 3)


@pytest.mark.parametrize("fit", [ease, item_knn])
def test_where_the_catalogue_is_too_wide_peers_know_the_most_rated_items(fit, monkeypatch):
    rng = np.random.default_rng(0)
    pairs = np.unique(rng.integers(0, [40, 25], (400, 2)), axis=0)
    whole = RatingMatrix(*pairs.T, np.ones(len(pairs), np.float32), np.arange(40), np.arange(25), like_at=0.0)
    kept = np.sort(np.argsort(-np.bincount(pairs[:, 1], minlength=25), kind="stable")[:10])
    some = pairs[np.isin(pairs[:, 1], kept)]
    small = RatingMatrix(
        some[:, 0], np.searchsorted(kept, some[:, 1]), np.ones(len(some), np.float32), np.arange(40), kept, like_at=0.0
    )
    settings = {"penalty": 3.0} if fit is ease else {"neighbours": 5, "shrinkage": 1.0}
    expected = np.zeros((40, 25))
    expected[:, kept] = fit(small, **settings)(np.arange(40))
    monkeypatch.setattr(list_peers, "MOST_ITEMS", 10)
    np.testing.assert_allclose(fit(whole, **settings)(np.arange(40)), expected, rtol=1e-6)


def test_counted_likes_weigh_by_the_logarithm_of_their_weight():
    weights = np.array([2, 2 * np.e, 2 * np.e**2], np.float32)
    ratings = RatingMatrix(np.zeros(3, int), np.arange(3), weights, np.arange(1), np.arange(3), like_at=0.0)
    np.testing.assert_allclose(ratings.weighted(0.0, counted=True).toarray(), [[1, 2, 3]], rtol=1e-6)
    np.testing.assert_allclose(ratings.weighted(0.0).toarray(), [[1, 1, 1]])
