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
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sdk.base.config import HistoryConfig
from sdk.base.types import Bools, Float32s, Float64s, Int64s
from sdk.data.splits import drawn
from sdk.metrics.lists import RelevanceSets, ndcg, user_mean
from sdk.models.history.fit import ItemRegression, low_rank, prepared
from sdk.models.history.inputs import Floats, Index, balanced, discount, most_rated, rating_matrix

if TYPE_CHECKING:
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


@dataclass(frozen=True, slots=True)
class PenaltyChoice:
    """A penalty and what it was chosen by.

    Attributes:
        penalty: the chosen one, two significant digits.
        ndcg10: penalty -> mean NDCG@10 over the measured users and draws; empty where there was too little to measure.
        num_users: learnt from.
        num_titles: that took part, the most rated ones.
        num_measured: users whose lists were measured, per draw.
        num_draws: of the held-out part.
    """

    penalty: float
    ndcg10: Mapping[float, float] = field(default_factory=dict)
    num_users: int = 0
    num_titles: int = 0
    num_measured: int = 0
    num_draws: int = 0

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; ``from_json`` reads it back to an equal choice."""
        return {**asdict(self), "ndcg10": [[penalty, value] for penalty, value in self.ndcg10.items()]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PenaltyChoice:
        """Read what ``to_json`` wrote.

        Raises:
            KeyError, TypeError, ValueError: it did not.
        """
        table = {float(penalty): float(value) for penalty, value in values["ndcg10"]}
        return cls(**{**values, "ndcg10": table})


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """One held-out part, and the regression over the rest but for its penalty.

    Attributes:
        solve: penalty -> the regression.
        histories: (M, N) float32 sparse, of the measured users.
        held_out: what their lists should name.
        counts: (N,) int64 ratings of each title.
        config: all but its ``penalty`` counts.
    """

    solve: Callable[[float], ItemRegression]
    histories: csr_matrix
    held_out: RelevanceSets
    counts: Int64s
    config: HistoryConfig

    def ndcg10(self, penalty: float) -> float:
        """Of the measured users' lists over the titles that take part, their own left out, after the cut to a rank."""
        return user_mean(self.ndcg10_per_list(self.factors(penalty), self.histories))

    def factors(self, penalty: float) -> tuple[Float32s, Float32s]:
        """(N, r) float32 ``item_in`` and ``item_out`` of the titles that take part."""
        importance, factor = np.sqrt(self.counts + 1.0), discount(self.counts, self.config.item_exponent)
        cut = (self.config.rank or len(self.counts), self.config.seed, _POWER_STEPS)
        return low_rank(self.solve(penalty), importance, factor, *cut)

    def ndcg10_per_list(self, factors: tuple[Float32s, Float32s], histories: csr_matrix) -> Float64s:
        """(M,) float64 of the lists that the measured users' titles make with the given weights, none of them 0."""
        item_in, item_out = factors
        scores = np.asarray((histories @ item_in) @ item_out.T, np.float32)
        scores[histories.nonzero()] = -np.inf
        return ndcg(_top(scores), self.held_out, _LIST)


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
    user, item, rating = _part((user, item, rating), config)
    titles, item = np.unique(item, return_inverse=True)
    num_users = int(user.max()) + 1
    draws = _draws((user, item, rating), (num_users, len(titles)), features[titles], config)
    if not draws:
        log.info("history model: too few likes to choose a penalty by, %g is taken", FALLBACK)
        return PenaltyChoice(FALLBACK)
    penalty, found = climb(lambda tried: float(np.mean([draw.ndcg10(tried) for draw in draws])))
    table = {tried: round(value, 6) for tried, value in sorted(found.items())}
    return PenaltyChoice(penalty, table, num_users, len(titles), len(draws[0].held_out), len(draws))


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


def _part(columns: tuple[Index, Index, Floats], config: HistoryConfig) -> tuple[Int64s, Int64s, Floats]:
    """The ratings that take part, ascending by user and title; users are numbered from 0.

    Few users bring all their titles, for the matrix to invert is then as large as the users; many only the most rated.
    """
    user, item, rating = columns
    rows = part_rows(user, item, config)
    return np.unique(user[rows], return_inverse=True)[1], item[rows].astype(np.int64), rating[rows]


def part_rows(user: Index, item: Index, config: HistoryConfig) -> Int64s:
    """Rows of the ratings that take part in a choice, ascending by user and title."""
    ids = np.unique(user)
    kept = np.isin(item, most_rated(np.bincount(item), config.max_titles if len(ids) <= MAX_MATRIX else MAX_MATRIX))
    if len(ids) > MAX_USERS:
        kept &= np.isin(user, np.random.default_rng(config.seed).choice(ids, MAX_USERS, replace=False))
    rows = np.flatnonzero(kept)
    return rows[np.lexsort((item[rows], user[rows]))]


def _draws(
    columns: tuple[Int64s, Int64s, Floats], shape: tuple[int, int], features: Float32s, config: HistoryConfig
) -> list[Draw]:
    """As many as measure some 3,000 lists together, at most two; none where a draw would measure too few."""
    first = _draw(columns, shape, features, config, 0)
    if first is None:
        return []
    number = min(_MOST_DRAWS, -(-MAX_MEASURED // len(first.held_out)))
    more = (_draw(columns, shape, features, config, n) for n in range(1, number))
    return [first, *(draw for draw in more if draw is not None)]


def _draw(
    columns: tuple[Int64s, Int64s, Floats],
    shape: tuple[int, int],
    features: Float32s,
    config: HistoryConfig,
    number: int,
) -> Draw | None:
    user, _, rating = columns
    rng = np.random.default_rng((config.seed, number))
    held = (rating >= config.like_at) & drawn(len(rating), _HELD_OUT, rng)
    measured = np.intersect1d(user[held], user[~held])
    if len(measured) < FEWEST_MEASURED:
        return None
    if len(measured) > MAX_MEASURED:
        measured = np.sort(rng.choice(measured, MAX_MEASURED, replace=False))
    return draw_of(columns, shape, (~held, held), measured, features, config)


def draw_of(
    columns: tuple[Int64s, Int64s, Floats],
    shape: tuple[int, int],
    parts: tuple[Bools, Bools],
    measured: Int64s,
    features: Float32s,
    config: HistoryConfig,
) -> Draw:
    """What some ratings say of others.

    Args:
        columns: (N,) users and titles, below ``shape``, and stars.
        shape: (U, N) users and titles.
        parts: (N,) bool, which ratings are learnt from, and which are asked for.
        measured: (M,) int64 ascending, users whose lists are measured.
        features: (N, f) float32 of the titles.
        config: all but its ``penalty`` counts.
    """
    user, item, rating = columns
    known, held = parts
    history = rating_matrix(user[known], item[known], config.weights(rating[known]), shape)
    return Draw(
        prepared(balanced(history[np.diff(history.indptr) > 0], config.user_exponent), features),
        history[measured],
        _held_out(user[held], item[held], measured),
        np.bincount(item[known], minlength=shape[1]),
        config,
    )


def _held_out(user: Int64s, item: Int64s, measured: Int64s) -> RelevanceSets:
    mine: Bools = np.isin(user, measured)
    return RelevanceSets(np.searchsorted(measured, user[mine]), item[mine], len(measured))


def _top(scores: Float32s) -> Int64s:
    """(M, 10) columns of the highest scores, best first."""
    width = min(_LIST, scores.shape[1])
    some = np.argpartition(-scores, width - 1, axis=1)[:, :width]
    order = np.argsort(-np.take_along_axis(scores, some, axis=1), axis=1, kind="stable")
    return np.asarray(np.take_along_axis(some, order, axis=1), np.int64)


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
