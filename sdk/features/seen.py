"""Who has rated what, as compressed sparse rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sdk.base.ids import rows_of
from sdk.base.types import Int32s, Int64s, taken


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """The items that each user row has rated.

    Attributes:
        indptr: (U + 1,) int64; row u's items are ``items[indptr[u]:indptr[u + 1]]``.
        items: (N,) int32 item rows, ascending and unique within a user.
    """

    indptr: Int64s
    items: Int32s

    @classmethod
    def build(cls, user_index: Int32s | Int64s, item_index: Int32s | Int64s, num_users: int) -> Seen:
        """Sort (N,) pairs into rows; a pair that comes twice counts once."""
        width = int(item_index.max(initial=0)) + 1
        keys = np.sort(user_index.astype(np.int64) * width + item_index, kind="stable")  # quick where runs are in order
        keys = keys[np.append(True, keys[1:] != keys[:-1])[: len(keys)]]
        counts = np.bincount(keys // width, minlength=num_users)
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(indptr, (keys % width).astype(np.int32))

    @classmethod
    def nothing(cls, num_users: int) -> Seen:
        """Nobody has seen anything."""
        return cls(np.zeros(num_users + 1, dtype=np.int64), np.zeros(0, dtype=np.int32))

    @property
    def users(self) -> Int64s:
        """(N,) int64: whose each item is, by user row."""
        return np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))

    def take(self, rows: Int64s) -> Seen:
        """The given user rows, in that order."""
        indptr, places = taken(self.indptr, rows)
        return Seen(indptr, self.items[places])

    def only(self, items: Int64s) -> Seen:
        """Of each user the given item rows (ascending) alone, which become rows 0, 1, …."""
        place = rows_of(items, self.items)
        here = place >= 0
        return Seen.build(self.users[here], place[here], len(self.indptr) - 1)

    def beside(self, other: Seen) -> Seen:
        """These and the other's, user by user."""
        items = np.concatenate([self.items, other.items]).astype(np.int64)
        return Seen.build(np.concatenate([self.users, other.users]), items, len(self.indptr) - 1)

    def row(self, user: int) -> Int32s:
        """One user row's items, ascending."""
        return self.items[self.indptr[user] : self.indptr[user + 1]]
