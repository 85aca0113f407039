"""Joins MovieLens's titles to films by title and year, for the data sets that come without ``links.csv``.

MovieLens 100K, 1M and 10M have no links. Two names are equal where their letters and digits are: upper and lower case,
accents and punctuation do not count, and ``&`` is "and". A MovieLens title is known by its whole name, by its name
without brackets, and by each name in brackets: ``Seven (a.k.a. Se7en)`` is "Seven" and "Se7en", too. A title and a
film are joined where the years are equal, the title's names lead to this one film, and no other title's do.

Against the links of MovieLens latest-small, this finds 96 % of the 3,537 films of TMDB 5000 that are there, and all
but 3 of the 3,403 pairs are the links'; for those 3 the links name another of TMDB's entries.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from sdk.data.titles import bare, names_in

log = logging.getLogger(__name__)
Key = tuple[str, int]


def links_by_title(items: Iterable[Mapping[str, Any]], films: Iterable[Mapping[str, Any]]) -> dict[int, int]:
    """The film of each title that has exactly one, by title and year.

    Args:
        items: rows of ``schema.ITEMS``; one without a year is not joined.
        films: rows of ``sdk.data.tmdb.FILMS``; one without a year is not joined.

    Returns:
        item_id -> tmdb_id, no tmdb_id twice.
    """
    named: dict[Key, set[int]] = defaultdict(set)
    for film in films:
        if film["year"] is not None:
            named[normalised(film["title"]), film["year"]].add(film["tmdb_id"])
    found = {item["item_id"]: _films_of(item, named) for item in items}
    claims = Counter(film for matches in found.values() for film in matches)
    links = {item: min(films) for item, films in found.items() if len(films) == 1 and claims[min(films)] == 1}
    if unclear := sum(map(bool, found.values())) - len(links):
        log.info(
            "%s titles share a name and a year with others or fit several films, so that they are joined to none; "
            "a links.csv beside the ratings, with movieId and tmdbId, joins them", f"{unclear:,}",
        )  # fmt: skip
    return links


def _films_of(item: Mapping[str, Any], named: Mapping[Key, set[int]]) -> set[int]:
    return {film for name in names_of(item["title"]) for film in named.get((name, item["year"]), ())}


def names_of(title: str) -> set[str]:
    """The normalised names by which a display title is known."""
    return {normalised(name) for name in names_in(title)} - {""}


def normalised(title: str) -> str:
    """Letters and digits in lower case without accents, with one blank in place of what is between them."""
    return bare(title.casefold().replace("&", " and "))
