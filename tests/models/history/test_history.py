"""The history model against dense algebra, its blend against pair scores, and planted tastes."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from sdk.base.errors import BundleError, ConfigError, DataError, ScoreError
from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN
from sdk.models.history.fit import extend, fit_regression, low_rank
from sdk.models.history.matrices import rank_for
from sdk.models.history.model import HistoryConfig, HistoryModel, blend
from sdk.models.pair_form import Head, PairForm, Side
from sdk.scoring.engine import Engine

PLAIN = HistoryConfig(
    rank=200, star_weight=0, least_weight=1, user_exponent=0, item_exponent=0, content_weight=0,
    popularity_weight=0, penalty=5,
)  # fmt: skip


def some_ratings(seed=0, num_users=60, num_items=30, num_ratings=500):
    """(user rows, item rows, stars), each pair once."""
    rng = np.random.default_rng(seed)
    pair = rng.choice(num_users * num_items, num_ratings, replace=False)
    user, item = pair // num_items + FIRST_KNOWN, pair % num_items + FIRST_KNOWN
    return user, item, rng.choice([1.0, 2.5, 3.5, 4.0, 5.0], num_ratings).astype(np.float32)


def shape(num_users=60, num_items=30):
    return num_users + FIRST_KNOWN, num_items + FIRST_KNOWN


def dense(user, item, values, num_users=60, num_items=30):
    out = np.zeros((num_users, num_items))
    out[user - FIRST_KNOWN, item - FIRST_KNOWN] = values
    return out


def scores_of(model, columns, num_users=60):
    """(U, I) scores of all known rows."""
    form = model.to_pair_form(*columns, num_users + FIRST_KNOWN)
    pairs = np.indices((len(form.users), len(form.items))).reshape(2, -1)
    return form.score_pairs(*pairs).reshape(len(form.users), -1)[FIRST_KNOWN:, FIRST_KNOWN:]


def off_diagonal(matrix):
    return matrix - np.diag(np.diagonal(matrix))


def as_matrix(regression, size):
    return regression.times(np.eye(size, dtype=np.float32)) / regression.leave_out


@pytest.mark.parametrize("num_users", [20, 60])  # fewer and more users than titles: both forms of the algebra
def test_without_extras_it_is_ease(num_users):
    columns = some_ratings(num_users=num_users, num_ratings=250)
    ratings = dense(*columns[:2], 1, num_users=num_users)
    inverse = np.linalg.inv(ratings.T @ ratings + 5 * np.eye(30))
    weights = off_diagonal(-inverse / np.diagonal(inverse))  # Steck 2019, equation 8
    model = HistoryModel.fit(*columns, *shape(num_users), config=PLAIN)
    unseen = ratings == 0
    np.testing.assert_allclose(
        scores_of(model, columns, num_users)[unseen], (ratings @ weights)[unseen], rtol=0, atol=2e-5
    )


@pytest.mark.parametrize("num_users", [20, 60])
def test_every_column_is_a_ridge_regression_without_its_own_coefficient(num_users):
    rng = np.random.default_rng(1)
    ratings = dense(*some_ratings(num_users=num_users, num_ratings=250), num_users=num_users)
    features = rng.normal(size=(30, 4)).astype(np.float32)
    got = as_matrix(fit_regression(csr_matrix(ratings), features, 7.0), 30)
    for i in range(30):  # by coefficients per title and per feature, as the module states it
        inputs = np.hstack([np.delete(ratings, i, axis=1), ratings @ features])
        solved = np.linalg.solve(inputs.T @ inputs + 7 * np.eye(33), inputs.T @ ratings[:, i])
        expected = np.insert(solved[:29], i, 0) + features @ solved[29:]
        others = np.arange(30) != i
        np.testing.assert_allclose(got[others, i], expected[others], rtol=0, atol=1e-5)


@pytest.mark.parametrize("num_users", [20, 60])
def test_products_belong_to_one_matrix(num_users):
    ratings = csr_matrix(dense(*some_ratings(num_users=num_users, num_ratings=250), num_users=num_users))
    features = np.random.default_rng(2).normal(size=(30, 4)).astype(np.float32)
    regression = fit_regression(ratings, features, 3.0)
    identity = np.eye(30, dtype=np.float32)
    np.testing.assert_allclose(regression.times(identity), regression.transposed_times(identity).T, rtol=0, atol=1e-4)


@pytest.mark.parametrize("num_users", [20, 60])
def test_without_its_diagonal_the_matrix_is_the_same_elsewhere(num_users):
    ratings = csr_matrix(dense(*some_ratings(num_users=num_users, num_ratings=250), num_users=num_users))
    features = np.random.default_rng(2).normal(size=(30, 4)).astype(np.float32)
    regression = fit_regression(ratings, features, 3.0)
    identity, bare = np.eye(30, dtype=np.float32), regression.without_diagonal()
    expected = off_diagonal(regression.times(identity))
    np.testing.assert_allclose(bare.times(identity), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(bare.transposed_times(identity), expected.T, rtol=0, atol=1e-4)


def fitted(num_users=60):
    """A regression with features, what it learnt from, and its matrix, a diagonal of zeros in it."""
    ratings = csr_matrix(dense(*some_ratings(num_users=num_users, num_ratings=num_users * 12), num_users=num_users))
    features = np.random.default_rng(2).normal(size=(30, 4)).astype(np.float32) / 4
    regression, columns = fit_regression(ratings, features, 5.0), np.random.default_rng(7).uniform(0.5, 2, 30)
    return regression, ratings, columns, off_diagonal(as_matrix(regression, 30)) * columns


@pytest.mark.parametrize("rank", [30, 200])
def test_a_rank_of_all_titles_cuts_nothing_and_stores_no_more(rank):
    regression, ratings, columns, whole = fitted()
    item_in, item_out = low_rank(regression, ratings, columns, rank, seed=0)
    assert item_in.shape == item_out.shape == (30, 30)
    np.testing.assert_allclose(item_in @ item_out.T, whole, rtol=0, atol=1e-5)


def test_a_rank_of_all_users_cuts_nothing_of_their_scores():
    regression, ratings, columns, whole = fitted(num_users=20)
    item_in, item_out = low_rank(regression, ratings, columns, 20, seed=0)
    assert item_in.shape == (30, 20)
    np.testing.assert_allclose(ratings @ item_in @ item_out.T, ratings @ whole, rtol=0, atol=1e-4)


def test_the_cut_keeps_what_lists_read():
    """Many items, each bought by few, make a diagonal that the best rank of the coefficients would go to."""
    rng = np.random.default_rng(5)
    group = rng.integers(0, 8, 300)
    bought = rng.random((120, 300)) < np.where(group == rng.integers(0, 8, 120)[:, None], 0.25, 0.02)
    ratings, ones = csr_matrix(bought.astype(float)), np.ones(300)
    regression = fit_regression(ratings, np.zeros((300, 0), np.float32), 2.0)
    whole = off_diagonal(as_matrix(regression, 300))
    item_in, item_out = low_rank(regression, ratings, ones, 10, seed=0)

    def likeness(matrix):
        return np.corrcoef((bought @ whole)[~bought], (bought @ matrix)[~bought])[0, 1]

    for coefficients in (as_matrix(regression, 300), whole):
        left, singular, right = np.linalg.svd(coefficients)
        assert likeness(item_in @ item_out.T) > likeness((left[:, :10] * singular[:10]) @ right[:10]) + 0.03


@pytest.mark.parametrize(
    ("sizes", "expected"),  # users, titles with coefficients, titles
    [
        ((610, 9_454, 9_742), 610),  # MovieLens latest-small
        ((943, 1_682, 1_682), 943),  # 100K
        ((6_040, 3_706, 3_883), 1024),  # 1M
        ((69_878, 10_677, 10_681), 1024),  # 10M
        ((162_541, 12_000, 62_423), 256),  # 25M
        ((12_000, 908, 908), 908),
        ((5_000, 70, 100), 70),
    ],
)
def test_the_rank_goes_by_users_and_titles(sizes, expected):
    assert rank_for(*sizes) == expected


def test_the_rank_that_was_used_is_told():
    model = HistoryModel.fit(*some_ratings(), *shape(), config=HistoryConfig(penalty=5))
    assert model.item_in.shape == (33, 30 + 1)
    assert (model.config.penalty, model.config.rank) == (5, 30)
    assert None not in (model.config.content_weight, model.config.user_exponent, model.config.popularity_weight)
    narrow = HistoryModel.fit(*some_ratings(), *shape(), config=HistoryConfig(penalty=5, rank=4))
    assert (narrow.item_out.shape, narrow.config.rank) == ((33, 4 + 1), 4)


def test_titles_beyond_the_limit_act_by_their_features():
    """A title without a coefficient of its own: C's row for it holds its features alone."""
    rng = np.random.default_rng(4)
    ratings, features = dense(*some_ratings(num_users=20, num_ratings=250), num_users=20), rng.normal(size=(33, 3))
    features = features.astype(np.float32)
    regression = fit_regression(csr_matrix(ratings), features[:30], 4.0)
    fitted = regression.times(np.eye(30, dtype=np.float32))
    kernel = ratings @ (np.eye(30) + features[:30] @ features[:30].T) @ ratings.T + 4 * np.eye(20)
    expected = features[30:] @ features[:30].T @ ratings.T @ np.linalg.solve(kernel, ratings)
    np.testing.assert_allclose(extend(features[:30], fitted, features[30:]), expected, rtol=0, atol=1e-4)


def test_weights_follow_the_stars():
    got = HistoryConfig(star_weight=0.3, least_weight=0.3).weights(np.array([0.5, 1.5, 3, 4, 5]))
    np.testing.assert_allclose(got, [0.3, 0.3, 0.7, 1.0, 1.3], rtol=1e-6)


def planted(seed=0, num_users=200, num_items=60):
    """Two tastes: users rate titles of their own kind three times as often, and higher."""
    rng = np.random.default_rng(seed)
    taste, kind = np.arange(num_users) % 2, np.arange(num_items) % 2
    same = taste[:, None] == kind
    rated = rng.random((num_users, num_items)) < np.where(same, 0.3, 0.1)
    user, item = np.nonzero(rated)
    stars = np.where(same[user, item], 4.5, 2.5).astype(np.float32)
    return (user + FIRST_KNOWN, item + FIRST_KNOWN, stars), kind


def test_a_visitor_with_a_few_likes_is_served_without_training():
    columns, kind = planted()
    model = HistoryModel.fit(*columns, *shape(200, 60), config=HistoryConfig(penalty=20))
    liked = np.flatnonzero(kind == 1)[:3] + FIRST_KNOWN
    form = model.form_of(model.user_vectors(np.array([0, 3]), liked))
    found = Engine(form, threads=1).top_k(np.array([0]), Seen(np.array([0, 3]), liked.astype(np.int32)), 10)
    rows = found.item_index[0] - FIRST_KNOWN
    assert kind[rows].mean() >= 0.9
    assert len(np.unique(found.scores)) == 10


def test_a_training_user_and_a_visitor_with_the_same_history_score_alike():
    columns, _ = planted()
    model = HistoryModel.fit(*columns, *shape(200, 60))
    form = model.to_pair_form(*columns, 203)
    mine = columns[0] == 10
    weights = model.config.weights(columns[2][mine])
    vector = model.user_vectors(np.array([0, mine.sum()]), columns[1][mine], weights)
    np.testing.assert_allclose(vector[0], form.users.dot[10], rtol=0, atol=1e-6)


def test_contributions_add_up_to_the_score():
    columns, _ = planted()
    model = HistoryModel.fit(*columns, *shape(200, 60))
    mine = columns[0] == 10
    score = model.to_pair_form(*columns, 203).score_pairs(np.array([10]), np.array([20]))[0]
    parts = model.contributions(20, columns[1][mine], model.config.weights(columns[2][mine]))
    popularity = model.popularity(columns[1][mine], model.config.weights(columns[2][mine]))[20]
    assert parts.sum() + popularity == pytest.approx(score, abs=1e-5)
    assert popularity > model.item_bias[20] > 0


def test_popularity_counts_more_for_who_has_told_less():
    """1 + 20 / (n + 4) times, n the summed weight; the rest of a score stays as it was."""
    columns, _ = planted()
    config = dataclasses.replace(PLAIN, popularity_weight=0.03, item_exponent=0.08)
    plain = HistoryModel.fit(*columns, *shape(200, 60), config=dataclasses.replace(config, popularity_boost=0))
    model = HistoryModel.fit(*columns, *shape(200, 60), config=config)
    indptr, told = np.array([0, 1, 4, 4]), np.array([5, 6, 8, 9])
    pairs = np.indices((3, 63)).reshape(2, -1)
    for weights, sums in ((None, [1, 3]), (np.array([0.3, 1.4, 1, 0.6], np.float32), [0.3, 3])):
        first, second = (
            each.form_of(each.user_vectors(indptr, told, weights)).score_pairs(*pairs).reshape(3, -1)
            for each in (plain, model)
        )
        for user, total in enumerate(sums):
            more = 20 / (total + 4) * model.item_bias
            np.testing.assert_allclose(second[user] - first[user], more, rtol=0, atol=1e-5)
        np.testing.assert_array_equal(second[2], model.item_bias)  # told nothing: nothing is known of them


def test_titles_that_say_nothing_leave_a_user_unknown():
    columns, _ = planted()
    model = HistoryModel.fit(*(column[columns[1] > 5] for column in columns), *shape(200, 60))
    vector = model.user_vectors(np.array([0, 2, 3]), np.array([3, 4, 20]))
    assert not vector[0].any()
    assert vector[1].any()
    assert model.form_of(vector).has_history.tolist() == [False, True]


def test_a_new_title_ranks_by_its_content():
    """Title 0 of each kind is rated by nobody; its features say what it is."""
    columns, kind = planted()
    rated = columns[1] >= FIRST_KNOWN + 2
    columns = tuple(column[rated] for column in columns)
    features = np.zeros((63, 2), np.float32)
    features[np.arange(60) + FIRST_KNOWN, kind] = 1
    model = HistoryModel.fit(*columns, *shape(200, 60), features, HistoryConfig(penalty=20))
    new = scores_of(model, columns, 200)[:, :2]
    taste = np.arange(200) % 2
    assert (new[np.arange(200), taste] > new[np.arange(200), 1 - taste]).mean() > 0.9
    without = HistoryModel.fit(*columns, *shape(200, 60), config=HistoryConfig(penalty=20))
    assert not scores_of(without, columns, 200)[:, :2].any()


def test_nobody_gets_popular_titles():
    columns = some_ratings()
    model = HistoryModel.fit(*columns, *shape(), config=dataclasses.replace(PLAIN, popularity_weight=0.03))
    likes = np.bincount(columns[1][columns[2] >= 4], minlength=33)
    np.testing.assert_allclose(model.item_bias, 0.03 * likes / len(np.unique(columns[0])), rtol=1e-6)
    assert not model.user_vectors(np.array([0, 0]), np.zeros(0, np.int64)).any()


def test_reserved_rows_say_nothing():
    user, item, stars = some_ratings()
    unknown = (np.append(user, [2, 5]), np.append(item, [4, 2]), np.append(stars, np.float32([5, 5])))
    model = HistoryModel.fit(*unknown, *shape())
    same = HistoryModel.fit(user, item, stars, *shape())
    for name in ("item_in", "item_out", "item_bias"):
        assert not getattr(model, name)[:FIRST_KNOWN].any()
        np.testing.assert_array_equal(getattr(model, name), getattr(same, name))


def test_the_order_of_ratings_does_not_matter_beyond_rounding():
    columns = some_ratings()
    order = np.random.default_rng(5).permutation(len(columns[0]))
    shuffled = tuple(column[order] for column in columns)
    first, second = (scores_of(HistoryModel.fit(*rows, *shape()), columns) for rows in (columns, shuffled))
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-5)


def test_the_scale_and_centre_of_features_do_not_matter():
    columns = some_ratings()
    features = np.random.default_rng(6).normal(size=(33, 3)).astype(np.float32)
    models = [HistoryModel.fit(*columns, *shape(), given) for given in (features, 50 * features + 7)]
    first, second = (scores_of(model, columns) for model in models)
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-4)


def test_saved_and_loaded_it_is_the_same_to_the_byte(tmp_path):
    columns = some_ratings()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        HistoryModel.fit(*columns, *shape(), config=HistoryConfig(rank=8)).save(tmp_path / name)
    loaded = HistoryModel.load(tmp_path / "one")
    fresh = HistoryModel.fit(*columns, *shape(), config=HistoryConfig(rank=8))
    assert loaded.choice == fresh.choice
    assert fresh.choice is not None
    assert loaded.config == fresh.config
    np.testing.assert_array_equal(scores_of(loaded, columns), scores_of(fresh, columns))
    for name in ("history.npz", "history.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_damaged_model_is_refused(tmp_path):
    HistoryModel.fit(*some_ratings(), *shape(), config=HistoryConfig(rank=8)).save(tmp_path)
    text = (tmp_path / "history.json").read_text()
    (tmp_path / "history.json").write_text(text.replace('"rank": 8', '"rank": -8'))
    with pytest.raises(BundleError, match="rank"):
        HistoryModel.load(tmp_path)
    (tmp_path / "history.json").write_text(text)
    (tmp_path / "history.npz").write_bytes(b"PK")
    with pytest.raises(BundleError, match=r"history\.npz"):
        HistoryModel.load(tmp_path)


def some_form(rng, num_users=7, num_items=9, with_mlp=True):
    def side(size, fields):
        widths = (5, fields, 3) if with_mlp else (0, 0, 0)
        drawn = (rng.normal(size=each) for each in ((size,), (size, 4), (size, widths[0]), (size, *widths[1:])))
        return Side(*(part.astype(np.float32) for part in drawn))

    def layer(*size):
        return rng.normal(size=size).astype(np.float32), rng.normal(size=size[:1]).astype(np.float32)

    head = Head(rng.normal(size=(5, 4)).astype(np.float32), (layer(3, 5), layer(1, 3)))
    return PairForm(
        side(num_users, 2), side(num_items, 2), head if with_mlp else Head(np.zeros((0, 0), np.float32), ())
    )


@pytest.mark.parametrize("with_mlp", [True, False])
def test_a_blend_scores_the_weighted_sum(with_mlp):
    rng = np.random.default_rng(8)
    history, ranker = some_form(rng, with_mlp=False), some_form(rng, with_mlp=with_mlp)
    pairs = np.indices((7, 9)).reshape(2, -1)
    expected = history.score_pairs(*pairs) + 0.7 * ranker.score_pairs(*pairs)
    np.testing.assert_allclose(blend(history, ranker, 0.7).score_pairs(*pairs), expected, rtol=1e-4, atol=1e-4)


def test_forms_that_do_not_fit_are_not_blended():
    rng = np.random.default_rng(9)
    history = some_form(rng, with_mlp=False)
    with pytest.raises(ValueError, match=r"\(7, 9\) and \(6, 9\)"):
        blend(history, some_form(rng, num_users=6), 1.0)
    with pytest.raises(ValueError, match="weight -1"):
        blend(history, some_form(rng), -1.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("rank", 0), ("penalty", 0.0), ("least_weight", 0.0), ("seed", -1), ("popularity_boost", -1), ("boost_titles", 0)],
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(ConfigError, match=f"HistoryConfig.{name}"):
        HistoryConfig(**{name: value})


def test_unusable_ratings_are_refused():
    user, item, stars = some_ratings()
    with pytest.raises(ValueError, match="twice"):
        HistoryModel.fit(np.append(user, user[0]), np.append(item, item[0]), np.append(stars, stars[0]), *shape())
    with pytest.raises(ValueError, match="item_index runs from"):
        HistoryModel.fit(user, item + 30, stars, *shape())
    with pytest.raises(ValueError, match="rating 0 is not finite"):
        HistoryModel.fit(user, item, np.where(np.arange(500) > 0, stars, np.nan), *shape())
    with pytest.raises(ValueError, match=r"expected \(33, f\)"):
        HistoryModel.fit(user, item, stars, *shape(), np.zeros((30, 2), np.float32))
    with pytest.raises(DataError, match="none of 500 ratings"):
        HistoryModel.fit(np.full(500, 2), item, stars, *shape())


def test_a_matrix_that_cannot_be_inverted_is_named():
    ratings = csr_matrix(np.array([[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]))
    with pytest.raises(ScoreError, match=r"2 x 2 matrix is not positive definite.*penalty"):
        fit_regression(ratings, np.zeros((2, 0), np.float32), -1.0)


def test_threads_that_something_else_set_change_no_bit():
    rng, before = np.random.default_rng(4), torch.get_num_threads()
    user, item = np.nonzero(rng.random((400, 300)) < 0.2)
    rows = user + FIRST_KNOWN, item + FIRST_KNOWN, rng.integers(1, 6, len(user)).astype(np.float32)
    found = []
    for threads in (1, before + 1):
        torch.set_num_threads(threads)
        try:
            found.append(HistoryModel.fit(*rows, 403, 303, config=HistoryConfig(penalty=20.0)))
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(before)
    np.testing.assert_array_equal(found[0].item_in, found[1].item_in)


def test_threads_that_the_environment_allows_change_no_bit():
    code = (
        "import hashlib, numpy as np; from scipy.sparse import csr_matrix, random_array;"
        "from sdk.models.content.matrix import short_vectors; from sdk.models.history.model import HistoryModel;"
        "rng = np.random.default_rng(1); pairs = np.unique(rng.integers(3, 700, (20_000, 2)), axis=0);"
        "stars = rng.integers(1, 11, len(pairs)) / 2; items = random_array((700, 3000), density=0.01, rng=rng);"
        "features = short_vectors(csr_matrix(items), 200, 0);"
        "model = HistoryModel.fit(*pairs.T, stars, 700, 700, features);"
        "print(hashlib.sha256(features.tobytes() + model.item_in.tobytes() + model.item_out.tobytes()).hexdigest())"
    )
    found = set()
    for threads in ("1", "2"):
        limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | limits
        )
        found.add(done.stdout)
    assert len(found) == 1
