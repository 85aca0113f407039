"""How much an older rating still says: its weight in a history halves every ``half_life_days``.

A rating's age counts back from its own user's newest rating, never from a clock, so nobody's list changes because
others rated. Weights change histories alone, not what the regression learns from.

For lists over time the penalty and the half-life are chosen from the training ratings themselves, by rolling origin
(Tashman 2000, International Journal of Forecasting 16): the model is learnt from what came before a moment, and the
lists that name best what was liked between it and the next moment win. ``docs/history_choice.md`` has the figures.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sdk.base.config import HistoryConfig
from sdk.base.types import Float32s, Int64s
from sdk.data.splits import before_and_asked, time_at
from sdk.models.history.choice import (
    FEWEST_MEASURED,
    MAX_MEASURED,
    Draw,
    draw_of,
    part_rows,
)
from sdk.models.history.inputs import Floats, Index, rating_matrix

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

log = logging.getLogger(__name__)

HALF_LIVES_DAYS = (3000.0, 1000.0, 300.0, 100.0)
MOMENTS = (0.95, 0.9, 0.85, 0.8, 0.75, 0.7)
"""Shares of the ratings, by time, that each moment learns from; it is asked for the next twentieth."""
TIMES_PENALTY = (1.0, 2.0, 4.0)
"""Tried times the penalty that random draws chose: lists over time want to be held back as much or more, and the few
lists after moments would choose badly from a wide range."""
_TABLES = ("by_penalty", "by_half_life")
_WINDOW = 0.05
_DAY_S = 86_400
_MOST_HALVINGS = 60.0  # so that no weight becomes 0


@dataclass(frozen=True, slots=True)
class TimeChoice:
    """What was chosen on moments, and by what.

    Attributes:
        penalty: the one that was chosen, or the configuration's.
        half_life_days: so, too; 0 where ratings do not age.
        by_penalty: penalty -> mean NDCG@10 over all lists; ratings do not age there unless the configuration says so.
        by_half_life: half-life -> the same, with the chosen penalty.
        num_moments: that lists were measured after.
        num_lists: measured, several for a user who is asked for after several moments.
    """

    penalty: float
    half_life_days: float
    by_penalty: Mapping[float, float]
    by_half_life: Mapping[float, float]
    num_moments: int
    num_lists: int

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; ``from_json`` reads it back to an equal choice."""
        tables = {name: [list(pair) for pair in getattr(self, name).items()] for name in _TABLES}
        return {**asdict(self), **tables}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TimeChoice:
        """Read what ``to_json`` wrote.

        Raises:
            KeyError, TypeError, ValueError: it did not.
        """
        tables = {name: {float(key): float(value) for key, value in values[name]} for name in _TABLES}
        return cls(**{**values, **tables})


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
class _Moment:
    """One moment: what came before it, the regression over that but for its penalty, and what is asked for after it.

    Attributes:
        draw: measures lists.
        own: (K,) int64 rows of the measured users' (M of the U) ratings before the moment.
        measured: (M,) int64 ascending, users.
    """

    draw: Draw
    own: Int64s
    measured: Int64s


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Moments within given ratings, to choose by; the ratings are ascending by user and title, both numbered from 0.

    Attributes:
        columns: (N,) int64 users and titles, and stars.
        timestamp: (N,) int64 seconds.
        shape: (U, I) users and titles that take part.
        config: as fitted with.
        moments: the latest first, until they gave some 3,000 lists.
    """

    columns: tuple[Int64s, Int64s, Floats]
    timestamp: Int64s
    shape: tuple[int, int]
    config: HistoryConfig
    moments: tuple[_Moment, ...]

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
        rows = part_rows(columns[0], columns[1], config)
        user = np.unique(columns[0][rows], return_inverse=True)[1]
        titles, item = np.unique(columns[1][rows], return_inverse=True)
        part, shape = (user, item, columns[2][rows]), (int(user.max()) + 1, len(titles))
        found: list[_Moment] = []
        for share in MOMENTS:
            if sum(len(each.measured) for each in found) < MAX_MEASURED:
                found += _moment(part, timestamp[rows], share, shape, features[titles], config)
        return cls(part, timestamp[rows], shape, config, tuple(found))

    @property
    def num_lists(self) -> int:
        """Lists that are measured, several for a user who is asked for after several moments."""
        return sum(len(moment.measured) for moment in self.moments)

    @property
    def are_enough(self) -> bool:
        """Whether there is enough to choose by."""
        return self.num_lists >= FEWEST_MEASURED

    def choose(self, penalties: Sequence[float], half_lives: Sequence[float]) -> TimeChoice:
        """The best penalty, ratings ageing by the first half-life; then the best half-life. Of equal ones the first."""
        first = (self._ndcg10(penalty, half_lives[:1])[0] for penalty in penalties)
        by_penalty = dict(zip(penalties, first, strict=True))
        penalty = max(by_penalty, key=lambda each: by_penalty[each])
        by_half_life = dict(zip(half_lives, self._ndcg10(penalty, half_lives), strict=True))
        days = max(by_half_life, key=lambda each: by_half_life[each])
        counts = len(self.moments), self.num_lists
        log.info("history model: by %d moments, %d lists: penalty %g, half-life %g days", *counts, penalty, days)
        return TimeChoice(penalty, days, by_penalty, by_half_life, *counts)

    def _ndcg10(self, penalty: float, half_lives: Sequence[float]) -> list[float]:
        """The mean over all lists for each half-life."""
        total = np.zeros(len(half_lives))
        for moment in self.moments:
            factors = moment.draw.factors(penalty)
            for place, days in enumerate(half_lives):
                total[place] += moment.draw.ndcg10_per_list(factors, self._histories(moment, days)).sum()
        return [round(float(each), 6) for each in total / self.num_lists]

    def _histories(self, moment: _Moment, days: float) -> csr_matrix:
        """(M, I) float32 sparse: what the measured users rated before the moment, weighted by age."""
        user, item, rating = self.columns
        own = moment.own
        weights = aged_weights(self.config, rating[own], user[own], self.timestamp[own], days)
        return rating_matrix(user[own], item[own], weights, self.shape)[moment.measured]


def _moment(
    columns: tuple[Int64s, Int64s, Floats],
    timestamp: Int64s,
    share: float,
    shape: tuple[int, int],
    features: Float32s,
    config: HistoryConfig,
) -> list[_Moment]:
    """The moment that a share of the ratings, by time, ends at; none where nothing is asked of a user with a past."""
    user, _, rating = columns
    start, end = (time_at(timestamp, round(upto * len(timestamp))) for upto in (share, share + _WINDOW))
    before, asked = before_and_asked(user, timestamp, rating >= config.like_at, start, end)
    measured = np.unique(user[asked])
    if not len(measured):
        return []
    if len(measured) > MAX_MEASURED:
        rng = np.random.default_rng(config.seed)
        measured = np.sort(rng.choice(measured, MAX_MEASURED, replace=False))
    draw = draw_of(columns, shape, (before, asked), measured, features, config)
    return [_Moment(draw, np.flatnonzero(before & np.isin(user, measured)), measured)]
