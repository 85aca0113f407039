"""Weights of implicit feedback, chosen or given; and the cut to a rank without what an item says of itself."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from sdk.base.config import HistoryConfig
from sdk.models.history.fit import prepared
from sdk.models.history.model import HistoryModel

RNG = np.random.default_rng(3)


def test_weights_enter_as_the_configuration_says():
    w = np.array([0.2, 1, 3, 1000.0])
    log = HistoryConfig(weighting="log", star_weight=0.5)
    np.testing.assert_allclose(log.weights(w), [np.log(1 + each / 2) / np.log(2) for each in w], rtol=1e-6)
    assert HistoryConfig(weighting="alike").weights(w).tolist() == [1, 1, 1, 1]
    assert (log.weights(w).dtype, HistoryConfig(weighting="alike").weights(w).dtype) == (np.float32, np.float32)


@pytest.mark.parametrize("shape", [(12, 20), (30, 9)])  # solved by users, and by items
@pytest.mark.parametrize("width", [0, 4])
def test_without_its_diagonal_the_matrix_is_the_same_but_for_zeros_there(shape, width):
    history = csr_matrix((RNG.random(shape) < 0.3) * RNG.random(shape))
    features = RNG.normal(size=(shape[1], width)).astype(np.float32) / 2
    regression = prepared(history, features)(2.0, 1.0)
    eye = np.eye(shape[1], dtype=np.float32)
    whole, bare = regression.times(eye), regression.without_diagonal()
    np.testing.assert_allclose(bare.times(eye), whole - np.diag(np.diag(whole)), atol=2e-5)
    np.testing.assert_allclose(bare.transposed_times(eye), (whole - np.diag(np.diag(whole))).T, atol=2e-5)


def columns(telling, users=150, items=40, seed=0):
    """Users of two tastes who have items of both; a weight tells of the taste, or is noise."""
    rng = np.random.default_rng(seed)
    user, item = np.nonzero(rng.random((users, items)) < 0.35)
    own = (user % 2) == (item % 2)
    weight = np.where(own if telling else rng.random(len(user)) < 0.5, 60.0, 1.0)
    keep = own | (rng.random(len(user)) < 0.6)
    return user[keep] + 3, item[keep] + 3, weight[keep].astype(np.float32)


def test_weights_that_tell_of_taste_enter_and_noise_does_not():
    config = HistoryConfig(weighting=None, like_at=0, star_weight=1.0, rank=20, penalty=30.0)
    chosen = {
        telling: HistoryModel.fit(*columns(telling), 153, 43, config=config).config.weighting
        for telling in (True, False)
    }
    assert chosen == {True: "log", False: "alike"}


def test_a_chosen_recipe_gives_what_the_same_one_gives_where_it_is_named():
    config = HistoryConfig(weighting=None, like_at=0, star_weight=1.0, rank=20)
    chosen = HistoryModel.fit(*columns(True), 153, 43, config=config)
    named = HistoryModel.fit(*columns(True), 153, 43, config=chosen.config)
    np.testing.assert_array_equal(chosen.item_in, named.item_in)
    assert chosen.config == named.config
