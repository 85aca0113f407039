"""Why a title stands in a list: the titles of the history that speak for it, and what else adds to its score.

A list's score is a sum (``Bundle.list_form``), so it comes apart exactly: what each rated title adds through the
history model, what being liked by many adds, and a share of the ranker's logit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sdk.base.config import RANKERS
from sdk.base.errors import UsageError
from sdk.base.ids import count_of, id_of
from sdk.base.types import Bools, Float32s, Float64s, Int64s
from sdk.bundles.visitors import need_history
from sdk.features.tables import FIRST_KNOWN, UNKNOWN
from sdk.scoring.filters import rows_of
from sdk.scoring.recommender import HISTORY, POPULAR, popular_form

if TYPE_CHECKING:
    from sdk.bundles.view import BundleView
    from sdk.models.content.reasons import Reasons
    from sdk.models.history.model import HistoryModel
    from sdk.scoring.recommender import Recommender

_SAYS_LITTLE = ("year", "overview")  # to share them is no reason that a person would give
_ROUNDING = 1e-6  # of float32 scores of about 1; what adds less is no reason


@dataclass(frozen=True, slots=True)
class Because:
    """One title of a history that speaks for the explained one.

    Attributes:
        item_id: its id.
        title: its display name, with the year.
        rating: stars; None where it is only known to be liked.
        liked: whether it counts as liked, or only as watched.
        contribution: what it adds to the explained title's score.
        shared: what the two titles share; None in a bundle without the content model.
    """

    item_id: int
    title: str
    rating: float | None
    liked: bool
    contribution: float
    shared: Reasons | None

    def describe(self, max_fields: int = 2, max_tokens: int = 2) -> str:
        """``Heat (1995) [director Michael Mann; genres Crime]``; the brackets only where something is shared."""
        shared = self.shared.describe(max_fields, max_tokens, _SAYS_LITTLE) if self.shared else ""
        return f"{self.title} [{shared}]" if shared else self.title


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one title stands in one list. Its five parts sum to ``score`` up to rounding.

    Attributes:
        item_id: the explained title.
        title: its display name, with the year.
        source: the list's ``source``: ``dlrm``, ``ncf``, ``history``, or ``popular`` for a fallback.
        score: as in the list.
        liked: what the liked titles of the history add together, this title itself aside.
        watched: what the other rated titles add; it may be below 0, as may ``liked`` and ``ranker``.
        itself: what this title adds to its own score where it has been rated already; otherwise 0.
        popularity: what being liked by many adds.
        ranker: what the ranker adds: all of the score in a bundle without the history model.
        because: the titles that add most, and more than rounding does, the most first: liked ones where there are
            any, else watched ones.
        note: a sentence where there is no title to name; otherwise empty.
    """

    item_id: int
    title: str
    source: str
    score: float
    liked: float
    watched: float
    itself: float
    popularity: float
    ranker: float
    because: tuple[Because, ...]
    note: str

    def describe(self, max_titles: int = 2, max_fields: int = 2, max_tokens: int = 2) -> str:
        """The reason in words: ``liked Heat (1995) [director Michael Mann]``, or the note.

        Where popularity or the ranker adds more than the whole history does, that is said first.

        Args:
            max_titles: how many titles are named.
            max_fields: how many shared fields of each.
            max_tokens: how many shared things of each field.
        """
        if not self.because:
            return self.note
        verb = "liked" if self.because[0].liked else "watched"
        named = ", ".join(title.describe(max_fields, max_tokens) for title in self.because[:max_titles])
        return f"{self._outweighing()}{verb} {named}"

    def _outweighing(self) -> str:
        history = self.liked + self.watched + self.itself
        if max(self.popularity, self.ranker) <= history:
            return ""
        return "liked by many; " if self.popularity >= self.ranker else "ranked high by the ranker; "


@dataclass(frozen=True, slots=True, eq=False)
class _Rated:
    """What somebody has rated: (N,) rows, stars (None for a visitor's likes), weights and whether each is a like."""

    rows: Int64s
    rating: Float32s | None
    weights: Float32s
    liked: Bools


def explain_recommendation(
    bundle: BundleView,
    user_id: int | None,
    item_ids: Sequence[int] | Int64s,
    liked: Sequence[int] | Int64s | None,
    max_titles: int,
    model: str,
) -> list[Explanation]:
    """See ``Bundle.explain_recommendation``."""
    if user_id is not None and liked is None:
        user_id = id_of(user_id, "user_id")
        return explain_user(bundle, bundle.kept_recommender(model), user_id, item_ids, max_titles)
    if user_id is None and liked is not None:
        return explain_visitor(bundle, liked, item_ids, max_titles)
    message = "explain_recommendation: expected a user_id or liked titles, one of the two"
    raise UsageError(message)


def explain_user(
    bundle: BundleView, recommender: Recommender, user_id: int, item_ids: Sequence[int] | Int64s, max_titles: int = 3
) -> list[Explanation]:
    """Why titles stand in a user's list.

    Args:
        bundle: the bundle.
        recommender: what made the list: ``bundle.recommender(model)``.
        user_id: any id; an unknown user's titles are popular ones.
        item_ids: (N,) titles of the catalogue, listed or not.
        max_titles: how many titles of the history each explanation names, at least 1.

    Raises:
        UsageError: max_titles < 1.
        UnknownItemError: a title is not in the catalogue.
    """
    items = _checked_rows(bundle, item_ids, max_titles)
    user = bundle.encoded_users.index_of([user_id])
    source = str(recommender.sources(user)[0])
    if recommender.form is None or source == POPULAR:
        return [_popular(bundle, row, _why_popular(recommender, user_id, int(user[0]))) for row in items]
    scores = recommender.form.score_pairs(np.repeat(user, len(items)), np.array(items, dtype=np.int64))
    if bundle.history is None:
        return [_by_ranker(bundle, source, *pair) for pair in zip(items, scores.tolist(), strict=True)]
    rated = _rated_by(bundle, bundle.history, int(user[0]))
    pairs = zip(items, scores.tolist(), strict=True)
    has_ranker = recommender.name in RANKERS
    return [_taken_apart(bundle, source, rated, row, score, max_titles, has_ranker) for row, score in pairs]


def explain_visitor(
    bundle: BundleView, liked: Sequence[int] | Int64s, item_ids: Sequence[int] | Int64s, max_titles: int = 3
) -> list[Explanation]:
    """Why titles stand in the list of a visitor of whom only liked titles are known.

    Args:
        bundle: the bundle.
        liked: (M,) titles of the catalogue; none at all is allowed.
        item_ids: (N,) titles of the catalogue.
        max_titles: how many liked titles each explanation names, at least 1.

    Raises:
        UsageError: max_titles < 1, or the bundle has no history model.
        UnknownItemError: a title is not in the catalogue.
    """
    items = _checked_rows(bundle, item_ids, max_titles)
    history = need_history(bundle)
    rows = np.unique(rows_of(bundle.encoded_items, liked, "liked"))
    if not history.item_in[rows].any():
        return [_popular(bundle, row, "nothing is known of the visitor's taste") for row in items]
    rated = _Rated(rows, None, np.ones(len(rows), np.float32), np.ones(len(rows), np.bool_))
    added = [history.contributions(row, rows).sum() + history.popularity(row, rows) for row in items]
    pairs = zip(items, added, strict=True)
    return [_taken_apart(bundle, HISTORY, rated, row, float(score), max_titles, False) for row, score in pairs]


def _checked_rows(bundle: BundleView, item_ids: Sequence[int] | Int64s, max_titles: int) -> list[int]:
    count_of(max_titles, "max_titles")
    return rows_of(bundle.encoded_items, item_ids).tolist()


def _rated_by(bundle: BundleView, history: HistoryModel, user_index: int) -> _Rated:
    """What the history model reads of a user: every rating of a known title, whatever part of the split it fell in."""
    stored = bundle.interactions
    own = np.flatnonzero((stored.rows.user_index == user_index) & (stored.rows.item_index >= FIRST_KNOWN))
    rating = stored.rating[own]
    rows = stored.rows.item_index[own].astype(np.int64)
    times = None if stored.timestamp is None else stored.timestamp[own]
    weights = history.weights(rating, np.zeros(len(own), np.int64), times)
    return _Rated(rows, rating, weights, rating >= history.config.like_at)


def _taken_apart(
    bundle: BundleView, source: str, rated: _Rated, row: int, score: float, max_titles: int, has_ranker: bool
) -> Explanation:
    history = need_history(bundle)
    added = history.contributions(row, rated.rows, rated.weights).astype(np.float64)
    itself = rated.rows == row
    liked, watched = added[rated.liked & ~itself].sum(), added[~rated.liked & ~itself].sum()
    bias, own = history.popularity(row, rated.rows, rated.weights), float(added[itself].sum())
    ranker = score - float(added.sum()) - bias if has_ranker else 0.0
    because = _because(bundle, rated, row, added, max_titles)
    note = "" if because else _why_no_title(bias, ranker)
    item_id, title = _named(bundle, row)
    parts = (float(liked), float(watched), own, bias, ranker)
    return Explanation(item_id, title, source, score, *parts, because, note)


def _because(bundle: BundleView, rated: _Rated, row: int, added: Float64s, max_titles: int) -> tuple[Because, ...]:
    speaks = (added > _ROUNDING) & (rated.rows != row)
    chosen = np.flatnonzero(speaks & rated.liked)
    chosen = chosen if len(chosen) else np.flatnonzero(speaks)
    best = chosen[np.lexsort((rated.rows[chosen], -added[chosen]))][:max_titles]
    return tuple(_one_because(bundle, rated, row, int(at), float(added[at])) for at in best)


def _one_because(bundle: BundleView, rated: _Rated, row: int, at: int, contribution: float) -> Because:
    item_id, title = _named(bundle, int(rated.rows[at]))
    rating = None if rated.rating is None else float(rated.rating[at])
    explained = int(bundle.encoded_items.ids[row])
    shared = bundle.content.explain(explained, item_id) if bundle.has_content else None
    return Because(item_id, title, rating, bool(rated.liked[at]), contribution, shared)


def _popular(bundle: BundleView, row: int, why: str) -> Explanation:
    item_id, title = _named(bundle, row)
    likes = float(bundle.encoded_items.statistics.likes[row])
    score = float(popular_form(bundle.encoded_items, 1).items.bias[row])
    note = f"{why}: a popular title, liked in {likes:.0f} training ratings"
    return Explanation(item_id, title, POPULAR, score, 0.0, 0.0, 0.0, score, 0.0, (), note)


def _by_ranker(bundle: BundleView, source: str, row: int, score: float) -> Explanation:
    item_id, title = _named(bundle, row)
    note = f"ranked by {source} alone, whose score does not come apart into titles (no history model in this bundle)"
    return Explanation(item_id, title, source, score, 0.0, 0.0, 0.0, 0.0, score, (), note)


def _why_popular(recommender: Recommender, user_id: int, user_index: int) -> str:
    if recommender.form is None:
        return "this bundle has no model of users"
    if user_index == UNKNOWN:
        return f"user {user_id} is not in this bundle"
    return f"user {user_id} has too few ratings for a list of their own"


def _why_no_title(popularity: float, ranker: float) -> str:
    start = "no title of the history speaks for it"
    return f"{start}: ranked high by the ranker" if ranker > popularity else f"{start}: liked by many"


def _named(bundle: BundleView, row: int) -> tuple[int, str]:
    item_id = int(bundle.encoded_items.ids[row])
    return item_id, bundle.titles([item_id])[0]
