"""The penalty of the history model, chosen on a validation part that is cut from the training ratings themselves.

How strongly the closed form must be held back depends on the data: on how regular tastes are, and on how many users
there are (``docs/history_choice.md``). So it is measured by the rule of the list protocol: a random fifth of the likes
is held out, and the lists that rank them best win. At any size the cost is bounded: of many users' titles only the
most rated take part, all penalties share the inner products, and a sample of the users is measured. All users are
learnt from, for fewer of them would ask for a smaller penalty.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sdk.base.config import HistoryConfig, Weighting
from sdk.base.ids import rows_of
from sdk.base.types import Bools, Float32s, Float64s, Int64s
from sdk.data.splits import drawn
from sdk.metrics.lists import RelevanceSets, best_columns, ndcg, user_mean
from sdk.models.history.fit import ItemRegression, factors, prepared
from sdk.models.history.matrices import Floats, Index, balanced, most_rated, rating_matrix

if TYPE_CHECKING:
    from typing import Self

    from scipy.sparse import csr_matrix

log = logging.getLogger(__name__)

FALLBACK = 300.0
"""Taken where there are too few likes to choose by."""

COARSE = (75.0, 300.0, 1200.0, 4800.0, 19_200.0)
MAX_MATRIX, MAX_USERS, MAX_MEASURED = 3000, 200_000, 3000
FEWEST_MEASURED, _MOST_DRAWS = 20, 2
_POWER_STEPS = 1
_HELD_OUT = 0.2
_LIST = 10


class MeasuredChoice:
    """Something chosen by measuring, as plain JSON values and back; a number's table is a list of pairs there."""

    __slots__ = ()
    TABLES: ClassVar[tuple[str, ...]]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; ``from_json`` reads it back to an equal choice."""
        tables = {name: [list(pair) for pair in getattr(self, name).items()] for name in self.TABLES}
        return {**{each.name: getattr(self, each.name) for each in fields(self)}, **tables}  # type: ignore[arg-type]

    @classmethod
    def from_json(cls, values: Mapping[str, Any] | None) -> Self | None:
        """Read what ``to_json`` wrote; None where nothing was chosen.

        Raises:
            KeyError, TypeError, ValueError: it did not.
        """
        if values is None:
            return None
        tables = {name: {float(key): float(value) for key, value in values[name]} for name in cls.TABLES}
        return cls(**{**values, **tables})


@dataclass(frozen=True, slots=True)
class PenaltyChoice(MeasuredChoice):
    """A penalty and what it was chosen by.

    Attributes:
        penalty: the chosen one, two significant digits.
        ndcg10: penalty -> mean NDCG@10 over the measured users and draws; empty where there was too little to measure.
        num_users: learnt from.
        num_titles: that took part, the most rated ones.
        num_measured: users whose lists were measured, per draw.
        num_draws: of the held-out part.
    """

    TABLES = ("ndcg10",)
    penalty: float
    ndcg10: Mapping[float, float] = field(default_factory=dict)
    num_users: int = 0
    num_titles: int = 0
    num_measured: int = 0
    num_draws: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """Some ratings, to be learnt from, and others that lists should name; the regression is there but for its penalty.

    Attributes:
        part: what both are of.
        own: (K,) int64 rows of the part: what the measured users rated of what is learnt from.
        measured: (M,) int64 ascending, users whose lists are measured.
        held_out: what their lists should name.
        solve: penalty -> the regression.
        counts: (N,) int64 ratings of each title.
    """

    part: ChoiceRatings
    own: Int64s
    measured: Int64s
    held_out: RelevanceSets
    solve: Callable[[float], ItemRegression]
    counts: Int64s

    def histories(self, weights: Float32s | None = None) -> csr_matrix:
        """(M, N) float32 sparse, of the measured users, by weights of their ``own`` ratings; None weighs by stars."""
        part, own = self.part, self.own
        values = part.config.weights(part.rating[own]) if weights is None else weights
        return rating_matrix(part.user[own], part.item[own], values, part.shape)[self.measured]

    def ndcg10(self, penalty: float) -> float:
        """Of the measured users' lists over the titles that take part, their own left out, after the cut to a rank."""
        return user_mean(self.ndcg10_per_list(self.factors(penalty), self.histories()))

    def factors(self, penalty: float) -> tuple[Float32s, Float32s]:
        """(N, r) float32 ``item_in`` and ``item_out`` of the titles that take part."""
        return factors(self.solve(penalty), self.counts, self.part.config, _POWER_STEPS)

    def ndcg10_per_list(self, factors: tuple[Float32s, Float32s], histories: csr_matrix) -> Float64s:
        """(M,) float64 of the lists that the measured users' titles make with the given weights, none of them 0."""
        item_in, item_out = factors
        scores = np.asarray((histories @ item_in) @ item_out.T, np.float32)
        scores[histories.nonzero()] = -np.inf
        return ndcg(best_columns(scores, _LIST), self.held_out, _LIST)


@dataclass(frozen=True, slots=True, eq=False)
class ChoiceRatings:
    """The ratings that take part in a choice, ascending by user and title, both numbered from 0.

    Few users bring all their titles, for the matrix to invert is then as large as the users; many only the most rated.

    Attributes:
        rows: (N,) int64, where they stand among the given ratings.
        user: (N,) int64.
        item: (N,) int64.
        rating: (N,) float, stars.
        shape: numbers of users and titles.
        features: (I, f) float32 of the titles.
        config: all but its ``penalty`` and ``half_life_days`` counts.
    """

    rows: Int64s
    user: Int64s
    item: Int64s
    rating: Floats
    shape: tuple[int, int]
    features: Float32s
    config: HistoryConfig

    @classmethod
    def of(cls, columns: tuple[Index, Index, Floats], features: Float32s, config: HistoryConfig) -> ChoiceRatings:
        """Choose them.

        Args:
            columns: (N,) users (any ids), titles (rows of ``features``) and stars; each pair once, in any order.
            features: (R_item, f) float32, as the model is fitted with.
            config: as the model is fitted with.
        """
        user, item, rating = columns
        ids = np.unique(user)
        most = config.max_titles if len(ids) <= MAX_MATRIX else MAX_MATRIX
        kept = np.isin(item, most_rated(np.bincount(item), most))
        if len(ids) > MAX_USERS:
            kept &= np.isin(user, np.random.default_rng(config.seed).choice(ids, MAX_USERS, replace=False))
        rows = np.flatnonzero(kept)
        rows = rows[np.lexsort((item[rows], user[rows]))]
        users, own = np.unique(user[rows], return_inverse=True)
        titles, place = np.unique(item[rows], return_inverse=True)
        return cls(rows, own, place, rating[rows], (len(users), len(titles)), features[titles], config)

    def draw(self, known: Bools, asked: Bools, rng: np.random.Generator, fewest: int = 1) -> Draw | None:
        """What some ratings say of others.

        Args:
            known: (N,) bool, which ratings are learnt from.
            asked: (N,) bool, which ones lists should name.
            rng: draws the users whose lists are measured, where there are many.
            fewest: users to measure; None is returned where fewer have ratings of both kinds.
        """
        measured = np.intersect1d(self.user[asked], self.user[known])
        if len(measured) < fewest:
            return None
        if len(measured) > MAX_MEASURED:
            measured = np.sort(rng.choice(measured, MAX_MEASURED, replace=False))
        user, item, rating = self.user[known], self.item[known], self.rating[known]
        history = rating_matrix(user, item, self.config.weights(rating), self.shape)
        solve = prepared(balanced(history[np.diff(history.indptr) > 0], self.config.user_exponent), self.features)
        place = rows_of(measured, self.user)
        named = asked & (place >= 0)
        held_out = RelevanceSets(place[named], self.item[named], len(measured))
        counts = np.bincount(item, minlength=self.shape[1])
        return Draw(self, np.flatnonzero(known & (place >= 0)), measured, held_out, solve, counts)


def choose_penalty(
    user: Index, item: Index, rating: Floats, features: Float32s, config: HistoryConfig
) -> PenaltyChoice:
    """The penalty that ``climb`` finds by the lists of held-out draws; ``FALLBACK`` where there are too few likes.

    Args:
        user: (N,) integers, any ids.
        item: (N,) integers, rows of ``features``. Each pair comes once; the order of pairs does not matter.
        rating: (N,) float, stars.
        features: (R_item, f) float32, as the model is fitted with.
        config: all but its ``penalty`` counts.
    """
    part = ChoiceRatings.of((user, item, rating), features, config)
    draws = _draws(part)
    if not draws:
        log.info("history model: too few likes to choose a penalty by, %g is taken", FALLBACK)
        return PenaltyChoice(FALLBACK)
    penalty, found = climb(lambda tried: float(np.mean([draw.ndcg10(tried) for draw in draws])))
    table = {tried: round(value, 6) for tried, value in sorted(found.items())}
    return PenaltyChoice(penalty, table, *part.shape, len(draws[0].measured), len(draws))


def choose_weighting(user: Index, item: Index, rating: Floats, features: Float32s, config: HistoryConfig) -> Weighting:
    """How weights of implicit feedback enter: not at all, or by their logarithm where that gives better lists.

    How often somebody came back says much, how much of a thing they bought says little; which of the two a weight is,
    the lists of held-out draws say. Arguments as ``choose_penalty``; all but ``weighting`` counts.
    """
    part = ChoiceRatings.of((user, item, rating), features, config)
    found: dict[Weighting, float] = {}
    ways: tuple[Weighting, ...] = ("alike", "log")
    for way in ways:
        draws = _draws(replace(part, config=replace(config, weighting=way)))
        found[way] = float(np.mean([draw.ndcg10(config.penalty or FALLBACK) for draw in draws])) if draws else 0.0
    log.info("history model: weights enter alike, NDCG@10 %.4f, or by their logarithm, %.4f", *found.values())
    return max(ways, key=lambda way: found[way])


def climb(measure: Callable[[float], float]) -> tuple[float, dict[float, float]]:
    """Go up ``COARSE`` until ``measure`` falls, look half and twice as high, take the vertex of a parabola.

    Args:
        measure: penalty -> what should be high.

    Returns:
        The penalty with two significant digits, and what was measured.
    """
    found: dict[float, float] = {}

    def look(penalty: float) -> None:
        found[penalty] = measure(penalty)
        log.info("history model: penalty %g, NDCG@10 %.4f on validation", penalty, found[penalty])

    for penalty in COARSE:
        look(penalty)
        if found[penalty] < max(found.values()):
            break
    coarse = _best(found)
    for penalty in (coarse / 2, coarse * 2):
        look(penalty)
    return _vertex(found), found


def _draws(part: ChoiceRatings) -> list[Draw]:
    """As many as measure some 3,000 lists together, at most two; none where a draw would measure too few."""
    first = _draw(part, 0)
    if first is None:
        return []
    number = min(_MOST_DRAWS, -(-MAX_MEASURED // len(first.measured)))
    return [first, *filter(None, (_draw(part, n) for n in range(1, number)))]


def _draw(part: ChoiceRatings, number: int) -> Draw | None:
    rng = np.random.default_rng((part.config.seed, number))
    held = (part.rating >= part.config.like_at) & drawn(len(part.rating), _HELD_OUT, rng)
    return part.draw(~held, held, rng, FEWEST_MEASURED)


def _best(found: Mapping[float, float]) -> float:
    return max(sorted(found), key=lambda penalty: found[penalty])


def _vertex(found: Mapping[float, float]) -> float:
    """Where the parabola through the best penalty and those half and twice as large is highest, on a log scale."""
    best = _best(found)
    below, above = found.get(best / 2), found.get(best * 2)
    shift = 0.0
    if below is not None and above is not None:
        bend = 2 * found[best] - below - above
        shift = (above - below) / (2 * bend) if bend > 0 else 0.0
    return float(f"{best * 2**shift:.2g}")
