"""A visitor's list is the engine's own, made with one product."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdk.base.errors import ScoreError
from sdk.bundles.answers import best_rows
from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN
from sdk.models.pair_form import Head, PairForm, Side
from sdk.scoring.engine import Engine


def side(bias, dot):
    none = np.zeros((len(bias), 0), np.float32)
    return Side(np.asarray(bias, np.float32), np.asarray(dot, np.float32), none, none[:, :, None])


def form_of(items, dot, user):
    return PairForm(side([0.25], [user]), side(items, dot), Head(np.zeros((0, 0), np.float32), ()))


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(0, 5), st.integers(1, 70))
def test_a_visitors_list_is_the_engines(seed, num_items, rank, k):
    rng = np.random.default_rng(seed)
    rows = num_items + FIRST_KNOWN  # whole numbers, so that many scores are equal and none is rounded
    form = form_of(rng.integers(-2, 3, rows), rng.integers(-2, 3, (rows, rank)), rng.integers(-2, 3, rank))
    liked = np.flatnonzero(rng.random(rows) < 0.3)
    liked = liked[liked >= FIRST_KNOWN].astype(np.int64)
    expected = Engine(form).top_k(np.zeros(1, np.int64), Seen.build(np.zeros(len(liked), np.int64), liked, 1), k)
    got, scores = best_rows(form, liked, k)
    length = int(expected.lengths[0])
    np.testing.assert_array_equal(got, expected.item_index[0, :length])
    np.testing.assert_array_equal(scores, expected.scores[0, :length])


def test_broken_scores_and_lengths_are_refused():
    nothing = np.zeros(0, np.int64)
    with pytest.raises(ScoreError, match="not all finite"):
        best_rows(form_of([0, 0, 0, np.nan], np.zeros((4, 0)), []), nothing, 1)
