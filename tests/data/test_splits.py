"""Splits: a partition by a stated rule, the same for every reader of the same file."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import ratings

from sdk.base.config import SplitConfig
from sdk.base.errors import DataError
from sdk.base.types import Interactions
from sdk.data.splits import before_and_asked, drawn, split, time_at

USERS = st.lists(st.integers(1, 6), min_size=1, max_size=60)
CONFIGS = st.builds(
    SplitConfig,
    kind=st.sampled_from(["random", "time", "leave-last-out"]),
    test_share=st.floats(0, 0.5),
    validation_share=st.floats(0, 0.5),
    seed=st.integers(0, 99),
)


@st.composite
def interactions(draw):
    users = draw(USERS)
    size = len(users)
    when = draw(st.lists(st.integers(0, 9), min_size=size, max_size=size))
    return ratings(users, range(size), [3.0] * size, when)


def many(size=5000, seed=0):
    rng = np.random.default_rng(seed)
    return ratings(rng.integers(0, 50, size), range(size), [3.0] * size, rng.integers(0, 10**6, size))


@settings(max_examples=200, deadline=None)
@given(interactions(), CONFIGS)
def test_every_row_is_in_exactly_one_part_and_the_parts_ascend(rows, config):
    try:
        parts = split(rows, config)
    except DataError:
        return
    for part in (parts.train, parts.validation, parts.test, parts.fit_rows()):
        assert (np.diff(part) > 0).all()
    whole = np.concatenate([parts.train, parts.validation, parts.test])
    assert sorted(whole.tolist()) == list(range(len(rows)))
    assert sorted(parts.fit_rows().tolist()) == sorted([*parts.train.tolist(), *parts.validation.tolist()])


def test_the_random_test_part_is_numpys_rule_over_the_file():
    rows = many()
    held_out = np.random.default_rng(42).random(len(rows)) < 0.2
    parts = split(rows, SplitConfig())
    np.testing.assert_array_equal(parts.test, np.flatnonzero(held_out))
    assert len(parts.validation) / len(parts.fit_rows()) == pytest.approx(0.1, abs=0.02)


def test_the_seed_alone_decides_and_validation_is_drawn_on_its_own():
    rows = many()
    first, again, other = (split(rows, SplitConfig(seed=seed, validation_share=0.2)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.validation, again.validation)
    assert not np.array_equal(first.test, other.test)
    # the validation draw must not be the test draw over again: that would hold out rows by their place
    test_rule = np.random.default_rng(1).random(len(first.fit_rows())) < 0.2
    assert not np.array_equal(first.fit_rows()[test_rule], first.validation)


@settings(max_examples=100, deadline=None)
@given(interactions(), st.floats(0, 0.5), st.floats(0, 0.5))
def test_time_puts_nothing_later_into_an_earlier_part(rows, test_share, validation_share):
    try:
        parts = split(rows, SplitConfig(kind="time", test_share=test_share, validation_share=validation_share))
    except DataError:
        return
    when, wanted = rows.timestamp, round(test_share * len(rows))
    if len(parts.test) != wanted:  # moved to the end of a moment that most of it would have been of
        assert wanted / 2 <= len(parts.test) <= wanted * 2
        assert when[parts.fit_rows()].max() < when[parts.test].min()
    for earlier, later in ((parts.train, parts.validation), (parts.fit_rows(), parts.test)):
        if len(earlier) and len(later):
            assert when[earlier].max() <= when[later].min()


@settings(max_examples=200, deadline=None)
@given(interactions())
def test_leave_last_out_takes_each_users_latest_and_then_the_latest_but_one(rows):
    try:
        parts = split(rows, SplitConfig(kind="leave-last-out"))
    except DataError:
        return
    test, validation, train = [], [], []
    for user in sorted(set(rows.user_id.tolist())):
        mine = sorted(np.flatnonzero(rows.user_id == user).tolist(), key=lambda row: (rows.timestamp[row], row))
        for part in (test, validation):
            if len(mine) > 1:
                part.append(mine.pop())
        train += mine
    assert parts.test.tolist() == sorted(test)
    assert parts.validation.tolist() == sorted(validation)
    assert parts.train.tolist() == sorted(train)


def test_a_split_that_leaves_nothing_to_train_on_says_so():
    with pytest.raises(DataError, match=r"random 80%/20%.* of 0 ratings leaves none"):
        split(ratings([], [], []), SplitConfig())


def test_a_draw_goes_on_with_a_generator_and_starts_anew_with_a_seed():
    rng = np.random.default_rng(3)
    np.testing.assert_array_equal(drawn(9, 0.5, rng), drawn(9, 0.5, 3))
    assert (drawn(99, 0.5, rng) != drawn(99, 0.5, 3)).any()


@settings(max_examples=100, deadline=None)
@given(interactions(), st.integers(0, 70), st.integers(0, 10), st.none() | st.integers(0, 10))
def test_what_comes_before_a_moment_and_what_is_asked_after_it(rows, place, start, end):
    times = rows.timestamp.tolist()
    assert time_at(rows.timestamp, place) == (sorted(times) + [max(times) + 1] * 80)[place]
    liked = rows.item_id % 2 == 0
    before, asked = before_and_asked(rows.user_id, rows.timestamp, liked, start, end)
    past = {user for user, when in zip(rows.user_id.tolist(), times, strict=True) if when < start}
    assert before.tolist() == [when < start for when in times]
    wanted = [start <= when < (end if end is not None else 99) for when in times]
    cases = zip(wanted, liked.tolist(), rows.user_id.tolist(), strict=True)
    assert asked.tolist() == [inside and like and user in past for inside, like, user in cases]


def test_no_day_is_parted_where_times_are_days() -> None:
    days = np.repeat(np.arange(100, 120), np.arange(1, 21)) * 86_400  # ever more a day, as a shop that grows has
    rows = Interactions(
        np.arange(210), np.arange(210), np.ones(210, np.float32), np.random.default_rng(0).permutation(days)
    )
    parts = split(rows, SplitConfig(kind="time"))
    assert len(parts.test) == 39  # the last two days; 42 were asked for
    held = [set(rows.timestamp[part].tolist()) for part in (parts.train, parts.validation, parts.test)]
    assert sum(map(len, held)) == len(set.union(*held))
    seconds = dataclasses.replace(rows, timestamp=rows.timestamp + 1)
    assert len(split(seconds, SplitConfig(kind="time")).test) == 42


@pytest.mark.parametrize("kind", ["time", "leave-last-out"])
def test_what_is_missing_is_said_where_there_are_no_times(kind: str) -> None:
    rows = Interactions(np.arange(9), np.arange(9), np.ones(9, np.float32), np.zeros(9, np.int64))
    with pytest.raises(DataError, match=rf"--split {kind}: the 9 interactions have no times.*a column timestamp"):
        split(rows, SplitConfig(kind=kind))
    assert len(split(rows, SplitConfig()).train)
