"""Ratings that age: weights against plain loops, the choice against refitted models, and what may not change."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from small import dataset, run_config

from sdk.base.config import HistoryConfig, SplitConfig
from sdk.base.errors import ConfigError
from sdk.base.types import Interactions
from sdk.bundles.bundle import load
from sdk.bundles.fresh import FreshBundle, FreshRatings
from sdk.data.splits import split
from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN
from sdk.lab.comparison.protocols import tasks_for
from sdk.lab.comparison.workbench import run_config as compared_config
from sdk.metrics.lists import RelevanceSets, ndcg
from sdk.models.history import choice as history_choice
from sdk.models.history import matrices
from sdk.models.history import model as history_model
from sdk.models.history import recency as history_recency
from sdk.models.history.model import HistoryModel
from sdk.models.history.recency import HALF_LIVES_DAYS, MOMENTS, TIMES_PENALTY, WINDOW, Moments, recency
from sdk.scoring.engine import Engine
from sdk.training.pipeline import train_bundle

DAY = 86_400
SHAPE = (83, 43)
WHOLE = HistoryConfig(
    rank=40, popularity_weight=0.0, penalty=20.0, user_exponent=0.15, item_exponent=0.08, content_weight=0.0,
    session_gap_s=0.0,
)  # fmt: skip
"""Nothing cut, nothing added: the lists of the model are those that the choice measures."""
SMALL = HistoryConfig(rank=20, penalty=5.0, ranker_weight=0.5)


def drifting(num_users=80, num_items=40, seed=0):
    """(user rows, item rows, stars, seconds): over ten years each user turns from one of four kinds to the next."""
    rng = np.random.default_rng(seed)
    user, item = np.nonzero(rng.random((num_users, num_items)) < 0.6)
    kind, phase = (user + np.arange(4)[:, None]) % 4, item % 4
    at = np.argmax(kind == phase, axis=0)  # which of a user's four kinds the title is of
    time = (at + rng.random(len(user))) * 900 * DAY
    stars = rng.choice([3.0, 4.0, 4.5, 5.0], len(user))
    return user + FIRST_KNOWN, item + FIRST_KNOWN, stars.astype(np.float32), time.astype(np.int64)


def slow_recency(user, time, half_life):
    newest = {}
    for who, when in zip(user.tolist(), time.tolist(), strict=True):
        newest[who] = max(when, newest.get(who, when))
    ages = [(newest[who] - when) / DAY for who, when in zip(user.tolist(), time.tolist(), strict=True)]
    return np.array([0.5 ** min(age / half_life, 60) for age in ages])


def bits(form):
    return [part.tobytes() for part in (form.users.dot, form.users.bias, form.items.dot, form.items.bias)]


@pytest.mark.parametrize("half_life", [0.001, 30.0, 1000.0])
def test_a_weight_halves_every_half_life_back_from_its_user_s_newest_rating(half_life):
    user, _, _, time = drifting()
    found = recency(user, time, half_life)
    np.testing.assert_allclose(found, slow_recency(user, time, half_life), rtol=1e-6)
    assert found.min() > 0, "a weight of 0 would be no rating"
    assert recency(user[:0], time[:0], half_life).shape == (0,)


def test_a_history_is_the_sum_of_its_aged_titles():
    user, item, stars, time = drifting()
    model = HistoryModel.fit(user, item, stars, *SHAPE, config=dataclasses.replace(WHOLE, half_life_days=200.0))
    form = model.to_pair_form(user, item, stars, SHAPE[0], time)
    aged = model.config.weights(stars) * slow_recency(user, time, 200.0)
    for who in np.unique(user):
        own = user == who
        expected = aged[own] @ model.item_in[item[own], :-1]
        np.testing.assert_allclose(form.users.dot[who, :-1], expected, rtol=0, atol=1e-4)


def test_a_list_does_not_change_because_others_rate_or_time_goes_by():
    user, item, stars, time = drifting()
    model = HistoryModel.fit(user, item, stars, *SHAPE, config=dataclasses.replace(WHOLE, half_life_days=200.0))
    later = time + np.where(user == user[0], 0, 5000 * DAY)
    first, second = (model.to_pair_form(user, item, stars, SHAPE[0], times) for times in (time, later))
    np.testing.assert_array_equal(first.users.dot[user[0]], second.users.dot[user[0]])


def test_without_a_half_life_times_change_no_bit():
    user, item, stars, time = drifting()
    plain = HistoryModel.fit(user, item, stars, *SHAPE, config=WHOLE)
    assert plain.config.half_life_days is None
    assert plain.time_choice is None
    before = plain.to_pair_form(user, item, stars, SHAPE[0])
    assert bits(before) == bits(plain.to_pair_form(user, item, stars, SHAPE[0], time))
    timed = HistoryModel.fit(user, item, stars, *SHAPE, config=WHOLE, timestamp=time)
    for name in ("item_in", "item_out", "item_bias"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(timed, name))


def test_ratings_that_age_need_their_times():
    user, item, stars, time = drifting()
    model = HistoryModel.fit(user, item, stars, *SHAPE, config=dataclasses.replace(WHOLE, half_life_days=200.0))
    with pytest.raises(ValueError, match="200 days needs"):
        model.to_pair_form(user, item, stars, SHAPE[0])
    with pytest.raises(ValueError, match="timestamps, got"):
        model.weights(stars, user, time[1:])


def chosen(user, item, stars, time):
    moments = Moments.of((user, item, stars), time, np.zeros((SHAPE[1], 0), np.float32), WHOLE)
    return moments.choose((20.0, 40.0), (0.0, *HALF_LIVES_DAYS))


def refitted(columns, share, half_life, penalty=WHOLE.penalty, **settings):
    """NDCG@10 of each list, of a model learnt from what came before the moment, by the engine."""
    user, item, stars, time = columns
    ordered = np.append(np.sort(time), time.max() + 1)
    start, end = (ordered[round(each * len(time))] for each in (share, share + WINDOW))
    past = time < start
    config = dataclasses.replace(WHOLE, half_life_days=half_life, penalty=penalty, **settings)
    known = (user[past], item[past], stars[past])
    model = HistoryModel.fit(*known, *SHAPE, None, config, time[past])
    asked = (time >= start) & (time < end) & (stars >= 4) & np.isin(user, user[past])
    measured, row = np.unique(user[asked], return_inverse=True)
    rated = np.isin(np.arange(SHAPE[1]), item)
    engine = Engine(model.to_pair_form(*known, SHAPE[0], time[past]), rated)
    found = engine.top_k(measured, Seen.build(*known[:2], SHAPE[0]).take(measured), 10)
    relevant = RelevanceSets(row, item[asked], len(measured))
    return ndcg(found.item_index, relevant, 10, lengths=found.lengths)


def test_what_is_measured_are_models_refitted_before_each_moment():
    columns = drifting()
    user, item, stars, time = columns
    choice = chosen(user, item, stars, time)
    assert list(choice.by_half_life) == [0.0, *HALF_LIVES_DAYS]
    assert choice.num_moments == len(MOMENTS)
    for days, measured in choice.by_half_life.items():
        values = np.concatenate([refitted(columns, share, days, choice.penalty) for share in MOMENTS])
        assert choice.num_lists == len(values)
        assert measured == pytest.approx(values.mean(), abs=2e-3)
    assert choice.by_half_life[choice.half_life_days] == max(choice.by_half_life.values())
    assert choice.by_penalty[choice.penalty] == max(choice.by_penalty.values())
    for penalty, measured in choice.by_penalty.items():
        values = np.concatenate([refitted(columns, share, 0.0, penalty) for share in MOMENTS])
        assert measured == pytest.approx(values.mean(), abs=2e-3)


def fashions(num_users=80, num_items=40, seed=0):
    """As ``drifting``, but everybody likes the same: each title has some months in which most come to it."""
    rng = np.random.default_rng(seed)
    user, item = np.nonzero(rng.random((num_users, num_items)) < 0.6)
    always = rng.random(len(user)) < 0.2
    time = np.where(always, rng.uniform(0, 30 * num_items, len(user)), item * 30 + rng.exponential(60, len(user))) * DAY
    return user + FIRST_KNOWN, item + FIRST_KNOWN, np.full(len(user), 5, np.float32), time.astype(np.int64)


@pytest.mark.parametrize("half_life", [0.0, 1.0, 50.0, 1000.0])
def test_popularity_is_a_title_s_share_of_likes_that_age(half_life):
    _, item, _, time = fashions()
    time[5] += 10**11  # to come in 3,000 years: it counts as one of today
    counts = np.bincount(item, minlength=SHAPE[1])
    config = dataclasses.replace(WHOLE, popularity_weight=0.7, popularity_half_life_days=half_life)
    now = np.sort(time)[int((len(time) - 1) * 0.999)]
    weight = [0.5 ** min(max(now - each, 0) / DAY / half_life, 60) if half_life else 1.0 for each in time.tolist()]
    share = np.zeros(SHAPE[1])
    for title, each in zip(item.tolist(), weight, strict=True):
        share[title] += each / sum(weight) * len(time) / 80
    found = matrices.popularity(item, counts, 80, config, time)
    np.testing.assert_allclose(found, 0.7 * share * (counts + 1.0) ** -0.08, rtol=1e-9)
    plain = matrices.popularity(item, counts, 80, config)
    assert np.array_equal(found, plain) == (half_life == 0), "without times no like ages"
    assert matrices.popularity(item[:0], counts, 80, config, time[:0]).sum() == 0


def test_where_fashions_pass_popularity_s_half_life_is_chosen_and_saved(tmp_path):
    columns = fashions()
    user, item, stars, time = columns
    free = dataclasses.replace(WHOLE, popularity_weight=None)
    model = HistoryModel.fit(user, item, stars, *SHAPE, config=free, timestamp=time)
    found = model.time_choice
    first, *others = found.by_popularity
    best = max(others, key=lambda each: each[2])
    weight, days = model.config.popularity_weight, model.config.popularity_half_life_days
    assert best[:2] == [weight, days] == [found.popularity_weight, found.popularity_half_life_days]
    assert 0 < days < 1000
    assert best[2] > max(first[2], *(each[2] for each in others if not each[1])) + 0.02
    settings = {"popularity_weight": weight, "popularity_half_life_days": days}
    choice = found.half_life_days, found.penalty
    values = np.concatenate([refitted(columns, share, *choice, **settings) for share in MOMENTS])
    assert best[2] == pytest.approx(values.mean(), abs=2e-3)
    model.save(tmp_path)
    again = HistoryModel.load(tmp_path)
    assert (again.config, again.time_choice) == (model.config, found)
    np.testing.assert_array_equal(again.item_bias, model.item_bias)
    given = dataclasses.replace(free, popularity_half_life_days=0.0)
    assert HistoryModel.fit(user, item, stars, *SHAPE, None, given, time).config.popularity_half_life_days == 0


def test_a_choice_of_before_popularity_aged_is_read(tmp_path):
    user, item, stars, time = fashions()
    HistoryModel.fit(user, item, stars, *SHAPE, config=WHOLE, timestamp=time).save(tmp_path)
    words = json.loads((tmp_path / "history.json").read_text("utf-8"))
    del words["config"]["popularity_half_life_days"], words["time_choice"]["popularity_half_life_days"]
    words["time_choice"]["by_popularity"] = [[0.0, 0.1], [0.03, 0.2]]
    (tmp_path / "history.json").write_text(json.dumps(words), "utf-8")
    assert HistoryModel.load(tmp_path).config.popularity_half_life_days is None


def test_where_tastes_turn_a_half_life_is_chosen_and_saved(tmp_path):
    user, item, stars, time = drifting()
    model = HistoryModel.fit(user, item, stars, *SHAPE, config=WHOLE, timestamp=time)
    assert model.config.half_life_days in HALF_LIVES_DAYS
    assert model.time_choice.by_half_life[model.config.half_life_days] > model.time_choice.by_half_life[0.0] + 0.02
    model.save(tmp_path)
    again = HistoryModel.load(tmp_path)
    assert (again.config, again.time_choice) == (model.config, model.time_choice)


def test_the_order_of_ratings_does_not_matter():
    columns = drifting()
    order = np.random.default_rng(1).permutation(len(columns[0]))
    first, second = chosen(*columns), chosen(columns[0][order] * 7, *(column[order] for column in columns[1:]))
    assert first.half_life_days == second.half_life_days
    assert first.by_half_life == pytest.approx(second.by_half_life, abs=1e-5)


def test_the_penalty_is_that_of_random_draws_or_above():
    columns = drifting()
    free = dataclasses.replace(WHOLE, penalty=None)
    drawn = HistoryModel.fit(*columns[:3], *SHAPE, None, free)
    model = HistoryModel.fit(*columns[:3], *SHAPE, None, free, columns[3])
    assert model.choice == drawn.choice
    assert list(model.time_choice.by_penalty) == [drawn.config.penalty * times for times in TIMES_PENALTY]
    assert model.config.penalty == model.time_choice.penalty
    given = HistoryModel.fit(*columns[:3], *SHAPE, None, dataclasses.replace(free, half_life_days=300.0), columns[3])
    assert list(given.time_choice.by_half_life) == [given.config.half_life_days] == [300.0]
    fixed = dataclasses.replace(WHOLE, half_life_days=300.0)
    assert HistoryModel.fit(*columns[:3], *SHAPE, None, fixed, columns[3]).time_choice is None


def test_with_few_lists_nothing_ages_and_the_penalty_is_chosen_as_without_times(monkeypatch):
    user, item, stars, time = drifting()
    free = dataclasses.replace(WHOLE, penalty=None)
    timeless = HistoryModel.fit(user, item, stars, *SHAPE, None, free)
    at_once = HistoryModel.fit(user, item, stars, *SHAPE, None, free, np.zeros_like(time))
    assert (at_once.config, at_once.choice, at_once.time_choice) == (timeless.config, timeless.choice, None)
    for module in (history_choice, history_recency):
        monkeypatch.setattr(module, "MAX_MEASURED", 21)
    choice = chosen(user, item, stars, time)
    assert 3 * 21 <= choice.num_lists <= 4 * 21
    assert choice == chosen(user, item, stars, time), "the sample is drawn anew"


def test_a_half_life_below_0_is_refused():
    with pytest.raises(ConfigError, match="half_life_days"):
        HistoryConfig(half_life_days=-1.0)


# in a bundle ------------------------------------------------------------------------------------------------------


def bundle_of(data, folder, kind="time", **settings):
    run = run_config(models=("history",), history=dataclasses.replace(SMALL, **settings), split=SplitConfig(kind=kind))
    return train_bundle(data, run, folder)


def test_the_split_decides_and_test_ratings_have_no_say(tmp_path, monkeypatch):
    monkeypatch.setattr(history_model, "FEWEST_MEASURED", 1)
    data = dataset()
    first = bundle_of(data, tmp_path / "first")
    stars = data.interactions.rating.copy()
    test = split(data.interactions, SplitConfig(kind="time")).test
    stars[test] = 5.5 - stars[test]
    other = dataclasses.replace(
        data, interactions=dataclasses.replace(data.interactions, rating=stars), fingerprint="2"
    )
    bundle_of(other, tmp_path / "second")
    assert len(test)
    assert first.history.time_choice.num_lists > 0
    assert first.info.metrics["history"]["time_choice"] == first.history.time_choice.to_json()
    for name in ("history.npz", "history.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    plain = bundle_of(data, tmp_path / "plain", kind="random")
    words = json.loads((tmp_path / "plain" / "history.json").read_text("utf-8"))
    assert plain.interactions.timestamp is None
    assert "time_choice" not in words
    assert words["config"]["half_life_days"] is None


@pytest.fixture(scope="module")
def aging(tmp_path_factory):
    return bundle_of(dataset(), tmp_path_factory.mktemp("aging") / "bundle", half_life_days=50.0)


def aged_form(bundle, ratings):
    users, items = bundle.encoded_users.index_of(ratings.user_id), bundle.encoded_items.index_of(ratings.item_id)
    weights = bundle.history.config.weights(ratings.rating) * slow_recency(ratings.user_id, ratings.timestamp, 50.0)
    out = np.zeros((len(bundle.encoded_users), bundle.history.item_in.shape[1] - 1))
    np.add.at(out, users, weights[:, None] * bundle.history.item_in[items, :-1])
    return out


def test_lists_are_made_from_aged_histories(aging):
    ratings = dataset().interactions
    found = load(aging.path).list_form(None).users.dot[:, :-1]
    np.testing.assert_allclose(found, aged_form(aging, ratings), rtol=0, atol=1e-4)


def test_newer_ratings_make_older_ones_age(aging):
    ratings = dataset().interactions
    who, what = (
        int(ratings.user_id[0]),
        int(np.setdiff1d(ratings.item_id, ratings.item_id[ratings.user_id == ratings.user_id[0]])[0]),
    )
    when = int(ratings.timestamp.max()) + 100 * DAY
    new = Interactions(
        *(
            np.array([value], column.dtype)
            for value, column in zip(
                (who, what, 5.0, when),
                (ratings.user_id, ratings.item_id, ratings.rating, ratings.timestamp),
                strict=True,
            )
        )
    )
    both = Interactions(
        *(
            np.concatenate([getattr(ratings, name), getattr(new, name)])
            for name in ("user_id", "item_id", "rating", "timestamp")
        )
    )
    fresh = FreshBundle(aging, FreshRatings.of(aging, new))
    found = fresh.list_form(None).users.dot[:, :-1]
    expected = aged_form(fresh, both)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    assert np.abs(expected - aged_form(fresh, ratings)).max() > 0.01


def test_the_parts_of_an_explanation_sum_to_the_score_of_aged_ratings(aging):
    for user in aging.encoded_users.known_ids[:5].tolist():
        ids, scores = aging.recommend([user], 5).row(0)
        for why, score in zip(aging.explain_recommendation(user, ids), scores, strict=True):
            assert why.liked + why.watched + why.itself + why.popularity + why.ranker == pytest.approx(score, abs=1e-5)
    user = int(aging.encoded_users.known_ids[0])
    row = aging.encoded_users.index_of([user])
    item = aging.encoded_items.known_ids[:1]
    own = aging.interactions.rows.user_index == row[0]
    weights = aging.history.config.weights(aging.interactions.rating[own])
    weights = weights * slow_recency(aging.interactions.rows.user_index[own], aging.interactions.timestamp[own], 50.0)
    added = aging.history.contributions(
        int(aging.encoded_items.index_of(item)[0]), aging.interactions.rows.item_index[own], weights
    )
    why = aging.explain_recommendation(user, item)[0]
    assert why.liked + why.watched + why.itself == pytest.approx(float(added.sum()), abs=1e-5)


def test_a_visitor_s_likes_do_not_age(aging):
    liked = aging.encoded_items.known_ids[:3]
    rows = aging.encoded_items.index_of(liked)
    still = dataclasses.replace(aging.history, config=dataclasses.replace(aging.history.config, half_life_days=0.0))
    form = still.form_of(still.user_vectors(np.array([0, 3]), rows))
    ids, scores = aging.recommend_for(liked, 4).row(0)
    columns = aging.encoded_items.index_of(ids)
    np.testing.assert_allclose(scores, form.score_pairs(np.zeros(4, np.int64), columns), rtol=0, atol=1e-6)


def test_lists_by_time_are_compared_after_a_split_by_time():
    kinds = {task.protocol: compared_config(task, quick=False).split.kind for task in tasks_for(dataset(), "ABC", [1])}
    assert kinds == {"A": "random", "B": "random", "C": "time", "rolling": "time"}
