"""A bundle with ratings that are newer than it: they extend what is known of its users, and nothing is trained.

The ratings extend who has seen what and, where the bundle has the history model, the users' histories. Users whom the
bundle does not have get rows of their own: to a ranker they are unknown, the history model knows them by what they
rated. The ranker's own features (how much and how kindly a user rates) stay as they were trained.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa

from sdk.base.errors import BundleError
from sdk.base.types import Bools, Int64s, Interactions
from sdk.bundles.bundle import Bundle
from sdk.features.encode import EncodedInteractions
from sdk.features.interactions import TRAIN, StoredInteractions
from sdk.features.tables import FIRST_KNOWN, UNKNOWN, EncodedTable, Statistics


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
        stored = StoredInteractions.read(self.path / "seen.parquet", self.trained._sizes, with_times=True)
        ratings = self.fresh.ratings
        moved = self.encoded_users.index_of(self.trained.encoded_users.ids)
        users = moved[stored.rows.user_index].astype(np.int32)
        old = replace(stored, rows=EncodedInteractions(users, stored.rows.item_index, stored.rows.label))
        new = _encoded(self, ratings)
        if stored.timestamp is None:
            message = f"{self.path}: does not say when its ratings were made. Train the bundle again."
            raise BundleError(message)
        times = (stored.timestamp, ratings.timestamp)
        gives_way, is_older = _superseded(old.rows, new.rows, times, len(self.encoded_items))
        return _together(_of(old, ~gives_way), _of(new, ~is_older))


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
        statistics=Statistics(
            stats.count[rows], stats.likes[rows], stats.prior_rate, stats.prior_count, stats.mean, stats.std
        ),
    )


def _encoded(bundle: FreshBundle, ratings: Interactions) -> StoredInteractions:
    users = bundle.encoded_users.index_of(ratings.user_id).astype(np.int32)
    items = bundle.encoded_items.index_of(ratings.item_id).astype(np.int32)
    label = (ratings.rating > bundle.info.config.features.like_above).astype(np.int8)
    part = np.full(len(ratings), TRAIN, dtype=np.int8)
    return StoredInteractions(EncodedInteractions(users, items, label), part, ratings.rating, ratings.timestamp)


def _superseded(
    old: EncodedInteractions, new: EncodedInteractions, times: tuple[Int64s, Int64s], num_items: int
) -> tuple[Bools, Bools]:
    """Which of the old ratings give way to a new one of the same pair, and which new ones are older than theirs."""
    rows, theirs = _same_pairs(old, new, num_items)
    older = times[1][theirs] < times[0][rows]
    gives_way, is_older = np.zeros(len(old), np.bool_), np.zeros(len(new), np.bool_)
    gives_way[rows[~older]] = True
    is_older[theirs[older]] = True
    return gives_way, is_older


def _same_pairs(old: EncodedInteractions, new: EncodedInteractions, num_items: int) -> tuple[Int64s, Int64s]:
    """Row numbers of the pairs that both hold, in either; only users who have new ratings are looked through."""
    if not len(new):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    touched = np.zeros(int(max(old.user_index.max(initial=0), new.user_index.max())) + 1, np.bool_)
    touched[new.user_index] = True
    rows = np.flatnonzero(touched[old.user_index])
    wanted = _keys(new, num_items)
    order = np.argsort(wanted)
    keys = _keys(old.take(rows), num_items)
    at = np.minimum(np.searchsorted(wanted[order], keys), len(wanted) - 1)
    same = wanted[order][at] == keys
    return rows[same], order[at[same]]


def _keys(rows: EncodedInteractions, num_items: int) -> Int64s:
    return rows.user_index.astype(np.int64) * num_items + rows.item_index


def _of(stored: StoredInteractions, rows: Bools) -> StoredInteractions:
    times = None if stored.timestamp is None else stored.timestamp[rows]
    return StoredInteractions(stored.rows.take(rows), stored.part[rows], stored.rating[rows], times)


def _together(first: StoredInteractions, second: StoredInteractions) -> StoredInteractions:
    rows = EncodedInteractions(
        np.concatenate([first.rows.user_index, second.rows.user_index]),
        np.concatenate([first.rows.item_index, second.rows.item_index]),
        np.concatenate([first.rows.label, second.rows.label]),
    )
    part, rating = np.concatenate([first.part, second.part]), np.concatenate([first.rating, second.rating])
    if first.timestamp is None or second.timestamp is None:
        return StoredInteractions(rows, part, rating)
    return StoredInteractions(rows, part, rating, np.concatenate([first.timestamp, second.timestamp]))
