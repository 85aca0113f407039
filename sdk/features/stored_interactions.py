"""Encoded interactions on disk: who has rated what, with each rating's label and the part of the split it fell in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sdk.data.splits import Split
from sdk.errors import BundleError
from sdk.features.encode import EncodedInteractions
from sdk.scoring.seen import Seen
from sdk.types import Float32s, Int64s

TRAIN, VALIDATION, TEST = 0, 1, 2
_COLUMNS = ("user_index", "item_index", "label", "part", "rating")
_TIME = "timestamp"


@dataclass(frozen=True, slots=True, eq=False)
class StoredInteractions:
    """Every rating of a bundle.

    Attributes:
        rows: (N,) encoded ratings, in the order of the data set's files.
        part: (N,) int8, ``TRAIN``, ``VALIDATION`` or ``TEST``.
        rating: (N,) float32, stars.
        timestamp: (N,) int64, seconds since 1970-01-01 UTC; None where it was not read, or is not stored.
    """

    rows: EncodedInteractions
    part: NDArray[np.int8]
    rating: Float32s
    timestamp: Int64s | None = None

    @classmethod
    def build(
        cls, rows: EncodedInteractions, rating: Float32s, split: Split, timestamp: Int64s | None = None
    ) -> StoredInteractions:
        """Label each rating with its part."""
        part = np.full(len(rows), TRAIN, dtype=np.int8)
        part[split.validation] = VALIDATION
        part[split.test] = TEST
        return cls(rows, part, rating, timestamp)

    def of(self, *parts: int) -> EncodedInteractions:
        """The ratings of the given parts."""
        return self.rows.take(np.isin(self.part, parts))

    def only(self, *parts: int) -> StoredInteractions:
        """The ratings of the given parts (none given: all), with their stars."""
        if not parts:
            return self
        rows = np.isin(self.part, parts)
        timestamp = None if self.timestamp is None else self.timestamp[rows]
        return StoredInteractions(self.rows.take(rows), self.part[rows], self.rating[rows], timestamp)

    def seen(self, num_users: int, *parts: int) -> Seen:
        """Who has rated what in the given parts (none given: in all)."""
        rows = self.of(*parts) if parts else self.rows
        return Seen.build(rows.user_index, rows.item_index, num_users)

    def write(self, path: Path) -> None:
        """One Parquet file, 22 bytes a rating before compression."""
        columns = [self.rows.user_index, self.rows.item_index, self.rows.label, self.part, self.rating]
        table = pa.table(dict(zip(_COLUMNS, columns, strict=True)))
        if self.timestamp is not None:
            table = table.append_column(_TIME, pa.array(self.timestamp))
        pq.write_table(table, path, compression="zstd")

    @classmethod
    def read(cls, path: Path, *, with_times: bool = False) -> StoredInteractions:
        """Read what ``write`` wrote.

        Args:
            path: the file.
            with_times: whether to read ``timestamp``, too, which takes 8 bytes a rating.

        Raises:
            BundleError: the file is absent or not of this form.
        """
        try:
            timed = with_times and _TIME in pq.read_schema(path).names
            table = pq.read_table(path, columns=[*_COLUMNS, *[_TIME] * timed])
        except (pa.ArrowException, OSError) as error:
            message = f"{path}: not a bundle's ratings ({error}). Train the bundle again."
            raise BundleError(message) from error
        user_index, item_index, label, part, rating = (table.column(name).to_numpy() for name in _COLUMNS)
        timestamp = table.column(_TIME).to_numpy() if timed else None
        return cls(EncodedInteractions(user_index, item_index, label), part, rating, timestamp)
