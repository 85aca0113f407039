"""Finding a title by its name, however it is spelt."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter

import numpy as np
import pyarrow as pa

from sdk.base.arrow_tables import as_table
from sdk.base.errors import UsageError
from sdk.base.ids import count_of, ids_in, ids_of, is_text, rows_of, text_ids
from sdk.base.types import Id, IdArray, Ids, Int64s, Table
from sdk.data.titles import bare, names_in
from sdk.models.content.tokens import fold

_YEAR = re.compile(r"\s*\((\d{4})\)\s*$")
_MOVED_ARTICLE = re.compile(
    r"^(.*), (the|an?|les?|la|l['’]|une?|el|los|las|il|lo|gli|der|die|das|den|det|ein|eine|os?|as|uma?)$", re.IGNORECASE
)
_ARTICLES = frozenset({"a", "an", "the"})
_ROMAN = {"ii": "2", "iii": "3", "iv": "4", "v": "5", "vi": "6", "vii": "7", "viii": "8", "ix": "9", "x": "10"}

_COUNTING = re.compile(r"(?<=\S) (?:part|chapter|episode|volume|vol)(?= \d+\b)")

_LEAST_LIKENESS = 0.6  # below this a suggestion is noise: about one letter in two is wrong
_LEAST_PART = 6  # letters of a query that may be a misspelt part of a title; fewer fit anywhere
_PARTIAL = 0.85  # a query that is only part of a title is worth at most this much


@dataclass(frozen=True, slots=True)
class Match:
    """One title that a query may mean.

    Attributes:
        item_id: its id.
        title: as the catalogue spells it.
        year: None where unknown.
        score: 1 for the same name, below it the likeness of a misspelt one.
        exact: the name is the same but for case, accents, punctuation and articles, and so is the year if one is given.
    """

    item_id: Id
    title: str
    year: int | None
    score: float
    exact: bool


class TitleIndex:
    """The names of a catalogue.

    Args:
        items: a table with ``item_id``, ``title`` and, of films, ``year``.
    """

    def __init__(self, items: Table) -> None:
        items = as_table(items, pa.schema([("title", pa.string())]), "items")
        self.ids = ids_in(items["item_id"])
        is_film = "year" in items.column_names and pa.types.is_integer(items["year"].type)
        years = items["year"].to_pylist() if is_film else [None] * len(self.ids)
        self._items = list(zip(self.ids.tolist(), items["title"].to_pylist(), years, strict=True))

    @cached_property
    def _order(self) -> Int64s:
        return np.argsort(self.ids)

    @cached_property
    def _known(self) -> IdArray:
        return self.ids[self._order]

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        places: defaultdict[str, list[int]] = defaultdict(list)
        for place, (_, title, _) in enumerate(self._items):
            for key in name_keys(title):
                places[key].append(place)
        return dict(places)

    @cached_property
    def _display(self) -> dict[Id, str]:
        named = ((item, title if title.strip() else str(item), year) for item, title, year in self._items)
        return {item: title if year is None else f"{title} ({year})" for item, title, year in named}

    def display(self, item_ids: Ids) -> list[str]:
        """Such as "The Matrix (1999)"; no year where it is unknown, "item 7" for an id that is not in the table."""
        return [self._display.get(item, f"item {item}") for item in ids_of(item_ids, "item_ids", self.ids).tolist()]

    def find(self, query: str, limit: int = 5) -> list[Match]:
        """Titles of that name, or if there is none, those with the likest names.

        Case, accents, punctuation and articles (``The Matrix``, ``Matrix, The``) do not matter, nor whether a
        number is written ``2`` or ``II``. A year in brackets at the end, ``Hamlet (1996)``, picks that year's film;
        where only other years' films bear the name, they are given as suggestions. An id that is text is found, too,
        before all names.

        Args:
            query: what a person typed.
            limit: most matches to give, at least 1.

        Returns:
            Exact matches, ascending by item_id; failing these, suggestions, the likest first; failing these, nothing.

        Raises:
            UsageError: limit is no whole number of at least 1, or the query no text.
        """
        limit = count_of(limit, "find_title: limit")
        if not isinstance(query, str):
            raise UsageError(f"find_title: got {query!r}, expected text, such as 'Heat (1995)'")
        if is_text(self.ids) and (places := rows_of(self._known, text_ids([query])))[0] >= 0:
            return [self._match(int(self._order[places[0]]), 1.0, exact=True)]
        name, year = split_year(query)
        named = self._named(name)
        exact = [m for m in named if year is None or m.year == year]
        return (exact or self._suggest(name, year))[:limit]

    def _named(self, name: str) -> list[Match]:
        places = {place for key in name_keys(name) for place in self._places.get(key, ())}
        return sorted((self._match(place, 1.0, exact=True) for place in places), key=lambda m: m.item_id)

    def _suggest(self, name: str, year: int | None) -> list[Match]:
        best: dict[int, float] = {}
        for key, likeness in self._like_keys(name_key(name)).items():
            for place in self._places[key]:
                best[place] = max(best.get(place, 0.0), likeness)
        found = [self._match(place, likeness, exact=False) for place, likeness in best.items()]
        return sorted(found, key=lambda m: (-m.score, year is not None and m.year != year, m.item_id))

    def _like_keys(self, key: str) -> dict[str, float]:
        """The likest names: by edits (a swap of neighbours is one), or where the query is only a part, by that part."""
        from rapidfuzz import fuzz, process
        from rapidfuzz.distance import OSA

        if not key:
            return {}
        names = list(self._places)
        longer = [name for name in names if len(name) > len(key) >= _LEAST_PART]
        by_part = process.extract(key, longer, scorer=fuzz.partial_ratio, score_cutoff=85, limit=50)
        by_words = process.extract(key, names, scorer=fuzz.token_set_ratio, score_cutoff=90, limit=50)
        likeness = {name: score / 100 * _PARTIAL for name, score, _ in sorted(by_part + by_words, key=itemgetter(1))}
        by_edits = process.extract(key, names, scorer=OSA.normalized_similarity, score_cutoff=_LEAST_LIKENESS, limit=50)
        for name, score, _ in by_edits:
            likeness[name] = max(score, likeness.get(name, 0.0))
        return likeness

    def _match(self, place: int, score: float, *, exact: bool) -> Match:
        item_id, title, year = self._items[place]
        return Match(item_id, title, year, round(score, 4), exact)


def split_year(text: str) -> tuple[str, int | None]:
    """``Heat (1995)`` gives ``Heat`` and 1995; without a year in brackets at the end, the text and None."""
    found = _YEAR.search(text)
    return (text[: found.start()], int(found[1])) if found and found.start() else (text.strip(), None)


def name_keys(title: str) -> list[str]:
    """Every key under which a title is found: itself, and what it gives in brackets as its other names."""
    return [key for key in dict.fromkeys(map(name_key, names_in(title))) if key]


def name_key(name: str) -> str:
    """A name without case, accents, punctuation and articles; ``II`` and ``Part II`` after the first word are ``2``."""
    words = bare(fold(_MOVED_ARTICLE.sub(_article_first, name.strip())).replace("&", " and ")).split()
    if len(words) > 1 and words[0] in _ARTICLES:
        words = words[1:]
    key = " ".join([*words[:1], *(_ROMAN.get(word, word) for word in words[1:])])
    return _COUNTING.sub("", key)


def _article_first(found: re.Match[str]) -> str:
    return found[2] + ("" if found[2].endswith(("'", "’")) else " ") + found[1]
