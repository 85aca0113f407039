"""Encoded interactions on disk: who has rated what, with each rating's label and the part of the split it fell in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sdk.base.arrow_tables import numbers_in
from sdk.base.errors import BundleError
from sdk.base.types import Bools, Float32s, Int64s
from sdk.data.splits import Split
from sdk.features.seen import Seen
from sdk.features.tables import EncodedInteractions

TRAIN, VALIDATION, TEST = 0, 1, 2
_TYPES = {"user_index": pa.int32(), "item_index": pa.int32(), "label": pa.int8(), "part": pa.int8(),
          "rating": pa.float32(), "timestamp": pa.int64(), "seen": pa.bool_()}  # fmt: skip
_TIME, _SEEN = "timestamp", "seen"
_COLUMNS = [name for name in _TYPES if name not in (_TIME, _SEEN)]


@dataclass(frozen=True, slots=True, eq=False)
class StoredInteractions:
    """Every rating of a bundle.

    Attributes:
        rows: (N,) encoded ratings, in the order of the data set's files.
        part: (N,) int8, ``TRAIN``, ``VALIDATION`` or ``TEST``.
        rating: (N,) float32, stars.
        timestamp: (N,) int64, seconds since 1970-01-01 UTC; None where it was not read, or is not stored.
        takes_out: (N,) bool, False where the pair leaves the item in the user's lists; None where none does.
    """

    rows: EncodedInteractions
    part: NDArray[np.int8]
    rating: Float32s
    timestamp: Int64s | None = None
    takes_out: Bools | None = None

    @classmethod
    def build(
        cls, rows: EncodedInteractions, rating: Float32s, split: Split, timestamp: Int64s | None = None,
        takes_out: Bools | None = None,
    ) -> StoredInteractions:  # fmt: skip
        """Label each rating with its part."""
        part = np.full(len(rows), TRAIN, dtype=np.int8)
        part[split.validation] = VALIDATION
        part[split.test] = TEST
        return cls(rows, part, rating, timestamp, takes_out)

    def of(self, *parts: int) -> EncodedInteractions:
        """The ratings of the given parts."""
        return self.rows.take(np.isin(self.part, parts))

    def only(self, *parts: int) -> StoredInteractions:
        """The ratings of the given parts (none given: all), with their stars."""
        return self._taking(np.isin(self.part, parts)) if parts else self

    def of_users(self, user_index: Int64s) -> StoredInteractions:
        """The ratings of (N,) user rows, in the same order."""
        wanted = np.zeros(max(int(self.rows.user_index.max(initial=0)), int(user_index.max(initial=0))) + 1, np.bool_)
        wanted[user_index] = True
        return self._taking(wanted[self.rows.user_index])

    def _taking(self, rows: Bools) -> StoredInteractions:
        timestamp = None if self.timestamp is None else self.timestamp[rows]
        takes_out = None if self.takes_out is None else self.takes_out[rows]
        return StoredInteractions(self.rows.take(rows), self.part[rows], self.rating[rows], timestamp, takes_out)

    def seen(self, num_users: int) -> Seen:
        """Who must not be shown what again."""
        rows = self.rows if self.takes_out is None else self.rows.take(self.takes_out)
        return Seen.build(rows.user_index, rows.item_index, num_users)

    def write(self, path: Path) -> None:
        """One Parquet file, 22 bytes a rating before compression."""
        columns = [self.rows.user_index, self.rows.item_index, self.rows.label, self.part, self.rating]
        table = pa.table(dict(zip(_COLUMNS, columns, strict=True)))
        if self.timestamp is not None:
            table = table.append_column(_TIME, pa.array(self.timestamp))
        if self.takes_out is not None:
            table = table.append_column(_SEEN, pa.array(self.takes_out))
        pq.write_table(table, path, compression="zstd")

    @classmethod
    def read(cls, path: Path, sizes: tuple[int, int], *, with_times: bool = False) -> StoredInteractions:
        """Read what ``write`` wrote.

        Args:
            path: the file.
            sizes: rows of the users' and of the items' table, which the indices must lie in.
            with_times: whether to read ``timestamp``, too, which takes 8 bytes a rating.

        Raises:
            BundleError: the file is absent or not of this form, or an index lies outside its table.
        """
        try:
            with pq.ParquetFile(path) as file:
                names = file.schema_arrow.names
                if missing := [name for name in _COLUMNS if name not in names]:
                    raise ValueError(f"it has no column {missing[0]}")
                timed, flagged = with_times and _TIME in names, _SEEN in names
                table = file.read([*_COLUMNS, *[_TIME] * timed, *[_SEEN] * flagged])
            _check(table, sizes)
        except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
            raise BundleError(f"{path}: not a bundle's ratings ({error}). Train the bundle again.") from error
        user_index, item_index, label, part, rating = (numbers_in(table.column(name)) for name in _COLUMNS)
        timestamp = numbers_in(table.column(_TIME)) if timed else None
        takes_out = table.column(_SEEN).to_numpy() if flagged else None
        return cls(EncodedInteractions(user_index, item_index, label), part, rating, timestamp, takes_out)


def _check(table: pa.Table, sizes: tuple[int, int]) -> None:
    """Refuse columns of other types, with nulls, or with values that no table, label or part has.

    Raises:
        ValueError: the message names the column.
    """
    for name, column in zip(table.column_names, table.columns, strict=True):
        if column.type != _TYPES[name] or column.null_count:
            raise ValueError(f"{name} is {column.type} with {column.null_count} nulls, expected {_TYPES[name]}, none")
    limits = {"label": 2, "part": TEST + 1, "user_index": sizes[0], "item_index": sizes[1]}
    for name, limit in limits.items():
        values = numbers_in(table.column(name))
        if len(values) and not (values.min() >= 0 and values.max() < limit):
            raise ValueError(f"{name} runs from {values.min()} to {values.max()}, expected 0 to {limit - 1}")
    if not np.isfinite(numbers_in(table.column("rating"))).all():
        message = "a rating is not finite"
        raise ValueError(message)
