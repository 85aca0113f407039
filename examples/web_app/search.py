"""Titles as somebody types: by the start of any word at once, and by shared letters where a word is misspelt."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import fuzz, process
from rapidfuzz.distance import OSA

from sdk.base.types import Int64s
from sdk.data.titles import bare

_YEAR = re.compile(r" [0-9]{4}$")
ARTICLES = frozenset({"a", "an", "the"})
_LONGEST_KEY = 60  # letters of a title that are compared
_CANDIDATES = 120  # titles that share most letter triples with a query and are then compared letter by letter
_LEAST_LIKENESS = 0.6  # about one letter in two wrong: below this a suggestion is noise
_LEAST_BESIDE = 0.8  # the same where there are titles that start so
_LEAST_PART = 6  # letters of a query that may be a misspelt part of a title; fewer fit anywhere
_PARTIAL = 0.85  # what such a part, or the same words in another order, is worth beside a whole name


def fold(text: str) -> str:
    """Lower case without accents and punctuation: ``Amélie!`` is ``amelie``."""
    return bare(text).casefold()


class SearchIndex:
    """Finds rows of a catalogue by name; made once, it never changes.

    Args:
        names: (I,) display names, with the year.
        popularity: (I,) int64; of equally good names the more popular comes first.
    """

    def __init__(self, names: Sequence[str], popularity: Int64s) -> None:
        self._names = [fold(name)[:_LONGEST_KEY] for name in names]
        self._popularity = popularity
        starts = sorted(start for row, name in enumerate(self._names) for start in _word_starts(row, name))
        self._starts = [text for text, _, _ in starts]
        self._start_rows = np.array([row for _, row, _ in starts], dtype=np.int64)
        self._is_name = np.array([is_name for _, _, is_name in starts], dtype=np.bool_)
        self._lengths = np.array([len(_YEAR.sub("", text)) for text in self._starts], dtype=np.int64)
        self._triples = _rows_by_triple(self._names)

    def find(self, query: str, limit: int) -> list[int]:
        """Rows whose name has words that start so, the popular first; then, if there is room, names like the query.

        Args:
            query: what was typed; anything.
            limit: most rows to give.
        """
        key = fold(query)[:_LONGEST_KEY]
        if not key:
            return []
        found = self._by_start(key, limit)
        if len(found) >= limit:
            return found
        alike = self._by_likeness(key, limit, _LEAST_BESIDE if found else _LEAST_LIKENESS)
        return list(dict.fromkeys([*found, *alike]))[:limit]

    def _by_start(self, key: str, limit: int) -> list[int]:
        first, last = bisect_left(self._starts, key), bisect_left(self._starts, key + "\U0010ffff")
        rows = self._start_rows[first:last]
        whole = (self._lengths[first:last] == len(key)) & self._is_name[first:last]
        worth = self._popularity[rows] + np.where(whole, np.int64(1) << 40, 0)
        best = np.lexsort((rows, -worth)) if len(rows) <= 4 * limit else _largest(worth, rows, 4 * limit)
        return list(dict.fromkeys(rows[best].tolist()))[:limit]

    def _by_likeness(self, key: str, limit: int, least: float) -> list[int]:
        lists = [self._triples[triple] for triple in _triples(key) if triple in self._triples]
        if not lists:
            return []
        shared = np.bincount(np.concatenate(lists), minlength=len(self._names))
        candidates = np.flatnonzero(shared)
        if len(candidates) > _CANDIDATES:
            candidates = candidates[_largest(shared[candidates], candidates, _CANDIDATES)]
        worth = self._likeness(key, [self._names[row] for row in candidates])
        order = np.lexsort((-self._popularity[candidates], -worth))
        return [int(candidates[at]) for at in order[:limit] if worth[at] >= least]

    @staticmethod
    def _likeness(key: str, names: list[str]) -> NDArray[np.float64]:
        bare = [_YEAR.sub("", name) for name in names]
        whole = (process.cdist([key], spelt, scorer=OSA.normalized_similarity)[0] for spelt in (names, bare))
        words = process.cdist([key], names, scorer=fuzz.token_set_ratio, score_cutoff=90)[0] / 100 * _PARTIAL
        likeness = np.maximum.reduce([*whole, words])
        if len(key) < _LEAST_PART:
            return likeness.astype(np.float64)
        part = process.cdist([key], names, scorer=fuzz.partial_ratio, score_cutoff=85)[0] / 100 * _PARTIAL
        long_enough = np.array([len(name) >= len(key) for name in names])
        return np.maximum(likeness, np.where(long_enough, part, 0.0)).astype(np.float64)


def _word_starts(row: int, name: str) -> list[tuple[str, int, bool]]:
    """What follows each word's start, and whether that is the whole name but for an article."""
    words = name.split()
    leading = 1 if len(words) > 1 and words[0] in ARTICLES else 0
    return [(" ".join(words[at:]), row, at <= leading) for at in range(len(words))]


def _triples(text: str) -> set[str]:
    padded = f" {text} "
    return {padded[at : at + 3] for at in range(len(padded) - 2)}


def _rows_by_triple(names: Sequence[str]) -> dict[str, Int64s]:
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(names):
        for triple in _triples(name):
            rows[triple].append(row)
    return {triple: np.array(where, dtype=np.int64) for triple, where in rows.items()}


def _largest(worth: Int64s, rows: Int64s, count: int) -> Int64s:
    """Places of the ``count`` largest, the largest first, equals by row."""
    top = np.argpartition(-worth, count)[:count]
    return top[np.lexsort((rows[top], -worth[top]))]
