"""Why an item is listed, in a few words: what one item that somebody had shares with it."""

from __future__ import annotations

from collections.abc import Sequence

from charts import Parts

import sdk
from sdk.base.types import Id
from sdk.bundles.answers import SAYS_LITTLE, Explanation
from sdk.bundles.words import words_of
from sdk.models.content.hybrid import HYBRID, liked_part
from sdk.models.content.together import TOGETHER

Why = tuple[Id | None, str]
"""The item of a history that speaks most for a listed one, if any, and what they share."""
_TASTE = "fits what they had as a whole"


class Reasons:
    """Reasons of one bundle, short enough for a line on a phone."""

    def __init__(self, bundle: sdk.Bundle) -> None:
        self._bundle, self._words = bundle, words_of(bundle.about)

    def for_user(self, user_id: Id, item_ids: Sequence[Id], model: str = "best") -> list[Why]:
        """Why each item is listed for a user."""
        whys = self._bundle.explain_recommendation(user_id, item_ids, max_titles=1, model=model)
        return [self._short(why) for why in whys]

    def for_visitor(self, liked: Sequence[Id], item_ids: Sequence[Id]) -> list[Why]:
        """The same of liked items."""
        whys = self._bundle.explain_recommendation(None, item_ids, liked=liked, max_titles=1)
        return [self._short(why) for why in whys]

    def joining(self, item_id: Id, other: Id, score: float, source: str) -> tuple[str, Parts]:
        """What joins two items in words, and how much each field adds to what they are alike by themselves."""
        if source == TOGETHER or not self._bundle.has_content:
            return self._words.by_the_same, {}
        shared = self._bundle.explain(item_id, other)
        share = float(self._bundle.content.shares([item_id])[0]) if source == HYBRID else 0.0
        liked = liked_part(score, shared.score, share) if share else 0.0
        said = shared.describe(1 if liked else 2, 2, SAYS_LITTLE)
        names = {name: "name" if role == "title" else name.replace("_", " ") for name, role in shared.roles.items()}
        parts = {names[name]: value for name, value in shared.contributions.items() if value > 0}
        return "; ".join(filter(None, (self._words.by_the_same * (liked > score / 2), said))), parts

    def _short(self, why: Explanation) -> Why:
        if why.because:
            first = why.because[0]
            shared = first.shared.describe(1, 2, SAYS_LITTLE) if first.shared else ""
            return first.item_id, shared or self._words.by_the_same
        return None, self._words.by_many if why.popularity >= why.ranker else _TASTE
