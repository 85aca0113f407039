"""A bundle with ratings that are newer than it: they extend what is known of its users, and nothing is trained.

The ratings extend who has seen what and, where the bundle has the history model, the users' histories. Users whom the
bundle does not have get rows of their own: to a ranker they are unknown, the history model knows them by what they
rated. The ranker's own features (how much and how kindly a user rates) stay as they were trained.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sdk.base.errors import BundleError
from sdk.base.types import Int64s, Interactions
from sdk.bundles.bundle import Bundle
from sdk.features.encode import EncodedInteractions
from sdk.features.interactions import TRAIN, StoredInteractions
from sdk.features.tables import FIRST_KNOWN, UNKNOWN, EncodedTable


@dataclass(frozen=True, slots=True, eq=False)
class FreshRatings:
    """Ratings put beside a bundle's.

    Attributes:
        ratings: those that count: of titles that the bundle knows, unique by (user, item).
        unknown_items: ratings that do not, their titles being unknown.
        new_users: users of ``ratings`` whom the bundle does not have.
    """

    ratings: Interactions
    unknown_items: int
    new_users: Int64s

    @classmethod
    def of(cls, bundle: Bundle, ratings: Interactions) -> FreshRatings:
        """Part ratings, unique by (user, item), by what a bundle knows."""
        known = bundle.encoded_items.index_of(ratings.item_id) != UNKNOWN
        counted = ratings.take(known)
        new = np.setdiff1d(counted.user_id, bundle.encoded_users.known_ids)
        return cls(counted, int((~known).sum()), new)


class FreshBundle(Bundle):
    """A bundle with newer ratings. Every list of it is made from the bundle's ratings and these together.

    A rating of a pair that the bundle knows takes the place of the bundle's, unless it is older.

    Args:
        bundle: the bundle.
        fresh: the ratings.
    """

    def __init__(self, bundle: Bundle, fresh: FreshRatings) -> None:
        super().__init__(bundle.path, bundle.info)
        self.trained, self.fresh = bundle, fresh

    @cached_property
    def _user_tables(self) -> tuple[pa.Table, EncodedTable]:
        raw, encoded = self.trained.users, self.trained.encoded_users
        new = self.fresh.new_users
        nobody = [pa.array(new, pa.int64()), *(pa.nulls(len(new), field.type) for field in list(raw.schema)[1:])]
        both = pa.concat_tables([raw, pa.Table.from_arrays(nobody, schema=raw.schema)])
        return both.sort_by(raw.column_names[0]), with_unknown_users(encoded, new)

    @cached_property
    def _item_tables(self) -> tuple[pa.Table, EncodedTable]:
        return self.trained.items, self.trained.encoded_items

    @cached_property
    def interactions(self) -> StoredInteractions:
        """Every rating that stands, the bundle's and the newer ones; the newer ones count as training ratings.

        Raises:
            BundleError: the bundle does not say when its ratings were made.
        """
        trained, ratings = self.trained, self.fresh.ratings
        sizes = len(trained.encoded_users), len(trained.encoded_items)
        stored = StoredInteractions.read(self.path / "seen.parquet", sizes, with_times=True)
        if stored.timestamp is None:
            raise BundleError(f"{self.path}: does not say when its ratings were made. Train the bundle again.")
        moved = self.encoded_users.index_of(trained.encoded_users.ids).astype(np.int32)
        old = replace(stored, rows=replace(stored.rows, user_index=moved[stored.rows.user_index]))
        part = np.full(len(ratings), TRAIN, dtype=np.int8)
        new = StoredInteractions(encoded(self, ratings), part, ratings.rating, ratings.timestamp)
        at, theirs = _same_pairs(old.rows, new.rows, len(self.encoded_items))
        older = ratings.timestamp[theirs] < stored.timestamp[at]
        columns = zip(_columns_without(old, at[~older]), _columns_without(new, theirs[older]), strict=True)
        user, item, label, part, rating, times = (np.concatenate(pair) for pair in columns)
        return StoredInteractions(EncodedInteractions(user, item, label), part, rating, times)


def with_unknown_users(table: EncodedTable, user_ids: Int64s) -> EncodedTable:
    """The users' table with rows for more ids, each like that of an unknown user; rows stay ascending by id.

    Args:
        table: the users' encoded table.
        user_ids: (N,) int64, ascending, none of them in the table.
    """
    source = np.concatenate([np.arange(len(table)), np.full(len(user_ids), UNKNOWN)])
    ids = np.concatenate([table.ids, user_ids])
    order = np.concatenate([np.arange(FIRST_KNOWN), FIRST_KNOWN + np.argsort(ids[FIRST_KNOWN:], kind="stable")])
    rows, stats = source[order], table.statistics
    return replace(
        table,
        ids=ids[order],
        codes={name: codes[rows] for name, codes in table.codes.items()},
        multi_hot={name: shares[rows] for name, shares in table.multi_hot.items()},
        dense=table.dense[rows],
        statistics=replace(stats, count=stats.count[rows], likes=stats.likes[rows]),
    )


def encoded(bundle: Bundle, ratings: Interactions) -> EncodedInteractions:
    """Ratings as rows of a bundle's tables, with the labels that its rankers learn."""
    users = bundle.encoded_users.index_of(ratings.user_id).astype(np.int32)
    items = bundle.encoded_items.index_of(ratings.item_id).astype(np.int32)
    return EncodedInteractions(users, items, (ratings.rating > bundle.info.config.features.like_above).astype(np.int8))


def _same_pairs(old: EncodedInteractions, new: EncodedInteractions, num_items: int) -> tuple[Int64s, Int64s]:
    """Row numbers of the pairs that both hold, in either; only users who have new ratings are looked through."""
    rows = np.flatnonzero(np.isin(old.user_index, new.user_index) & (old.item_index >= FIRST_KNOWN))
    keys = _keys(old.take(rows), num_items), _keys(new, num_items)
    _, at, theirs = np.intersect1d(*keys, assume_unique=True, return_indices=True)
    return rows[at], theirs


def _keys(rows: EncodedInteractions, num_items: int) -> Int64s:
    return rows.user_index.astype(np.int64) * num_items + rows.item_index


def _columns_without(stored: StoredInteractions, rows: Int64s) -> list[NDArray[Any]]:
    stays, own = np.ones(len(stored.part), np.bool_), stored.rows
    stays[rows] = False
    columns = (own.user_index, own.item_index, own.label, stored.part, stored.rating, stored.timestamp)
    return [column[stays] for column in columns if column is not None]
