"""Models that a neural network must beat: popularity, damped means and biased matrix factorisation.

All work on index arrays and are deterministic. A user or an item without training rows adds nothing to the score, so
a pair of two such gets the mean. The default settings were chosen on a validation part of MovieLens latest-small's
training rows, never on its test rows.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdk.base.errors import ScoreError
from sdk.base.progress import Progress
from sdk.base.types import Bools, Float32s, Float64s

log = logging.getLogger(__name__)

Index: TypeAlias = NDArray[np.integer[Any]]
Labels: TypeAlias = NDArray[np.generic]

_ROWS_AT_ONCE = 1 << 16  # of two (rows, D) float32 gathers: 32 MiB at D = 64


def popularity_scores(item_index: Index, labels: Labels, num_items: int) -> Float32s:
    """Log of each item's likes: what to recommend to somebody of whom nothing is known.

    Args:
        item_index: (N,) items of the training rows.
        labels: (N,) of 0 and 1, or bool; 1 is a like.
        num_items: I.

    Returns:
        (I,) float32: ``log(likes + 1)``.

    Raises:
        ValueError: the lengths differ, an index or a label is out of range.
    """
    likes = _checked_likes("popularity_scores", labels, item_index=(item_index, num_items))
    counts = np.bincount(item_index, weights=likes, minlength=num_items)
    return np.log(counts + 1).astype(np.float32)


class Terms(NamedTuple):
    """What fitting leaves: score(u, i) = mean + user_bias[u] + item_bias[i] + <user_vector[u], item_vector[i]>."""

    mean: np.float32
    user_bias: Float32s
    item_bias: Float32s
    user_vector: Float32s
    item_vector: Float32s

    def predict(self, user_index: Index, item_index: Index) -> Float32s:
        """(N,) float32 logits of the given pairs.

        Raises:
            ValueError: the lengths differ, or an index is out of the fitted range.
        """
        _check_index("predict", "user_index", user_index, len(self.user_bias), len(item_index))
        _check_index("predict", "item_index", item_index, len(self.item_bias), len(user_index))
        out = self.mean + self.user_bias[user_index] + self.item_bias[item_index]
        for start in range(0, len(out), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            out[rows] += np.einsum("nd,nd->n", self.user_vector[user_index[rows]], self.item_vector[item_index[rows]])
        return out


@dataclass(frozen=True, slots=True)
class MeansBaseline:
    """A user's and an item's own share of likes, added on the logit scale; it knows nothing of taste.

    Attributes:
        user_damping: training rows at the overall share that are added to each user's own; above 0.
        item_damping: the same for each item.
    """

    user_damping: float = 5.0
    item_damping: float = 5.0

    def fit(
        self, user_index: Index, item_index: Index, labels: Labels, num_users: int, num_items: int, seed: int = 0
    ) -> Terms:
        """Learn the shares. Nothing is random; arguments and errors as ``BiasedMF.fit``."""
        shape = (num_users, num_items)
        likes = _checked_rows("MeansBaseline.fit", user_index, item_index, labels, shape)
        share = float(likes.mean())
        sides = zip((user_index, item_index), shape, (self.user_damping, self.item_damping), strict=True)
        biases = (_logit(_damped(index, likes, size, damping, share)) - _logit(share) for index, size, damping in sides)
        return Terms(_logit(share), *biases, *(np.zeros((size, 0), np.float32) for size in shape))


@dataclass(frozen=True, slots=True)
class BiasedMF:
    """Biased matrix factorisation (Koren et al. 2009, equation 4) on likes, with logistic loss.

    Stochastic gradient descent, one row at a time; the L2 penalties apply to the terms of each row as it is seen, so
    frequent users and items are held back as often as they learn. Two runs with one seed give equal scores.

    Attributes:
        embedding_dim: width D of the user and item vectors; 0 leaves the biases alone.
        num_epochs: passes over the rows, at least 1.
        learning_rate: of the first epoch, above 0.
        learning_rate_decay: factor after each epoch, above 0 and at most 1.
        bias_l2: penalty of a row's two biases.
        vector_l2: penalty of a row's two vectors.
        initial_std: standard deviation of the initial vectors.
    """

    embedding_dim: int = 64
    num_epochs: int = 40
    learning_rate: float = 0.05
    learning_rate_decay: float = 0.95
    bias_l2: float = 0.02
    vector_l2: float = 0.04
    initial_std: float = 0.05

    def fit(
        self, user_index: Index, item_index: Index, labels: Labels, num_users: int, num_items: int, seed: int = 0
    ) -> Terms:
        """Learn biases and vectors from rated pairs.

        Args:
            user_index: (N,) integers, 0 to ``num_users`` - 1.
            item_index: (N,) integers, 0 to ``num_items`` - 1.
            labels: (N,) of 0 and 1, or bool, with both present.
            num_users: U.
            num_items: I.
            seed: of the initial vectors and of the order of rows.

        Raises:
            ValueError: the lengths differ, an index or a label is out of range, or one class is missing.
            ScoreError: training diverged; the message says what to lower.
        """
        shape, rng = (num_users, num_items), np.random.default_rng(seed)
        likes = _checked_rows("BiasedMF.fit", user_index, item_index, labels, shape)
        biases = [np.zeros(size, np.float32) for size in shape]
        vectors = [self._initial(rng, index, size) for index, size in zip((user_index, item_index), shape, strict=True)]
        terms = Terms(_logit(float(likes.mean())), *biases, *vectors)
        self._descend(rng, user_index, item_index, likes.astype(np.float32), terms)
        return terms

    def _initial(self, rng: np.random.Generator, index: Index, size: int) -> Float32s:
        vectors = rng.normal(0, self.initial_std, (size, self.embedding_dim)).astype(np.float32)
        vectors[np.bincount(index, minlength=size) == 0] = 0  # never trained, so it must not speak
        return vectors

    def _descend(self, rng: np.random.Generator, user: Index, item: Index, likes: Float32s, terms: Terms) -> None:
        one_epoch = compiled_epoch()
        l2 = np.float32(self.bias_l2), np.float32(self.vector_l2)
        with Progress("matrix factorisation", "epochs", total=self.num_epochs) as progress:
            for epoch in range(self.num_epochs):
                rate = np.float32(self.learning_rate * self.learning_rate_decay**epoch)
                one_epoch(user, item, likes, rng.permutation(len(likes)), *terms, rate, *l2)
                if not all(np.isfinite(values).all() for values in terms):
                    message = f"BiasedMF.fit: a score is not finite after epoch {epoch + 1} at learning rate {rate:g}"
                    raise ScoreError(f"{message}; training diverged. Lower learning_rate.")
                progress.advance()
        log.debug("matrix factorisation: %d rows, %d epochs", len(likes), self.num_epochs)


def sgd_epoch(
    user: Index,
    item: Index,
    likes: Float32s,
    order: NDArray[np.int64],
    mean: np.float32,
    user_bias: Float32s,
    item_bias: Float32s,
    user_vector: Float32s,
    item_vector: Float32s,
    rate: np.float32,
    bias_l2: np.float32,
    vector_l2: np.float32,
) -> None:
    """One pass over the rows in the given order, in place. Plain Python that numba compiles."""
    for n in order:
        u, i = user[n], item[n]
        p, q = user_vector[u], item_vector[i]
        score = mean + user_bias[u] + item_bias[i]
        for d in range(p.shape[0]):
            score += p[d] * q[d]
        error = likes[n] - 1 / (1 + math.exp(-score))
        user_bias[u] += rate * (error - bias_l2 * user_bias[u])
        item_bias[i] += rate * (error - bias_l2 * item_bias[i])
        for d in range(p.shape[0]):
            old = p[d]
            p[d] += rate * (error * q[d] - vector_l2 * old)
            q[d] += rate * (error * old - vector_l2 * q[d])


@cache
def compiled_epoch() -> Any:
    """``sgd_epoch`` as numba compiles it."""
    import numba

    return numba.njit(sgd_epoch)


def _damped(index: Index, likes: Bools, size: int, damping: float, share: float) -> Float64s:
    total = np.bincount(index, weights=likes, minlength=size) + damping * share
    return total / (np.bincount(index, minlength=size) + damping)


def _logit(share: Any) -> Any:
    return (np.log(share) - np.log1p(-np.asarray(share))).astype(np.float32)[()]


def _checked_rows(owner: str, user: Index, item: Index, labels: Labels, shape: tuple[int, int]) -> Bools:
    likes = _checked_likes(owner, labels, user_index=(user, shape[0]), item_index=(item, shape[1]))
    if likes.all() or not likes.any():
        raise ValueError(f"{owner}: {int(likes.sum())} of {len(likes)} labels are 1; expected some of each class")
    return likes


def _checked_likes(owner: str, labels: Labels, **indices: tuple[Index, int]) -> Bools:
    likes: Bools = labels == 1
    wrong = ~likes & (labels != 0)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"{owner}: label {labels[row]} in row {row}, expected 0 or 1; compare ratings first")
    for name, (index, size) in indices.items():
        _check_index(owner, name, index, size, len(likes))
    return likes


def _check_index(owner: str, name: str, index: Index, size: int, rows: int) -> None:
    if index.shape != (rows,):
        raise ValueError(f"{owner}: {name} is {index.shape}, expected ({rows},) like the other columns")
    if rows and not (index.min() >= 0 and index.max() < size):
        raise ValueError(f"{owner}: {name} runs from {index.min()} to {index.max()}, expected 0 to {size - 1}")
