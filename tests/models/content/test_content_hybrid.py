"""Look-alikes by content and by who likes both: against the slow obvious sum, and how their share is chosen."""

from __future__ import annotations

import json

import numpy as np
import pytest
from small import item_table

from sdk.base.errors import BundleError, UnknownItemError, UsageError
from sdk.models.content.hybrid import LikedShare, choose_share, liked_part
from sdk.models.content.model import ContentModel
from sdk.models.content.together import Likes

NUM_ITEMS, NUM_USERS = 25, 40
UNLIKED = (3, 4)


def world(seed=0, share=0.7, shrink=2.0, unliked=UNLIKED):
    """(model, items, likes) of random content and random likes; ids have gaps."""
    rng = np.random.default_rng(seed)
    ids = np.sort(rng.choice(1000, NUM_ITEMS, replace=False))
    items = item_table(ids.tolist(), rng)
    user, item = np.nonzero(rng.random((NUM_USERS, NUM_ITEMS)) < rng.random(NUM_ITEMS))
    likes = Likes(*(column[~np.isin(item, unliked)] for column in (user, item)))
    model = ContentModel().fit(items)
    model.liked = LikedShare(share, shrink)
    return model.listing_together(likes), items, likes


def obvious(model, likes, item_id):
    """item_id -> score, one pair at a time; and whether liking together has a part in them."""
    ids = model.item_id.tolist()
    fans = {each: set(likes.user[likes.item == row].tolist()) for row, each in enumerate(ids)}
    together = {}
    for other in set(ids) - {item_id}:
        product = len(fans[item_id]) * len(fans[other])
        more = len(fans[item_id] & fans[other]) - product / len(set(likes.user.tolist()))
        together[other] = max(more, 0) / (product**0.5 + model.liked.shrink)
    share = model.liked.share if any(together.values()) else 0.0
    cosine = {other: model.explain(item_id, other).score for other in together}
    return {other: (1 - share) * cosine[other] + share * liked for other, liked in together.items()}, share > 0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("share", "shrink"), [(0.0, 10.0), (0.2, 3.0), (0.9, 30.0)])
@pytest.mark.parametrize("k", [1, 6, NUM_ITEMS + 5])
def test_lists_match_the_slow_obvious_version(seed, share, shrink, k):
    model, _, likes = world(seed, share, shrink)
    asked = model.item_id[[0, 7, 19, UNLIKED[0]]]
    found = model.similar(asked, k)
    assert found.item_id.shape == (4, min(k, NUM_ITEMS))
    for b, item_id in enumerate(asked.tolist()):
        scores, is_hybrid = obvious(model, likes, item_id)
        assert found.source[b] == ("hybrid" if is_hybrid else "content")
        assert not (is_hybrid and b == 3), "nobody likes it"
        expected = sorted((score for score in scores.values() if score > 1e-9), reverse=True)[:k]
        ids, listed = found.row(b)
        assert len(set(ids.tolist())) == len(ids) == len(expected)
        np.testing.assert_allclose(listed, expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose([scores[item] for item in ids.tolist()], expected, rtol=0, atol=1e-6)
        assert (found.item_id[b, len(ids) :] == -1).all()
        assert (found.scores[b, len(ids) :] == -np.inf).all()


def test_a_title_that_nobody_likes_gets_its_content_list_to_the_bit_and_all_do_by_content():
    model, items, _ = world()
    plain = ContentModel().fit(items).similar(model.item_id, 6)
    found, alone = model.similar(model.item_id, 6), model.by_content().similar(model.item_id, 6)
    for name in ("item_id", "scores", "source"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(plain, name))
        np.testing.assert_array_equal(getattr(found, name)[list(UNLIKED)], getattr(plain, name)[list(UNLIKED)])
    assert (found.item_id[0] != alone.item_id[0]).any()


def test_the_company_of_other_titles_changes_no_bit():
    model, *_ = world()
    whole = model.similar(model.item_id, 5)
    for b, item_id in enumerate(model.item_id):
        one = model.similar([item_id], 5)
        np.testing.assert_array_equal(one.item_id[0], whole.item_id[b])
        np.testing.assert_array_equal(one.scores[0], whole.scores[b])


def test_what_everybody_likes_is_liked_together_with_nothing():
    model, items, _ = world(share=0.5)
    fans = [(user, item) for user in range(20) for item in range(NUM_ITEMS) if item == 0 or item % 2 == user % 2]
    liked = model.listing_together(Likes(*np.array(fans).T))
    alone = model.by_content().similar(model.item_id[:1], NUM_ITEMS)
    found = liked.similar(model.item_id[:1], NUM_ITEMS)
    np.testing.assert_array_equal(found.item_id, alone.item_id)
    assert ContentModel().fit(items).shares(model.item_id).tolist() == [0] * NUM_ITEMS


def test_what_is_liked_of_a_score_is_what_content_does_not_say():
    model, _, likes = world()
    asked = int(model.item_id[2])
    share = float(model.shares([asked])[0])
    slow, _ = obvious(model, likes, asked)
    for other, score in zip(*model.similar([asked], 24).row(0), strict=True):
        cosine = model.explain(asked, int(other)).score
        liked = liked_part(float(score), cosine, share)
        assert liked == pytest.approx(slow[int(other)] - (1 - share) * cosine, abs=2e-6)


def test_a_narrowed_model_lists_the_same_titles_without_the_others():
    model, *_ = world()
    kept = model.item_id[::2]
    asked = model.item_id[5:8]
    narrowed, whole = model.listing(kept).similar(asked, NUM_ITEMS), model.similar(asked, NUM_ITEMS)
    for b in range(3):
        ids = whole.row(b)[0]
        assert narrowed.row(b)[0].tolist() == ids[np.isin(ids, kept)].tolist()


# --- files


def test_a_loaded_model_lists_the_same(tmp_path):
    model, items, _ = world()
    model.save(tmp_path)
    loaded = ContentModel.load(tmp_path, items)
    assert loaded.liked == model.liked
    for name in ("item_id", "scores", "source"):
        found, expected = (getattr(each.similar(model.item_id, 9), name) for each in (loaded, model))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("wrong", [{"share": 1.0}, {"share": "much"}, {"shrink": -1.0}, {}])
def test_a_share_that_is_none_is_refused(tmp_path, wrong):
    model, items, _ = world()
    model.save(tmp_path)
    words = json.loads((tmp_path / "content.json").read_text("utf-8"))
    words["alike"] = {**words["alike"], **wrong} if wrong else {"share": 0.5}
    (tmp_path / "content.json").write_text(json.dumps(words), "utf-8")
    with pytest.raises(BundleError, match="does not fit"):
        ContentModel.load(tmp_path, items)


# --- the choice


def tastes(rng, num_users, *, by_content):
    """(unit rows, likes): titles of six kinds, liked by their kind or by another one that is drawn apart from it."""
    from scipy.sparse import csr_matrix

    kind, hidden = rng.integers(0, 6, (2, 60))
    matrix = csr_matrix((np.ones(60, np.float32), (np.arange(60), kind)))
    shown = kind if by_content else hidden
    chance = np.where(rng.integers(0, 6, num_users)[:, None] == shown, 0.5, 0.05)
    return matrix, Likes(*np.nonzero(rng.random(chance.shape) < chance))


def test_liking_together_has_a_share_where_content_says_nothing_of_it():
    found = choose_share(*tastes(np.random.default_rng(0), 300, by_content=False))
    assert found.share > 0.5
    assert found.num_items > 100
    assert found.ndcg > found.by_content + 0.3


def test_liking_together_has_a_small_share_where_content_says_it_all():
    few = tastes(np.random.default_rng(0), 20, by_content=True)
    many = tastes(np.random.default_rng(0), 300, by_content=False)
    found = choose_share(*few)
    assert found.share < choose_share(*many).share
    assert found.ndcg >= found.by_content


def test_liking_at_random_has_no_share():
    rng = np.random.default_rng(1)
    matrix, _ = tastes(rng, 10, by_content=True)
    assert choose_share(matrix, Likes(*np.nonzero(rng.random((200, 60)) < 0.1))).share == 0


def test_too_few_likes_choose_nothing():
    matrix, likes = tastes(np.random.default_rng(0), 300, by_content=False)
    few = Likes(likes.user[:4], likes.item[:4])
    nobody = Likes(likes.user[:0], likes.item[:0])
    assert choose_share(matrix, few) == choose_share(matrix, nobody) == LikedShare()


def test_what_cannot_be_asked_is_refused():
    model, *_ = world()
    with pytest.raises(UsageError, match="k: got 0"):
        model.similar(model.item_id[:1], 0)
    with pytest.raises(UnknownItemError):
        model.shares([-7])
    with pytest.raises(ValueError, match="share 1"):
        LikedShare(1.0)
