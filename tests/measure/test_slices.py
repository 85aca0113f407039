"""Slices cut every user and title once, by thirds as near as ties allow."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sdk.measure.slices import ITEMS, USERS, item_slices, user_slices

COUNTS = st.lists(st.integers(0, 6), min_size=1, max_size=30)


@given(COUNTS)
def test_every_user_lies_in_one_slice_and_equal_users_in_the_same(counts):
    counts = np.array(counts)
    slices = user_slices(counts, np.arange(len(counts)))
    np.testing.assert_array_equal(sum(part.members.astype(int) for part in slices), 1)
    for part in slices:
        assert part.members.any()
        assert not set(counts[part.members]) & set(counts[~part.members])
    assert [part.name for part in slices if (counts[part.members] == 0).any()] == ["new users"] * (0 in counts)


@given(COUNTS.filter(any))
def test_every_title_lies_in_one_slice_and_the_head_is_the_fewest_that_hold_a_third(counts):
    counts = np.array(counts)
    slices = {part.name: part.members for part in item_slices(counts, np.arange(len(counts)))}
    np.testing.assert_array_equal(sum(part.astype(int) for part in slices.values()), 1)
    head = counts[slices["head items"]]
    assert 3 * head.sum() >= counts.sum()
    assert 3 * head[head > head.min()].sum() < counts.sum()
    upper = np.concatenate([head, counts[slices.get("middle items", np.zeros(len(counts), bool))]])
    assert 3 * upper.sum() >= 2 * counts.sum()
    assert set(slices.get("new items", np.zeros(0)).nonzero()[0]) == set(np.flatnonzero(counts == 0))


def test_the_borders_are_told():
    counts = np.array([0, 1, 2, 3, 40, 50, 60, 700, 850, 900])
    told = [(part.name, part.side, part.rule, int(part.members.sum())) for part in user_slices(counts, np.arange(10))]
    assert told == [
        ("light users", USERS, "1 to 3", 3), ("middle users", USERS, "4 to 60", 3),
        ("heavy users", USERS, "over 60", 3), ("new users", USERS, "none", 1),
    ]  # fmt: skip
    told = [(part.name, part.side, part.rule, int(part.members.sum())) for part in item_slices(counts, np.arange(10))]
    assert told == [
        ("head items", ITEMS, "900 or more", 1), ("middle items", ITEMS, "850 to 899", 1),
        ("tail items", ITEMS, "1 to 849", 7), ("new items", ITEMS, "none", 1),
    ]  # fmt: skip


def test_only_measured_users_set_the_borders_and_empty_slices_are_left_out():
    counts = np.array([1, 2, 3, 1000, 2000, 3000])
    few = user_slices(counts, np.array([0, 1, 2]))
    assert [part.rule for part in few] == ["1 to 1", "2 to 2", "over 2"]
    assert few[2].members.tolist() == [False, False, True, True, True, True]
    assert [part.name for part in user_slices(np.zeros(4, np.int64), np.arange(4))] == ["new users"]
    assert [part.name for part in item_slices(counts, np.array([5]))] == ["head items"]
