"""Encoded interactions on disk: who has rated what, with each rating's label and the part of the split it fell in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sdk.base.arrow_tables import numbers_in
from sdk.base.errors import BundleError
from sdk.base.ids import rows_of
from sdk.base.types import Bools, Float32s, Int64s
from sdk.data.splits import Split
from sdk.features.row_groups import HeldParquet
from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN, EncodedInteractions

TRAIN, VALIDATION, TEST = 0, 1, 2
_TYPES = {"user_index": pa.int32(), "item_index": pa.int32(), "label": pa.int8(), "part": pa.int8(),
          "rating": pa.float32(), "timestamp": pa.int64(), "seen": pa.bool_(), "place": pa.int64()}  # fmt: skip
_TIME, _SEEN, _PLACE = "timestamp", "seen", "place"
_DAMAGE = (pa.ArrowException, OSError, ValueError, MemoryError)
ROWS_A_GROUP = 1 << 17
"""Of a Parquet row group, which is read as one: the ratings of a few users are found without reading all of them."""
_COLUMNS = [name for name in _TYPES if name not in (_TIME, _SEEN, _PLACE)]


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

    def _taking(self, rows: Bools | Int64s) -> StoredInteractions:
        timestamp = None if self.timestamp is None else self.timestamp[rows]
        takes_out = None if self.takes_out is None else self.takes_out[rows]
        return StoredInteractions(self.rows.take(rows), self.part[rows], self.rating[rows], timestamp, takes_out)

    def seen(self, num_users: int) -> Seen:
        """Who must not be shown what again."""
        rows = self.rows if self.takes_out is None else self.rows.take(self.takes_out)
        return Seen.build(rows.user_index, rows.item_index, num_users)

    def write(self, path: Path) -> None:
        """One Parquet file, 22 bytes a rating before compression, by user: so a few users' ratings lie together.

        Where these are in another order, ``place`` says where each stood, 8 bytes more.
        """
        order = self._by_user()
        stored = self if order is None else self._taking(order)
        rows = stored.rows
        columns = [rows.user_index, rows.item_index, rows.label, stored.part, stored.rating]
        table = pa.table(dict(zip(_COLUMNS, columns, strict=True)))
        for name, values in ((_TIME, stored.timestamp), (_SEEN, stored.takes_out), (_PLACE, order)):
            if values is not None:
                table = table.append_column(name, pa.array(values))
        pq.write_table(table, path, compression="zstd", row_group_size=ROWS_A_GROUP)

    def _by_user(self) -> Int64s | None:
        """(N,) the order by user, each user's in the order that they have; None where that is theirs."""
        user = self.rows.user_index
        return None if (user[1:] >= user[:-1]).all() else np.argsort(user, kind="stable")

    @classmethod
    def read(cls, path: Path, sizes: tuple[int, int], *, with_times: bool = False) -> StoredInteractions:
        """Read what ``write`` wrote, in the order that was written.

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
                places = [_PLACE] if _PLACE in names else []
                table = file.read([*_wanted(names, with_times=with_times), *places])
            stored = cls._of(table, sizes)
            return stored._taking(_inverse(numbers_in(table.column(_PLACE)))) if places else stored
        except _DAMAGE as error:
            raise BundleError(f"{path}: not a bundle's ratings ({error}). Train the bundle again.") from error

    @classmethod
    def read_some(
        cls, file: HeldParquet, users: Int64s, sizes: tuple[int, int], *, with_times: bool = False
    ) -> StoredInteractions:
        """The ratings of a few users, read without those of all others where the file is in the users' order.

        Args:
            file: what ``write`` wrote.
            users: (B,) int64 rows of the users' table, ascending; here they are rows ``FIRST_KNOWN`` and so on.
            sizes: as for ``read``.
            with_times: as for ``read``.

        Raises:
            BundleError: what was read is not of this form, or an index lies outside its table.
        """

        def places(table: pa.Table) -> Int64s:
            return rows_of(users, numbers_in(table.column("user_index")).astype(np.int64))

        def keep(table: pa.Table) -> pa.Array:
            return pa.array(places(table) >= 0)

        try:
            columns = _wanted(file.schema.names, with_times=with_times)
            bounds = (int(users[0]), int(users[-1])) if len(users) else (1, 0)
            table = file.where("user_index", *bounds, keep, columns)
            stored = cls._of(table, sizes)
        except _DAMAGE as error:
            raise BundleError(f"{file.path}: not a bundle's ratings ({error}). Train the bundle again.") from error
        here = (places(table) + FIRST_KNOWN).astype(np.int32)
        return replace(stored, rows=replace(stored.rows, user_index=here))

    @classmethod
    def _of(cls, table: pa.Table, sizes: tuple[int, int]) -> StoredInteractions:
        _check(table, sizes)
        user_index, item_index, label, part, rating = (numbers_in(table.column(name)) for name in _COLUMNS)
        timestamp = numbers_in(table.column(_TIME)) if _TIME in table.column_names else None
        takes_out = table.column(_SEEN).to_numpy() if _SEEN in table.column_names else None
        return cls(EncodedInteractions(user_index, item_index, label), part, rating, timestamp, takes_out)


def _inverse(places: Int64s) -> Int64s:
    """(N,) which row stood in each place.

    Raises:
        ValueError: some place has none.
    """
    if len(places) and not (places.min() >= 0 and (np.bincount(places, minlength=len(places)) == 1).all()):
        message = "a rating's place is another's, too"
        raise ValueError(message)
    found = np.empty_like(places)
    found[places] = np.arange(len(places))
    return found


def _wanted(names: Sequence[str], *, with_times: bool) -> list[str]:
    """The columns to read.

    Raises:
        ValueError: one that must be there is absent.
    """
    if missing := [name for name in _COLUMNS if name not in names]:
        raise ValueError(f"it has no column {missing[0]}")
    optional = ([_TIME] if with_times else []) + [_SEEN]
    return [*_COLUMNS, *(name for name in optional if name in names)]


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
