"""Several rows of one user and item as one: ratings by the latest, events by adding up what they weigh."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sdk.base.types import Bools, Int64s, Interactions, Repeats
from sdk.data.validation import superseded

CAP = 100
"""A pair's weights add up to at most so many times the median pair's."""


def as_float32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """The nearest float32 that is finite."""
    limits = np.finfo(np.float32)
    return np.clip(values, limits.min, limits.max).astype(np.float32)


def _begins(pairs: Interactions, order: Int64s) -> Bools:
    """Whether each pair, in order, is another than the one before."""
    user, item = pairs.user_id[order], pairs.item_id[order]
    return np.r_[True, (user[1:] != user[:-1]) | (item[1:] != item[:-1])]


def added_up(pairs: Interactions, order: Int64s | None) -> tuple[Interactions, Int64s | None]:
    """Events of a pair as one, of their weight together and the latest's time; ascending where any were merged.

    Where they have times, the pairs keep their events as ``repeats``.
    """
    if order is None:
        return pairs, None
    begins = _begins(pairs, order)
    starts = np.flatnonzero(begins)
    if len(starts) == len(order):
        return pairs, order
    weight = as_float32(np.add.reduceat(pairs.rating[order].astype(np.float64), starts))
    timestamp = np.maximum.reduceat(pairs.timestamp[order], starts)
    seen = None if pairs.seen is None else np.logical_or.reduceat(pairs.seen[order], starts)
    first = order[starts]
    repeats = _repeats(pairs, order, starts) if timestamp.any() else None
    return Interactions(pairs.user_id[first], pairs.item_id[first], weight, timestamp, seen, repeats), None


def _repeats(pairs: Interactions, order: Int64s, starts: Int64s) -> Repeats:
    """The events, in ``order``, of the pairs that start at ``starts`` and have more than one."""
    size = np.diff(starts, append=len(order))
    several = size > 1
    events, pair = order[np.repeat(several, size)], np.repeat(np.arange(several.sum()), size[several])
    events = events[np.lexsort((pairs.timestamp[events], pair))]
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.where(several, size, 0))])
    return Repeats(indptr, pairs.rating[events], pairs.timestamp[events])


def latest(pairs: Interactions, order: Int64s | None) -> tuple[Interactions, Int64s | None]:
    """Of a pair's ratings the latest, of equal times the later row; in the order of the rows."""
    loses = superseded(pairs.user_id, pairs.item_id, pairs.timestamp, order)
    if order is None or loses is None:
        return pairs, order
    if pairs.seen is not None:
        begins = _begins(pairs, order)
        groups = np.cumsum(begins) - 1
        any_seen = np.logical_or.reduceat(pairs.seen[order], np.flatnonzero(begins))[groups]
        seen = np.zeros_like(pairs.seen)
        seen[order] = any_seen
        pairs = replace(pairs, seen=seen)
    new_row = np.cumsum(~loses) - 1
    return pairs.take(~loses), new_row[order[~loses[order]]]


def capped(pairs: Interactions) -> tuple[Interactions, float, int]:
    """Weights of at most ``CAP`` times the median's, that bound, and how many were above it."""
    cap = np.float32(CAP * np.median(pairs.rating) if len(pairs) else 0)
    above = int((pairs.rating > cap).sum())
    return (replace(pairs, rating=np.minimum(pairs.rating, cap)) if above else pairs), float(cap), above
