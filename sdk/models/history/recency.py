"""How much an older rating still says: its weight in a history halves every ``half_life_days``.

A rating's age counts back from its own user's newest rating, never from a clock, so nobody's list changes because
others rated. Weights change histories alone, not what the regression learns from.

For lists over time the penalty and the half-life are chosen from the training ratings themselves, by rolling origin
(Tashman 2000, International Journal of Forecasting 16): the model is learnt from what came before a moment, and the
lists that name best what was liked between it and the next moment win. ``docs/research`` has the figures.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sdk.base.config import HistoryConfig
from sdk.base.progress import present
from sdk.base.types import Float32s, Int64s
from sdk.data.splits import before_and_asked, time_at
from sdk.models.history.choice import MAX_MEASURED, ChoiceRatings, Draw, MeasuredChoice
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
    """

    TABLES = ("by_penalty", "by_half_life")
    penalty: float
    half_life_days: float
    by_penalty: Mapping[float, float]
    by_half_life: Mapping[float, float]
    num_moments: int
    num_lists: int


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
class Moments:
    """Moments within given ratings, to choose by.

    Attributes:
        timestamp: (N,) int64 seconds, of the ratings that take part.
        draws: what came before each moment and what is asked for after it; the latest moment first, until they gave
            some 3,000 lists.
    """

    timestamp: Int64s
    draws: tuple[Draw, ...]

    @classmethod
    def of(
        cls, columns: tuple[Index, Index, Floats], timestamp: Int64s, features: Float32s, config: HistoryConfig
    ) -> Moments:
        """Part the ratings at each moment.

        Args:
            columns: (N,) users, titles (rows of ``features``) and stars; each pair once, in any order.
            timestamp: (N,) int64 seconds.
            features: (R_item, f) float32, as the model is fitted with.
            config: all but its ``penalty`` and ``half_life_days`` count.
        """
        part = ChoiceRatings.of(columns, features, config, timestamp)
        times, likes = timestamp[part.rows], part.rating >= config.like_at
        found: list[Draw] = []
        for share in MOMENTS:
            if sum(len(draw.measured) for draw in found) >= MAX_MEASURED:
                break
            start, end = (time_at(times, round(upto * len(times))) for upto in (share, share + _WINDOW))
            before, asked = before_and_asked(part.user, times, likes, start, end)
            draw = part.draw(before, asked, np.random.default_rng(config.seed))
            found += [] if draw is None else [draw]
        return cls(times, tuple(found))

    @property
    def num_lists(self) -> int:
        """Lists that are measured, several for a user who is asked for after several moments."""
        return sum(len(draw.measured) for draw in self.draws)

    def choose(self, penalties: Sequence[float], half_lives: Sequence[float]) -> TimeChoice:
        """The best penalty, ratings ageing by the first half-life; then the best half-life. Of equal ones the first."""
        present().expect((len(penalties) + len(half_lives)) * len(self.draws))
        first = (self._ndcg10(penalty, half_lives[:1])[0] for penalty in penalties)
        by_penalty = dict(zip(penalties, first, strict=True))
        penalty = max(by_penalty, key=lambda each: by_penalty[each])
        by_half_life = dict(zip(half_lives, self._ndcg10(penalty, half_lives), strict=True))
        days = max(by_half_life, key=lambda each: by_half_life[each])
        counts = len(self.draws), self.num_lists
        log.debug("history model: by %d moments, %d lists: penalty %g, half-life %g days", *counts, penalty, days)
        return TimeChoice(penalty, days, by_penalty, by_half_life, *counts)

    def _ndcg10(self, penalty: float, half_lives: Sequence[float]) -> list[float]:
        """The mean over all lists for each half-life."""
        total = np.zeros(len(half_lives))
        for draw in self.draws:
            config, own = replace(draw.part.config, penalty=penalty), draw.own
            user, rating, times = draw.part.user[own], draw.part.rating[own], self.timestamp[own]
            for place, days in enumerate(half_lives):
                weights = aged_weights(config, rating, user, times, days)
                total[place] += draw.per_list(config, weights).sum()
                present().advance()
        return [round(float(each), 6) for each in total / self.num_lists]
