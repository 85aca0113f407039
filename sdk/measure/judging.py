"""What a bundle's lists would have earned on randomised nights that another one made: ``python -m sdk judge``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sdk.base.errors import DataError, MissingColumnError, MissingFileError, UnusableFileError
from sdk.base.ids import ids_in, ids_of, rows_of
from sdk.base.types import Bools, Float64s, IdArray, Int64s, nobody
from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN, EncodedTable
from sdk.metrics.off_policy import Judged, LoggedLists, judge
from sdk.models.pair_form import PairForm
from sdk.scoring.engine import Engine
from sdk.scoring.exploration import Noise
from sdk.scoring.recommender import POPULAR, Recommender

if TYPE_CHECKING:
    from sdk.bundles.bundle import Bundle

_COLUMNS = ("user_id", "rank", "item_id", "propensity")
_NIGHT = "run_date"
_MODELLED = 64
"""Items, the most shown ones, of which the reward model knows more than their place."""
_USERS_AT_ONCE = 512


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """Lists that were drawn, and what they earned; N lists of at most k places.

    Attributes:
        user_id: (N,) whose.
        item_id: (N, k) ids, anything past a list's end.
        real: (N, k) bool, the places that there are.
        propensity: (N, k) float64, log-probability of each place given those above.
        reward: (N, k) float64.
        fixed: lists that were left out since they are no draws: all their propensities are 0.
    """

    user_id: IdArray
    item_id: IdArray
    real: Bools
    propensity: Float64s
    reward: Float64s
    fixed: int = 0


def read_log(path: Path, reward: str = "clicked", depth: int | None = None) -> Log:
    """The rows of randomised nights, with what each earned, as Parquet: a file, or a folder of parts.

    Args:
        path: with ``user_id``, ``rank``, ``item_id`` and ``propensity`` as a night has them, a column of rewards, and
            ``run_date`` where it is of several nights.
        reward: the column of rewards: numbers, or true and false.
        depth: places of a list that count; None takes all.

    Raises:
        DataError: it is absent or no Parquet, lacks a column, holds a null or a propensity that is no log-probability,
            the ranks of a list do not count from 1, or no list is a draw.
    """
    if not path.exists():
        raise MissingFileError(path, f"a Parquet file with {', '.join([*_COLUMNS, reward])}")
    try:
        table = pq.read_table(path, partitioning="hive" if path.is_dir() else None)
    except (pa.ArrowException, OSError) as error:
        problem = f"it is not readable as Parquet ({error})"
        raise UnusableFileError(path, problem, "Give the rows of a randomised night, with their clicks.") from error
    for name in (*_COLUMNS, reward):
        if name not in table.column_names:
            raise MissingColumnError(path, name, table.column_names)
    nights = [_NIGHT] if _NIGHT in table.column_names else []
    table = table.select([*_COLUMNS, reward, *nights]).sort_by([(name, "ascending") for name in (*nights, *_ORDER)])
    if nulls := [name for name in table.column_names if table[name].null_count]:
        raise UnusableFileError(path, f"its column {nulls[0]!r} holds nulls", "Give every row a value, clicks 0 or 1.")
    return _as_lists(path, table, reward, nights, depth)


_ORDER = ("user_id", "rank")


def _as_lists(path: Path, table: pa.Table, reward: str, nights: Sequence[str], depth: int | None) -> Log:
    users, items, rank = ids_in(table["user_id"]), ids_in(table["item_id"]), table["rank"].to_numpy().astype(np.int64)
    earned = table[reward].cast(pa.float64()).to_numpy()
    said = table["propensity"].cast(pa.float64()).to_numpy()
    begins = np.append(True, users[1:] != users[:-1])[: len(users)]
    for name in nights:
        of_night = table[name].combine_chunks().dictionary_encode().indices.to_numpy()
        begins[1:] |= of_night[1:] != of_night[:-1]
    owner = np.cumsum(begins) - 1
    starts = np.flatnonzero(begins)
    if (rank != np.arange(len(rank)) - starts[owner] + 1).any():
        row = int(np.argmax(rank != np.arange(len(rank)) - starts[owner] + 1))
        problem = f"the list of {users[row]} has rank {rank[row]} where {row - starts[owner[row]] + 1} is expected"
        remedy = "Give whole lists, each once; with a column run_date where they are of several nights."
        raise UnusableFileError(path, problem, remedy)
    if (~(said <= 0)).any():
        problem = f"a propensity is {said[np.argmax(~(said <= 0))]}, which is no logarithm of a probability"
        raise UnusableFileError(path, problem, "Give the column propensity as the night has it.")
    drawn = np.bincount(owner, said < 0, minlength=len(starts)) > 0
    if not drawn.any():
        raise DataError(f"{path}: none of its {len(starts)} lists is a draw; give those of a night with --explore")
    kept = drawn[owner] & (rank <= (depth or rank.max()))
    place, row = rank[kept] - 1, (np.cumsum(drawn) - 1)[owner[kept]]
    shape = int(drawn.sum()), int(place.max()) + 1
    found = Log(
        users[starts[drawn]], np.full(shape, nobody(items), items.dtype), np.zeros(shape, np.bool_), np.zeros(shape),
        np.zeros(shape), int((~drawn).sum()),
    )  # fmt: skip
    found.item_id[row, place], found.real[row, place] = items[kept], True
    found.propensity[row, place], found.reward[row, place] = said[kept], earned[kept]
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What a bundle would have earned, and how much of the log speaks of it.

    Attributes:
        judged: the estimates.
        lists: how many were judged by; ``users`` of how many users, ``places`` of how many places.
        fixed: lists that were passed over, being no draws.
        unknown_users: lists of users whom the bundle does not have: it would draw popular items for them.
        never: share of the places whose item it would never list there.
    """

    judged: Judged
    lists: int
    users: int
    places: int
    fixed: int
    unknown_users: int
    never: float

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        found = self.judged
        estimates = {
            name: {"value": each.value, "low": each.low, "high": each.high}
            for name, each in (("logged", found.logged), ("ips", found.ips), ("snips", found.snips), ("dr", found.dr))
        }
        counts = {name: getattr(self, name) for name in ("lists", "users", "places", "fixed", "unknown_users", "never")}
        clip = {"clip": None if np.isinf(found.clip) else found.clip, "clipped": found.clipped}
        return {**estimates, **counts, **clip, "effective_lists": found.effective.round(1).tolist()}


def judge_bundle(bundle: Bundle, log: Log, tau: float, *, model: str = "best", clip: float | None = None) -> Verdict:
    """What a bundle's own randomised lists would have earned in place of those of the log.

    Args:
        bundle: the one to be judged.
        log: what was shown.
        tau: of the bundle's draws, as ``--explore`` takes it.
        model: ``dlrm``, ``ncf``, ``bfm`` or ``best``.
        clip: see ``sdk.metrics.off_policy.judge``.

    Raises:
        UsageError: the bundle has no such model.
    """
    recommender, known = bundle.recommender(model), bundle.encoded_users
    users = known.index_of(ids_of(log.user_id, "--logged: user_id", known.ids))
    items = np.where(log.real, _rows(bundle.encoded_items, log.item_id), -1)
    seen = bundle.interactions.seen(len(bundle.encoded_users)).take(users)
    whose = np.unique(log.user_id, return_inverse=True)[1].astype(np.int64)
    target, expected, model_of = (np.zeros(log.real.shape) for _ in range(3))
    folds = [np.flatnonzero(whose % 2 == fold) for fold in range(2)]
    for mine, others in (folds, folds[::-1]):
        rewards = _RewardModel.of(items[others], log.real[others], log.reward[others], len(bundle.encoded_items))
        model_of[mine] = rewards.of_places(items[mine])
        for form, rows in _by_form(recommender, users[mine]):
            at = mine[rows]
            policy = _Policy(form, users[at], items[at], log.real[at], seen.take(at), tau)
            target[at], expected[at] = policy.log_probability, policy.expected(rewards)
    lists = LoggedLists(whose, log.real, log.propensity, target, log.reward, model_of, expected)
    return Verdict(
        judge(lists, clip), len(users), int(whose.max()) + 1, log.real.shape[1], log.fixed,
        int((users < FIRST_KNOWN).sum()), float(np.isinf(target[log.real]).mean()),
    )  # fmt: skip


def _rows(items: EncodedTable, item_id: IdArray) -> Int64s:
    """Rows of the items' table in the same shape; -1 for ids that it does not have."""
    there = item_id != nobody(item_id)
    found = np.full(item_id.shape, -1)
    found[there] = items.index_of(ids_of(item_id[there], "--logged: item_id", items.ids))
    return np.where(found < FIRST_KNOWN, -1, found)


def _by_form(recommender: Recommender, users: Int64s) -> Iterator[tuple[PairForm, Int64s]]:
    """The form that makes each user's list, and the users whom it makes lists for, some at a time."""
    cold = recommender.sources(users) == POPULAR
    for form, which in ((recommender.form, ~cold), (recommender.popular, cold)):
        rows = np.flatnonzero(which)
        if form is not None:
            yield from ((form, rows[at : at + _USERS_AT_ONCE]) for at in range(0, len(rows), _USERS_AT_ONCE))


@dataclass(frozen=True, slots=True, eq=False)
class _RewardModel:
    """The mean reward of a place, times what the most shown items earn over what their places would.

    Attributes:
        rate: (k,) float64, the mean reward by place.
        shown: (M,) int64, the most shown items, ascending.
        lift: (M,) float64, theirs.
    """

    rate: Float64s
    shown: Int64s
    lift: Float64s

    @classmethod
    def of(cls, items: Int64s, real: Bools, reward: Float64s, num_items: int) -> _RewardModel:
        count = np.maximum(real.sum(axis=0), 1)
        rate = (reward * real).sum(axis=0) / count
        known = items >= 0
        times = np.bincount(items[known], minlength=num_items)
        shown = np.sort(np.argsort(-times, kind="stable")[:_MODELLED])
        base = np.bincount(items[known], np.broadcast_to(rate, items.shape)[known], minlength=num_items)[shown]
        earned = np.bincount(items[known], reward[known], minlength=num_items)[shown]
        prior = max(float(base.mean()), 1e-12)  # as much as is expected of one of them: little evidence moves little
        return cls(rate, shown, (earned + prior) / (base + prior))

    def of_places(self, items: Int64s) -> Float64s:
        """(N, k): what is expected of each place."""
        return self.rate * np.append(self.lift, 1.0)[rows_of(self.shown, items)]


class _Policy:
    """The Plackett-Luce policy of a form: the probability of logged places, and means over what it would put there.

    Args:
        form: what lists are ranked by.
        users: (B,) int64 rows of the users' table.
        items: (B, k) int64 rows of the items' table; -1 for none.
        real: (B, k) bool.
        seen: what each user may not be given, aligned; what was listed is taken out of it.
        tau: of the noise.
    """

    def __init__(self, form: PairForm, users: Int64s, items: Int64s, real: Bools, seen: Seen, tau: float) -> None:
        self.form, self.users, self.items, self.real, self.seen, self.tau = form, users, items, real, seen, tau
        self.terms = self._terms(items)
        below = self._log_rest()
        self.log_left = np.zeros(items.shape)  # of all that is still to be had at each place
        for place in range(items.shape[1] - 1, -1, -1):
            below = np.logaddexp(below, self.terms[:, place])
            self.log_left[:, place] = below
        with np.errstate(invalid="ignore"):
            self.log_probability = np.where(np.isinf(self.terms), -np.inf, self.terms - self.log_left)
        self.log_probability[~real] = 0.0

    def _terms(self, items: Int64s) -> Float64s:
        """Score over tau; -inf for no item."""
        user = np.broadcast_to(self.users[:, None], items.shape)
        found, is_there = np.full(items.shape, -np.inf), items >= 0
        found[is_there] = self.form.score_pairs(user[is_there], items[is_there]).astype(np.float64) / self.tau
        return found

    def _log_rest(self) -> Float64s:
        """The logarithm of the sum over all that may be listed and was not, by one draw of the exact engine."""
        owner, place = np.nonzero(self.items >= 0)
        listed = self.items[owner, place]
        barred = np.concatenate([self.seen.users, owner]), np.concatenate([self.seen.items, listed])
        both = Seen.build(barred[0].astype(np.int64), barred[1].astype(np.int64), len(self.users))
        none = (np.zeros(len(side), np.uint64) for side in (self.form.users, self.form.items))
        drawn = Engine(self.form).draw(self.users, both, 1, Noise(self.tau, *none))
        return np.logaddexp(drawn.log_rest, drawn.plain[:, 0].astype(np.float64) / self.tau)

    def expected(self, rewards: _RewardModel) -> Float64s:
        """(B, k): the mean of a reward model over what the policy would put at each place, given those above."""
        some = np.broadcast_to(rewards.shown, (len(self.users), len(rewards.shown)))
        terms = self._terms(some)
        for row in range(len(self.users)):
            barred = np.isin(rewards.shown, self.seen.row(row)) & ~np.isin(rewards.shown, self.items[row])
            terms[row, barred] = -np.inf
        found = np.zeros(self.items.shape)
        for place in range(self.items.shape[1]):
            share = np.exp(terms - self.log_left[:, place, None])
            found[:, place] = rewards.rate[place] * (1 + share @ (rewards.lift - 1))
            terms[some == self.items[:, place, None]] = -np.inf
        return found
