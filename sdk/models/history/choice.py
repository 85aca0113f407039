"""What the history model leaves open, chosen together on a validation part cut from the training ratings themselves.

How strongly the closed form must be held back, what content is worth, whether ratings of one sitting belong together:
all depends on the data (``docs/research``). So it is measured by the rule of the list protocol: a random fifth
of the likes is held out, and the lists that rank them best win. One setting after another is tried, from those that
were good on every set at hand; another value is taken only where it wins by more than its standard error. At any
size the cost is bounded: of many users' titles only the most rated take part, and a sample of the users is measured.
All users are learnt from, for fewer of them would ask for a smaller penalty.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np

from sdk.base.config import HistoryConfig
from sdk.base.ids import rows_of
from sdk.base.progress import present
from sdk.base.types import Bools, Float32s, Float64s, Int64s
from sdk.data.splits import drawn
from sdk.metrics.lists import RelevanceSets, best_columns, ndcg
from sdk.models.history.fit import ItemRegression, Solve, prepared
from sdk.models.history.matrices import (
    Floats,
    Index,
    discount,
    learnt_rows,
    most_rated,
    popularity,
    rating_matrix,
    row_sums,
    told_boost,
)  # fmt: skip

if TYPE_CHECKING:
    from typing import Self

    from scipy.sparse import csr_matrix

log = logging.getLogger(__name__)

FALLBACK: Mapping[str, Any] = MappingProxyType(
    {
        "weighting": "alike", "penalty": 300.0, "content_weight": 0.4, "session_gap_s": 0.0, "item_exponent": 0.08,
        "popularity_weight": 0.03,
    }
)  # fmt: skip
"""What stands for the open settings at first, and in the end where there are too few likes to choose by."""
COARSE = (75.0, 300.0, 1200.0, 4800.0, 19_200.0)
AXES: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        "weighting": ("alike", "log"),
        "content_weight": (0.0, 0.2, 0.4),
        "session_gap_s": (0.0, 60.0, 600.0),
        "item_exponent": (0.0, 0.08, 0.16, 0.24),
        "popularity_weight": (0.0, 0.03, 0.1, 0.3),
    }
)
"""What is tried, in this order; before the last two, which cost nothing, the penalty is looked at again."""
_POPULARITY: Mapping[str, Any] = {"popularity_weight": None, "popularity_half_life_days": None}
_CHEAP: tuple[str, ...] = ("item_exponent", "popularity_weight")
MAX_MATRIX, MAX_ROWS, MAX_USERS, MAX_MEASURED = 2000, 1600, 200_000, 2000
FEWEST_MEASURED, _MOST_DRAWS = 20, 2
_HELD_OUT = 0.2
_REFINED = 3  # trials of a look at the penalty anew
_LIST = 10


Step: TypeAlias = list[Any]


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
        pairs = {name: values.get(name, ()) for name in cls.TABLES}
        tables = {name: {float(key): float(value) for key, value in pairs[name]} for name in cls.TABLES}
        return cls(**{**values, **tables})


@dataclass(frozen=True, slots=True)
class RecipeChoice(MeasuredChoice):
    """A recipe's open settings and what they were chosen by.

    Attributes:
        penalty: the chosen one, two significant digits, or the given one.
        ndcg10: penalty -> mean NDCG@10 over the measured users and draws; empty where there was too little to measure.
        steps: of each setting that was tried: its name, value, mean NDCG@10, what that was before, and the standard
            error of the difference.
        num_users: learnt from.
        num_titles: that took part, the most rated ones.
        num_measured: users whose lists were measured, per draw.
        num_draws: of the held-out part.
    """

    TABLES = ("ndcg10",)
    penalty: float
    ndcg10: Mapping[float, float] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    num_users: int = 0
    num_titles: int = 0
    num_measured: int = 0
    num_draws: int = 0


@dataclass(slots=True, eq=False)
class Draw:
    """Some ratings, to be learnt from, and others that lists should name.

    Attributes:
        part: what both are of.
        known: (T,) int64 rows of the part that are learnt from.
        own: (K,) int64, those of the measured users.
        measured: (M,) int64 ascending, users whose lists are measured.
        held_out: what their lists should name.
    """

    part: ChoiceRatings
    known: Int64s
    own: Int64s
    measured: Int64s
    held_out: RelevanceSets
    _solve: tuple[HistoryConfig, Solve] | None = None
    _regression: tuple[HistoryConfig, ItemRegression] | None = None
    _wishes: tuple[HistoryConfig, Float32s, Float64s] | None = None

    def per_list(self, config: HistoryConfig) -> Float64s:
        """(M,) float64 NDCG@10 of the measured users' lists, before the cut to a rank; nothing in ``config`` open."""
        wishes, times = self.wishes(config)
        return self.of_new(wishes + times * self.popularity(config))

    def of_new(self, scores: Float32s) -> Float64s:
        """(M,) float64 NDCG@10 of the lists by (M, N) scores, which lose those of the users' own titles."""
        scores[self.places()] = -np.inf
        return self.ndcg10(scores)

    def ndcg10(self, scores: Float32s) -> Float64s:
        """(M,) float64 NDCG@10 of the lists by (M, N) scores."""
        return ndcg(best_columns(scores, _LIST), self.held_out, _LIST)

    def places(self) -> tuple[Int64s, Int64s]:
        """(K,) rows and columns of the measured users' own ratings among the scores, in the order of ``own``."""
        return rows_of(self.measured, self.part.user[self.own]), self.part.item[self.own]

    def wishes(self, config: HistoryConfig, weights: Float32s | None = None) -> tuple[Float32s, Float32s]:
        """(M, N) float32 scores of every title for the measured users, without popularity; (M, 1), how often it counts.

        Args:
            config: nothing in it is open.
            weights: (K,) float32, none 0, of their ratings ``own`` in their histories; None weighs as ``config`` says.
        """
        part, own = self.part, self.own
        values = config.weights(part.rating[own]) if weights is None else weights
        histories = rating_matrix(part.user[own], part.item[own], values, part.shape)[self.measured]
        found, leave_out = self._regressed(histories, config, kept=weights is None)
        scale = discount(self._counts(), config.item_exponent or 0.0) / leave_out
        return found * scale.astype(np.float32), (1 + told_boost(row_sums(histories), config))[:, None]

    def popularity(self, config: HistoryConfig, timestamp: Int64s | None = None) -> Float32s:
        """(N,) float32 that a title's popularity adds where it counts once; ``timestamp``: (T,) int64 of ``known``."""
        item, liked = self.part.item[self.known], self.part.rating[self.known] >= config.like_at
        num_users = len(np.unique(self.part.user[self.known]))
        times = None if timestamp is None else timestamp[liked]
        return popularity(item[liked], self._counts(), num_users, config, times).astype(np.float32)

    def _counts(self) -> Int64s:
        return np.bincount(self.part.item[self.known], minlength=self.part.shape[1])

    def _regressed(self, histories: csr_matrix, config: HistoryConfig, *, kept: bool) -> tuple[Float32s, Float64s]:
        """(M, N) wishes and (N,) what they are divided by; kept as long as neither regression nor histories change."""
        key = replace(config, item_exponent=None, **_POPULARITY)
        if kept and self._wishes is not None and self._wishes[0] == key:
            return self._wishes[1:]
        if self._regression is None or self._regression[0] != key:
            self._regression = key, self._prepared(config)(config.penalty or 0.0, config.content_weight or 0.0)
        regression = self._regression[1]
        found = regression.predict(histories), regression.leave_out
        if kept:
            self._wishes = (key, *found)
        return found

    def _prepared(self, config: HistoryConfig) -> Solve:
        """The inner products; kept as long as what they are made of stays the same."""
        key = replace(config, penalty=None, content_weight=None, item_exponent=None, **_POPULARITY)
        if self._solve is None or self._solve[0] != key:
            part, rows = self.part, self.known
            columns = part.user[rows], part.item[rows], config.weights(part.rating[rows])
            time = None if part.timestamp is None else part.timestamp[rows]
            self._solve = key, prepared(learnt_rows(columns, time, part.shape[1], config, MAX_ROWS)[1], part.features)
        return self._solve[1]


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
        config: what is open in it counts for nothing here.
        timestamp: (N,) int64 seconds; None: no sessions take part.
    """

    rows: Int64s
    user: Int64s
    item: Int64s
    rating: Floats
    shape: tuple[int, int]
    features: Float32s
    config: HistoryConfig
    timestamp: Int64s | None

    @classmethod
    def of(
        cls,
        columns: tuple[Index, Index, Floats],
        features: Float32s,
        config: HistoryConfig,
        timestamp: Int64s | None = None,
    ) -> ChoiceRatings:
        """Choose them.

        Args:
            columns: (N,) users (any ids), titles (rows of ``features``) and stars; each pair once, in any order.
            features: (R_item, f) float32, as the model is fitted with.
            config: as the model is fitted with.
            timestamp: (N,) int64 seconds, or None.
        """
        user, item, rating = columns
        ids = np.unique(user)
        most = config.max_titles if len(ids) <= MAX_MATRIX else MAX_MATRIX
        rated = most_rated(np.bincount(item), config.max_titles)
        kept = np.isin(item, most_rated(np.bincount(item), most))
        if MAX_ROWS < len(ids) < len(rated):  # the fit is by rows, and there are few left for sessions
            timestamp = None
        if len(ids) > MAX_USERS:
            kept &= np.isin(user, np.random.default_rng(config.seed).choice(ids, MAX_USERS, replace=False))
        rows = np.flatnonzero(kept)
        rows = rows[np.lexsort((item[rows], user[rows]))]
        users, own = np.unique(user[rows], return_inverse=True)
        titles, place = np.unique(item[rows], return_inverse=True)
        time = None if timestamp is None else timestamp[rows]
        return cls(rows, own, place, rating[rows], (len(users), len(titles)), features[titles], config, time)

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
        place = rows_of(measured, self.user)
        named = asked & (place >= 0)
        held_out = RelevanceSets(place[named], self.item[named], len(measured))
        return Draw(self, np.flatnonzero(known), np.flatnonzero(known & (place >= 0)), measured, held_out)


def choose(part: ChoiceRatings) -> tuple[HistoryConfig, RecipeChoice | None]:
    """The configuration of the part with what it leaves open chosen; and how, None where nothing was open.

    Where there are too few likes ``FALLBACK`` stands for what is open.
    """
    names = [name for name in FALLBACK if getattr(part.config, name) is None]
    without = {"session_gap_s": part.timestamp is None, "content_weight": not part.features.shape[1]}
    names = [name for name in names if not without.get(name)]
    open_values: dict[str, Any] = {name: FALLBACK[name] for name in FALLBACK if getattr(part.config, name) is None}
    config = replace(part.config, **open_values)
    if not names:
        return config, None
    draws = _draws(part)
    if not draws:
        log.info("history model: too few likes to choose by, penalty %g is taken", config.penalty)
        return config, RecipeChoice(config.penalty or 0.0)
    search = _Search(draws, config)
    search.run([name for name in AXES if name in names], penalty="penalty" in names)
    penalty = search.config.penalty or 0.0
    table = {tried: round(value, 6) for tried, value in sorted(search.by_penalty.items())}
    sizes = *part.shape, len(draws[0].measured), len(draws)
    return search.config, RecipeChoice(penalty, table, search.steps, *sizes)


class _Search:
    """Coordinate descent on the draws.

    Attributes:
        config: the best so far; nothing in it is open.
        steps: as ``RecipeChoice`` has them.
        by_penalty: NDCG@10 of the penalties that were tried last, all else equal.
    """

    def __init__(self, draws: Sequence[Draw], config: HistoryConfig) -> None:
        self.config, self.by_penalty = config, dict[float, float]()
        self.steps: list[Step] = []
        self._draws, self._start = draws, time.perf_counter()
        self._lists = np.zeros(0)

    def run(self, names: Sequence[str], *, penalty: bool) -> None:
        """Try the values of the named axes and, where it is open, penalties: coarsely, then twice finely."""
        trials = sum(len(AXES[name]) - 1 for name in names) + (len(COARSE) + 2 * _REFINED if penalty else 0)
        present().expect(trials + 1)
        if penalty:
            climb(self._at_penalty)
            self._take_penalty(_best(self.by_penalty))
        self._lists = self._measured(self.config)
        if penalty:  # finely, too: else more weight would win where a smaller penalty would
            self._refine()
        dear, cheap = ([name for name in names if (name in _CHEAP) is is_cheap] for is_cheap in (False, True))
        for name in dear:
            self._along(name)
        if penalty:
            self._refine()
        for name in cheap:
            self._along(name)
        log.debug("history model: chosen in %.1f s: %s", time.perf_counter() - self._start, self.config)

    def _along(self, name: str) -> None:
        """Take the best value where it beats the present one, by more than the difference's standard error.

        A choice sees but some of the sessions, which helped on latest-small: of them any gain is enough.
        """
        found, won = dict[Any, Float64s](), []
        for value in AXES[name]:
            if value != getattr(self.config, name):
                found[value] = self._measured(replace(self.config, **{name: value}))
                error = standard_error(found[value] - self._lists)
                gain = float((found[value] - self._lists).mean())
                won += [value] if gain > (0 if name == "session_gap_s" else error) else []
                means = float(found[value].mean()), float(self._lists.mean())
                log.debug("history model: %s %s, NDCG@10 %.4f (%.4f before)", name, value, *means)
                self.steps.append([name, value, *(round(each, 6) for each in (*means, error))])
        best = max(won, key=lambda value: float(found[value].mean()), default=None)
        if best is not None:
            taken: dict[str, Any] = {name: best}
            self.config, self._lists = replace(self.config, **taken), found[best]

    def _refine(self) -> None:
        """The vertex of a parabola through the present penalty and those half and twice as large."""
        penalty = self.config.penalty or 0.0
        self.by_penalty = {penalty: float(self._lists.mean())}
        for tried in (penalty / 2, penalty * 2):
            self._at_penalty(tried)
        self._take_penalty(vertex(self.by_penalty))
        self._lists = self._measured(self.config)

    def _at_penalty(self, penalty: float) -> float:
        self.by_penalty[penalty] = float(self._measured(replace(self.config, penalty=penalty)).mean())
        log.debug("history model: penalty %g, NDCG@10 %.4f on validation", penalty, self.by_penalty[penalty])
        return self.by_penalty[penalty]

    def _take_penalty(self, penalty: float) -> None:
        self.config = replace(self.config, penalty=penalty)

    def _measured(self, config: HistoryConfig) -> Float64s:
        """Of every list of every draw."""
        found = np.concatenate([draw.per_list(config) for draw in self._draws])
        present().advance()
        return found


def standard_error(gains: Float64s) -> float:
    """Of the mean of (L,) lists' gains; a setting wins where its mean gain is above it."""
    return float(gains.std(ddof=1) / len(gains) ** 0.5)


def climb(measure: Callable[[float], float]) -> None:
    """Go up ``COARSE`` until ``measure`` (penalty -> what should be high) falls."""
    best = -np.inf
    for penalty in COARSE:
        found = measure(penalty)
        if found < best:
            break
        best = max(best, found)


def _draws(part: ChoiceRatings) -> list[Draw]:
    """As many as measure some 2,000 lists together, at most two; none where a draw would measure too few."""
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


def vertex(found: Mapping[float, float]) -> float:
    """Where the parabola through three penalties, each twice the last, is highest between them; two digits."""
    below, middle, above = (found[penalty] for penalty in sorted(found))
    bend = 2 * middle - below - above
    end = float(np.sign(above - below))
    shift = float(np.clip((above - below) / (2 * bend), -1, 1)) if bend > 0 else end
    return float(f"{sorted(found)[1] * 2**shift:.2g}")
