"""Filters asked of a bundle, against taking the unfiltered lists apart by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sdk.base.errors import UnknownItemError, UsageError

EVERYTHING = 1000


@pytest.fixture(scope="module")
def whole(bundle):
    """Each user's whole unseen list: user_id -> item_ids, best first."""
    users = bundle.users.column("user_id").to_pylist()[:20]
    lists = bundle.recommend(users, EVERYTHING)
    return {user: lists.row(b)[0].tolist() for b, user in enumerate(users)}


def listed(bundle, whole, k=EVERYTHING, **filters):
    lists = bundle.recommend(list(whole), k, **filters)
    return {user: lists.row(b)[0].tolist() for b, user in enumerate(whole)}


def test_candidates_are_the_only_ones_listed(bundle, whole):
    only = [3, 8, 9, 31, 60]
    assert listed(bundle, whole, candidates=only) == {u: [i for i in ids if i in only] for u, ids in whole.items()}


def test_denied_titles_never_appear_and_the_rest_moves_up(bundle, whole):
    deny = [ids[0] for ids in whole.values()]
    expected = {u: [i for i in ids if i not in deny][:7] for u, ids in whole.items()}
    assert listed(bundle, whole, 7, deny=deny) == expected


def test_a_users_own_deny_list_touches_nobody_else(bundle, whole):
    user = next(iter(whole))
    gone = whole[user][:3]
    got = listed(bundle, whole, deny_by_user={user: gone})
    assert got[user] == whole[user][3:]
    assert {u: ids for u, ids in got.items() if u != user} == {u: ids for u, ids in whole.items() if u != user}


def test_titles_below_a_minimum_of_ratings_are_left_out(bundle, whole):
    items = bundle.encoded_items
    often = set(items.ids[items.statistics.count >= 12].tolist())
    assert 0 < len(often) < len(items.known_ids)
    expected = {u: [i for i in ids if i in often] for u, ids in whole.items()}
    assert listed(bundle, whole, min_ratings=12) == expected


def test_filters_work_together(bundle, whole):
    got = listed(bundle, whole, candidates=np.arange(1, 31), deny=[5, 6], min_ratings=1)
    assert got == {u: [i for i in ids if i <= 30 and i not in (5, 6)] for u, ids in whole.items()}


def test_unknown_titles_and_negative_minima_are_refused(bundle):
    with pytest.raises(UnknownItemError, match="123456"):
        bundle.recommend([1], 5, candidates=[123456])
    with pytest.raises(UnknownItemError, match="-4"):
        bundle.recommend([1], 5, deny=[-4])
    with pytest.raises(UsageError, match="min_ratings: got -1"):
        bundle.recommend([1], 5, min_ratings=-1)


def test_a_visitor_is_served_from_a_handful_of_likes(bundle):
    liked = [3, 9, 31]
    ids, scores = bundle.recommend_for(liked, EVERYTHING).row(0)
    history, rows = bundle.history, bundle.encoded_items.index_of(liked)
    popularity = 1 + history.config.popularity_boost / (3 + history.config.boost_titles)
    every = history.item_out @ history.item_in[rows].sum(axis=0) + popularity * history.item_bias
    assert not set(liked) & set(ids.tolist())
    np.testing.assert_allclose(scores, every[bundle.encoded_items.index_of(ids)], rtol=1e-5, atol=1e-6)
    assert len(ids) == bundle.items.num_rows - 3
    assert (np.diff(scores) <= 0).all()
    assert bundle.recommend_for(liked).source.tolist() == ["history"]
    nobody, unknown = bundle.recommend_for([], 5), bundle.recommend([-1], 5)
    assert nobody.source.tolist() == ["popular"]
    np.testing.assert_array_equal(nobody.item_id, unknown.item_id)
    with pytest.raises(UnknownItemError, match="77777"):
        bundle.recommend_for([77777])
