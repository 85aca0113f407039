"""What a Gibbs sweep computes row by row and column by column, compiled.

A random number is a hash of what it is drawn for (seed, sweep, row), so no order of the work changes a bit.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdk.base.types import Float32s, Float64s, Int32s, Int64s
from sdk.machine.compiled import compiled

Ratings: TypeAlias = tuple[Int64s, Int32s, NDArray[np.int8]]
"""Where each row's ratings start (R + 1), then of each rating the other side's row and the label."""
Columns: TypeAlias = tuple[Int64s, Int32s, Float32s]
"""A sparse matrix by its columns: where each starts, then the rows and the values."""

_GOLDEN, _FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_ONE, _11, _27, _30, _31 = np.uint64(1), np.uint64(11), np.uint64(27), np.uint64(30), np.uint64(31)
_CENTRE = (
    (2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
     13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.387132872796366608),
    (5226.495278852545925, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867,
     5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1.0),
)  # fmt: skip
_MIDDLE = (
    (7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177, 1.27045825245236838258,
     3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734),
    (1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.14810397642748007459,
     0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187, 1.0),
)  # fmt: skip
_FAR = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 0.0012426609473880784386, 0.026532189526576123093,
     0.29656057182850489123, 1.7848265399172913358, 5.4637849111641143699, 6.6579046435011037772),
    (2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.8463183175100546818e-5, 7.868691311456132591e-4,
     0.0148753612908506148525, 0.13692988092273580531, 0.59983220655588793769, 1.0),
)  # fmt: skip


@compiled
def mixed(state: Any, number: Any) -> Any:
    """One 64-bit seed of two numbers (SplitMix64's finaliser, Steele, Lea and Flood 2014)."""
    word = (np.uint64(state) ^ (np.uint64(number) * _GOLDEN)) + _GOLDEN
    word = (word ^ (word >> _30)) * _FIRST
    word = (word ^ (word >> _27)) * _SECOND
    return word ^ (word >> _31)


@compiled
def uniform(state: Any, place: int) -> float:
    """A number above 0 and below 1: the state's, at a place."""
    return float((mixed(state, place) >> _11) + 0.5) * 2.0**-53


@compiled
def _ratio(powers: tuple[tuple[float, ...], tuple[float, ...]], x: float) -> float:
    above, below = powers
    over, under = above[0], below[0]
    for place in range(1, 8):
        over, under = over * x + above[place], under * x + below[place]
    return over / under


@compiled
def normal_quantile(p: float) -> float:
    """The standard normal quantile of a p above 0 and below 1, to 16 digits (AS 241, Wichura 1988)."""
    q = p - 0.5
    if abs(q) <= 0.425:
        return q * _ratio(_CENTRE, 0.180625 - q * q)
    far = math.sqrt(-math.log(p if q < 0 else 1.0 - p))
    size = _ratio(_MIDDLE, far - 1.6) if far <= 5.0 else _ratio(_FAR, far - 5.0)
    return -size if q < 0 else size


@compiled
def latent(score: float, label: int, p: float) -> float:
    """What a probit label is the sign of: from N(score, 1) cut to that sign, by its own uniform number (Albert and Chib
    1993, section 3).
    """
    sign = 1.0 if label else -1.0
    below = 0.5 * math.erfc(-sign * score * math.sqrt(0.5))
    return score - sign * normal_quantile(max(p * below, 1e-300))


@compiled
def draw_rows(
    ratings: Ratings, own: Float32s, expected: Float32s, other: Float32s, mean: Float32s, precision: Float64s,
    seed: int, rows: Int64s,
) -> None:  # fmt: skip
    """Draw some rows' vectors given the other side's, in place; a row without ratings becomes its mean.

    A vector's last column is the row's bias, which meets 1 on the other side: score = <p, q> + b + c.

    Args:
        ratings: by the rows to draw.
        own: (R, D) float32, the vectors to draw.
        expected: (R, D) float32, filled with the mean of what each was drawn from.
        other: (R', D) float32.
        mean: (R, D) float32, of each row's prior.
        precision: (D,) float64, of every row's prior.
        seed: of the sweep and the side.
        rows: (2,) the first row, and the one after the last.
    """
    starts, others, labels = ratings
    size = own.shape[1]
    last = size - 1
    matrix, vector, met = np.zeros((size, size)), np.zeros(size), np.ones(size)
    for row in range(rows[0], rows[1]):
        state = mixed(seed, row)
        for k in range(size):
            matrix[k] = 0.0
            matrix[k, k] = precision[k]
            vector[k] = precision[k] * mean[row, k]
        for place in range(starts[row], starts[row + 1]):
            theirs = other[others[place]]
            score = own[row, last]
            for k in range(last):
                met[k] = theirs[k]
                score += own[row, k] * met[k]
            found = latent(score + theirs[last], labels[place], uniform(state, place - starts[row])) - theirs[last]
            for k in range(size):
                vector[k] += met[k] * found
                for m in range(k + 1):
                    matrix[k, m] += met[k] * met[m]
        if starts[row] == starts[row + 1]:
            own[row] = expected[row] = mean[row]
        else:
            _draw(matrix, vector, mixed(state, -1), own[row], expected[row])


@compiled
def _draw(matrix: Float64s, vector: Float64s, state: Any, out: Float32s, expected: Float32s) -> None:
    """Draw from N(matrix^-1 vector, matrix^-1), by Cholesky in ``matrix`` itself; ``expected`` is its mean."""
    size = len(vector)
    for k in range(size):
        for m in range(k + 1):
            rest = matrix[k, m]
            for n in range(m):
                rest -= matrix[k, n] * matrix[m, n]
            matrix[k, m] = math.sqrt(rest) if k == m else rest / matrix[m, m]
        for n in range(k):
            vector[k] -= matrix[k, n] * vector[n]
        vector[k] /= matrix[k, k]
    for k in range(size - 1, -1, -1):
        drawn = vector[k] + normal_quantile(uniform(state, k))
        for n in range(k + 1, size):
            vector[k] -= matrix[n, k] * vector[n]
            drawn -= matrix[n, k] * out[n]
        expected[k] = vector[k] = vector[k] / matrix[k, k]
        out[k] = drawn / matrix[k, k]


@compiled
def draw_weights(
    columns: Columns, rest: Float32s, weights: Float32s, noise: Float64s, prior: Float64s, seed: int, first: int
) -> None:
    """Draw a block's weights one feature after the other, in place, and keep what they leave unexplained.

    Args:
        columns: (R, F) sparse, the features of each row.
        rest: (R, d) float32, some columns of the vectors, less their means.
        weights: (F, d) float32, each feature's share of those columns.
        noise: (d,) float64 precision of ``rest``.
        prior: (d,) float64 precision of the weights, whose mean is 0.
        seed: of the sweep, the side and the block.
        first: place of the first of the columns among all.
    """
    starts, rows, values = columns
    width = rest.shape[1]
    summed, moved = np.zeros(width), np.zeros(width, np.float32)
    for feature in range(len(starts) - 1):
        squares = 0.0
        summed[:] = 0.0
        for place in range(starts[feature], starts[feature + 1]):
            value = values[place]
            squares += value * value
            for k in range(width):
                summed[k] += value * rest[rows[place], k]
        for k in range(width):
            before, precision = weights[feature, k], noise[k] * squares + prior[k]
            mean = noise[k] * (summed[k] + squares * before) / precision
            drawn = normal_quantile(uniform(mixed(seed, feature), first + k)) / math.sqrt(precision)
            weights[feature, k] = mean + drawn
            moved[k] = weights[feature, k] - before
        for place in range(starts[feature], starts[feature + 1]):
            for k in range(width):
                rest[rows[place], k] -= values[place] * moved[k]
