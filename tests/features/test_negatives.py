"""Sampled negatives: never a known pair, by the stated distribution, anew each epoch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from sdk.features.loaders import InteractionLoader, NegativeSampling
from sdk.features.tables import FIRST_KNOWN, EncodedInteractions


def known(pairs, label=1):
    users, items = np.array(pairs, dtype=np.int32).reshape(-1, 2).T
    return EncodedInteractions(users, items, np.full(len(users), label, dtype=np.int8))


PAIRS = st.lists(st.tuples(st.integers(2, 7), st.integers(2, 8)), max_size=40)


@settings(max_examples=150, deadline=None)
@given(PAIRS, st.sampled_from(["uniform", "popularity"]), st.integers(0, 99))
def test_a_draw_is_a_known_item_that_the_user_has_not_rated(pairs, kind, seed):
    sampler = NegativeSampling.build(known(pairs), 9, kind, 1)
    users = np.repeat(np.arange(2, 9, dtype=np.int32), 20)
    items, found = sampler.sample(users, np.random.default_rng(seed))
    rated = set(pairs)
    for user, item in zip(users[found].tolist(), items[found].tolist(), strict=True):
        assert (user, item) not in rated
        assert FIRST_KNOWN <= item < 9
    for user in set(users.tolist()):
        left = 6 - len({item for u, item in rated if u == user and item >= FIRST_KNOWN})
        if left == 0:
            assert not found[users == user].any()
        elif kind == "uniform" and left >= 2:  # 50 rounds miss with less than (2/3) ** 50
            assert found[users == user].all()


@pytest.mark.parametrize("kind", ["uniform", "popularity"])
def test_draws_follow_the_stated_distribution(kind):
    num_items, counts = 8 + FIRST_KNOWN, np.array([400, 200, 100, 50, 20, 10, 1, 0])
    pairs = [(user + 10, item + FIRST_KNOWN) for item, n in enumerate(counts) for user in range(n)]
    sampler = NegativeSampling.build(known(pairs), num_items, kind, 1)
    fresh = np.full(40_000, 5, dtype=np.int32)  # has rated nothing
    items, found = sampler.sample(fresh, np.random.default_rng(1))
    assert found.all()
    weight = np.ones(8) if kind == "uniform" else np.maximum(counts, 0.5) ** 0.75
    drawn = np.bincount(items, minlength=num_items)[FIRST_KNOWN:]
    assert chisquare(drawn, weight / weight.sum() * len(items)).pvalue > 0.001
    other = np.ones(8) if kind == "popularity" else np.maximum(counts, 0.5) ** 0.75
    assert chisquare(drawn, other / other.sum() * len(items)).pvalue < 1e-9


def test_what_a_user_has_rated_shifts_the_draws_to_the_rest():
    sampler = NegativeSampling.build(known([(3, 3), (3, 4)]), 3 + 4, "uniform", 1)
    items, found = sampler.sample(np.full(9000, 3, dtype=np.int32), np.random.default_rng(0))
    assert found.all()
    assert chisquare(np.bincount(items, minlength=7)[5:]).pvalue > 0.001


def loader(rows, seed=1, per_positive=3, kind="uniform", batch_size=16):
    sampling = NegativeSampling.build(rows, 30, kind, per_positive)
    return InteractionLoader(rows, batch_size, seed=seed, negatives=sampling)


def epoch_of(made, epoch):
    made.set_epoch(epoch)
    return [tuple(row) for batch in made for row in zip(*(part.tolist() for part in batch), strict=True)]


def some_rows(seed=0, size=60):
    rng = np.random.default_rng(seed)
    pairs = rng.choice(20 * 27, size, replace=False)
    label = (rng.random(size) < 0.6).astype(np.int8)
    return EncodedInteractions((pairs // 27 + 3).astype(np.int32), (pairs % 27 + 3).astype(np.int32), label)


def test_an_epoch_holds_every_like_and_its_negatives_and_no_dislike():
    rows = some_rows()
    epoch = epoch_of(loader(rows), 1)
    likes = {(u, i) for u, i, y in zip(rows.user_index, rows.item_index, rows.label, strict=True) if y}
    everything = set(zip(rows.user_index.tolist(), rows.item_index.tolist(), strict=True))
    positives = [(u, i) for u, i, label, rated in epoch if label]
    negatives = [(u, i) for u, i, label, rated in epoch if not label]
    assert sorted(positives) == sorted(likes)
    assert len(negatives) == 3 * len(positives)
    assert not set(negatives) & everything
    assert not any(rated for *_, rated in epoch)
    per_user = np.bincount([u for u, _ in positives], minlength=30)
    np.testing.assert_array_equal(np.bincount([u for u, _ in negatives], minlength=30), 3 * per_user)


def test_negatives_are_drawn_anew_each_epoch_and_alike_for_the_same_seed():
    rows = some_rows()
    assert epoch_of(loader(rows), 1) == epoch_of(loader(rows), 1)
    drawn = [sorted(row for row in epoch_of(made, epoch) if not row[2])
             for made, epoch in ((loader(rows), 1), (loader(rows), 2), (loader(rows, seed=2), 1))]  # fmt: skip
    assert drawn[0] != drawn[1]
    assert drawn[0] != drawn[2]


def test_users_who_have_rated_everything_keep_their_likes_and_cost_no_time():
    pairs = [(3, item) for item in range(3, 30)] + [(4, 3)]
    epoch = epoch_of(loader(known(pairs)), 1)
    assert sum(1 for u, *_, label, _ in epoch if u == 3 and label) == 27
    assert not [row for row in epoch if row[0] == 3 and not row[2]]
    assert sum(1 for u, *_, label, _ in epoch if u == 4 and not label) == 3


def test_no_sampling_is_asked_for_by_default():
    assert NegativeSampling.build(some_rows(), 30, "none", 4) is None
