"""The engine against the slow obvious version: score every pair, sort by (-score, id), leave out what was seen."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import all_pairs, encoded_table, jitter, run_config, tables

from sdk.base.config import DLRMConfig, NCFConfig
from sdk.base.errors import ScoreError, UsageError
from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN, UNKNOWN
from sdk.models.dlrm import DLRM
from sdk.models.ncf import NCF
from sdk.models.pair_form import Head, PairForm, Side
from sdk.models.ranker import build_ranker
from sdk.scoring.engine import Engine
from sdk.scoring.recommender import Recommender


def bias_form(users, items):
    """A form whose scores are a[u] + b[i]: whole numbers make many exact ties."""

    def side(bias):
        none = np.zeros((len(bias), 0), np.float32)
        return Side(np.asarray(bias, np.float32), none, none, none[:, :, None])

    return PairForm(side(users), side(items), Head(np.zeros((0, 0), np.float32), ()))


def obvious(scores, users, seen_sets, k, allowed=None):
    lists = []
    for u, gone in zip(users, seen_sets, strict=True):
        may = [i for i in range(FIRST_KNOWN, scores.shape[1]) if i not in gone and (allowed is None or allowed[i])]
        lists.append(sorted(may, key=lambda i: (-scores[u, i], i))[:k])
    return lists


def seen_of(sets):
    pairs = [(b, item) for b, items in enumerate(sets) for item in items]
    rows, items = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return Seen.build(rows, items, len(sets))


def recommend(form, user_index, seen, k, allowed=None):
    return Engine(form, allowed).top_k(user_index, seen, k)


def lists_of(found):
    return [found.item_index[b, :n].tolist() for b, n in enumerate(found.lengths)]


@st.composite
def tie_cases(draw):
    num_users, num_items = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    whole = st.integers(-2, 2)
    users = draw(st.lists(whole, min_size=num_users, max_size=num_users))
    items = draw(st.lists(whole, min_size=num_items + FIRST_KNOWN, max_size=num_items + FIRST_KNOWN))
    rows = draw(st.lists(st.integers(0, num_users - 1), max_size=6))
    item = st.integers(0, num_items + FIRST_KNOWN - 1)
    seen = [draw(st.sets(item)) for _ in rows]
    allowed = draw(st.none() | st.lists(st.booleans(), min_size=len(items), max_size=len(items)))
    return users, items, rows, seen, None if allowed is None else np.array(allowed), draw(st.integers(1, 15))


@settings(max_examples=300, deadline=None)
@given(tie_cases())
def test_ties_go_to_the_smaller_id_whatever_is_seen_allowed_or_asked_for(case):
    users, items, rows, seen, allowed, k = case
    scores = np.add.outer(np.float32(users), np.float32(items))
    found = recommend(bias_form(users, items), np.array(rows, dtype=np.int64), seen_of(seen), k, allowed)
    expected = obvious(scores, rows, seen, k, allowed)
    assert lists_of(found) == expected
    for b, items_ in enumerate(expected):
        assert found.scores[b, : len(items_)].tolist() == scores[rows[b], items_].tolist()


@pytest.mark.parametrize("name", ["dlrm", "ncf", "neumf"])
@pytest.mark.parametrize("k", [1, 7, 2000])
def test_lists_of_every_model_are_those_of_scoring_all_pairs(name, k):
    """More users and items than one tile holds."""
    users, items = tables(3, 70, 1100)
    config = run_config(ncf=NCFConfig(variant="neumf" if name == "neumf" else "dot", embedding_dim=4))
    model = jitter(build_ranker("dlrm" if name == "dlrm" else "ncf", config, users, items), scale=0.2)
    with torch.no_grad():
        scores = model(*all_pairs(len(users), len(items))).numpy().reshape(len(users), -1)
    rng = np.random.default_rng(1)
    rows = rng.permutation(len(users))
    seen = [set(rng.choice(len(items), 200, replace=False).tolist()) for _ in rows]
    found = recommend(model.lower(), rows, seen_of(seen), k)
    for b, user in enumerate(rows):
        listed = found.item_index[b, : found.lengths[b]]
        ideal = scores[user, obvious(scores, [user], [seen[b]], k)[0]]
        assert len(set(listed.tolist())) == len(ideal) == found.lengths[b]
        assert not seen[b] & set(listed.tolist())
        assert listed.min() >= FIRST_KNOWN
        # by the network's own scores each rank is worth what it should be: only float noise may swap two items
        np.testing.assert_allclose(scores[user, listed], ideal, rtol=0, atol=1e-5)
        np.testing.assert_allclose(found.scores[b, : found.lengths[b]], ideal, rtol=0, atol=1e-5)


def test_who_else_is_asked_for_changes_nobodys_list():
    users, items = tables(4, 150, 60)
    form = jitter(DLRM(DLRMConfig(embedding_dim=4), users, items)).lower()
    rows = np.arange(len(users))
    whole = recommend(form, rows, Seen.nothing(len(rows)), 9)
    for some in (rows[::-1], rows[100:101], rows[[5, 5, 80]]):
        part = recommend(form, some, Seen.nothing(len(some)), 9)
        np.testing.assert_array_equal(part.item_index, whole.item_index[some])
        np.testing.assert_allclose(part.scores, whole.scores[some], rtol=1e-5, atol=1e-5)


def test_one_user_one_item():
    form = bias_form([0, 0, 0, 1.5], [9, 9, 9, 2.0])
    found = recommend(form, np.array([3]), Seen.nothing(1), 5)
    assert lists_of(found) == [[3]]
    assert found.scores[0, 0] == 3.5


def test_a_user_who_has_seen_everything_gets_an_empty_list():
    form = bias_form([0, 1], [0, 0, 0, 1, 2])
    found = recommend(form, np.array([1, 0]), seen_of([{3, 4}, set()]), 2)
    assert found.lengths.tolist() == [0, 2]
    assert lists_of(found) == [[], [4, 3]]


def test_nothing_allowed_gives_empty_lists_for_an_mlp_too():
    users, items = tables()
    form = jitter(DLRM(DLRMConfig(embedding_dim=4), users, items)).lower()
    nothing = recommend(form, np.array([4, 5]), Seen.nothing(2), 3, np.zeros(len(items), dtype=bool))
    assert nothing.lengths.tolist() == [0, 0]
    assert recommend(form, np.zeros(0, dtype=np.int64), Seen.nothing(0), 3).lengths.tolist() == []


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_is_an_error_that_names_the_user_row(bad):
    users = np.zeros(100, dtype=np.float32)
    users[83] = bad
    with pytest.raises(ScoreError, match="user row 83"):
        recommend(bias_form(users, np.zeros(6)), np.arange(100), Seen.nothing(100), 2)


def test_k_below_one_is_refused():
    with pytest.raises(UsageError, match="got 0"):
        recommend(bias_form([0], [0] * 5), np.array([0]), Seen.nothing(1), 0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=40), st.lists(st.integers(0, 5), max_size=8))
def test_seen_keeps_each_users_items_once_and_ascending(pairs, rows):
    users, items = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    seen = Seen.build(users, items, 6)
    expected = [sorted({item for user, item in pairs if user == u}) for u in range(6)]
    assert [seen.row(u).tolist() for u in range(6)] == expected
    taken = seen.take(np.array(rows, dtype=np.int64))
    assert [taken.row(b).tolist() for b in range(len(rows))] == [expected[u] for u in rows]


# --- the recommender ----------------------------------------------------------------------------------------------


def recommender(form_of=None, cold_share=0.4):
    rng = np.random.default_rng(5)
    users, items = encoded_table(rng, 30, cold_share=cold_share), encoded_table(rng, 12)
    model = jitter(NCF(NCFConfig(embedding_dim=4), users, items))
    return Recommender("ncf", model.lower() if form_of is None else form_of(users, items), users, items)


def test_users_that_the_model_does_not_know_get_popular_titles_labelled_so():
    made = recommender()
    rows = np.array([UNKNOWN, *range(FIRST_KNOWN, 33)])
    found = made.recommend(rows, Seen.nothing(len(rows)), 4)
    cold = made.users.codes["id"][rows] == UNKNOWN
    assert 1 < cold.sum() < len(rows)
    assert found.source.tolist() == ["popular" if c else "ncf" for c in cold]
    likes = made.items.statistics.likes[FIRST_KNOWN:]
    popular = made.items.ids[FIRST_KNOWN:][np.argsort(-likes, kind="stable")[:4]]
    for b in np.flatnonzero(cold):
        assert found.item_id[b].tolist() == popular.tolist()
    own = recommend(made.form, rows[~cold], Seen.nothing(int((~cold).sum())), 4)
    np.testing.assert_array_equal(found.item_id[~cold], made.items.ids[own.item_index])


def test_seen_titles_stay_out_for_known_and_unknown_users_alike():
    made = recommender()
    rows = np.arange(FIRST_KNOWN, 33)
    rng = np.random.default_rng(0)
    seen = [set(rng.choice(np.arange(FIRST_KNOWN, 15), 9, replace=False).tolist()) for _ in rows]
    found = made.recommend(rows, seen_of(seen), 12)
    for b in range(len(rows)):
        item_ids, _ = found.row(b)
        assert set(made.items.index_of(item_ids).tolist()) == set(range(FIRST_KNOWN, 15)) - seen[b]
        assert (found.item_id[b, found.lengths[b] :] == -1).all()
        assert np.isneginf(found.scores[b, found.lengths[b] :]).all()


def test_a_history_makes_a_list_personal_where_the_id_has_no_embedding():
    plain = recommender()
    cold = np.flatnonzero(plain.users.codes["id"] == UNKNOWN)
    rated, unrated = cold[cold >= FIRST_KNOWN][:2]
    has_history = np.ones(len(plain.users), dtype=np.bool_)
    has_history[[UNKNOWN, unrated]] = False
    form = dataclasses.replace(plain.form, has_history=has_history)
    made = Recommender("ncf", form, plain.users, plain.items)
    rows = np.array([UNKNOWN, unrated, rated, *np.setdiff1d(np.arange(FIRST_KNOWN, 33), cold)])
    found = made.recommend(rows, Seen.nothing(len(rows)), 4)
    assert found.source.tolist() == ["popular", "popular", "history", *["ncf"] * (len(rows) - 3)]
    own = recommend(form, rows[2:], Seen.nothing(len(rows) - 2), 4)
    np.testing.assert_array_equal(found.item_id[2:], made.items.ids[own.item_index])
    np.testing.assert_array_equal(found.item_id[:2], plain.recommend(rows[:2], Seen.nothing(2), 4).item_id)


def test_without_a_model_everyone_gets_popular_titles():
    known = recommender()
    made = Recommender("popular", None, known.users, known.items)
    found = made.recommend(np.array([3, 4]), Seen.nothing(2), 3)
    assert set(found.source) == {"popular"}


def test_a_broken_model_is_refused_when_it_is_opened():
    def broken(users, items):
        return bias_form(np.full(len(users), np.nan), np.zeros(len(items)))

    with pytest.raises(ScoreError, match="user row 0"):
        recommender(broken)


def test_titles_without_content_get_popular_ones_and_never_themselves():
    made = recommender()
    wanted = made.items.ids[FIRST_KNOWN:]
    found = made.similar(None, wanted, 4)
    for b, item in enumerate(wanted):
        assert item not in found.item_id[b]
        assert found.lengths[b] == 4
    assert set(found.source) == {"popular"}
