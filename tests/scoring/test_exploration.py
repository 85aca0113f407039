"""Draws against the closed form of Plackett and Luce, and their propensities against sums over every item."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pair_forms import WIDTHS, all_scores, random_form, random_seen
from scipy.special import logsumexp
from scipy.stats import chisquare, kstest

from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN
from sdk.models.pair_form import NO_MLP, PairForm, Side
from sdk.scoring.engine import Engine
from sdk.scoring.exploration import Noise, _exp, _log, codes_of, gumbel, hashed

DRAWS = 200_000


def noise(num_users, num_items, tau, key="2026-11-23"):
    return Noise.of(tau, key, np.arange(num_users), np.arange(num_items))


def test_frequencies_are_those_of_plackett_and_luce():
    """Each ordered list of three of five items, over 200,000 users of the same scores."""
    scores, tau = np.array([0.3, -0.2, 0.9, 0.0, 0.5], np.float32), 0.7
    items = np.concatenate([np.zeros(FIRST_KNOWN, np.float32), scores])
    form = PairForm(Side.plain(np.zeros(DRAWS, np.float32)), Side.plain(items), NO_MLP)
    users = np.arange(DRAWS)
    drawn = Engine(form, threads=2).draw(users, Seen.nothing(DRAWS), 3, noise(DRAWS, len(items), tau))
    lists = [tuple(each) for each in itertools.permutations(range(5), 3)]
    weight, expected = np.exp(scores.astype(float) / tau), []
    for places in lists:
        left = [weight.sum() - weight[list(places[:at])].sum() for at in range(3)]
        expected.append(np.prod(weight[list(places)] / left))
    codes = {places: at for at, places in enumerate(lists)}
    found = [codes[tuple(each)] for each in (drawn.lists.row - FIRST_KNOWN).tolist()]
    assert chisquare(np.bincount(found, minlength=60), np.array(expected) * DRAWS).pvalue > 0.01
    said = drawn.log_propensity(tau).sum(axis=1)
    np.testing.assert_allclose(said, np.log(expected)[found], atol=1e-6)


@given(WIDTHS, st.integers(1, 60), st.booleans(), st.sampled_from([0.02, 0.5, 5.0]), st.integers(0, 2**20))
@settings(max_examples=60, deadline=None)
def test_a_draw_is_the_best_with_noise_and_its_propensity_a_sum_over_all_items(widths, k, mlp, tau, seed):
    users, items = 9, 400
    form, seen = random_form(users, items, widths, mlp=mlp, seed=seed), random_seen(users, items, 0.2, seed)
    allowed = np.random.default_rng(seed).random(items) < 0.9
    drawing = noise(users, items, tau, str(seed))
    drawn = Engine(form, allowed, threads=2).draw(np.arange(users), seen, k, drawing)
    said, scores = drawn.log_propensity(tau), all_scores(form).astype(np.float64)
    for user in range(users):
        may = np.array(allowed)
        may[:FIRST_KNOWN], may[seen.row(user)] = False, False
        added = np.array([gumbel(np.uint64(hashed(drawing.users[user], code))) for code in drawing.items])
        noised = np.where(may, scores[user] + tau * added, -np.inf)
        n = int(drawn.lists.lengths[user])
        listed = drawn.lists.row[user, :n]
        assert n == min(k, may.sum())
        np.testing.assert_allclose(noised[listed], np.sort(noised)[::-1][:n], atol=1e-4)
        np.testing.assert_allclose(drawn.lists.scores[user, :n], noised[listed], atol=1e-4)
        np.testing.assert_allclose(drawn.plain[user, :n], scores[user][listed], atol=1e-4)
        terms = np.where(may, scores[user] / tau, -np.inf)
        terms[listed] = drawn.plain[user, :n] / tau
        for place, row in enumerate(listed):
            expected = terms[row] - logsumexp(terms[may])
            assert said[user, place] == pytest.approx(expected, abs=2e-4 / tau * 0.1 + 1e-6)
            may[row] = False


def test_a_draw_follows_from_its_key_and_the_ids_alone():
    form, seen = random_form(150, 300, (6, 3, 1, 1, 2, [3]), seed=1), random_seen(150, 300, 0.1)
    drawing, users = noise(150, 300, 0.4), np.arange(150)
    whole = Engine(form, threads=1).draw(users, seen, 12, drawing)
    some = users[::-1][:70]
    again = Engine(form, threads=2, memory_mib=0.1).draw(some, seen.take(some), 12, drawing)
    np.testing.assert_array_equal(again.lists.row, whole.lists.row[some])
    np.testing.assert_array_equal(again.lists.scores, whole.lists.scores[some])
    np.testing.assert_array_equal(again.log_propensity(0.4), whole.log_propensity(0.4)[some])
    other = Engine(form, threads=1).draw(users, seen, 12, noise(150, 300, 0.4, "2026-11-24"))
    assert (other.lists.row != whole.lists.row).mean() > 0.5


def test_lists_that_one_item_would_fill_keep_exact_propensities_below_it():
    """A first score a thousand tau above the others, which lie close together."""
    items = np.array([0, 0, 0, 1000, 1, 0.5, 0], np.float32)
    form = PairForm(Side.plain(np.zeros(4, np.float32)), Side.plain(items), NO_MLP)
    drawn = Engine(form, threads=1).draw(np.arange(4), Seen.nothing(4), 2, noise(4, len(items), 1.0))
    said = drawn.log_propensity(1.0)
    assert (drawn.lists.row[:, 0] == 3).all()
    np.testing.assert_array_equal(said[:, 0], 0)
    np.testing.assert_allclose(said[:, 1], items[drawn.lists.row[:, 1]] - logsumexp([1, 0.5, 0]), atol=1e-7)


def test_noise_is_gumbel_and_its_functions_are_those_of_numpy():
    codes = codes_of(np.arange(200_000), "a key")
    drawn = np.array([gumbel(code) for code in codes])
    assert kstest(drawn, "gumbel_r").pvalue > 0.01
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.01
    values = np.random.default_rng(0).uniform(-650, 650, 2000)
    np.testing.assert_allclose([_exp(value) for value in values], np.exp(values), rtol=1e-12)
    np.testing.assert_allclose([_log(np.exp(value)) for value in values], values, rtol=3e-15, atol=1e-15)
    texts = codes_of(np.array(["a", "b", "ä"], object), "a key")
    assert len(set(texts.tolist())) == 3
    assert (codes_of(np.array(["a"], object), "another") != texts[0]).all()
