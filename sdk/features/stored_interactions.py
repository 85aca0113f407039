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
from sdk.types import Float32s

TRAIN, VALIDATION, TEST = 0, 1, 2
_COLUMNS = ("user_index", "item_index", "label", "part", "rating")


@dataclass(frozen=True, slots=True, eq=False)
class StoredInteractions:
    """Every rating of a bundle.

    Attributes:
        rows: (N,) encoded ratings, in the order of the data set's files.
        part: (N,) int8, ``TRAIN``, ``VALIDATION`` or ``TEST``.
        rating: (N,) float32, stars.
    """

    rows: EncodedInteractions
    part: NDArray[np.int8]
    rating: Float32s

    @classmethod
    def build(cls, rows: EncodedInteractions, rating: Float32s, split: Split) -> StoredInteractions:
        """Label each rating with its part."""
        part = np.full(len(rows), TRAIN, dtype=np.int8)
        part[split.validation] = VALIDATION
        part[split.test] = TEST
        return cls(rows, part, rating)

    def of(self, *parts: int) -> EncodedInteractions:
        """The ratings of the given parts."""
        return self.rows.take(np.isin(self.part, parts))

    def only(self, *parts: int) -> StoredInteractions:
        """The ratings of the given parts (none given: all), with their stars."""
        if not parts:
            return self
        rows = np.isin(self.part, parts)
        return StoredInteractions(self.rows.take(rows), self.part[rows], self.rating[rows])

    def seen(self, num_users: int, *parts: int) -> Seen:
        """Who has rated what in the given parts (none given: in all)."""
        rows = self.of(*parts) if parts else self.rows
        return Seen.build(rows.user_index, rows.item_index, num_users)

    def write(self, path: Path) -> None:
        """One Parquet file, 14 bytes a rating before compression."""
        columns = [self.rows.user_index, self.rows.item_index, self.rows.label, self.part, self.rating]
        pq.write_table(pa.table(dict(zip(_COLUMNS, columns, strict=True))), path, compression="zstd")

    @classmethod
    def read(cls, path: Path) -> StoredInteractions:
        """Read what ``write`` wrote.

        Raises:
            BundleError: the file is absent or not of this form.
        """
        try:
            table = pq.read_table(path, columns=list(_COLUMNS))
        except (pa.ArrowException, OSError) as error:
            message = f"{path}: not a bundle's ratings ({error}). Train the bundle again."
            raise BundleError(message) from error
        user_index, item_index, label, part, rating = (table.column(name).to_numpy() for name in _COLUMNS)
        return cls(EncodedInteractions(user_index, item_index, label), part, rating)
