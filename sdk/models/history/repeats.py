"""What comes again: how an item that a user has, and may be given again, rises by how often and how lately it came.

What comes again depends on how much it is liked and how long ago it came (Anderson et al. 2014, "The dynamics of repeat
consumption", WWW); on the sets at hand the count says more than the age. Both are added to the history model's score,
in a share that is chosen, like its half-life, on moments within the training events: the lists that name best what
came next, new or again, win. ``docs/research`` has the figures.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from sdk.base.config import HistoryConfig
from sdk.base.progress import present
from sdk.base.types import Float32s, Float64s, Int64s
from sdk.metrics.lists import RelevanceSets
from sdk.models.history.choice import MeasuredChoice, standard_error
from sdk.models.history.matrices import Floats, Index
from sdk.models.history.recency import Moment, Moments, recency, tenth

log = logging.getLogger(__name__)

TIMES_TENTH = (0.3, 1.0, 3.0, 10.0, 30.0)
"""Weights that are tried, in units of the score that stands tenth in the users' lists."""
HALF_LIVES_DAYS = (0.0, 300.0, 100.0, 30.0)


@dataclass(frozen=True, slots=True)
class RepeatChoice(MeasuredChoice):
    """What was chosen for items that may come again, and by what.

    Attributes:
        weight: ``HistoryConfig.repeat_weight``; 0 where what was had is best left as it is.
        half_life_days: of what was had.
        tried: [weight, half-life, mean NDCG@10] of everything that was tried; the first, without either.
        num_moments: that lists were measured after.
        num_lists: measured.
    """

    TABLES = ()
    weight: float
    half_life_days: float
    tried: list[list[float]] = field(default_factory=list)
    num_moments: int = 0
    num_lists: int = 0


def repeat_bonus(config: HistoryConfig, rating: Floats, user: Index, timestamp: Int64s | None) -> Float32s:
    """(N,) float32, what is added to the score of what a user has.

    Args:
        config: nothing in it is open.
        rating: (N,) float, what each pair weighs.
        user: (N,) integers from 0; a pair's age counts from the newest of its user's here.
        timestamp: (N,) int64 seconds, each pair's latest; None: age does not count.
    """
    told = np.log2(1 + config.star_weight * np.maximum(rating, 0).astype(np.float64)).astype(np.float32)
    days = config.repeat_half_life_days
    aged = told * recency(user, timestamp, days) if days and timestamp is not None else told
    return np.asarray(np.float32(config.repeat_weight or 0.0) * aged, np.float32)


def choose_repeats(moments: Moments, config: HistoryConfig) -> RepeatChoice:
    """The weight and half-life whose lists are best; another one than none only where it wins by its standard error.

    Args:
        moments: of events.
        config: nothing in it is open but what is chosen here; what of that is set is kept.
    """
    asked = [each for each in map(_asked, moments.each) if each is not None]
    none = replace(config, repeat_weight=0.0, repeat_half_life_days=0.0)
    if not asked:
        return RepeatChoice(0.0, 0.0)
    scored = [moment.scores(none) for moment in asked]
    unit = tenth(scored)
    weights = [unit * times for times in TIMES_TENTH] if config.repeat_weight is None else [config.repeat_weight]
    given = config.repeat_half_life_days
    pairs = [(0.0, 0.0), *itertools.product(weights, HALF_LIVES_DAYS if given is None else (given,))]
    present().expect(len(pairs))
    lists: dict[tuple[float, float], Float64s] = {}
    for weight, days in pairs:
        tried = replace(none, repeat_weight=float(f"{weight:.2g}"), repeat_half_life_days=days)
        found = [_lists(moment, scores, tried) for moment, scores in zip(asked, scored, strict=True)]
        lists[tried.repeat_weight or 0.0, days] = np.concatenate(found)
        present().advance()
    return _chosen(lists, len(asked))


def _chosen(lists: Mapping[tuple[float, float], Float64s], num_moments: int) -> RepeatChoice:
    without = lists[0.0, 0.0]
    best = max(lists, key=lambda each: float(lists[each].mean()))
    gains = lists[best] - without
    found = best if gains.mean() > standard_error(gains) else (0.0, 0.0)
    log.debug("history model: what comes again: weight %g, half-life %g days", *found)
    tried = [[*each, round(float(of.mean()), 6)] for each, of in lists.items()]
    return RepeatChoice(*found, tried, num_moments, len(without))


def _asked(moment: Moment) -> Moment | None:
    """The moment, asked for all that came next, new or again, of the users who had a past."""
    draw = moment.draw
    place = np.full(draw.part.shape[0], -1)
    place[draw.measured] = np.arange(len(draw.measured))
    named = moment.came & (place[draw.part.user] >= 0)
    if not named.any():
        return None
    held_out = RelevanceSets(place[draw.part.user[named]], draw.part.item[named], len(draw.measured))
    return replace(moment, draw=replace(draw, held_out=held_out))


def _lists(moment: Moment, scores: Float32s, config: HistoryConfig) -> Float64s:
    draw, own = moment.draw, moment.draw.own
    bonus = repeat_bonus(config, draw.part.rating[own], draw.part.user[own], moment.timestamp[own])
    raised = scores.copy()
    raised[draw.places()] += bonus
    return draw.ndcg10(raised)
