"""Parting ratings: by chance, by time or by each user's last one. ``split`` cuts the test part, then validation.

Whoever parts ratings by a rule of their own makes it of ``drawn``, ``time_at`` and ``before_and_asked``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sdk.base.config import SplitConfig
from sdk.base.errors import DataError
from sdk.base.types import Bools, Int32s, Int64s, Interactions

_MOST_TIED = 0.5  # of what is held out by time may be of one moment with what is not
_DAY_S = 86_400
_FARTHEST = 2.0  # times more or less than was asked for may a cut between days or moments hold out


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Row numbers into one Interactions, each ascending; together they are all rows, none twice.

    Attributes:
        train: (T,) int64.
        validation: (V,) int64, for early stopping and tuning.
        test: (S,) int64, never looked at while training or tuning.
    """

    train: Int64s
    validation: Int64s
    test: Int64s

    def fit_rows(self) -> Int64s:
        """Training and validation rows together, ascending: what the final refit learns from."""
        return np.sort(np.concatenate([self.train, self.validation]))


def split(interactions: Interactions, config: SplitConfig) -> Split:
    """Part the rows by the configured rule.

    ``random`` draws in file order with ``numpy.random.default_rng(seed).random(N) < test_share``, so the test part
    is the same for every reader of the same file. ``time`` holds out the latest ratings, ``leave-last-out`` each
    user's latest one (of equal timestamps the one later in the file); a pair of several events counts by its first,
    for what lists should name is new to the user.

    Raises:
        DataError: there would be nothing to train on, or time is to part ratings whose timestamps do not.
    """
    everything = np.arange(len(interactions), dtype=np.int64)
    held_out = _held_out(interactions, everything, config, config.test_share, config.seed)
    rest = everything[~held_out]
    validating = _held_out(interactions, rest, config, config.validation_share, config.seed + 1)
    parts = Split(rest[~validating], rest[validating], everything[held_out])
    if not len(parts.train):
        found = f"a {config.describe()} split of {len(interactions):,} ratings leaves none to train on"
        raise DataError(f"{found}. Give more ratings.")
    return parts


def _held_out(interactions: Interactions, rows: Int64s, config: SplitConfig, share: float, seed: int) -> Bools:
    """(len(rows),) bool, True where the row is held out."""
    if config.kind == "leave-last-out":
        if len(rows) > 1 and not interactions.timestamp.any():
            raise DataError(
                f"--split leave-last-out: the {len(interactions):,} interactions have no times (all are 0), so it is "
                "not known which is a user's last. Pass --split random, or give their own times: a column timestamp, "
                "or one named by --columns."
            )
        if len(rows) > 1 and (interactions.timestamp == interactions.timestamp[0]).all():
            raise DataError(
                f"--split leave-last-out: all {len(interactions):,} ratings have the timestamp "
                f"{interactions.timestamp[0]}, so it is not known which is a user's last. "
                "Pass --split random, or give the ratings their own times."
            )
        return _is_last_of_user(interactions.user_id[rows], interactions.since[rows])
    if config.kind == "time":
        return _is_latest(interactions.since[rows], share)
    return drawn(len(rows), share, seed)


def drawn(num_rows: int, share: float, seed: int | Sequence[int] | np.random.Generator) -> Bools:
    """(num_rows,) bool, True where the row is among the ``share`` that chance holds out; a generator goes on."""
    return np.random.default_rng(seed).random(num_rows) < share


def time_at(timestamp: Int64s, place: int) -> int:
    """The time of the rating at a place in order of time; where there is none, a second after the last."""
    if place >= len(timestamp):
        return int(timestamp.max()) + 1
    return int(np.partition(timestamp, place)[place])


def before_and_asked(
    user: Int64s | Int32s, timestamp: Int64s, liked: Bools, start: int, end: int | None = None
) -> tuple[Bools, Bools]:
    """What may be learnt before a moment, and what is asked for from it on: likes of the users who have a past.

    Args:
        user: (N,) users, ids or rows.
        timestamp: (N,) int64.
        liked: (N,) bool.
        start: the moment; ratings at it are not learnt from.
        end: where to stop asking; None asks up to the last rating.

    Returns:
        Two (N,) bool.
    """
    before = timestamp < start
    asked = ~before & liked & np.isin(user, user[before])
    return before, asked if end is None else asked & (timestamp < end)


def _is_latest(timestamp: Int64s, share: float) -> Bools:
    latest = np.zeros(len(timestamp), dtype=np.bool_)
    order = np.argsort(timestamp, kind="stable")
    latest[order[_cut(timestamp[order], len(timestamp) - round(share * len(timestamp))) :]] = True
    return latest


def _cut(ascending: Int64s, cut: int) -> int:
    """Where the latest ratings begin: at ``cut``, or between days or moments where the place in the file would decide.

    Of times that are days alone no day is parted. Other equal times are parted where they are few; where most of what
    would be held out is of one moment, the cut is moved to its nearer end that holds out about as much.

    Raises:
        DataError: neither end does.
    """
    size = len(ascending)
    if not 0 < cut < size or ascending[cut - 1] != ascending[cut]:
        return cut
    first, last = (int(np.searchsorted(ascending, ascending[cut], side=side)) for side in ("left", "right"))
    if last - cut <= _MOST_TIED * (size - cut) and (ascending % _DAY_S).any():
        return cut
    wanted = size - cut
    ends = [e for e in (first, last) if 0 < e < size and wanted / _FARTHEST <= size - e <= wanted * _FARTHEST]
    if ends:
        return min(ends, key=lambda end: abs(end - cut))
    if not ascending.any():
        raise DataError(
            f"--split time: the {size:,} interactions have no times (all are 0), so it is not known which are the "
            "latest. Pass --split random, or give their own times: a column timestamp, or one named by --columns."
        )
    moment = ascending[cut]
    raise DataError(
        f"--split time: {last - first:,} of {size:,} ratings have the same timestamp, {moment} "
        f"({np.datetime64(int(moment), 's')} UTC), so it is not known which are the latest. "
        "Pass --split random, or give the ratings their own times."
    )


def _is_last_of_user(user_id: Int64s, timestamp: Int64s) -> Bools:
    """Each user's latest row, for users with at least two rows (a user's only row stays in training)."""
    order = np.lexsort((timestamp, user_id))
    begins = np.ones(len(order) + 1, dtype=np.bool_)  # whether another user's rows begin, the end included
    begins[1:-1] = np.diff(user_id[order]) != 0
    last = np.zeros(len(user_id), dtype=np.bool_)
    last[order[begins[1:] & ~begins[:-1]]] = True
    return last
