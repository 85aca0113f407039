"""A ranker's share of lists: taken where it pays beyond doubt, measured like the slow and obvious way."""

from __future__ import annotations

import numpy as np
import pytest
from pair_forms import all_scores, random_form

from sdk.features.tables import FIRST_KNOWN, EncodedInteractions
from sdk.models.pair_form import NO_MLP, PairForm, Side
from sdk.training.ranker_share import WORTH, ShareTask

USERS, ITEMS, DIM = 300, 120, 8


class Ranker:
    """Stands for a trained one: all that is asked of it is its pair form."""

    def __init__(self, form):
        self.form = form

    def lower(self):
        return self.form


def rows(user, item):
    return EncodedInteractions(user.astype(np.int32), item.astype(np.int32), np.ones(len(user), np.int8))


def world(seed=0):
    """Tastes, what is learnt of them, and what is liked: the five best of a user and noise; two stand in the past."""
    rng = np.random.default_rng(seed)
    users, items = rng.normal(size=(USERS, DIM)), rng.normal(size=(ITEMS, DIM))
    truth = users @ items.T + rng.gumbel(size=(USERS, ITEMS))
    truth[:, :FIRST_KNOWN] = truth[:FIRST_KNOWN] = -np.inf
    best = np.argsort(-truth[FIRST_KNOWN:], axis=1)[:, :7]
    user = np.repeat(np.arange(FIRST_KNOWN, USERS), 7)
    is_past = np.tile(np.arange(7) < 2, USERS - FIRST_KNOWN)
    return users, items, rows(user[is_past], best.ravel()[is_past]), rows(user[~is_past], best.ravel()[~is_past])


def form_of(users, items):
    return PairForm(*(Side.plain(np.zeros(len(x), np.float32), x.astype(np.float32)) for x in (users, items)), NO_MLP)


def half(users, items, first):
    keep = np.arange(DIM) < DIM // 2
    return form_of(users * (keep if first else ~keep), items)


def ndcg10(scores, asked, user):
    order = np.argsort(-scores, kind="stable")[:10]
    gains = np.isin(order, asked.item_index[asked.user_index == user]) / np.log2(np.arange(2, 12))
    many = min(int((asked.user_index == user).sum()), 10)
    return gains.sum() / (1 / np.log2(np.arange(2, 2 + many))).sum()


def test_a_ranker_that_knows_what_the_closed_form_does_not_gets_a_share():
    users, items, past, asked = world()
    known, other = half(users, items, True), half(users, items, False)
    found = ShareTask.of(known, past, asked, seed=0).choose(Ranker(other))
    assert found.share > 0
    assert found.ndcg10[found.share] > (1 + WORTH) * found.ndcg10[0.0]
    for share, value in found.ndcg10.items():
        scores = all_scores(known) + share * all_scores(other)
        scores[:, :FIRST_KNOWN] = -np.inf
        scores[past.user_index, past.item_index] = -np.inf
        slow = np.mean([ndcg10(scores[user], asked, user) for user in range(FIRST_KNOWN, USERS)])
        assert value == pytest.approx(slow, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_a_ranker_that_knows_nothing_or_the_same_gets_none(seed):
    users, items, past, asked = world(seed)
    known = form_of(users, items)
    for ranker in (random_form(USERS, ITEMS, (4, 8, 1, 1, 2, [4]), seed=seed), known):
        assert ShareTask.of(known, past, asked, seed=0).choose(Ranker(ranker)).share == 0


def test_a_gain_that_is_sure_but_not_worth_its_time_is_not_taken(monkeypatch):
    users, items, past, asked = world()
    task = ShareTask.of(half(users, items, True), past, asked, seed=0)
    monkeypatch.setattr("sdk.training.ranker_share.WORTH", 10.0)
    assert task.choose(Ranker(half(users, items, False))).share == 0


def test_with_few_users_nothing_is_measured():
    users, items, past, asked = world()
    assert ShareTask.of(form_of(users, items), past, asked.take(asked.user_index < FIRST_KNOWN + 99), seed=0) is None
