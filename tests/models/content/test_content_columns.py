"""The content model over columns of any kind: tokens and buckets, chosen weights, lists of bare items, new items."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from described_shop import NUM_ITEMS, SHOP, shop_items, shop_ratings
from small import item_table

from sdk.base.config import ContentConfig
from sdk.base.description import Description
from sdk.base.errors import BundleError, ConfigError, DataError
from sdk.models.content.fields import WEIGHTS, edges_of
from sdk.models.content.model import ContentModel
from sdk.models.content.together import Likes, co_liked, neighbours
from sdk.models.content.tokens import field_tokens, number_tokens

BARE = Description(items={"title": "ignore"}, users={})


def likes() -> Likes:
    rated = shop_ratings()
    liked = rated.rating > 3
    return Likes(rated.user_id[liked], rated.item_id[liked])


@pytest.fixture(scope="module")
def model() -> ContentModel:
    return ContentModel().fit(shop_items(), SHOP)


def table(**columns: pa.Array) -> pa.Table:
    ids = pa.array([f"i{n}" for n in range(len(next(iter(columns.values()))))])
    return pa.table({"item_id": ids, "title": ids, **columns})


# --- what is read


def test_columns_become_tokens_by_their_roles(model: ContentModel) -> None:
    words = model.vocabulary
    assert words["category"] == ("Coats", "Lamps", "Shoes")
    assert words["brand"] == ("Acme", "Bolt", "Cara", "Dune")
    assert words["materials"] == ("oak", "steel", "wool")
    assert words["labels"] == (*(f"label {n}" for n in range(6)), "new")
    assert "winter" in words["details"]
    assert {"acme", "series: acme coat"} <= set(words["title"])
    assert words["listed"][0] == "2020-09-13"
    assert "picture" not in words
    assert dict(model.config.weights) == {name: WEIGHTS[role] for name, role in model.roles.items()}


@pytest.mark.parametrize("role", ["categorical", "group"])
def test_a_value_is_one_token_and_none_is_none(role: str) -> None:
    column = table(brand=pa.array(["Acme & Sons", None, " Acme & Sons "]))
    tokens = field_tokens(column, "brand", role)  # type: ignore[arg-type]
    assert list(zip(tokens.row.tolist(), tokens.token.to_pylist(), strict=True)) == [
        (0, "Acme & Sons"),
        (2, "Acme & Sons"),
    ]


def test_a_number_lies_in_the_buckets_around_it_by_how_near_they_are() -> None:
    tokens = number_tokens(np.array([10.0, 25.0, np.nan, 1e9]), [10.0, 20.0, 30.0, 40.0], "continuous")
    found = [
        (row, name, value)
        for row, name, value in zip(tokens.row.tolist(), tokens.token.to_pylist(), tokens.value.tolist(), strict=True)
    ]
    assert found == [
        (0, "10", 1.0), (0, "20", 0.5),
        (1, "10", 0.25), (1, "20", 0.75), (1, "30", 0.75), (1, "40", 0.25),
        (3, "30", 0.5), (3, "40", 1.0),
    ]  # fmt: skip


def test_buckets_part_numbers_into_equal_shares_whatever_their_scale() -> None:
    prices = np.exp(np.arange(201) / 10)
    assert edges_of("price", prices) == prices[::10].tolist()
    assert edges_of("stock", np.array([0.0] * 90 + [5.0] * 10)) == [0.0, 5.0]
    assert edges_of("price", np.full(3, np.nan)) == []
    assert edges_of("year", np.array([1990.0, 2001.0])) is None
    assert edges_of("year", np.array([1990.5, 2001.0])) is not None


def test_two_prices_are_as_near_as_few_prices_lie_between_them(model: ContentModel) -> None:
    only = ContentModel(ContentConfig(weights={"price": 1.0})).fit(shop_items(), SHOP)
    near = only.similar(["SKU-030"], 5).item_id[0].tolist()
    assert set(near) <= {f"SKU-{n:03d}" for n in range(26, 35)}
    assert "price" in only.explain("SKU-030", "SKU-031").describe()


def test_a_column_that_is_alike_everywhere_or_nowhere_says_nothing() -> None:
    columns = table(
        shop=pa.array(["one"] * 3),
        serial=pa.array(["a", "b", "c"]),
        brand=pa.array(["x", "x", "y"]),
        tax=pa.array([5.0] * 3),
    )
    about = Description(
        items={"title": "ignore", "shop": "categorical", "serial": "group", "brand": "group", "tax": "continuous"},
        users={},
    )
    assert ContentModel().fit(columns, about).fields == ("brand",)


# --- weights


def test_weights_of_the_configuration_may_name_any_column_and_no_other() -> None:
    config = ContentConfig(weights={"brand": 1.0, "price": 0.5})
    assert ContentModel(config).fit(shop_items(), SHOP, likes()).fields == ("brand", "price")
    with pytest.raises(ConfigError, match="only the fields title, category"):
        ContentModel(ContentConfig(weights={"genres": 1.0})).fit(shop_items(), SHOP)
    with pytest.raises(ConfigError, match="only the fields genres"):
        ContentModel(ContentConfig(weights={"brand": 1.0})).fit(item_table(range(3)))


def test_the_weights_that_are_chosen_favour_what_people_like_together() -> None:
    """In this shop taste is by category alone, of which the texts tell, too; the rest is noise to it."""
    chosen = ContentModel().fit(shop_items(), SHOP, likes())
    choice = chosen.choice
    assert choice is not None
    assert choice.after > choice.before + 0.05
    weights = chosen.config.weights
    assert weights["category"] > 0
    assert weights["price"] == weights["brand"] == 0
    again = ContentModel().fit(shop_items(), SHOP, likes())
    assert dict(again.config.weights) == dict(weights)


def test_too_few_likes_choose_nothing() -> None:
    few = likes()
    fitted = ContentModel().fit(shop_items(), SHOP, Likes(few.user[:5], few.item[:5]))
    assert fitted.choice is None
    assert set(fitted.config.weights.values()) <= set(WEIGHTS.values())


# --- reasons and names


def test_reasons_say_what_a_column_is(model: ContentModel) -> None:
    text = model.explain("SKU-013", "SKU-025").describe(9)
    assert "same brand: Bolt" in text
    assert "category Coats" in text
    assert "details says" in text
    assert "details" not in model.explain("SKU-013", "SKU-025").describe(9, leave_out=("text",))


def test_an_item_is_found_by_its_id_and_by_its_name(model: ContentModel) -> None:
    assert [match.item_id for match in model.find_title("SKU-013")] == ["SKU-013"]
    assert [match.item_id for match in model.find_title("bolt coat 13")] == ["SKU-013"]


# --- files


def test_a_loaded_model_is_the_same_and_needs_no_description(model: ContentModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    loaded = ContentModel.load(tmp_path, shop_items())
    assert loaded.roles == model.roles
    assert loaded.vocabulary == model.vocabulary
    for ours, theirs in zip(loaded.similar_all(7), model.similar_all(7), strict=True):
        np.testing.assert_array_equal(ours.neighbours.item_id, theirs.neighbours.item_id)
    assert (loaded.transform(shop_items()) != model.transform(shop_items())).nnz == 0


# --- items without content


def test_items_without_content_are_listed_by_what_is_liked_together_with_them(tmp_path: Path) -> None:
    items = shop_items().select(["item_id", "title"])
    fitted = ContentModel().fit(items, BARE, likes()).listing_together(likes())
    fitted.save(tmp_path)
    assert fitted.liked is not None
    score = slow_together(likes(), fitted.liked.shrink)
    for made in (fitted, ContentModel.load(tmp_path, items)):
        found = made.similar(["SKU-013", "SKU-044"], 6)
        assert found.source.tolist() == ["together", "together"]
        for row, item in enumerate((13, 44)):
            expected = sorted(np.flatnonzero(score[item] > 0), key=lambda other, of=item: (-score[of, other], other))[
                :6
            ]
            assert found.row(row)[0].tolist() == [f"SKU-{other:03d}" for other in expected]
            np.testing.assert_allclose(found.row(row)[1], score[item, expected], rtol=1e-6)
    assert fitted.vectors(4).tolist() == np.zeros((NUM_ITEMS, 4)).tolist()
    narrowed = fitted.listing(["SKU-001", "SKU-040"]).similar(["SKU-013"], 5)
    assert set(narrowed.row(0)[0]) == {"SKU-001", "SKU-040"}


def test_only_what_has_no_content_is_listed_so() -> None:
    items = shop_items().slice(0, 20).append_column("kind", pa.array([None, None, *"abc" * 6]))
    about = Description(items={"title": "ignore", "kind": "categorical"}, users={})
    some = Likes(*(column[likes().item < 20] for column in likes()))
    plain = ContentModel().fit(items, about, some)
    with_lists = ContentModel().fit(items, about, some).listing_together(some)
    wanted = items["item_id"].to_pylist()
    before, after = plain.similar(wanted, 5), with_lists.similar(wanted, 5)
    assert after.source.tolist() == ["together"] * 2 + ["content"] * 18
    np.testing.assert_array_equal(before.item_id[2:], after.item_id[2:])
    np.testing.assert_array_equal(before.scores[2:], after.scores[2:])
    assert not before.lengths[:2].any()
    assert after.lengths[:2].all()


def slow_together(liked: Likes, shrink: float = 10) -> np.ndarray:
    """By sets of users."""
    fans = [set(liked.user[liked.item == item].tolist()) for item in range(NUM_ITEMS)]
    score, num_users = np.zeros((NUM_ITEMS, NUM_ITEMS)), len(np.unique(liked.user))
    for a in range(NUM_ITEMS):
        for b in range(NUM_ITEMS):
            if a != b:
                product = len(fans[a]) * len(fans[b])
                more = len(fans[a] & fans[b]) - product / num_users
                score[a, b] = max(0, more) / (np.sqrt(product) + shrink)
    return score


def test_one_user_with_very_many_likes_counts_by_a_part_of_them() -> None:
    many = Likes(np.r_[np.zeros(5000, np.int64), 1, 1], np.r_[np.arange(5000), 7, 9])
    thin = many.thinned()
    assert (thin.user == 0).sum() == 200
    assert (thin.user == 1).sum() == 2
    assert co_liked(thin.matrix(5000), np.array([7]))[0, 9] > 0
    assert neighbours(many, np.array([7]), 5000)[7, 9] > 0


def test_a_file_whose_neighbours_lie_outside_is_refused(tmp_path: Path) -> None:
    items = shop_items().select(["item_id", "title"])
    ContentModel().fit(items, BARE, likes()).listing_together(likes()).save(tmp_path)
    with np.load(tmp_path / "content.npz") as archive:
        arrays = dict(archive)
    arrays["alike_indices"][0] = 10**6
    np.savez(tmp_path / "content.npz", **arrays)
    with pytest.raises(BundleError, match="does not fit"):
        ContentModel.load(tmp_path, items)


# --- new items


def test_a_new_item_is_found_as_if_it_had_been_fitted_with_the_same_words(model: ContentModel) -> None:
    old, new = shop_items().slice(3), shop_items().slice(0, 3)
    more = ContentModel().fit(old, SHOP).with_items(new)
    assert set(more.item_id) == set(model.item_id)
    found = more.similar(["SKU-001"], 5).row(0)[0].tolist()
    by_hand = more.transform(shop_items())
    cosine = (by_hand @ by_hand.T).toarray()[1]
    cosine[1] = -1
    assert found == [f"SKU-{n:03d}" for n in np.lexsort((np.arange(NUM_ITEMS), -cosine))[:5]]
    with pytest.raises(DataError, match="occurs 2 times"):
        more.with_items(new)
