"""What the pages know of items and users, read from a bundle once, when the app starts."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from columns import LABELS, Fact, facts_of, labels_of, pictures_of
from search import ARTICLES, SearchIndex, fold

import sdk
from sdk.base.ids import ids_in, is_text
from sdk.base.types import Float64s, Id, IdArray, Int64s
from sdk.features.tables import FIRST_KNOWN, UNKNOWN

LEAST_THOROUGH = 4  # letters: fewer, misspelt, may be anything
_SMALL = ARTICLES | {"of", "and", "in"}
HUES = 12  # of the style sheet's tiles


@dataclass(frozen=True, slots=True)
class Title:
    """One item as a list shows it.

    Attributes:
        item_id: its id.
        name: display name, of a film with the year; the id where it has none.
        year: of a film; None where unknown.
        genres: of a film its genres, sorted; of anything else its groups, categories and lists; may be empty.
        average: mean of all its ratings; None without one, and of feedback that is no rating.
        ratings: number of ratings or interactions.
        image: address of its picture; "" for none.
    """

    item_id: Id
    name: str
    year: int | None
    genres: tuple[str, ...]
    average: float | None
    ratings: int
    image: str = ""

    @property
    def initials(self) -> str:
        """Of the first two words of its name that are not small ones: what its tile shows."""
        words = re.findall(r"[^\W_]+", re.sub(r" \([0-9]{4}\)$", "", self.name))
        said = [word for word in words if word.casefold() not in _SMALL] or words
        return "".join(word[0] for word in said[:2]).upper()

    @property
    def hue(self) -> int:
        """Of its tile, below ``HUES``: items of one first genre or group have the same."""
        return zlib.crc32((self.genres[0] if self.genres else self.name).encode("utf-8", "replace")) % HUES


@dataclass(frozen=True, slots=True)
class Had:
    """One item that a user had, and its rating; None where interactions are no ratings."""

    title: Title
    rating: float | None


@dataclass(frozen=True, slots=True)
class Details:
    """What only an item's own page shows; each may be empty.

    Attributes:
        overview: of a film, in words.
        directors: of a film, names.
        cast: of a film, names in billing order.
        tmdb_id: of a film; None where unknown.
        facts: of anything else, what its columns say.
    """

    overview: str
    directors: tuple[str, ...]
    cast: tuple[str, ...]
    tmdb_id: int | None
    facts: tuple[Fact, ...] = ()


class Catalogue:
    """Items and users of a bundle.

    Args:
        bundle: an open bundle.

    Attributes:
        has_films: whether its items have MovieLens's columns.
        is_rated: whether its interactions are ratings; else they are weights.
        image_hosts: where its items' pictures lie, as a content security policy names them.
    """

    def __init__(self, bundle: sdk.Bundle) -> None:
        self.bundle = bundle
        items = bundle.items
        self.has_films = bundle.about.is_preset("items")
        self.is_rated = bundle.about.feedback != "implicit"
        self._ids = ids_in(items["item_id"])
        self._row_of = {item_id: row for row, item_id in enumerate(self._ids.tolist())}
        self._names = bundle.titles(self._ids)
        self._years = items["year"].to_pylist() if self.has_films else [None] * len(self._ids)
        named = [] if self.has_films else list(bundle.about.item_columns(*LABELS))
        labels = (labels_of(row, bundle.about) for row in items.select(named).to_pylist())
        self._images, self.image_hosts = pictures_of(items, bundle.about)
        self._genres = items["genres"].to_pylist() if self.has_films else list(labels)
        self._counts, self._averages = _ratings(bundle, self._ids)
        self._users = bundle.encoded_users.known_ids
        self._index = SearchIndex(self._names, self._counts)
        self._by_popularity = np.argsort(-self._counts, kind="stable")

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def num_users(self) -> int:
        """Users of the bundle."""
        return len(self._users)

    @property
    def user_ids(self) -> IdArray:
        """(U,) ids of the users, ascending."""
        return self._users

    @property
    def item_ids(self) -> IdArray:
        """(I,) ids of the items, ascending."""
        return self._ids

    def title(self, item_id: Id) -> Title | None:
        """An item; None where the bundle does not have it."""
        row = self._row_of.get(item_id)
        return None if row is None else self._title(row)

    def details(self, item_id: Id) -> Details:
        """The rest of an item that the bundle has."""
        row = self.bundle.items.slice(self._row_of[item_id], 1).to_pylist()[0]
        if not self.has_films:
            return Details("", (), (), None, facts_of(row, self.bundle.about))
        return Details(row["overview"], tuple(row["directors"]), tuple(row["cast"]), row["tmdb_id"])

    def find(self, query: str, limit: int, *, thorough: bool = False) -> list[Title]:
        """Items by name, misspelt ones, too; anything but films by id as well, which then comes first.

        Args:
            query: what was typed.
            limit: most items to give.
            thorough: whether to compare with every name where the quick index finds nothing; slower.
        """
        rows = self._index.find(query, limit)
        if not self.has_films and (named := self._row_of_text(query)) is not None:
            rows = [named, *(row for row in rows if row != named)][:limit]
        found = [self._title(row) for row in rows]
        if found or not thorough or len(fold(query)) < LEAST_THOROUGH:
            return found
        return [self._title(self._row_of[match.item_id]) for match in self.bundle.find_title(query, limit)]

    def popular(self, count: int) -> list[Title]:
        """The items with most ratings or interactions."""
        return [self._title(int(row)) for row in self._by_popularity[:count]]

    def had(self, user_id: Id) -> list[Had]:
        """What a user had, the best rated first, of equal ones those that more people have."""
        stored, ids = self.bundle.interactions, self.bundle.encoded_items.ids
        own = np.flatnonzero(stored.rows.user_index == self.bundle.encoded_users.index_of([user_id])[0])
        own = own[stored.rows.item_index[own] >= FIRST_KNOWN]
        rows = np.array([self._row_of[item] for item in ids[stored.rows.item_index[own]].tolist()], np.int64)
        ratings = stored.rating[own]
        order = np.lexsort((rows, -self._counts[rows], -ratings))
        pairs = zip(rows[order].tolist(), ratings[order].tolist(), strict=True)
        return [Had(self._title(row), rating if self.is_rated else None) for row, rating in pairs]

    def has_user(self, user_id: Id) -> bool:
        """Whether the bundle knows a user."""
        return bool(self.bundle.encoded_users.index_of([user_id])[0] != UNKNOWN)

    def users_near(self, user_id: Id | None, count: int) -> list[Id]:
        """Known users with ids around one, ascending; the first ones for None."""
        first = 0 if user_id is None else int(np.searchsorted(self._users, user_id)) - count // 2
        first = max(0, min(first, len(self._users) - count))
        near: list[Id] = self._users[first : first + count].tolist()
        return near

    def known(self, item_ids: Iterable[Id]) -> list[Id]:
        """Those of the ids that the bundle has, in their order."""
        return [item_id for item_id in item_ids if item_id in self._row_of]

    def _row_of_text(self, text: str) -> int | None:
        """The row of the item whose id was typed."""
        if is_text(self._ids):
            return self._row_of.get(text)
        return self._row_of.get(int(text)) if text.isascii() and text.isdecimal() and len(text) < 20 else None

    def _title(self, row: int) -> Title:
        count, genres = int(self._counts[row]), tuple(self._genres[row])
        average = float(self._averages[row]) if count and self.is_rated else None
        item_id, image = self._ids[row : row + 1].tolist()[0], self._images[row]
        return Title(item_id, self._names[row], self._years[row], genres, average, count, image)


def _ratings(bundle: sdk.Bundle, ids: IdArray) -> tuple[Int64s, Float64s]:
    """(I,) number of ratings of each item, and (I,) their mean, 0 without one."""
    rated = bundle.interactions
    size = len(bundle.encoded_items)
    counts = np.bincount(rated.rows.item_index, minlength=size)
    totals = np.bincount(rated.rows.item_index, weights=rated.rating, minlength=size)
    rows = bundle.encoded_items.index_of(ids)
    counts, totals = counts[rows].astype(np.int64), totals[rows]
    return counts, totals / np.maximum(counts, 1)
