"""No decomposition ends a training: LAPACK's first way is made to fail, and the result stays what it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.linalg
from scipy.sparse import csr_matrix, random_array
from sklearn.utils.extmath import randomized_svd

from sdk.base.errors import ScoreError
from sdk.machine.decompositions import inverse, solve, svd, well_conditioned
from sdk.models.content.matrix import short_vectors
from sdk.models.history import gram as history_gram
from sdk.models.history.fit import fit_regression, low_rank

SHAPES = [(80, 80), (200, 30), (30, 200), (1, 1), (5, 1), (40, 40)]


def unconverged(*args: Any, **kwargs: Any) -> Any:
    message = "SVD did not converge"
    raise np.linalg.LinAlgError(message)


def not_a_number(*args: Any, **kwargs: Any) -> Any:
    return [np.full((1, 1), np.nan)] * 3


def matrix(shape: tuple[int, int], dtype: Any = np.float32) -> Any:
    return np.random.default_rng(shape[0]).normal(size=shape).astype(dtype)


def positive(size: int) -> Any:
    root = matrix((size, size), np.float64)
    return root @ root.T + np.eye(size)


def only_gram(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np.linalg, "svd", unconverged)
    monkeypatch.setattr(scipy.linalg, "svd", unconverged)


FAILURES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "gesdd": lambda patch: patch.setattr(np.linalg, "svd", unconverged),
    "gesdd gives NaN": lambda patch: patch.setattr(np.linalg, "svd", not_a_number),
    "gesdd and gesvd": only_gram,
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_where_the_first_way_works_its_bits_are_numpys(shape: tuple[int, int], dtype: Any) -> None:
    expected = np.linalg.svd(matrix(shape, dtype), full_matrices=False)
    for mine, theirs in zip(svd(matrix(shape, dtype)), expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    whole = positive(20)
    np.testing.assert_array_equal(inverse(whole), np.linalg.inv(whole))
    np.testing.assert_array_equal(solve(whole, whole[:, :3]), np.linalg.solve(whole, whole[:, :3]))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("failure", FAILURES)
def test_another_way_gives_the_same_decomposition(
    shape: tuple[int, int], failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = matrix(shape)
    expected = np.linalg.svd(given.astype(np.float64), compute_uv=False)
    FAILURES[failure](monkeypatch)
    left, singular, right = svd(given)
    assert {part.dtype for part in (left, singular, right)} == {np.dtype(np.float32)}
    np.testing.assert_allclose(singular, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose((left * singular) @ right, given, atol=1e-4)
    np.testing.assert_allclose(left.T @ left, np.eye(min(shape)), atol=1e-4)
    np.testing.assert_allclose(right @ right.T, np.eye(min(shape)), atol=1e-4)


@pytest.mark.parametrize("failure", FAILURES)
def test_a_matrix_of_low_rank_and_one_of_zeros_are_taken_apart(failure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    FAILURES[failure](monkeypatch)
    for given in (np.zeros((6, 4), np.float32), np.outer(np.arange(6), np.arange(4)).astype(np.float32)):
        left, singular, right = svd(given)
        np.testing.assert_allclose((left * singular) @ right, given, atol=1e-4)
        np.testing.assert_allclose(left.T @ left, np.eye(4), atol=1e-4)


@pytest.mark.parametrize("name", ["inv", "solve"])
def test_an_inverse_and_a_system_have_another_way(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = positive(30)
    expected, right = np.linalg.inv(whole), whole[:, :2] + 1
    monkeypatch.setattr(np.linalg, name, unconverged)
    np.testing.assert_allclose(inverse(whole), expected, atol=1e-8)
    np.testing.assert_allclose(solve(whole, right), expected @ right, atol=1e-8)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_with_a_word(bad: float) -> None:
    given = positive(4)
    given[1, 2] = bad
    for decompose in (svd, inverse, lambda values: solve(values, np.ones((4, 1)))):
        with pytest.raises(ScoreError, match="4 x 4 matrix: it holds a NaN or an infinity"):
            decompose(given)


def test_when_every_way_fails_the_error_has_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    only_gram(monkeypatch)
    monkeypatch.setattr(np.linalg, "eigh", unconverged)
    with pytest.raises(ScoreError, match="OMP_NUM_THREADS=1"):
        svd(matrix((3, 3)))


@pytest.mark.parametrize("failure", FAILURES)
def test_the_history_model_is_the_same_by_another_way(failure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    ratings = csr_matrix(random_array((60, 80), density=0.2, rng=rng, dtype=np.float32))
    regression = fit_regression(ratings, rng.normal(size=(80, 3)).astype(np.float32), 2.0)
    weights = np.ones(80)

    def product() -> Any:
        item_in, item_out = low_rank(regression, ratings, weights, 20, seed=0)
        return item_in @ item_out.T

    expected = product()
    FAILURES[failure](monkeypatch)
    np.testing.assert_allclose(product(), expected, atol=1e-3)


def test_short_vectors_come_by_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    ratings = csr_matrix(random_array((50, 40), density=0.3, rng=np.random.default_rng(0)))
    expected = short_vectors(ratings, 40, seed=0)
    monkeypatch.setattr(scipy.linalg, "svd", unconverged)
    monkeypatch.setattr(np.linalg, "svd", unconverged)
    found = short_vectors(ratings, 40, seed=0)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-4)


def test_a_gram_matrix_that_rounding_made_indefinite_is_inverted() -> None:
    ones = np.ones((50, 50))
    ones[0, 0] -= 1e-16
    with pytest.raises(np.linalg.LinAlgError):
        np.linalg.cholesky(ones)
    assert np.isfinite(history_gram.inverse(ones)).all()


@pytest.mark.parametrize(
    ("shape", "width"), [((90, 400), 12), ((400, 90), 12), ((70, 70), 9), ((15, 300), 12), ((300, 6), 6)]
)
def test_short_vectors_are_scikit_learns_from_the_same_draws(shape: tuple[int, int], width: int) -> None:
    sparse = csr_matrix(random_array(shape, density=0.1, rng=np.random.default_rng(1)))
    left, singular, _ = randomized_svd(sparse, width, n_iter=7, random_state=5)
    signs = np.sign(left[np.abs(left).argmax(axis=0), np.arange(width)])
    np.testing.assert_allclose(short_vectors(sparse, width, 5), left * signs * singular, atol=2e-5)


@pytest.mark.parametrize(
    "columns",
    [
        matrix((50, 7), np.float64),
        matrix((50, 1), np.float64)[:, [0, 0]],
        np.zeros((9, 3)),
        matrix((50, 7), np.float64) * 10.0 ** np.arange(7),
        np.zeros((5, 0)),
    ],
)
def test_a_power_steps_columns_are_orthonormal_and_span_the_same(columns: Any) -> None:
    found = well_conditioned(columns)
    np.testing.assert_allclose(found.T @ found, np.eye(columns.shape[1]), atol=1e-5)
    np.testing.assert_allclose(found @ (found.T @ columns), columns, atol=1e-5 * np.abs(columns).max(initial=1))


@pytest.mark.parametrize("size", [1, 2, 3, 40, 301])
def test_the_regressions_inverse_is_numpys_and_symmetric(size: int) -> None:
    whole = positive(size)
    found = history_gram.inverse(whole.copy())
    np.testing.assert_allclose(found, np.linalg.inv(whole), atol=1e-9)
    np.testing.assert_allclose(found, found.T, atol=1e-12)


def test_what_is_not_finite_is_refused_wherever_it_stands() -> None:
    for place in ((3, 0), (7, 7), (9, 8)):
        whole = positive(10)
        whole[place] = whole[place[::-1]] = np.nan
        with pytest.raises(ScoreError, match="not positive definite"):
            history_gram.inverse(whole)
