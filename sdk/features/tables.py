"""Encoded tables: what a model knows of a user or an item, one row per index.

Row numbers are NVTabular's codes: 0 padding, 1 null, 2 unknown, 3 onwards the known ids in ascending order. The
first three rows are alike: they describe somebody of whom nothing is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Context, Decimal

import numpy as np
from numpy.typing import NDArray

from sdk.base.errors import DataError
from sdk.base.ids import ids_of, nobody, rows_of
from sdk.base.types import Bools, Float32s, Float64s, IdArray, Ids, Int32s, Int64s

_DIGITS = Context(prec=40)
UNKNOWN = 2  # NVTabular's out-of-vocabulary code, and the row of whoever is not in the table
FIRST_KNOWN = 3


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """What the training ratings say of each row, kept raw so that one rating can be left out of it.

    The two dense features made of them are ``log1p(count)`` and the smoothed share of likes, normalised.

    Attributes:
        count: (R,) float64, training ratings of the row.
        likes: (R,) float64, those with a positive label.
        prior_rate: share of likes over all training ratings.
        prior_count: number of average ratings that smooth a row's share (additive smoothing).
        mean: (2,) float64, of the two features before normalising.
        std: (2,) float64.
    """

    count: Float64s
    likes: Float64s
    prior_rate: float
    prior_count: float
    mean: Float64s
    std: Float64s


STATISTIC_NAMES = ("log_count", "like_rate")


def raw_statistics(count: Float64s, likes: Float64s, prior_rate: float, prior_count: float) -> Float64s:
    """(R, 2) float64: log1p(count) and the smoothed share of likes."""
    rate = (likes + prior_count * prior_rate) / np.maximum(count + prior_count, 1e-9)
    if prior_count == 0:
        rate = np.where(count > 0, rate, prior_rate)
    return np.stack([_log1p(count), rate], axis=1)


def _log1p(count: Float64s) -> Float64s:
    """(R,) float64 nearest to log(1 + count): NumPy's, the C library's and the processor's differ in the last bit."""
    values, row = np.unique(count, return_inverse=True)
    return np.array([float((1 + Decimal(value)).ln(_DIGITS)) for value in values.tolist()])[row]


def unknown_dense(statistics: Statistics, width: int) -> Float32s:
    """(3, F) float32 dense features of the reserved rows: no ratings, and the average of everything else."""
    none = np.zeros(FIRST_KNOWN)
    dense = np.zeros((FIRST_KNOWN, width))
    raw = raw_statistics(none, none, statistics.prior_rate, statistics.prior_count)
    dense[:, : len(STATISTIC_NAMES)] = (raw - statistics.mean) / statistics.std
    return dense.astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class EncodedTable:
    """One encoded side, users or items.

    Attributes:
        ids: (R,) int64, the outside id of each row, -1 in the first three; or object, text, "" in the first three.
        codes: name -> (R,) int64 codes of a single-valued categorical field; ``id`` is always among them.
        cardinalities: name -> number of codes of every field, single- or list-valued, reserved ones included.
        multi_hot: name -> (R, G) float32, each row's share of the field's values (rows sum to 1 or 0).
        dense: (R, F) float32, normalised; the statistics are the first two columns.
        dense_names: the F names.
        statistics: the raw form of the first two dense columns.
        trained_as: (R,) int64, the row that each had in the table of the training, where it is another; else None.
    """

    ids: IdArray
    codes: Mapping[str, Int64s]
    cardinalities: Mapping[str, int]
    multi_hot: Mapping[str, Float32s]
    dense: Float32s
    dense_names: tuple[str, ...]
    statistics: Statistics
    trained_as: Int64s | None = None

    def __post_init__(self) -> None:
        rows = {len(self.ids), len(self.dense), len(self.statistics.count), *map(len, self.codes.values())}
        if len(rows) > 1:
            raise DataError(f"an encoded table's columns differ in length: {sorted(rows)}")
        for name, codes in self.codes.items():
            if len(codes) and (codes.min() < 0 or codes.max() >= self.cardinalities[name]):
                raise DataError(f"codes of {name!r} lie outside 0 to {self.cardinalities[name] - 1}")

    def with_reserved_rows(self) -> EncodedTable:
        """Put the three reserved rows, which follow from rules, in front of a table of known rows alone."""
        none, statistics = np.zeros(FIRST_KNOWN, dtype=np.int64), self.statistics
        return replace(
            self,
            ids=np.concatenate([np.full(FIRST_KNOWN, nobody(self.ids), self.ids.dtype), self.ids]),
            codes={
                name: np.concatenate([none + UNKNOWN, codes.astype(np.int64)]) for name, codes in self.codes.items()
            },
            multi_hot={name: np.pad(shares, ((FIRST_KNOWN, 0), (0, 0))) for name, shares in self.multi_hot.items()},
            dense=np.vstack([unknown_dense(statistics, len(self.dense_names)), self.dense]),
            statistics=replace(
                statistics,
                count=np.concatenate([none, statistics.count]),
                likes=np.concatenate([none, statistics.likes]),
            ),
        )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def known_ids(self) -> IdArray:
        """(R - 3,) int64, or object where they are text, ascending."""
        return self.ids[FIRST_KNOWN:]

    def index_of(self, ids: Ids) -> Int64s:
        """(B,) int64 rows of the given ids; ``UNKNOWN`` for ids that the table does not have.

        Raises:
            UsageError: one of them is no id (``sdk.base.ids``).
        """
        at = rows_of(self.known_ids, ids_of(ids, known=self.ids))
        return np.where(at < 0, UNKNOWN, at + FIRST_KNOWN)


@dataclass(frozen=True, slots=True, eq=False)
class EncodedInteractions:
    """Ratings as two index columns and a label: 9 bytes a row.

    Attributes:
        user_index: (N,) int32 rows of the users' table.
        item_index: (N,) int32 rows of the items' table.
        label: (N,) int8, 1 = liked.
    """

    user_index: Int32s
    item_index: Int32s
    label: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: Bools | Int64s) -> EncodedInteractions:
        """The given rows (a boolean mask or row numbers), in that order."""
        return EncodedInteractions(self.user_index[rows], self.item_index[rows], self.label[rows])
