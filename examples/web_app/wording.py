"""What the pages call what they show: films with stars, other things with ratings, or with interactions alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sdk.base.ids import is_text
from sdk.bundles.words import made, words_of

if TYPE_CHECKING:
    from pages import Site


@dataclass(frozen=True, slots=True)
class Wording:
    """Words of every page.

    Attributes:
        item: one of the catalogue.
        items: several.
        one: with its article.
        or_id: what else a search takes.
        most_popular: over those with most ratings.
        offered: over those that a visitor may choose from.
        taken: what somebody has done with every item when there is none left.
        had: over what a user had.
        example: of a search; "" for none.
        of_most: what is read out after an average.
        row: what is counted beside an average, one of them.
        user: what names a user.
        numbers: whether that is a number.
        is_rated: whether interactions are ratings.
        films: whether the items are films.
    """

    item: str
    items: str
    one: str
    or_id: str
    films: bool
    most_popular: str
    offered: str
    taken: str
    had: str
    example: str
    of_most: str
    row: str
    user: str
    numbers: bool
    is_rated: bool

    @classmethod
    def of(cls, site: Site) -> Wording:
        """The words for a site."""
        catalogue, words = site.catalogue, words_of(site.catalogue.bundle.about)
        most = catalogue.bundle.info.config.data.rating_max
        films, numbers = catalogue.has_films, not is_text(catalogue.user_ids)
        items, rated = words.items, catalogue.is_rated
        return cls(
            item=words.item, items=items, one=f"{'an' if words.item[0] in 'aeiou' else 'a'} {words.item}", films=films,
            or_id="" if films else " or an id", taken=words.taken,
            had="Rated before" if rated else "Had before",
            most_popular="Rated most" if rated else "Most popular",
            offered=f"{items.capitalize()} that many have rated" if rated else f"Popular {items}",
            example="Such as Heat or matrix" if films else "", of_most=" of 5 stars" if films else f" of {most:g}",
            row="rating" if rated else "interaction", is_rated=rated,
            user="number" if numbers else "id", numbers=numbers,
        )  # fmt: skip

    made = staticmethod(made)
