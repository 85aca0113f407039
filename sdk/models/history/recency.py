"""How much an older rating still says: its weight in a history halves every ``half_life_days``.

A rating's age counts back from its own user's newest rating, never from a clock, so nobody's list changes because
others rated. Weights change histories alone, not what the regression learns from.

For lists over time the penalty, the half-life and popularity's age are chosen from the training ratings, by rolling
origin (Tashman 2000, International Journal of Forecasting 16): the model is learnt from what came before a moment, and
the lists that name best what was liked anew between it and the next moment win. ``docs/research`` has the figures.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from sdk.base.config import HistoryConfig
from sdk.base.progress import present
from sdk.base.types import Bools, Float32s, Float64s, Int64s, Repeats
from sdk.data.splits import before_and_asked, time_at
from sdk.models.history.choice import MAX_MEASURED, ChoiceRatings, Draw, MeasuredChoice, standard_error
from sdk.models.history.matrices import Floats, Index, halved

log = logging.getLogger(__name__)

HALF_LIVES_DAYS = (3000.0, 1000.0, 300.0, 100.0)
MOMENTS = (0.95, 0.9, 0.85, 0.8, 0.75, 0.7)
"""Shares of the ratings, by time, that each moment learns from; it is asked for the next twentieth."""
TIMES_PENALTY = (1.0, 2.0, 4.0)
"""Tried times the penalty that random draws chose: lists over time want to be held back as much or more, and the few
lists after moments would choose badly from a wide range."""
POPULARITY_DAYS = (0.0, 1000.0, 300.0, 100.0, 30.0, 10.0)
TIMES_TENTH = (0.03, 0.1, 0.3, 1.0, 3.0)
"""Popularity's weights that are tried: what the most popular title gains, in scores that stand tenth in a list."""
WINDOW = 0.05
_FULL_MOMENTS = 3  # that measure as many users as there may be
_TENTH = 10
_SURE = 3.0  # standard errors of a gain that is the best of some thirty (Bonferroni: 5 % of 30)


@dataclass(frozen=True, slots=True)
class TimeChoice(MeasuredChoice):
    """What was chosen on moments, and by what.

    Attributes:
        penalty: the one that was chosen, or the configuration's.
        half_life_days: so, too; 0 where ratings do not age.
        by_penalty: penalty -> mean NDCG@10 over all lists; ratings do not age there unless the configuration says so.
        by_half_life: half-life -> the same, with the chosen penalty.
        num_moments: that lists were measured after.
        num_lists: measured, several for a user who is asked for after several moments.
        popularity_weight: that was chosen; None where the configuration's, or that of random draws, stands.
        popularity_half_life_days: so, too; 0 where every like counts alike.
        by_popularity: [weight, half-life, mean NDCG@10] of all that were tried, with the chosen penalty and half-life.
    """

    TABLES = ("by_penalty", "by_half_life")
    penalty: float
    half_life_days: float
    by_penalty: Mapping[float, float]
    by_half_life: Mapping[float, float]
    num_moments: int
    num_lists: int
    popularity_weight: float | None = None
    popularity_half_life_days: float = 0.0
    by_popularity: list[list[float]] = field(default_factory=list)

    def onto(self, config: HistoryConfig) -> HistoryConfig:
        """The configuration with what was chosen."""
        found = replace(config, penalty=self.penalty, half_life_days=self.half_life_days)
        if self.popularity_weight is None:
            return found
        days = self.popularity_half_life_days
        return replace(found, popularity_weight=self.popularity_weight, popularity_half_life_days=days)


def recency(user: Index, timestamp: Int64s, half_life_days: float) -> Float32s:
    """(N,) float32 factor of each rating's weight, above 0 and at most 1: halved every ``half_life_days``.

    Args:
        user: (N,) integers from 0; a rating's age counts from the newest of its user's here.
        timestamp: (N,) int64, seconds.
        half_life_days: above 0.
    """
    newest = np.full(int(user.max(initial=-1)) + 1, np.iinfo(np.int64).min)
    np.maximum.at(newest, user, timestamp)
    return halved(newest[user] - timestamp, half_life_days).astype(np.float32)


def aged_weights(
    config: HistoryConfig, rating: Floats, user: Index, timestamp: Int64s | None, half_life_days: float
) -> Float32s:
    """(N,) float32 weight of each rating in its user's history: by its stars and, with a half-life, by its age.

    Raises:
        ValueError: there is a half-life, and no timestamps.
    """
    weights = config.weights(rating)
    if not half_life_days:
        return weights
    if timestamp is None or len(timestamp) != len(rating):
        got = "none" if timestamp is None else len(timestamp)
        raise ValueError(f"history: a half-life of {half_life_days:g} days needs {len(rating)} timestamps, got {got}")
    return weights * recency(user, timestamp, half_life_days)


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """What was known at a moment, and what came next.

    Attributes:
        draw: what may be learnt from, as it was then, and what is asked for that was new.
        timestamp: (N,) int64 seconds of the ratings that take part, each its latest before the moment.
        came: (N,) bool, which of them came between this moment and the next, new or again.
    """

    draw: Draw
    timestamp: Int64s
    came: Bools

    def scores(self, config: HistoryConfig) -> Float32s:
        """(M, N) float32 of every title for the measured users; nothing in ``config`` is open."""
        wishes, times = self.wishes(config)
        return wishes + times * self.popularity(config)

    def wishes(self, config: HistoryConfig) -> tuple[Float32s, Float32s]:
        """``Draw.wishes`` of histories that age."""
        part, own = self.draw.part, self.draw.own
        days = config.half_life_days or 0.0
        weights = aged_weights(config, part.rating[own], part.user[own], self.timestamp[own], days)
        return self.draw.wishes(config, weights)

    def popularity(self, config: HistoryConfig) -> Float32s:
        """``Draw.popularity``, as it was at the moment."""
        return self.draw.popularity(config, self.timestamp[self.draw.known])


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Moments within given ratings, to choose by.

    Attributes:
        each: the latest moment first, until they gave as many lists as are wanted.
        config: what is not chosen here.
    """

    each: tuple[Moment, ...]
    config: HistoryConfig

    @classmethod
    def of(
        cls,
        columns: tuple[Index, Index, Floats],
        timestamp: Int64s,
        features: Float32s,
        config: HistoryConfig,
        repeats: Repeats | None = None,
    ) -> Moments:
        """Part the ratings at each moment.

        Args:
            columns: (N,) users, titles (rows of ``features``) and stars; each pair once, in any order.
            timestamp: (N,) int64 seconds.
            features: (R_item, f) float32, as the model is fitted with.
            config: what is chosen here does not count.
            repeats: the events of pairs that came more than once; a pair began with its first.
        """
        part = ChoiceRatings.of(columns, features, config, timestamp)
        times, likes = timestamp[part.rows], part.rating >= config.like_at
        again = None if repeats is None else repeats.take(part.rows)
        since = times if again is None else again.first(times)
        found: list[Moment] = []
        for share in MOMENTS:
            if sum(len(moment.draw.measured) for moment in found) >= _FULL_MOMENTS * MAX_MEASURED:
                break
            start, end = (time_at(since, round(upto * len(times))) for upto in (share, share + WINDOW))
            before, asked = before_and_asked(part.user, since, likes, start, end)
            then, latest, came = part, times, asked
            if again is not None:
                rating, latest = again.as_of(start, part.rating, times)
                then = replace(part, rating=rating, timestamp=None if part.timestamp is None else latest)
                came = again.came(start, end, times)
            draw = then.draw(before, asked, np.random.default_rng(config.seed))
            found += [] if draw is None else [Moment(draw, latest, came)]
        return cls(tuple(found), config)

    @property
    def num_lists(self) -> int:
        """Lists that are measured, several for a user who is asked for after several moments."""
        return sum(len(moment.draw.measured) for moment in self.each)

    def choose(
        self, penalties: Sequence[float], half_lives: Sequence[float], popularities: Sequence[float] = ()
    ) -> TimeChoice:
        """The best penalty, ratings ageing by the first half-life; then the best half-life. Of equal ones the first.

        Then popularity: its weight and the half-life of its likes. Others than the configuration's are taken where
        their lists are better by more than three standard errors of the difference.

        Args:
            penalties: to try.
            half_lives: to try, in days; 0 for none.
            popularities: half-lives to try of popularity, in days; none: the configuration's stands.
        """
        config, trials = self.config, len(penalties) + len(half_lives) + len(popularities)
        present().expect(trials * len(self.each))
        config = replace(config, half_life_days=half_lives[0])
        first = {each: self._lists(replace(config, penalty=each)) for each in penalties}
        config = replace(config, penalty=_best(first))
        second = {days: self._lists(replace(config, half_life_days=days)) for days in half_lives}
        config = replace(config, half_life_days=_best(second))
        third = self._by_popularity(config, popularities) if popularities else {}
        popular, fresh = _winner(third) if third else (None, 0.0)
        counts = len(self.each), self.num_lists
        penalty, days = config.penalty or 0.0, config.half_life_days or 0.0
        found = f"penalty {penalty:g}, half-life {days:g} days, popularity {popular} by {fresh:g} days"
        log.debug("history model: by %d moments, %d lists: %s", *counts, found)
        tried = [[*each, round(float(lists.mean()), 6)] for each, lists in third.items()]
        return TimeChoice(penalty, days, _means(first), _means(second), *counts, popular, fresh, tried)

    def _by_popularity(self, config: HistoryConfig, half_lives: Sequence[float]) -> dict[tuple[float, float], Float64s]:
        """Popularity's weight and half-life -> (L,) lists; the configuration's first, without a half-life."""
        wishes = [moment.wishes(config) for moment in self.each]
        unit, given = tenth([scores for scores, _ in wishes]), config.popularity_weight or 0.0

        def lists(weight: float, days: float) -> Float64s:
            tried = replace(config, popularity_weight=weight, popularity_half_life_days=days)
            pairs = zip(self.each, wishes, strict=True)
            return np.concatenate(
                [each.draw.of_new(own + times * each.popularity(tried)) for each, (own, times) in pairs]
            )

        found = {(given, 0.0): lists(given, 0.0)}
        for days in half_lives:
            one = replace(config, popularity_weight=1.0, popularity_half_life_days=days)
            most = float(np.mean([moment.popularity(one).max(initial=0) for moment in self.each]))
            for times in TIMES_TENTH if most else ():
                weight = float(f"{unit * times / most:.2g}")
                found[weight, days] = lists(weight, days)
            present().advance(len(self.each))
        return found

    def _lists(self, config: HistoryConfig) -> Float64s:
        """(L,) float64 NDCG@10 of all lists."""
        found = []
        for moment in self.each:
            found.append(moment.draw.of_new(moment.scores(config)))
            present().advance()
        return np.concatenate(found)


def _means(found: Mapping[float, Float64s]) -> dict[float, float]:
    return {value: round(float(lists.mean()), 6) for value, lists in found.items()}


def _best(found: Mapping[float, Float64s]) -> float:
    means = _means(found)
    return max(means, key=lambda each: means[each])


def _winner(found: Mapping[tuple[float, float], Float64s]) -> tuple[float, float]:
    """The best where it beats the first beyond what the best of so many would by chance; else the first."""
    first, best = next(iter(found)), max(found, key=lambda each: float(found[each].mean()))
    gains = found[best] - found[first]
    return best if float(gains.mean()) > _SURE * standard_error(gains) else first


def tenth(scores: Sequence[Float32s]) -> float:
    """The mean of the scores that stand tenth in the users' lists: a unit for what is added to them."""
    places = [min(_TENTH, each.shape[1]) for each in scores]
    return float(
        np.mean([np.partition(each, -n, axis=1)[:, -n].mean() for each, n in zip(scores, places, strict=True)])
    )
