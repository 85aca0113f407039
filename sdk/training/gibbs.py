"""A Markov chain over factorisation machines with probit labels: each sweep draws all that one holds anew.

score(u, i) = <p[u], q[i]> + b[u] + c[i], and a row's vector (p, b) comes from a normal distribution about its features'
weights: of what its table says of it, and of the ids on the other side that it was rated with, each weighing
1 / sqrt(number of them) (Koren 2008, "Factorization meets the neighborhood"; as features:
Rendle, Zhang and Koren 2019, arXiv:1905.01395, section 3). Labels are signs of normal scores (Albert and Chib 1993).
Given the other side a row's vector is drawn whole; given the vectors every column of the weights is a regression of its
own, as in Macau (Simm et al. 2015, arXiv:1509.04610). So rows, and then columns, are drawn in parallel.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdk.base.types import Float32s, Float64s, Int32s, Int64s
from sdk.features.columns import CONTENT
from sdk.features.tables import FIRST_KNOWN, STATISTIC_NAMES, EncodedInteractions, EncodedTable
from sdk.machine.device import usable_cores
from sdk.training.gibbs_kernels import Columns, Ratings, draw_rows, draw_weights

_STRIPS = 64  # of rows, so that cores share unequal rows evenly
_BINS = 20  # of a number that is a feature
_SHAPE, _RATE = 1.0, 0.01  # of the gamma distribution that precisions come from: kinds of few features may fade
_FIRST_SPREAD = 0.1


@dataclass(slots=True, eq=False)
class _Block:
    """One kind of feature: which rows have it, and its weights in every column of a vector."""

    columns: Columns
    weights: Float32s
    precision: Float64s


class ChainSide:
    """One side of the chain, users or items.

    Args:
        own: (N,) int32 rows of this side.
        other: (N,) int32 rows of the other side.
        label: (N,) int8, 1 = liked.
        table: this side's.
        num_others: rows of the other side's table.
        width: columns of a vector, the bias included.
        by_others: whether the ids that a row was rated with are its features.
        rng: draws where the chain starts.
    """

    def __init__(
        self, own: Int32s, other: Int32s, label: NDArray[np.int8], table: EncodedTable, num_others: int,
        width: int, rng: np.random.Generator, *, by_others: bool,
    ) -> None:  # fmt: skip
        num_rows = len(table)
        self.ratings = _by_row(own, other, label, num_rows)
        self.count = np.diff(self.ratings[0])
        self.is_rated = self.count > 0
        columns = [_without(each, ~self.is_rated) for each in features_of(table)]
        if by_others:
            starts, rows, _ = _by_row(other, own, label, num_others)
            columns.append((starts, rows, (1 / np.sqrt(self.count[rows])).astype(np.float32)))
        self.blocks = [
            _Block(each, np.zeros((len(each[0]) - 1, width), np.float32), np.full(width, 10.0)) for each in columns
        ]
        self._bare = [_without(each, self.is_rated) for each in features_of(table)]
        self.vectors = (rng.normal(size=(num_rows, width)) * _FIRST_SPREAD).astype(np.float32)
        self.expected = self.vectors.copy()
        self.mean, self.centre = np.zeros_like(self.vectors), np.zeros(width, np.float32)
        self.precision = np.full(width, 5.0)

    def draw(self, other: ChainSide, seed: int, pool: ThreadPoolExecutor) -> None:
        """Draw the vectors given the other side's, then their weights, precisions and centre."""
        edges = np.linspace(0, len(self.vectors), _STRIPS + 1).astype(np.int64)
        given = self.ratings, self.vectors, self.expected, other.vectors, self.mean, self.precision, seed
        list(pool.map(lambda strip: draw_rows(*given, edges[strip : strip + 2]), range(_STRIPS)))
        rest, rng = self.vectors - self.mean, np.random.default_rng(seed)
        for number, block in enumerate(self.blocks):
            rest = _draw_block(block, rest, self.precision, seed + number + 1, pool)
            block.precision = _precision(block.weights, rng)
        found = rest[self.is_rated] + self.centre
        self.precision = _precision(found - self.centre, rng)
        weight = len(found) * self.precision + 1.0
        centre = self.precision * found.sum(0, dtype=np.float64) / weight + rng.normal(size=len(weight)) / weight**0.5
        self.mean = self.vectors - rest + (centre - self.centre).astype(np.float32)
        self.centre = centre.astype(np.float32)
        self._set_unrated()

    def _set_unrated(self) -> None:
        """A row without ratings stands at its mean."""
        bare = ~self.is_rated
        self.mean[bare] = self.centre
        for columns, block in zip(self._bare, self.blocks, strict=False):
            starts, rows, values = columns
            features = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
            np.add.at(self.mean, rows, values[:, None] * block.weights[features])
        self.vectors[bare] = self.expected[bare] = self.mean[bare]


def _draw_block(block: _Block, rest: Float32s, noise: Float64s, seed: int, pool: ThreadPoolExecutor) -> Float32s:
    """Draw a block's weights, some columns of the vectors on each core; what they leave of ``rest``."""
    width = rest.shape[1]
    edges = np.linspace(0, width, min(usable_cores(), width) + 1).astype(np.int64)

    def strip(place: int) -> tuple[Float32s, Float32s]:
        part = slice(edges[place], edges[place + 1])
        own, weights = rest[:, part].copy(), block.weights[:, part].copy()
        draw_weights(block.columns, own, weights, noise[part], block.precision[part], seed, int(edges[place]))
        return own, weights

    parts = list(pool.map(strip, range(len(edges) - 1)))
    block.weights = np.concatenate([weights for _, weights in parts], axis=1)
    return np.concatenate([own for own, _ in parts], axis=1)


def _precision(values: Float32s, rng: np.random.Generator) -> Float64s:
    """(D,) float64 precisions drawn given (N, D) values about 0."""
    squares = np.square(values, dtype=np.float64).sum(0)
    return rng.gamma(_SHAPE + 0.5 * len(values), 1 / (_RATE + 0.5 * squares))


def _by_row(own: Int32s, other: Int32s, label: NDArray[np.int8], num_rows: int) -> Ratings:
    order = np.argsort(own, kind="stable")
    return _starts(own, num_rows), other[order].astype(np.int32), label[order].astype(np.int8)


def _starts(index: Int32s | Int64s, size: int) -> Int64s:
    """(size + 1,) int64: where each index starts, once they are sorted."""
    return np.concatenate([[0], np.bincount(index, minlength=size).cumsum()]).astype(np.int64)


def features_of(table: EncodedTable) -> Iterator[Columns]:
    """What a table says of its rows but for ids, statistics and content: categories, lists, and numbers by place."""
    known = np.arange(FIRST_KNOWN, len(table))
    for name, codes in table.codes.items():
        if name != "id":
            yield _one_hot(codes, known, table.cardinalities[name])
    for shares in table.multi_hot.values():
        features, rows = np.nonzero(shares.T)
        yield _columns(rows, features, shares[rows, features], shares.shape[1])
    numbers = [
        at
        for at, name in enumerate(table.dense_names)
        if name not in STATISTIC_NAMES and not name.removeprefix(CONTENT).isdigit()
    ]
    for values in table.dense.T[numbers]:
        edges = np.unique(np.sort(values[known])[np.arange(1, _BINS) * len(known) // _BINS]) if len(known) else known
        yield _one_hot(np.digitize(values, edges), known, len(edges) + 1)


def _one_hot(codes: Int64s, rows: Int64s, num_codes: int) -> Columns:
    order = rows[np.argsort(codes[rows], kind="stable")]
    return _columns(order, codes[order], np.ones(len(order), np.float32), num_codes)


def _columns(rows: Int64s, features: Int64s, values: Float32s, num_features: int) -> Columns:
    """Of entries whose features ascend."""
    return _starts(features, num_features), rows.astype(np.int32), values.astype(np.float32)


def _without(columns: Columns, left_out: NDArray[np.bool_]) -> Columns:
    starts, rows, values = columns
    stays = ~left_out[rows]
    kept = np.concatenate([[0], np.cumsum(stays)])[starts]
    return kept.astype(np.int64), rows[stays], values[stays]


class Chain:
    """A chain over ratings with labels.

    Args:
        rows: (N,) encoded ratings, with both labels.
        users: the users' encoded table.
        items: the items' encoded table.
        rank: columns of a vector, besides the bias.
        seed: of everything that is drawn: the same ratings and seed give the same bits on any number of cores.
        by_others: whether the ids that a row was rated with are its features. They must not be where being rated tells
            the label.
    """

    def __init__(
        self, rows: EncodedInteractions, users: EncodedTable, items: EncodedTable, rank: int, seed: int, *,
        by_others: bool,
    ) -> None:  # fmt: skip
        columns, rng = (rows.user_index, rows.item_index), np.random.default_rng(seed)
        self.users = ChainSide(*columns, rows.label, users, len(items), rank + 1, rng, by_others=by_others)
        self.items = ChainSide(*columns[::-1], rows.label, items, len(users), rank + 1, rng, by_others=by_others)
        self._seeds = rng

    def sweep(self, pool: ThreadPoolExecutor) -> None:
        """Draw everything anew, the users' side first."""
        self.users.draw(self.items, self._next(), pool)
        self.items.draw(self.users, self._next(), pool)

    def _next(self) -> int:
        return int(self._seeds.integers(0, 2**62))
