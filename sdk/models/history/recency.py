"""How much an older rating still says: its weight in a history halves every ``half_life_days``.

A rating's age counts back from its own user's newest rating, never from a clock, so nobody's list changes because
others rated. Weights change histories alone, not what the regression learns from.

For lists over time the penalty and the half-life are chosen from the training ratings themselves, by rolling origin
(Tashman 2000, International Journal of Forecasting 16): the model is learnt from what came before a moment, and the
lists that name best what was liked anew between it and the next moment win. ``docs/research`` has the figures.
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
from sdk.models.history.matrices import Floats, Index

log = logging.getLogger(__name__)

HALF_LIVES_DAYS = (3000.0, 1000.0, 300.0, 100.0)
MOMENTS = (0.95, 0.9, 0.85, 0.8, 0.75, 0.7)
"""Shares of the ratings, by time, that each moment learns from; it is asked for the next twentieth."""
TIMES_PENALTY = (1.0, 2.0, 4.0)
"""Tried times the penalty that random draws chose: lists over time want to be held back as much or more, and the few
lists after moments would choose badly from a wide range."""
_WINDOW = 0.05
_DAY_S = 86_400
_MOST_HALVINGS = 60.0  # so that no weight becomes 0


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
        by_popularity: its weight -> mean NDCG@10, with the chosen penalty and half-life.
    """

    TABLES = ("by_penalty", "by_half_life", "by_popularity")
    penalty: float
    half_life_days: float
    by_penalty: Mapping[float, float]
    by_half_life: Mapping[float, float]
    num_moments: int
    num_lists: int
    popularity_weight: float | None = None
    by_popularity: Mapping[float, float] = field(default_factory=dict)

    def onto(self, config: HistoryConfig) -> HistoryConfig:
        """The configuration with what was chosen."""
        popular = config.popularity_weight if self.popularity_weight is None else self.popularity_weight
        return replace(config, penalty=self.penalty, half_life_days=self.half_life_days, popularity_weight=popular)


def recency(user: Index, timestamp: Int64s, half_life_days: float) -> Float32s:
    """(N,) float32 factor of each rating's weight, above 0 and at most 1: halved every ``half_life_days``.

    Args:
        user: (N,) integers from 0; a rating's age counts from the newest of its user's here.
        timestamp: (N,) int64, seconds.
        half_life_days: above 0.
    """
    newest = np.full(int(user.max(initial=-1)) + 1, np.iinfo(np.int64).min)
    np.maximum.at(newest, user, timestamp)
    halvings = (newest[user] - timestamp) / (_DAY_S * half_life_days)
    return np.exp2(-np.minimum(halvings, _MOST_HALVINGS)).astype(np.float32)


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


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Moments within given ratings, to choose by.

    Attributes:
        each: the latest moment first, until they gave some 3,000 lists.
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
            config: all but its ``penalty``, ``half_life_days`` and ``popularity_weight`` count.
            repeats: the events of pairs that came more than once; a pair began with its first.
        """
        part = ChoiceRatings.of(columns, features, config, timestamp)
        times, likes = timestamp[part.rows], part.rating >= config.like_at
        again = None if repeats is None else repeats.take(part.rows)
        since = times if again is None else again.first(times)
        found: list[Moment] = []
        for share in MOMENTS:
            if sum(len(moment.draw.measured) for moment in found) >= MAX_MEASURED:
                break
            start, end = (time_at(since, round(upto * len(times))) for upto in (share, share + _WINDOW))
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
        self, penalties: Sequence[float], half_lives: Sequence[float], weights: Sequence[float] = ()
    ) -> TimeChoice:
        """The best penalty, ratings ageing by the first half-life; then the best half-life. Of equal ones the first.

        Then popularity's weight: another one than the configuration's is taken where its lists are better by more than
        the standard error of the difference.

        Args:
            penalties: to try.
            half_lives: to try, in days; 0 for none.
            weights: of popularity, to try beside the configuration's; none: it stands.
        """
        config, trials = self.config, len(penalties) + len(half_lives) + len(weights)
        present().expect(trials * len(self.each))
        first = {each: self._lists(replace(config, penalty=each), half_lives[0]) for each in penalties}
        config = replace(config, penalty=_best(first))
        second = {days: self._lists(config, days) for days in half_lives}
        days = _best(second)
        third = {config.popularity_weight or 0.0: second[days]} if weights else {}
        third |= {each: self._lists(replace(config, popularity_weight=each), days) for each in weights}
        popular = _winner(third) if third else None
        counts = len(self.each), self.num_lists
        penalty = config.penalty or 0.0
        found = f"penalty {penalty:g}, half-life {days:g} days, popularity {popular}"
        log.debug("history model: by %d moments, %d lists: %s", *counts, found)
        return TimeChoice(penalty, days, _means(first), _means(second), *counts, popular, _means(third))

    def _lists(self, config: HistoryConfig, half_life_days: float) -> Float64s:
        """(L,) float64 NDCG@10 of all lists."""
        found = []
        for moment in self.each:
            draw, own = moment.draw, moment.draw.own
            user, rating = draw.part.user[own], draw.part.rating[own]
            weights = aged_weights(config, rating, user, moment.timestamp[own], half_life_days)
            found.append(draw.per_list(config, weights))
            present().advance()
        return np.concatenate(found)


def _means(found: Mapping[float, Float64s]) -> dict[float, float]:
    return {value: round(float(lists.mean()), 6) for value, lists in found.items()}


def _best(found: Mapping[float, Float64s]) -> float:
    means = _means(found)
    return max(means, key=lambda each: means[each])


def _winner(found: Mapping[float, Float64s]) -> float:
    """The best of those that beat the first by more than the difference's standard error; else the first."""
    present_one, *others = found
    won = {each: found[each] for each in others if _beats(found[each] - found[present_one])}
    return _best(won) if won else present_one


def _beats(gains: Float64s) -> bool:
    return float(gains.mean()) > standard_error(gains)
