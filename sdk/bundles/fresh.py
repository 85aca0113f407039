"""A bundle with interactions or items that are newer than it: nothing is trained.

Interactions extend who has seen what and, where the bundle has the history model, the users' histories. Users whom the
bundle does not have get rows of their own: to a ranker they are unknown, the history model knows them by what they
did. The ranker's own features (how much and how kindly a user rates) stay as they were trained.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sdk.base.errors import BundleError
from sdk.base.ids import as_texts, is_text, rows_of
from sdk.base.schema import id_type
from sdk.base.types import Bools, Float32s, IdArray, Int64s, Interactions
from sdk.bundles.bundle import Bundle
from sdk.bundles.new_items import NewItems
from sdk.data.events import Loaded, read_interactions
from sdk.data.merging import CAP
from sdk.data.validation import MAX_TIMESTAMP
from sdk.features.interactions import TRAIN, StoredInteractions
from sdk.features.tables import FIRST_KNOWN, UNKNOWN, EncodedInteractions, EncodedTable
from sdk.models.pair_form import PairForm, Side

if TYPE_CHECKING:
    from sdk.models.content.model import ContentModel
    from sdk.models.history.model import HistoryModel


log = logging.getLogger(__name__)


def read_newer(
    bundle: Bundle,
    given: Any,
    *,
    name: str,
    columns: Mapping[str, str] | None = None,
    events: Mapping[str, float] | None = None,
    until: int = MAX_TIMESTAMP,
) -> Loaded:
    """A table of interactions, read as those that a bundle was trained on.

    Of implicit feedback, events that the bundle has already are passed over: those of its pairs that are no newer than
    the newest of the pair.

    Args:
        bundle: the bundle, which says what the columns are called and what an event weighs.
        given: as ``sdk.data.readers.open_table`` takes it.
        name: what it is called in messages.
        columns: our name of a column -> the table's own, where it is not as it was in training.
        events: kind of event -> its weight, where it is not as in training.
        until: seconds since 1970-01-01 UTC; later rows are passed over.

    Raises:
        UsageError: it is no table, or the options do not fit it.
        DataError: it cannot be used.
    """
    about, told = bundle.about, {**bundle.about.columns, **(columns or {})}
    counted = {} if told.get("event") == "" else (events or about.events)
    loaded = read_interactions(
        given, name=name, columns=told, events=counted, seen=() if events or not counted else about.seen,
        config=bundle.info.config.data, until=until, known=_AlreadyIn(bundle) if about.feedback == "implicit" else None,
    )  # fmt: skip
    if passed := loaded.counts.get("known"):
        log.info("%s: %d events are in the bundle already: passed over", name, passed)
    return loaded


@dataclass(frozen=True, slots=True, eq=False)
class _AlreadyIn:
    """Which events a bundle has already."""

    bundle: Bundle

    def __call__(self, user_id: IdArray, item_id: IdArray, pairs: Interactions) -> Bools:
        """(N,) bool: of a pair that the bundle knows, and no newer than what it knows of it."""
        users, items = self.bundle.encoded_users, self.bundle.encoded_items
        stored = StoredInteractions.read(self.bundle.path / "seen.parquet", (len(users), len(items)), with_times=True)
        if stored.timestamp is None or not stored.timestamp.any():
            return np.zeros(len(pairs), np.bool_)
        keys = _keys(stored.rows, len(items))
        order = np.argsort(keys)
        user, item = rows_among(users, user_id, pairs.user_id), rows_among(items, item_id, pairs.item_id)
        at = rows_of(keys[order], user * len(items) + item)
        known: Bools = (user >= FIRST_KNOWN) & (at >= 0) & (pairs.timestamp <= stored.timestamp[order][at])
        return known


def rows_among(table: EncodedTable, ids: IdArray, keys: Int64s) -> Int64s:
    """(N,) int64 rows of a table's ids, named by keys: the ids themselves where they are numbers, else places."""
    known = as_texts(ids) if is_text(table.ids) else ids
    row = table.index_of(known)
    return row[keys if is_text(ids) else rows_of(ids, keys)]


@dataclass(frozen=True, eq=False)
class FreshRatings:
    """Ratings or events put beside a bundle's.

    Attributes:
        ratings: those that count: of items that the bundle knows, unique by (user, item).
        unknown_items: ratings that do not, their items being unknown.
        new_users: users of ``ratings`` whom the bundle does not have, ascending.
        users: what ``ratings.user_id`` are places in; None where they are the ids.
        items: what ``ratings.item_id`` are places in; None where they are the ids.
    """

    ratings: Interactions
    unknown_items: int
    new_users: IdArray
    users: IdArray | None = None
    items: IdArray | None = None

    @classmethod
    def of(
        cls, bundle: Bundle, ratings: Interactions, users: IdArray | None = None, items: IdArray | None = None
    ) -> FreshRatings:
        """Part ratings, unique by (user, item), by what a bundle knows; ``users`` and ``items`` as the attributes."""
        known = _rows(bundle.encoded_items, ratings.item_id, items) != UNKNOWN
        counted = ratings.take(known)
        if users is not None:
            users, places = _used(users, counted.user_id)
            counted = replace(counted, user_id=places)
        if items is not None:
            items, places = _used(items, counted.item_id)
            counted = replace(counted, item_id=places)
        there = np.unique(counted.user_id) if users is None else users
        new = np.sort(there[bundle.encoded_users.index_of(there) == UNKNOWN])
        return cls(counted, int((~known).sum()), new, users, items)

    @cached_property
    def user_ids(self) -> IdArray:
        """(U,) ids of the users they are of, each once."""
        return np.unique(self.ratings.user_id) if self.users is None else self.users


def _used(names: IdArray, keys: Int64s) -> tuple[IdArray, Int64s]:
    """The names that some keys, places among them, use; and their places among these."""
    used, places = np.unique(keys, return_inverse=True)
    return names[used], places.astype(np.int64)


def _rows(table: EncodedTable, keys: Int64s, names: IdArray | None) -> Int64s:
    """(N,) rows of a table; ``UNKNOWN`` for what is not in it."""
    return table.index_of(keys) if names is None else table.index_of(names)[keys]


class FreshBundle(Bundle):
    """A bundle with newer ratings. Every list of it is made from the bundle's ratings and these together.

    A rating of a pair that the bundle knows takes the place of the bundle's, unless it is older. Of implicit feedback
    it adds to the bundle's weight, unless it is older.

    Args:
        bundle: the bundle.
        fresh: the ratings; None for none.
        new_items: items that it does not have; None for none.
    """

    def __init__(self, bundle: Bundle, fresh: FreshRatings | None, new_items: NewItems | None = None) -> None:
        super().__init__(bundle.path, bundle.info)
        self.trained, self.fresh, self.new_items = bundle, fresh, new_items

    @cached_property
    def _user_tables(self) -> tuple[pa.Table, EncodedTable]:
        raw, encoded = self.trained.users, self.trained.encoded_users
        if self.fresh is None:
            return raw, encoded
        new = self.fresh.new_users
        nobody = [pa.array(new, id_type(new)), *(nothing_known(field, len(new)) for field in list(raw.schema)[1:])]
        both = pa.concat_tables([raw, pa.Table.from_arrays(nobody, schema=raw.schema)])
        return both.sort_by(raw.column_names[0]), with_unknown_rows(encoded, new)

    @cached_property
    def _item_tables(self) -> tuple[pa.Table, EncodedTable]:
        raw, encoded = self.trained.items, self.trained.encoded_items
        if self.new_items is None:
            return raw, encoded
        both = pa.concat_tables([raw, self.new_items.table])
        return both.sort_by("item_id"), with_unknown_rows(encoded, self.new_items.ids)

    @cached_property
    def content(self) -> ContentModel:
        """The content model, with the new items in it."""
        return self.trained.content if self.new_items is None else self.new_items.content()

    @cached_property
    def history(self) -> HistoryModel | None:
        """The history model; to it a new item is what is like it."""
        found, new = self.trained.history, self.new_items
        if found is None or new is None:
            return found
        item_in, item_out, bias = (
            new.mean(values, self.encoded_items) for values in (found.item_in, found.item_out, found.item_bias)
        )
        return replace(found, item_in=item_in, item_out=item_out, item_bias=bias)

    @property
    def _stored_lists(self) -> None:
        """None: what the bundle holds knows nothing of what is new."""

    def list_form(
        self, name: str | None = "best", *, parts: Sequence[int] = (), users: Int64s | None = None
    ) -> PairForm | None:
        """As ``Bundle.list_form``; a new item is what is like it, to the ranker, too."""
        form, new = super().list_form(name, parts=parts, users=users), self.new_items
        if form is None or new is None:
            return form
        return replace(form, items=Side(*(new.mean(part, self.encoded_items) for part in form.items.parts)))

    @cached_property
    def interactions(self) -> StoredInteractions:
        """Every rating that stands, the bundle's and the newer ones; the newer ones count as training ratings.

        Raises:
            BundleError: the bundle does not say when its ratings were made.
        """
        trained, fresh = self.trained, self.fresh
        if fresh is None:
            return self._moved(trained.interactions)
        ratings = fresh.ratings
        sizes = len(trained.encoded_users), len(trained.encoded_items)
        stored = StoredInteractions.read(self.path / "seen.parquet", sizes, with_times=True)
        if stored.timestamp is None:
            raise BundleError(f"{self.path}: does not say when its ratings were made. Train the bundle again.")
        old = self._moved(stored)
        rows = encoded(self, ratings, fresh.users, fresh.items)
        new = StoredInteractions(
            rows, np.full(len(ratings), TRAIN, np.int8), ratings.rating, ratings.timestamp, ratings.seen
        )
        at, theirs = _same_pairs(old.rows, new.rows, len(self.encoded_items))
        older = ratings.timestamp[theirs] < stored.timestamp[at]
        old, new = _taking_out(old, new, at, theirs)
        if self.about.feedback == "implicit":
            new = replace(new, rating=_added(old.rating, new.rating, at[~older], theirs[~older]))
        columns = zip(_columns_without(old, at[~older]), _columns_without(new, theirs[older]), strict=True)
        user, item, label, part, rating, times, *out = (np.concatenate(pair) for pair in columns)
        return StoredInteractions(EncodedInteractions(user, item, label), part, rating, times, *out)

    def _moved(self, stored: StoredInteractions) -> StoredInteractions:
        """The bundle's interactions by the rows that its users and items have here."""
        rows, known = stored.rows, ((self.encoded_users, self.trained.encoded_users),
                                    (self.encoded_items, self.trained.encoded_items))  # fmt: skip
        users, items = (here.index_of(there.ids).astype(np.int32) for here, there in known)
        return replace(stored, rows=replace(rows, user_index=users[rows.user_index], item_index=items[rows.item_index]))


def nothing_known(field: pa.Field, count: int) -> pa.Array:
    """A column of which nothing is known."""
    if field.nullable:
        return pa.nulls(count, field.type)
    return pa.array([[] if pa.types.is_list(field.type) else ""] * count, field.type)


def with_unknown_rows(table: EncodedTable, ids: IdArray) -> EncodedTable:
    """A table with rows for more ids, each like that of an unknown one; rows stay ascending by id.

    Args:
        table: an encoded table.
        ids: (N,) ascending, none of them in the table.
    """
    source = np.concatenate([np.arange(len(table)), np.full(len(ids), UNKNOWN)])
    every = np.concatenate([table.ids, ids])
    order = np.concatenate([np.arange(FIRST_KNOWN), FIRST_KNOWN + np.argsort(every[FIRST_KNOWN:], kind="stable")])
    rows, stats = source[order], table.statistics
    return replace(
        table,
        ids=every[order],
        codes={name: codes[rows] for name, codes in table.codes.items()},
        multi_hot={name: shares[rows] for name, shares in table.multi_hot.items()},
        dense=table.dense[rows],
        statistics=replace(stats, count=stats.count[rows], likes=stats.likes[rows]),
        trained_as=rows if table.trained_as is None else table.trained_as[rows],
    )


def encoded(
    bundle: Bundle, ratings: Interactions, users: IdArray | None = None, items: IdArray | None = None
) -> EncodedInteractions:
    """Ratings as rows of a bundle's tables, with the labels that its rankers learn.

    Args:
        bundle: the bundle.
        ratings: their keys are ids, or where ids are text places among these:
        users: of ``ratings.user_id``; None: the bundle's own users.
        items: of ``ratings.item_id``; None: the bundle's own items.
    """
    known = bundle.encoded_users, bundle.encoded_items
    names = [
        table.known_ids if given is None and is_text(table.ids) else given
        for table, given in zip(known, (users, items), strict=True)
    ]
    user_index, item_index = (
        _rows(table, keys, given).astype(np.int32)
        for table, keys, given in zip(known, (ratings.user_id, ratings.item_id), names, strict=True)
    )
    implicit = bundle.about.feedback == "implicit"
    liked = np.full(len(ratings), implicit) | (ratings.rating > bundle.info.config.features.like_above)
    return EncodedInteractions(user_index, item_index, liked.astype(np.int8))


def _added(old: Float32s, new: Float32s, at: Int64s, theirs: Int64s) -> Float32s:
    """The newer weights, with those of the same pairs that the bundle has."""
    weights = new.copy()
    cap = max(np.float32(CAP * np.median(old)), new.max(initial=0)) if len(old) else np.inf
    weights[theirs] = np.minimum(old[at] + new[theirs], cap)
    return weights


def _taking_out(
    old: StoredInteractions, new: StoredInteractions, at: Int64s, theirs: Int64s
) -> tuple[StoredInteractions, StoredInteractions]:
    """Both, saying of each pair whether it takes its item out: where either says so; as they are where all do."""
    if old.takes_out is None and new.takes_out is None:
        return old, new
    first, second = (_flags(each) for each in (old, new))
    first[at] = second[theirs] = first[at] | second[theirs]
    return replace(old, takes_out=first), replace(new, takes_out=second)


def _flags(stored: StoredInteractions) -> Bools:
    return np.ones(len(stored.part), np.bool_) if stored.takes_out is None else stored.takes_out.copy()


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
    columns = (
        own.user_index,
        own.item_index,
        own.label,
        stored.part,
        stored.rating,
        stored.timestamp,
        stored.takes_out,
    )
    return [column[stays] for column in columns if column is not None]
