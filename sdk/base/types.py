"""The frozen values that pass between stages. Each checks itself once, when it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]
Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]
Bools = NDArray[np.bool_]


def _require_same_length(value: object, *names: str) -> None:
    lengths = {name: len(getattr(value, name)) for name in names}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{type(value).__name__}: columns differ in length: {lengths}")


@dataclass(frozen=True, slots=True, eq=False)
class Interactions:
    """Ratings, one row per (user, item) pair.

    Attributes:
        user_id: (N,) int64.
        item_id: (N,) int64.
        rating: (N,) float32, stars.
        timestamp: (N,) int64, seconds since 1970-01-01 UTC.
    """

    user_id: Int64s
    item_id: Int64s
    rating: Float32s
    timestamp: Int64s

    def __post_init__(self) -> None:
        _require_same_length(self, "user_id", "item_id", "rating", "timestamp")

    def __len__(self) -> int:
        return len(self.user_id)

    def take(self, rows: Int64s | Bools) -> Interactions:
        """The given rows (a boolean mask or row numbers), in that order."""
        return Interactions(self.user_id[rows], self.item_id[rows], self.rating[rows], self.timestamp[rows])


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """A validated data set.

    Attributes:
        name: what it is called in reports, e.g. ``ml-latest-small``.
        interactions: ratings, unique by (user, item); every item_id is in ``items``, every user_id in ``users``.
        items: the catalogue, ``schema.ITEMS``, ascending by item_id, unique.
        users: ``schema.USERS``, ascending by user_id, unique.
        rejects: ``schema.REJECTS``, the rows that were set aside.
        fingerprint: hex sha256 of the accepted content; the same data give the same fingerprint.
    """

    name: str
    interactions: Interactions
    items: pa.Table
    users: pa.Table
    rejects: pa.Table
    fingerprint: str


@dataclass(frozen=True, slots=True, eq=False)
class TopK:
    """The best items of each query row, best first.

    Attributes:
        item_id: (B, k) int64. Row b is real up to ``lengths[b]``; ignore the rest.
        scores: (B, k) float32. They rank one row of one model; never compare two models' or two rows'.
        lengths: (B,) int32. Below k where a user has fewer than k unseen items.
        source: (B,) str: the model that made row b (``dlrm``, ``ncf``, ``history``, ``content`` or ``popular``).
    """

    item_id: Int64s
    scores: Float32s
    lengths: Int32s
    source: NDArray[np.str_]

    def __post_init__(self) -> None:
        if self.item_id.shape != self.scores.shape:
            raise ValueError(f"TopK: item_id is {self.item_id.shape}, scores {self.scores.shape}")
        _require_same_length(self, "item_id", "lengths", "source")

    def __len__(self) -> int:
        return len(self.item_id)

    def row(self, b: int) -> tuple[Int64s, Float32s]:
        """Row b's real item ids and scores, best first."""
        n = int(self.lengths[b])
        return self.item_id[b, :n], self.scores[b, :n]


def put_together(parts: Sequence[tuple[Int64s, TopK]], num_rows: int, width: int) -> TopK:
    """Lists of some rows each, later ones instead of earlier ones, in row order, cut or padded to one width."""
    empty = BestRows.empty(num_rows, width)
    source = np.full(num_rows, "", dtype="<U16")
    for rows, lists in parts:
        columns = min(width, lists.item_id.shape[1])
        empty.row[rows, :columns] = lists.item_id[:, :columns]
        empty.scores[rows, :columns] = lists.scores[:, :columns]
        empty.lengths[rows], source[rows] = np.minimum(lists.lengths, width), lists.source
    return TopK(empty.row, empty.scores, empty.lengths, source)


@dataclass(frozen=True, slots=True, eq=False)
class BestRows:
    """The best rows of a table for each query, best first; equal scores go to the smaller row.

    Attributes:
        row: (B, k) int64, -1 past the query's length.
        scores: (B, k) float32, -inf past the query's length.
        lengths: (B,) int32.
    """

    row: Int64s
    scores: Float32s
    lengths: Int32s

    @classmethod
    def empty(cls, num_queries: int, k: int) -> BestRows:
        """Lists without a row, to be filled in place."""
        return cls(
            np.full((num_queries, k), -1, np.int64),
            np.full((num_queries, k), -np.inf, np.float32),
            np.zeros(num_queries, np.int32),
        )

    def named(self, ids: Int64s, source: NDArray[np.str_]) -> TopK:
        """The same lists of ids; ``source`` says what made each."""
        return TopK(np.where(self.row >= 0, ids[self.row], -1), self.scores, self.lengths, source)

    @property
    def item_index(self) -> Int64s:
        """``row``, where the table is that of the items."""
        return self.row
