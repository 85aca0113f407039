"""What the pages know of titles and users, read from a bundle once, when the app starts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from search import SearchIndex, fold

import sdk
from sdk.base.ids import rows_of
from sdk.base.types import Float64s, Int64s

LEAST_THOROUGH = 4  # letters: fewer, misspelt, may be anything


@dataclass(frozen=True, slots=True)
class Title:
    """One title as a list shows it.

    Attributes:
        item_id: its id.
        name: display name with the year.
        year: None where unknown.
        genres: sorted, may be empty.
        average: mean of all its ratings, in stars; None without one.
        ratings: number of ratings.
    """

    item_id: int
    name: str
    year: int | None
    genres: tuple[str, ...]
    average: float | None
    ratings: int


@dataclass(frozen=True, slots=True)
class Details:
    """What only a title's own page shows; each may be empty.

    Attributes:
        overview: in words.
        directors: names.
        cast: names in billing order.
        tmdb_id: None where unknown.
    """

    overview: str
    directors: tuple[str, ...]
    cast: tuple[str, ...]
    tmdb_id: int | None


class Catalogue:
    """Titles and users of a bundle.

    Args:
        bundle: an open bundle.
    """

    def __init__(self, bundle: sdk.Bundle) -> None:
        self.bundle = bundle
        items = bundle.items
        self._ids = np.asarray(items["item_id"], dtype=np.int64)
        self._row_of = {item_id: row for row, item_id in enumerate(self._ids.tolist())}
        self._names = bundle.titles(self._ids)
        self._years, self._genres = items["year"].to_pylist(), items["genres"].to_pylist()
        self._counts, self._averages = _ratings(bundle, self._ids)
        self._users = bundle.encoded_users.known_ids
        self._index = SearchIndex(self._names, self._counts)
        self._by_popularity = np.lexsort((self._ids, -self._counts))

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def num_users(self) -> int:
        """Users of the bundle."""
        return len(self._users)

    def title(self, item_id: int) -> Title | None:
        """A title; None where the bundle does not have it."""
        row = self._row_of.get(item_id)
        return None if row is None else self._title(row)

    def details(self, item_id: int) -> Details:
        """The rest of a title that the bundle has."""
        row = self.bundle.items.slice(self._row_of[item_id], 1).to_pylist()[0]
        return Details(row["overview"], tuple(row["directors"]), tuple(row["cast"]), row["tmdb_id"])

    def find(self, query: str, limit: int, *, thorough: bool = False) -> list[Title]:
        """Titles by name, misspelt ones, too.

        Args:
            query: what was typed.
            limit: most titles to give.
            thorough: whether to compare with every name where the quick index finds nothing; slower.
        """
        found = [self._title(row) for row in self._index.find(query, limit)]
        if found or not thorough or len(fold(query)) < LEAST_THOROUGH:
            return found
        return [self._title(self._row_of[match.item_id]) for match in self.bundle.find_title(query, limit)]

    def popular(self, count: int) -> list[Title]:
        """The titles with most ratings."""
        return [self._title(int(row)) for row in self._by_popularity[:count]]

    def has_user(self, user_id: int) -> bool:
        """Whether the bundle knows a user."""
        return int(rows_of(self._users, np.array(user_id))) >= 0

    def users_near(self, user_id: int, count: int) -> list[int]:
        """Known users with ids around one, ascending."""
        first = int(np.searchsorted(self._users, user_id)) - count // 2
        first = max(0, min(first, len(self._users) - count))
        near: list[int] = self._users[first : first + count].tolist()
        return near

    def known(self, item_ids: Iterable[int]) -> list[int]:
        """Those of the ids that the bundle has, in their order."""
        return [item_id for item_id in item_ids if item_id in self._row_of]

    def _title(self, row: int) -> Title:
        count, genres = int(self._counts[row]), tuple(self._genres[row])
        average = float(self._averages[row]) if count else None
        return Title(int(self._ids[row]), self._names[row], self._years[row], genres, average, count)


def _ratings(bundle: sdk.Bundle, ids: Int64s) -> tuple[Int64s, Float64s]:
    """(I,) number of ratings of each title, and (I,) their mean, 0 without one."""
    rated = bundle.interactions
    size = len(bundle.encoded_items)
    counts = np.bincount(rated.rows.item_index, minlength=size)
    totals = np.bincount(rated.rows.item_index, weights=rated.rating, minlength=size)
    rows = bundle.encoded_items.index_of(ids)
    counts, totals = counts[rows].astype(np.int64), totals[rows]
    return counts, totals / np.maximum(counts, 1)
