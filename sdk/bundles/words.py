"""How reasons call an item, and what somebody did with it: true of the feedback that a bundle was trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sdk.base.config import RANKERS
from sdk.base.description import Description


@dataclass(frozen=True, slots=True)
class Words:
    """Words of one kind of data. The default is MovieLens's.

    Attributes:
        item: what is listed.
        liked: what somebody did with an item that counts as a like.
        other: what they did with one that does not.
        liked_items: items that somebody liked.
        other_items: the others that they dealt with.
        by_many: what many people's likes add to a score.
        by_the_same: what joins two items of a hybrid list.
        done: what it is to have dealt with the explained item itself.
        taken: what has been done with every item when none is left.
        rows: what training was given, in the plural.
        popular: of how many rows a popular item's likes are made; ``{likes}`` stands for the number.
        weighted: whether a rating is a weight, which reasons in detail give.
    """

    item: str = "title"
    liked: str = "liked"
    other: str = "watched"
    liked_items: str = "liked titles"
    other_items: str = "watched titles"
    by_many: str = "liked by many"
    by_the_same: str = "liked by the same people"
    done: str = "having rated it"
    taken: str = "rated"
    rows: str = "ratings"
    popular: str = "liked in {likes} training ratings"
    weighted: bool = False

    @property
    def items(self) -> str:
        """Several of what is listed."""
        word = self.item
        if word.endswith("y") and word[-2:-1] not in tuple("aeiou"):
            return f"{word[:-1]}ies"
        return f"{word}es" if word.endswith(("s", "x", "ch", "sh")) else f"{word}s"


FILM_WORDS = Words()
_RATED = Words(item="item", other="rated", liked_items="liked items", other_items="rated items")
_IMPLICIT = Words(
    item="item", liked="interacted with", other="interacted with", liked_items="items of the history",
    other_items="of the history", by_many="popular with many", by_the_same="popular with the same people",
    done="having interacted with it", taken="taken", rows="interactions", popular="in {likes} training interactions",
    weighted=True,
)  # fmt: skip


_MADE = {
    "history": "made from what they had", "popular": "made of what most people like",
    "hybrid": "by what they are and who likes both", "content": "by what they are", "together": "by who likes both",
}  # fmt: skip


def made(source: str) -> str:
    """What a list was made from, of its ``source``; "" where nobody says."""
    from sdk.scoring.recommender import UNDER_RULES

    base = source.removesuffix(UNDER_RULES)
    how = _MADE.get("history" if base in RANKERS else base, "")
    return f"{how}, under the night's rules" if how and base != source else how


def words_of(about: Description) -> Words:
    """The words for a bundle's data."""
    implicit, films = about.feedback == "implicit", about.is_preset("items")
    words = _IMPLICIT if implicit else FILM_WORDS if films else _RATED
    if not about.item:
        return words
    named = replace(words, item=about.item)
    liked, other = (text.replace(words.items, named.items) for text in (words.liked_items, words.other_items))
    return replace(named, liked_items=liked, other_items=other)
