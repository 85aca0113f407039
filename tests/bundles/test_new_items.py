"""Items beside a bundle: listed by what is like them, while every list of the others stays as it is."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from made_up import tiny_config, write_movielens
from text_ids import named, with_text_ids

import sdk
import sdk.bundles.new_items
from sdk.base.config import RunConfig
from sdk.base.errors import UsageError
from sdk.base.types import Interactions
from sdk.bundles.fresh import FreshBundle, FreshRatings
from sdk.bundles.new_items import NewItems

TWIN, NEW, ALONE, K = 13, 30_000, 25, 100


@pytest.fixture(scope="module", params=["numbers", "texts"])
def bundle(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("new-items")
    data = sdk.load_movielens(write_movielens(folder / "ml-made-up"))
    data = with_text_ids(data) if request.param == "texts" else data
    return sdk.train(data, tiny_config(), folder / "bundle")


def ids(bundle, *numbers, name="item_id"):
    text = bundle.encoded_items.ids.dtype == object
    return list(named(list(numbers), name)) if text else list(numbers)


def rows(bundle, *numbers):
    """Items called by new numbers, each with the columns of a known one."""
    (twin,) = ids(bundle, TWIN)
    known = bundle.items.column("item_id").to_pylist().index(twin)
    table = bundle.items.take(pa.array([known] * len(numbers)))
    return table.set_column(0, table.schema.field(0), pa.array(ids(bundle, *numbers)))


@pytest.fixture
def grown(bundle):
    """The bundle with a twin of item 13 in the middle of the catalogue and one at its end."""
    return FreshBundle(bundle, None, NewItems.of(bundle, rows(bundle, NEW, 500)))


def test_lists_of_known_items_stay_as_they_are(bundle, grown):
    users = bundle.users["user_id"].to_pylist()
    before, now = bundle.recommend(users, K), grown.recommend(users, K)
    new = set(ids(bundle, NEW, 500))
    for b in range(len(users)):
        listed, scores = now.row(b)
        old = np.array([item not in new for item in listed])
        assert old.sum() == len(old) - 2
        assert listed[old].tolist() == before.row(b)[0].tolist()
        np.testing.assert_allclose(
            scores[old], before.row(b)[1], rtol=1e-5, atol=1e-6
        )  # histories add up in another order


def test_a_new_item_is_the_mean_of_the_likest(bundle, grown, monkeypatch):
    content = bundle.content
    cosines = np.asarray((content.transform(rows(bundle, NEW)) @ content.transform(bundle.items).T).todense())[0]
    order = np.lexsort((np.arange(len(cosines)), -cosines))[: sdk.bundles.new_items.NEAREST]
    shares = np.where(cosines[order] > 0, cosines[order], 0)
    trained = bundle.list_form().items
    expected = (shares / shares.sum()) @ trained.bias[3 + order]
    at = grown.encoded_items.index_of(ids(bundle, NEW))[0]
    np.testing.assert_allclose(grown.list_form().items.bias[at], expected, rtol=1e-5, atol=1e-6)


def test_with_the_likest_alone_a_twin_scores_as_its_twin_does_and_tells_as_much(bundle, monkeypatch):
    monkeypatch.setattr(sdk.bundles.new_items, "NEAREST", 1)
    new = NewItems.of(bundle, rows(bundle, NEW))
    grown = FreshBundle(bundle, None, new)
    users = bundle.users["user_id"].to_pylist()
    lists, (twin, copy) = grown.recommend(users, K, include_seen=True), ids(bundle, TWIN, NEW)
    for b in range(len(users)):
        listed, scores = lists.row(b)
        by_item = dict(zip(listed.tolist(), scores.tolist(), strict=True))
        assert by_item[copy] == pytest.approx(by_item[twin], abs=1e-6)
    lists = [told(grown, item) for item in (twin, copy)]
    assert lists[0] == lists[1]


def told(grown, item):
    """The whole list of a newcomer who has liked this item alone, without it and its twin."""
    text = isinstance(item, str)
    one = np.zeros(1, np.int64)
    user, keys = (one, one) if text else (np.array([70_000]), np.array([item]))
    rated = Interactions(user, keys, np.array([5.0], np.float32), np.array([2_000_000_000]))
    names = (np.array(["u-x"], object), np.array([item], object)) if text else (None, None)
    fresh = FreshRatings.of(grown, rated, *names)
    both = FreshBundle(grown.trained, fresh, grown.new_items)
    lists = both.recommend(["u-x" if text else 70_000], K)
    assert lists.source.tolist() == ["history"]
    assert item not in lists.row(0)[0].tolist()
    pair = ids(grown, TWIN, NEW)
    return [one for one in lists.row(0)[0].tolist() if one not in pair]


def test_new_items_stand_among_similar_ones_and_have_some(bundle, grown):
    twin, new = ids(bundle, TWIN, NEW)
    listed, scores = grown.similar([twin], 3).row(0)
    assert new in listed.tolist()
    assert scores[0] == pytest.approx(1)
    listed, scores = grown.similar([new], K).row(0)
    assert twin in listed[scores > 0.999].tolist()
    before = bundle.similar([twin], K, kind="content").row(0)
    old = np.array([item not in ids(bundle, NEW, 500) for item in listed])
    assert (old.sum(), twin in listed) == (len(before[0]) + 1, True)


def test_an_item_that_shares_nothing_is_unknown_to_every_model(bundle):
    empty = rows(bundle, NEW).to_pylist()[0]
    plain = {
        name: [] if isinstance(value, list) else None if name == "year" else value for name, value in empty.items()
    }
    plain |= {"title": "Zzyzx", "overview": ""}
    grown = FreshBundle(bundle, None, NewItems.of(bundle, pa.Table.from_pylist([plain], schema=bundle.items.schema)))
    at = grown.encoded_items.index_of(ids(bundle, NEW))[0]
    form = grown.list_form()
    for part in form.items.parts:
        np.testing.assert_array_equal(part[at], part[2])
    assert grown.history.item_in[at].tolist() == [0.0] * grown.history.item_in.shape[1]


def test_items_that_the_bundle_has_are_not_new(bundle):
    assert len(NewItems.of(bundle, rows(bundle, TWIN, NEW)).table) == 1


def test_without_a_content_model_there_is_no_telling(tmp_path):
    data = sdk.load_movielens(write_movielens(tmp_path / "ml-made-up"))
    bare = sdk.train(data, RunConfig(models=("history",)), tmp_path / "bundle")
    with pytest.raises(UsageError, match="trained without the content model, by which new items are listed"):
        NewItems.of(bare, bare.items)
