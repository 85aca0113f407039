"""Estimators of what other lists would have earned: against enumerated truth, published formulas and repetitions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sdk.metrics.off_policy import LoggedLists, judge

ITEMS, PLACES, KINDS = 6, 3, 4
RNG = np.random.default_rng(7)
LOGGED, TARGET = RNG.normal(0, 0.5, (2, KINDS, ITEMS))
LIKED = RNG.uniform(0.05, 0.9, (KINDS, ITEMS))
SEEN_AT = np.array([1.0, 0.6, 0.4])


def chance(kind, items):
    """Of a click at each place: it falls with the place, and by half below an item that is much alike."""
    again = np.array([any(abs(item - above) == 1 for above in items[:at]) for at, item in enumerate(items)])
    return LIKED[kind, list(items)] * SEEN_AT * np.where(again, 0.5, 1.0)


def places_of(scores, items):
    """The log-probability of each place under Plackett and Luce."""
    weight = np.exp(scores)
    return np.array(
        [scores[item] - np.log(weight.sum() - weight[list(items[:at])].sum()) for at, item in enumerate(items)]
    )


LISTS = list(itertools.permutations(range(ITEMS), PLACES))
CHANCE = np.array([[chance(kind, items) for items in LISTS] for kind in range(KINDS)])
BY_LOG, BY_TARGET = (
    np.array([[places_of(scores[kind], items) for items in LISTS] for kind in range(KINDS)])
    for scores in (LOGGED, TARGET)
)
TRUTH = np.mean([(np.exp(BY_TARGET[kind].sum(axis=1)) @ CHANCE[kind]).sum() for kind in range(KINDS)])


def expected_model(kind, at, above, model):
    """The mean of a model over what the target puts at a place, given those above."""
    left = [item for item in range(ITEMS) if item not in above]
    weight = np.exp(TARGET[kind, left])
    return (weight * model[left, at]).sum() / weight.sum()


MODEL = LIKED.mean(axis=0)[:, None] * SEEN_AT + 0.05
EXPECTED = np.array(
    [
        [[expected_model(kind, at, items[:at], MODEL) for at in range(PLACES)] for items in LISTS]
        for kind in range(KINDS)
    ]
)


def simulated(num_lists, seed):
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, KINDS, num_lists)
    noised = LOGGED[kind] + rng.gumbel(size=(num_lists, ITEMS))
    shown = np.argsort(-noised, axis=1)[:, :PLACES]
    codes = {items: at for at, items in enumerate(LISTS)}
    digits = np.full(ITEMS**PLACES, -1)
    for items, at in codes.items():
        digits[np.ravel_multi_index(items, (ITEMS,) * PLACES)] = at
    drawn = digits[np.ravel_multi_index(shown.T, (ITEMS,) * PLACES)]
    clicked = (rng.random((num_lists, PLACES)) < CHANCE[kind, drawn]).astype(float)
    return LoggedLists(
        np.arange(num_lists), np.ones((num_lists, PLACES), bool), BY_LOG[kind, drawn], BY_TARGET[kind, drawn], clicked,
        MODEL[shown, np.arange(PLACES)], EXPECTED[kind, drawn],
    )  # fmt: skip


def test_a_million_lists_give_the_truth_within_two_percent():
    found = judge(simulated(1_000_000, 0))
    for estimate in (found.ips, found.snips, found.dr):
        assert estimate.value == pytest.approx(TRUTH, rel=0.02)
        assert abs(estimate.value - TRUTH) < estimate.high - estimate.low  # four standard errors
    assert abs(found.logged.value / TRUTH - 1) > 0.02  # what was shown is no answer
    assert found.dr.high - found.dr.low < found.ips.high - found.ips.low


def test_intervals_hold_the_truth_as_often_as_they_say():
    """93 to 97 of 100, over 1,000 repetitions of 3,000 lists."""
    held = np.zeros(3)
    for seed in range(1000):
        found = judge(simulated(3000, seed + 1), clip=np.inf)
        held += [estimate.low <= TRUTH <= estimate.high for estimate in (found.ips, found.snips, found.dr)]
    assert ((held >= 930) & (held <= 970)).all(), held


def test_the_formulas_are_those_of_open_bandit_pipeline():
    """Its SlateRewardInteractionIPS and its self-normalised sister, list by list."""
    lists = simulated(400, 3)
    weight, gained = [], []
    for n in range(400):
        product = 1.0
        for place in range(PLACES):
            product *= np.exp(lists.target[n, place]) / np.exp(lists.logged[n, place])
            weight.append(product)
            gained.append(product * lists.reward[n, place])
    weight, gained = (np.array(each).reshape(400, PLACES) for each in (weight, gained))
    found = judge(lists, clip=np.inf)
    assert found.ips.value == pytest.approx(gained.sum() / 400)
    assert found.snips.value == pytest.approx((gained / weight.mean(axis=0)).sum() / 400)
    np.testing.assert_allclose(found.effective, weight.sum(axis=0) ** 2 / (weight**2).sum(axis=0))


def test_doubly_robust_needs_one_of_both_to_be_right():
    lists = simulated(200_000, 5)
    wrong_model = LoggedLists(
        lists.user, lists.real, lists.logged, lists.target, lists.reward, lists.model + 0.3, lists.expected + 0.3
    )
    assert judge(wrong_model).dr.value == pytest.approx(TRUTH, rel=0.02)


def test_clipping_is_said_and_lowers_the_estimate():
    lists = simulated(5000, 6)
    whole, cut = judge(lists, clip=np.inf), judge(lists, clip=1.0)
    assert (whole.clipped, whole.clip) == (0.0, np.inf)
    assert cut.clipped > 0.2
    assert cut.ips.value < whole.ips.value


def test_lists_of_one_user_widen_the_interval_as_one():
    lists = simulated(1000, 8)
    twice = LoggedLists(*(np.concatenate([each, each]) for each in (
        lists.user, lists.real, lists.logged, lists.target, lists.reward, lists.model, lists.expected
    )))  # fmt: skip
    one, two = judge(lists, clip=np.inf), judge(twice, clip=np.inf)
    assert two.ips.value == pytest.approx(one.ips.value)
    assert two.ips.high - two.ips.low == pytest.approx(one.ips.high - one.ips.low, rel=1e-6)


def test_places_that_the_target_would_never_fill_weigh_nothing_and_short_lists_are_no_loss():
    lists = simulated(300, 9)
    real = np.array(lists.real)
    real[:, 2] = False
    never = np.where(np.arange(PLACES) == 1, -np.inf, lists.target)
    found = judge(LoggedLists(lists.user, real, lists.logged, never, lists.reward, lists.model, lists.expected), np.inf)
    first = np.exp(lists.target[:, 0] - lists.logged[:, 0]) * lists.reward[:, 0]
    assert found.ips.value == pytest.approx(first.mean())
    assert found.logged.value == pytest.approx(lists.reward[:, :2].sum() / 300)
