"""Hybrid neighbours against the slow obvious sum, and what becomes of titles that nobody has rated."""

from __future__ import annotations

import numpy as np
import pytest
from small import encoded_table, item_table

from sdk.base.config import HistoryConfig
from sdk.base.errors import UnknownItemError, UsageError
from sdk.features.tables import FIRST_KNOWN
from sdk.models.content.hybrid import hybrid_similar, learned_part
from sdk.models.content.model import ContentModel
from sdk.models.history.model import HistoryModel

NUM_ITEMS, RANK = 25, 4


def world(seed=0, *, unrated=()):
    """(content, history, items) with random factors, some of whose products are negative; ids have gaps."""
    rng = np.random.default_rng(seed)
    items = encoded_table(rng, NUM_ITEMS)
    items.statistics.count[FIRST_KNOWN:] = rng.integers(1, 30, NUM_ITEMS)
    items.statistics.count[[FIRST_KNOWN + row for row in unrated]] = 0
    content = ContentModel().fit(item_table(items.known_ids.tolist(), rng))
    factors = rng.normal(size=(2, len(items), RANK)).astype(np.float32)
    factors[:, :FIRST_KNOWN] = 0
    history = HistoryModel(factors[0], factors[1], np.zeros(len(items), np.float32), HistoryConfig(rank=RANK))
    return content, history, items


def obvious(content, history, items, item_id, share):
    """item_id -> score, one pair at a time."""
    row = items.index_of([item_id])[0]
    others = [int(other) for other in items.known_ids if other != item_id]
    learned = {}
    for other in others:
        at = items.index_of([other])[0]
        product = float(np.dot(history.item_in[row], history.item_out[at]))
        learned[other] = max(product, 0.0) if items.statistics.count[at] > 0 else 0.0
    most = max(learned.values()) or 1.0
    cosine = {other: content.explain(item_id, other).score for other in others}
    return {other: (1 - share) * cosine[other] + share * learned[other] / most for other in others}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.0, 0.2, 0.7, 1.0])
@pytest.mark.parametrize("k", [1, 6, NUM_ITEMS + 5])
def test_lists_match_the_slow_obvious_version(seed, share, k):
    content, history, items = world(seed, unrated=(3, 4))
    asked = items.known_ids[[0, 7, 19]]
    found = hybrid_similar(content, history, items, asked, k, share)
    assert found.item_id.shape == (3, min(k, len(items.known_ids)))
    for b, item_id in enumerate(asked.tolist()):
        scores = obvious(content, history, items, item_id, share)
        expected = sorted((score for score in scores.values() if score > 1e-9), reverse=True)[:k]
        ids, listed = found.row(b)
        assert len(set(ids.tolist())) == len(ids) == len(expected)
        np.testing.assert_allclose(listed, expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose([scores[item] for item in ids.tolist()], expected, rtol=0, atol=1e-6)
        assert (found.item_id[b, len(ids) :] == -1).all()
        assert (found.scores[b, len(ids) :] == -np.inf).all()


def test_a_title_that_nobody_has_rated_gets_its_content_list_and_the_label():
    content, history, items = world(unrated=(5,))
    asked = items.known_ids[[4, 5, 6]]
    found, alone = hybrid_similar(content, history, items, asked, 6), content.similar(asked, 6)
    assert found.source.tolist() == ["hybrid", "content", "hybrid"]
    np.testing.assert_array_equal(found.item_id[1], alone.item_id[1])
    np.testing.assert_array_equal(found.scores[1], alone.scores[1])
    assert (found.item_id[[0, 2]] != alone.item_id[[0, 2]]).any()


def test_the_company_of_other_titles_changes_no_list():
    content, history, items = world()
    whole = hybrid_similar(content, history, items, items.known_ids, 5)
    for b, item_id in enumerate(items.known_ids):
        np.testing.assert_array_equal(
            hybrid_similar(content, history, items, [item_id], 5).item_id[0], whole.item_id[b]
        )


def test_equal_scores_go_to_the_smaller_id():
    content, history, items = world()
    same = HistoryModel(
        np.ones_like(history.item_in), np.ones_like(history.item_out), history.item_bias, history.config
    )
    ids, scores = hybrid_similar(content, same, items, items.known_ids[:1], NUM_ITEMS, 1.0).row(0)
    assert len(set(scores.tolist())) == 1
    assert ids.tolist() == items.known_ids[1:].tolist()


def test_what_is_learned_of_a_score_is_what_content_does_not_say():
    content, history, items = world()
    asked = int(items.known_ids[2])
    for other, score in zip(*hybrid_similar(content, history, items, [asked], 24).row(0), strict=True):
        product = float(history.item_in[items.index_of([asked])[0]] @ history.item_out[items.index_of([other])[0]])
        assert (learned_part(float(score), content.explain(asked, int(other)).score) > 0) == (product > 1e-4)


def test_what_cannot_be_asked_is_refused():
    content, history, items = world()
    with pytest.raises(UsageError, match=r"learned_share=1\.5"):
        hybrid_similar(content, history, items, items.known_ids[:1], 3, 1.5)
    with pytest.raises(UsageError, match="k: got 0"):
        hybrid_similar(content, history, items, items.known_ids[:1], 0)
    with pytest.raises(UnknownItemError):
        hybrid_similar(content, history, items, [-7], 3)


def test_a_list_as_long_as_nothing_is_cut_to_the_catalogue():
    content, history, items = world()
    most, asked = len(items.known_ids), items.known_ids[:2]
    every = hybrid_similar(content, history, items, asked, most)
    np.testing.assert_array_equal(hybrid_similar(content, history, items, asked, 10**30).item_id, every.item_id)
