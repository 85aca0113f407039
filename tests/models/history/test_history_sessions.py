"""Sessions as rows of the regression: against plain loops, and chosen where they tell."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.sparse import random as random_sparse

from sdk.base.config import HistoryConfig
from sdk.features.tables import FIRST_KNOWN
from sdk.models.history.fit import fit_regression
from sdk.models.history.gram import quadratic_forms
from sdk.models.history.matrices import learnt_rows, sessions
from sdk.models.history.model import HistoryModel

RNG = np.random.default_rng(4)
CONFIG = HistoryConfig(user_exponent=0.3, session_gap_s=60.0)


def some_times(num=300):
    """(users, titles, weights, seconds), each pair once, in no order."""
    pair = RNG.choice(20 * 30, num, replace=False)
    return pair // 30 * 7, pair % 30, RNG.uniform(0.5, 2, num), RNG.integers(0, 4000, num)


def slow_sessions(user, time, gap):
    """Groups of rows: a user's ratings, one after another, with no longer pause than ``gap``."""
    groups = []
    for who in np.unique(user):
        last = None
        for row in sorted(np.flatnonzero(user == who), key=lambda row: time[row]):
            if last is None or time[row] - last > gap:
                groups.append([])
            groups[-1].append(row)
            last = time[row]
    return groups


@pytest.mark.parametrize("gap", [0, 60, 5000])
def test_a_session_ends_with_a_long_pause_or_its_user(gap):
    user, _, _, time = some_times()
    found = sessions(user, time, gap)
    groups = [set(np.flatnonzero(found == number).tolist()) for number in range(found.max() + 1)]
    assert sorted(map(sorted, groups)) == sorted(sorted(map(int, group)) for group in slow_sessions(user, time, gap))


def test_what_was_rated_together_counts_twice():
    user, item, weight, time = some_times()
    users, rows = learnt_rows((user, item, weight), time, 30, CONFIG)
    sizes = {who: np.sum(user == who) + 1 for who in np.unique(user)}
    mean = np.mean(list(sizes.values()))
    scaled = weight * np.array([(sizes[who] / mean) ** -0.3 for who in user])
    expected = np.zeros((30, 30))
    for who in np.unique(user):
        own = np.flatnonzero(user == who)
        expected += np.bincount(item[own], scaled[own], 30)[:, None] * np.bincount(item[own], scaled[own], 30)
    np.testing.assert_allclose((users.T @ users).toarray(), expected)
    for group in slow_sessions(user, time, 60):
        line = np.bincount(item[group], scaled[group], 30) if len(group) > 1 else np.zeros(30)
        expected += line[:, None] * line
    np.testing.assert_allclose((rows.T @ rows).toarray(), expected)


def test_where_rows_are_dear_only_the_largest_sessions_take_part():
    user, item, weight, time = some_times()
    users, rows = learnt_rows((user, item, weight), time, 30, CONFIG, 24)
    assert rows.shape[0] == 24
    sizes = sorted((len(group) for group in slow_sessions(user, time, 60)), reverse=True)
    assert sorted(np.diff(rows.indptr)[users.shape[0] :], reverse=True) == sizes[: 24 - users.shape[0]]
    assert learnt_rows((user, item, weight), None, 30, CONFIG)[1].shape == users.shape


def test_quadratic_forms_are_numpys():
    half, vectors = RNG.normal(size=(40, 40)), random_sparse(40, 700, 0.2, random_state=2, format="csr")
    matrix, dense = half @ half.T, vectors.toarray()
    np.testing.assert_allclose(quadratic_forms(matrix, vectors), (dense * (matrix @ dense)).sum(axis=0), atol=1e-9)


@pytest.mark.parametrize("shape", [(12, 20), (30, 9)])  # solved by rows, and by titles
@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_predictions_are_histories_times_the_matrix(shape, weight):
    history = csr_matrix((RNG.random(shape) < 0.3) * RNG.random(shape))
    features = RNG.normal(size=(shape[1], 4)).astype(np.float32)
    regression = fit_regression(history, features, 2.0, weight)
    alike = fit_regression(history, weight * features, 2.0)
    histories = csr_matrix(RNG.random((5, shape[1])) * (RNG.random((5, shape[1])) < 0.5)).astype(np.float32)
    eye = np.eye(shape[1], dtype=np.float32)
    for found in (regression, regression.without_diagonal()):
        np.testing.assert_allclose(found.predict(histories), histories @ found.times(eye), atol=2e-5)
        np.testing.assert_allclose(found.transposed_times(eye), found.times(eye).T, atol=2e-5)
    np.testing.assert_allclose(regression.times(eye), alike.times(eye), atol=2e-5)
    np.testing.assert_allclose(regression.leave_out, alike.leave_out, atol=1e-6)


def test_sessions_that_tell_are_chosen():
    """Everybody watches three of six kinds, a kind a day."""
    rng = np.random.default_rng(3)
    user, item = np.nonzero(rng.random((300, 60)) < 0.3)
    kinds = np.argsort(rng.random((300, 6)), axis=1)
    keep = kinds[user, item % 6] < 3
    user, item = user[keep], item[keep]
    stars = np.full(len(user), 5.0, np.float32)
    time = item % 6 * 86_400 + rng.integers(0, 600, len(user))
    columns = user + FIRST_KNOWN, item + FIRST_KNOWN, stars
    model = HistoryModel.fit(*columns, 303, 63, None, HistoryConfig(rank=60), time, by_time=False)
    steps = [step for step in model.choice.steps if step[0] == "session_gap_s"]
    assert [step[1] for step in steps] == [60.0, 600.0]
    assert model.config.session_gap_s in (60.0, 600.0)
    fixed = HistoryModel.fit(*columns, 303, 63, None, model.config, time, by_time=False)
    np.testing.assert_array_equal(fixed.item_in, model.item_in)
    assert fixed.choice is None
    assert fixed.config == model.config
