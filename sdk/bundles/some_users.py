"""A bundle with a few of its users: what scores them holds these alone, however many there are.

Their rows of ``users.parquet``, ``seen.parquet`` and ``lists.npz`` are read from files that are held open; items,
models and all else are the whole bundle's. A list follows from its user's rows and the items, so its bits are the same.

Three kinds of bundle are whole all the same: one with newer ratings or new items, whose users' weights follow from the
ratings of all; and of a ranker whose part of the lists was not stored with the bundle, the ranker's own side.
"""

from __future__ import annotations

import abc
import threading
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from sdk.base.ids import ids_in, is_text
from sdk.base.stored_arrays import copied
from sdk.base.types import IdArray, Int64s
from sdk.bundles.bundle import Bundle
from sdk.bundles.fresh import FreshBundle
from sdk.bundles.info import LISTS
from sdk.features.interactions import StoredInteractions
from sdk.features.row_groups import HeldParquet
from sdk.features.table_files import read_some
from sdk.features.tables import FIRST_KNOWN, EncodedTable
from sdk.models.form_files import read_form
from sdk.models.history.model import load_config
from sdk.models.pair_form import PairForm, Side

if TYPE_CHECKING:
    from sdk.models.content.model import ContentModel
    from sdk.models.history.model import HistoryModel


class UserSource(abc.ABC):
    """Where users' rows come from. Users are numbered from 0, ascending by id: user n is row n + 3 of the table."""

    bundle: Bundle

    @property
    @abc.abstractmethod
    def num_users(self) -> int:
        """How many there are."""

    @property
    @abc.abstractmethod
    def ids(self) -> IdArray:
        """(U,) ids, ascending: of all, kept from then on."""

    @property
    @abc.abstractmethod
    def has_text_ids(self) -> bool:
        """Whether they are text."""

    @abc.abstractmethod
    def some(self, numbers: Int64s) -> tuple[Bundle, Int64s]:
        """A bundle that has at least the given users, and where they are in its table.

        Args:
            numbers: (B,) int64, ascending.
        """


class WholeUsers(UserSource):
    """All users of a bundle, as it holds them."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    @property
    def num_users(self) -> int:
        """How many there are."""
        return len(self.ids)

    @property
    def ids(self) -> IdArray:
        """(U,) ids, ascending."""
        return self.bundle.encoded_users.known_ids

    @property
    def has_text_ids(self) -> bool:
        """Whether they are text."""
        return is_text(self.ids)

    def some(self, numbers: Int64s) -> tuple[Bundle, Int64s]:
        """The bundle itself."""
        return self.bundle, FIRST_KNOWN + numbers


class StoredUsers(UserSource):
    """The users in a bundle's files, which are held open.

    Args:
        bundle: the bundle.

    Raises:
        BundleError: ``lists.npz`` is absent or damaged.
        OSError: a Parquet file is absent or cannot be read.
        pa.ArrowException: it is no Parquet file.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.table, self.ratings = (HeldParquet(bundle.path / f"{name}.parquet") for name in ("users", "seen"))
        self._rankers: dict[str, PairForm] = {}
        self._lowering = threading.Lock()

    @property
    def num_users(self) -> int:
        """How many there are."""
        return self.table.num_rows

    @cached_property
    def ids(self) -> IdArray:
        """(U,) ids, ascending: 8 bytes a user where they are numbers."""
        return ids_in(self.table.column("user_id"))

    @property
    def has_text_ids(self) -> bool:
        """Whether they are text."""
        return bool(pa.types.is_string(self.table.schema.field("user_id").type))

    def some(self, numbers: Int64s) -> tuple[Bundle, Int64s]:
        """A bundle of these users."""
        return SomeUsers(self, numbers), FIRST_KNOWN + np.arange(len(numbers))

    @cached_property
    def lists(self) -> PairForm | None:
        """``lists.npz``, mapped; None where there is none."""
        sizes, path = (self.num_users + FIRST_KNOWN, len(self.bundle.encoded_items)), self.bundle.path / LISTS
        return read_form(path, *sizes) if LISTS in self.bundle.info.files else None

    @cached_property
    def needs_times(self) -> bool:
        """Whether ratings are weighed by age; told without the history model's arrays, which may be large."""
        return "history" in self.bundle.info.models and load_config(self.bundle.path).needs_times

    def lowered(self, name: str) -> PairForm:
        """A ranker in pair form, made once, of all users: its last bits may depend on how many are lowered at once."""
        with self._lowering:
            if name not in self._rankers:
                self._rankers[name] = self.bundle._lowered(name)
            return self._rankers[name]


class SomeUsers(Bundle):
    """A bundle with a few of its users, in rows 3 and on; use ``StoredUsers.some``.

    Args:
        source: of the users.
        numbers: (B,) int64, ascending.
    """

    def __init__(self, source: StoredUsers, numbers: Int64s) -> None:
        super().__init__(source.bundle.path, source.bundle.info)
        self._source, self._numbers = source, numbers

    @property
    def _rows(self) -> Int64s:
        """(B,) of the whole table."""
        return self._numbers + FIRST_KNOWN

    @cached_property
    def _user_tables(self) -> tuple[pa.Table, EncodedTable]:
        return read_some(self._source.table, self._numbers, "user_id", self.info.tables["users"], self.about)

    @cached_property
    def _item_tables(self) -> tuple[pa.Table, EncodedTable]:
        return self._source.bundle.items, self._source.bundle.encoded_items

    @cached_property
    def interactions(self) -> StoredInteractions:
        """Every rating of these users."""
        sizes = self._source.num_users + FIRST_KNOWN, len(self.encoded_items)
        return StoredInteractions.read_some(
            self._source.ratings, self._rows, sizes, with_times=self._source.needs_times
        )

    @cached_property
    def content(self) -> ContentModel:
        """The content model."""
        return self._source.bundle.content

    @cached_property
    def history(self) -> HistoryModel | None:
        """The history model."""
        return self._source.bundle.history

    @cached_property
    def _stored_lists(self) -> PairForm | None:
        form = self._source.lists
        return None if form is None else self._of_these(form)

    def _lowered(self, name: str) -> PairForm:
        return self._of_these(self._source.lowered(name))

    def _of_these(self, form: PairForm) -> PairForm:
        rows = np.concatenate([np.arange(FIRST_KNOWN), self._rows])
        users = Side(*(copied(part, rows) for part in form.users.parts))
        known = None if form.has_history is None else copied(form.has_history, rows)
        return PairForm(users, form.items, form.head, known)


def users_of(bundle: Bundle) -> UserSource:
    """Where a bundle's users come from: its files, if they hold all that is known of them.

    Raises:
        BundleError: ``lists.npz`` is damaged.
        OSError: a file cannot be read.
        pa.ArrowException: one is no Parquet file.
    """
    return WholeUsers(bundle) if isinstance(bundle, FreshBundle) else StoredUsers(bundle)
