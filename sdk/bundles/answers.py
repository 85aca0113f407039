"""A visitor's list, and why an item stands in a list: what of the history speaks for it, and what else adds to it.

A list's score is a sum (``Bundle.list_form``), so it comes apart exactly: what each item of the history adds through
the history model, what being liked by many adds, and a share of the ranker's logit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sdk.base.config import RANKERS
from sdk.base.errors import ScoreError
from sdk.base.ids import plain_id
from sdk.base.types import Bools, Float32s, Float64s, Id, Int64s, TopK
from sdk.bundles.words import FILM_WORDS, Words
from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN, UNKNOWN, EncodedTable
from sdk.scoring.quick import quick_lists
from sdk.scoring.recommender import HISTORY, POPULAR, popular_form

if TYPE_CHECKING:
    from sdk.features.interactions import StoredInteractions
    from sdk.models.content.reasons import Reasons
    from sdk.models.history.model import HistoryModel
    from sdk.scoring.again import Again
    from sdk.scoring.recommender import Recommender

SAYS_LITTLE = ("text", "continuous", "time")  # roles: to share them is no reason that a person would give
_ROUNDING = 1e-6  # of float32 scores of about 1; what adds less is no reason


@dataclass(frozen=True, slots=True)
class Because:
    """One item of a history that speaks for the explained one.

    Attributes:
        item_id: its id.
        title: its display name; of films with the year.
        rating: its rating, of implicit feedback its weight; None where it is only known to be liked.
        liked: whether it counts as liked, as every item of implicit feedback does, or only as watched.
        contribution: what it adds to the explained item's score.
        shared: what the two items share; None in a bundle without the content model.
    """

    item_id: Id
    title: str
    rating: float | None
    liked: bool
    contribution: float
    shared: Reasons | None

    def describe(self, max_fields: int = 2, max_tokens: int = 2) -> str:
        """``Heat (1995) [director Michael Mann; genres Crime]``; the brackets only where something is shared."""
        shared = self.shared.describe(max_fields, max_tokens, SAYS_LITTLE) if self.shared else ""
        return f"{self.title} [{shared}]" if shared else self.title


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one item stands in one list. Its five parts sum to ``score`` up to rounding.

    Attributes:
        item_id: the explained item.
        title: its display name; of films with the year.
        source: the list's ``source``: ``dlrm``, ``ncf``, ``bfm``, ``history``, or ``popular`` for a fallback.
        score: as in the list.
        liked: what the liked items of the history add together, this item itself aside.
        watched: what the other items of it add; it may be below 0, as may ``liked`` and ``ranker``.
        itself: what this item adds to its own score where it is in the history already, with what it rises by where it
            may come again; otherwise 0.
        popularity: what being liked by many adds.
        ranker: what the ranker adds: all of the score in a bundle without the history model.
        because: the items that add most, and more than rounding does, the most first: liked ones where there are
            any, else the others.
        note: a sentence where there is no item to name; otherwise empty.
        words: how ``describe`` speaks of the items.
    """

    item_id: Id
    title: str
    source: str
    score: float
    liked: float = 0.0
    watched: float = 0.0
    itself: float = 0.0
    popularity: float = 0.0
    ranker: float = 0.0
    because: tuple[Because, ...] = ()
    note: str = ""
    words: Words = FILM_WORDS

    def describe(self, max_titles: int = 2, max_fields: int = 2, max_tokens: int = 2) -> str:
        """The reason in words: ``liked Heat (1995) [director Michael Mann]``, or the note.

        Where popularity or the ranker adds more than the whole history does, that is said first.

        Args:
            max_titles: how many items are named.
            max_fields: how many shared fields of each.
            max_tokens: how many shared things of each field.
        """
        if not self.because:
            return self.note
        verb = self.words.liked if self.because[0].liked else self.words.other
        named = ", ".join(title.describe(max_fields, max_tokens) for title in self.because[:max_titles])
        return f"{self._outweighing()}{verb} {named}"

    def _outweighing(self) -> str:
        history = self.liked + self.watched + self.itself
        if max(self.popularity, self.ranker) <= history:
            return ""
        return f"{self.words.by_many}; " if self.popularity >= self.ranker else "ranked high by the ranker; "


@dataclass(frozen=True, slots=True, eq=False)
class _Rated:
    """A history: (N,) rows, ratings (None for a visitor's likes), weights, whether each is a like.

    Beside it (R,) what being liked by many adds to every item's score.
    """

    rows: Int64s
    rating: Float32s | None
    weights: Float32s
    liked: Bools
    popularity: Float32s


@dataclass(frozen=True, slots=True, eq=False)
class Explainer:
    """What tells why items stand in lists. Items are given as rows of their table.

    Attributes:
        users: the users' encoded table.
        items: the items' encoded table.
        history: the history model; None in a bundle without it.
        interactions: gives every rating that histories are made of, when it is first asked for.
        titles: display names of item ids.
        shared: what two items share, by their ids; None in a bundle without the content model.
        max_titles: how many items of the history each explanation names, at least 1.
        words: of the bundle's data.
        all_liked: whether every item of a history counts as liked, as of implicit feedback.
    """

    users: EncodedTable
    items: EncodedTable
    history: HistoryModel | None
    interactions: Callable[[], StoredInteractions]
    titles: Callable[[Sequence[Id]], list[str]]
    shared: Callable[[Id, Id], Reasons] | None
    max_titles: int
    words: Words = FILM_WORDS
    all_liked: bool = False

    def for_user(self, user_id: Id, rows: Int64s, recommender: Recommender, again: Again | None) -> list[Explanation]:
        """Why items, listed or not, stand in a user's list.

        Args:
            user_id: any id; an unknown user's items are popular ones.
            rows: (N,) rows of items.
            recommender: what made the list: ``bundle.recommender(model)``.
            again: what the user has and may be given again, if anything rises.
        """
        user = self.users.index_of([user_id])
        source, form = str(recommender.sources(user)[0]), recommender.form
        if form is None or source == POPULAR:
            return [self._popular(row, self._why_popular(recommender, user_id, int(user[0]))) for row in rows.tolist()]
        rises = np.zeros(len(rows), np.float32) if again is None else again.bonus_of(int(user[0]), rows)
        scores = (form.score_pairs(np.repeat(user, len(rows)), rows) + rises).tolist()
        if self.history is None:
            note = f"ranked by {source} alone, whose score does not come apart into {self.words.item}s (no history model in this bundle)"  # noqa: E501
            pairs = zip(rows.tolist(), scores, strict=True)
            return [self._named(row, source, score, ranker=score, note=note) for row, score in pairs]
        rated = self._rated_by(self.history, int(user[0]))
        has_ranker = recommender.name in RANKERS
        return [
            self._taken_apart(self.history, source, rated, row, score, has_ranker, rise)
            for row, score, rise in zip(rows.tolist(), scores, rises.tolist(), strict=True)
        ]

    def for_visitor(self, history: HistoryModel, liked: Int64s, rows: Int64s) -> list[Explanation]:
        """Why items stand in the list of a visitor of whom only liked items are known, if any."""
        liked = np.unique(liked)
        if not history.item_in[liked].any():
            return [self._popular(row, "nothing is known of the visitor's taste") for row in rows.tolist()]
        popularity, ones = history.popularity(liked), np.ones(len(liked), np.float32)
        rated = _Rated(liked, None, ones, ones > 0, popularity)
        added = [history.contributions(row, liked).sum() + popularity[row] for row in rows.tolist()]
        return [
            self._taken_apart(history, HISTORY, rated, row, float(score), has_ranker=False)
            for row, score in zip(rows.tolist(), added, strict=True)
        ]

    def _rated_by(self, history: HistoryModel, user_index: int) -> _Rated:
        """What the history model reads of a user: every row of a known item, whatever part it fell in."""
        stored = self.interactions()
        own = np.flatnonzero((stored.rows.user_index == user_index) & (stored.rows.item_index >= FIRST_KNOWN))
        rating, times = stored.rating[own], None if stored.timestamp is None else stored.timestamp[own]
        weights = history.weights(rating, np.zeros(len(own), np.int64), times)
        rows = stored.rows.item_index[own].astype(np.int64)
        liked = np.ones(len(own), np.bool_) if self.all_liked else rating >= history.config.like_at
        return _Rated(rows, rating, weights, liked, history.popularity(rows, weights))

    def _taken_apart(
        self,
        history: HistoryModel,
        source: str,
        rated: _Rated,
        row: int,
        score: float,
        has_ranker: bool,
        rise: float = 0,
    ) -> Explanation:
        added = history.contributions(row, rated.rows, rated.weights).astype(np.float64)
        bias = float(rated.popularity[row])
        ranker = score - rise - float(added.sum()) - bias if has_ranker else 0.0
        itself = rated.rows == row
        because = self._because(rated, row, added)
        little = "ranked high by the ranker" if ranker > bias else self.words.by_many
        note = "" if because else f"no {self.words.item} of the history speaks for it: {little}"
        sides = (rated.liked & ~itself, ~rated.liked & ~itself, itself)
        liked, watched, own = (float(added[rows].sum()) for rows in sides)
        parts = {"liked": liked, "watched": watched, "itself": own + rise, "popularity": bias, "ranker": ranker}
        return self._named(row, source, score, **parts, because=because, note=note)

    def _because(self, rated: _Rated, row: int, added: Float64s) -> tuple[Because, ...]:
        speaks = (added > _ROUNDING) & (rated.rows != row)
        chosen = np.flatnonzero(speaks & rated.liked)
        chosen = chosen if len(chosen) else np.flatnonzero(speaks)
        best = chosen[np.lexsort((rated.rows[chosen], -added[chosen]))][: self.max_titles]
        explained, found = plain_id(self.items.ids[row]), []
        for at, item_id in zip(best.tolist(), self.items.ids[rated.rows[best]].tolist(), strict=True):
            rating = None if rated.rating is None else float(rated.rating[at])
            shared = self.shared(explained, item_id) if self.shared else None
            title = self.titles([item_id])[0]
            found.append(Because(item_id, title, rating, bool(rated.liked[at]), float(added[at]), shared))
        return tuple(found)

    def _popular(self, row: int, why: str) -> Explanation:
        score = float(popular_form(self.items, 1).items.bias[row])
        likes = float(self.items.statistics.likes[row])
        note = f"{why}: a popular {self.words.item}, {self.words.popular.format(likes=f'{likes:.0f}')}"
        return self._named(row, POPULAR, score, popularity=score, note=note)

    def _named(self, row: int, source: str, score: float, **parts: Any) -> Explanation:
        item_id = plain_id(self.items.ids[row])
        return Explanation(item_id, self.titles([item_id])[0], source, score, **parts, words=self.words)

    def _why_popular(self, recommender: Recommender, user_id: Id, user_index: int) -> str:
        if recommender.form is None:
            return "this bundle has no model of users"
        if user_index == UNKNOWN:
            return f"user {user_id} is not in this bundle"
        return f"user {user_id} has too few {self.words.rows} for a list of their own"


def visitor_list(history: HistoryModel, items: EncodedTable, rows: Int64s, k: int) -> TopK:
    """The k best items beside liked ones (rows of the items' table); see ``Bundle.recommend_for``.

    Raises:
        ScoreError: a score is infinite or NaN.
    """
    liked = np.unique(rows)
    vector = history.user_vectors(np.array([0, len(liked)]), liked)
    known = bool(vector.any())
    form = history.form_of(vector) if known else popular_form(items, 1)
    nobody, itself = np.zeros(1, np.int64), Seen.build(np.zeros(len(liked), np.int64), liked, 1)
    best = quick_lists(form, nobody, itself, k, None)
    if best is None:
        message = "a visitor's scores are not all finite: the history model is damaged. Train the bundle again."
        raise ScoreError(message)
    return best.named(items.ids, np.array([HISTORY if known else POPULAR]))
