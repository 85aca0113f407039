"""The history model: a list from what a user has rated, by a closed form, and served to new users without training.

    model = HistoryModel.fit(user_index, item_index, rating, num_users, num_items, item_features)
    form = model.to_pair_form(user_index, item_index, rating, num_users)       # for the engine
    model.user_vectors(indptr, item_index, weights)                            # for a visitor with a few likes

score(u, i) = <p[u], item_out[i]> + (1 + boost[u]) item_bias[i], with p[u] the sum of ``item_in`` over the user's
titles, each times the weight of its rating, and boost[u] falling with the sum of these weights. Five choices raise it
above EASE, all made on validation parts (``lists.md`` and ``cold_start.md`` of ``docs/research``): what was watched and
not liked counts too, by its stars; heavy users count less; content features share coefficients among titles; popular
titles are held back a little; and the less a user has told, the more popularity counts.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdk.base.config import HistoryConfig, from_json, to_json
from sdk.base.errors import BundleError, ConfigError
from sdk.base.progress import present
from sdk.base.stored_arrays import read_arrays, read_json, write_arrays, write_json
from sdk.base.types import Float32s, Int64s, Repeats
from sdk.features.tables import FIRST_KNOWN
from sdk.machine.decompositions import every_core
from sdk.models.history import matrices
from sdk.models.history.choice import FEWEST_MEASURED, ChoiceRatings, RecipeChoice, choose
from sdk.models.history.fit import NUM_STEPS, extend, factors, fit_regression
from sdk.models.history.matrices import Floats, Index, learnt_rows, most_rated, rating_matrix
from sdk.models.history.recency import (
    HALF_LIVES_DAYS,
    POPULARITY_DAYS,
    TIMES_PENALTY,
    Moments,
    TimeChoice,
    aged_weights,
)
from sdk.models.history.repeats import RepeatChoice, choose_repeats, repeat_bonus
from sdk.models.pair_form import NO_MLP, Head, PairForm, Side

log = logging.getLogger(__name__)

FORMAT_VERSION = 4
"""Version of the saved form; another one is refused."""

_ARRAYS = frozenset({"item_in", "item_out", "item_bias"})


@dataclass(frozen=True, slots=True, eq=False)
class HistoryModel:
    """A fitted model. Rows are those of the items' encoded table; the reserved rows are 0.

    Attributes:
        item_in: (R_item, r + 1) float32, what having rated a title adds to a user's vector; the last column is 0.
        item_out: (R_item, r + 1) float32, what a user's vector is multiplied with; the last column is ``item_bias``.
        item_bias: (R_item,) float32, what popularity adds for who has told much.
        config: as fitted with; its ``rank``, ``penalty`` and ``weighting`` are those that were used, and its
            ``half_life_days`` is that which histories are made with, None for 0.
        choice: how the penalty was chosen; None where the configuration fixed it.
        time_choice: what was chosen on moments, in place of ``choice``'s penalty; None where nothing was.
        repeat_choice: what was chosen for items that may come again; None where no event repeats.
    """

    item_in: Float32s
    item_out: Float32s
    item_bias: Float32s
    config: HistoryConfig
    choice: RecipeChoice | None = None
    time_choice: TimeChoice | None = None
    repeat_choice: RepeatChoice | None = None

    def __post_init__(self) -> None:
        if self.item_in.shape != self.item_out.shape or self.item_bias.shape != self.item_in.shape[:1]:
            shapes = f"{self.item_in.shape}, {self.item_out.shape} and {self.item_bias.shape}"
            raise ValueError(f"HistoryModel: got shapes {shapes}, expected (R, r + 1), twice, and (R,)")

    @classmethod
    @every_core()
    def fit(
        cls,
        user_index: Index,
        item_index: Index,
        rating: Floats,
        num_users: int,
        num_items: int,
        item_features: Float32s | None = None,
        config: HistoryConfig | None = None,
        timestamp: Int64s | None = None,
        repeats: Repeats | None = None,
        *,
        by_time: bool = True,
    ) -> HistoryModel:
        """Learn from ratings, each (user, item) pair once; pairs in a reserved row are left out.

        Args:
            user_index: (N,) integers, rows of the users' table, below ``num_users``.
            item_index: (N,) integers, rows of the items' table, below ``num_items``.
            rating: (N,) float, stars.
            num_users: R_user, reserved rows included.
            num_items: R_item, reserved rows included.
            item_features: (R_item, f) float, any scale and centre, 256 content vectors say; None learns without.
            config: None takes the defaults; its ``rank`` and ``penalty`` are chosen where they are None.
            timestamp: (N,) int64 seconds, which tell what was rated in one session; None: there are none.
            repeats: the (N,) pairs' events, where pairs came more than once and it is known when.
            by_time: whether, with timestamps, lists are wanted over time: the penalty and ``half_life_days`` are then
                chosen on moments within the ratings, as popularity's weight is; else no rating ages unless it is set.

        Raises:
            DataError: there is no rating of a known user and title.
            ValueError: lengths differ, an index is out of range, a pair comes twice, or a value is not finite.
            ScoreError: the regression cannot be solved; the message says what to raise.
        """
        config = config or HistoryConfig()
        shape = num_users, num_items
        user, item, stars, times = matrices.known_ratings((user_index, item_index, rating), timestamp, shape)
        features = matrices.scaled_features(item_features, num_items)
        counts = np.bincount(item, minlength=num_items)
        fitted = most_rated(counts, config.max_titles)
        sizes = (len(np.unique(user)), len(fitted), num_items)
        config = replace(config, rank=matrices.rank_for(*sizes) if config.rank is None else config.rank)
        if repeats is not None:
            repeats = repeats.take(np.flatnonzero(matrices.is_known(user_index, item_index)))
        settled = _settled((user, item, stars), times, features, config, repeats, by_time=by_time)
        config = settled[0]
        columns = user, item, config.weights(stars)
        item_in, item_out = _factors(columns, times, features, counts, fitted, config)
        liked = stars >= config.like_at
        bias = matrices.popularity(item[liked], counts, sizes[0], config, None if times is None else times[liked])
        found = (len(stars), np.count_nonzero(counts), len(fitted), item_in.shape[1], config.penalty)
        log.debug(
            "history model: %d ratings, %d titles, %d with coefficients of their own, rank %d, penalty %g", *found
        )
        return cls(*_widened(item_in, item_out, bias), config, *settled[1:])

    def user_vectors(self, indptr: Int64s, item_index: Index, weights: Floats | None = None) -> Float32s:
        """The vectors of B users known only by what they rated; a user whose titles say nothing gets zeros.

        Args:
            indptr: (B + 1,) int64; user b's titles are ``item_index[indptr[b]:indptr[b + 1]]``.
            item_index: (N,) integers, rows of the items' table.
            weights: (N,) float, ``config.weights(rating)``; None counts every title as a like.

        Returns:
            (B, r + 1) float32: the sums of ``item_in``, and the boost of popularity.

        Raises:
            ValueError: lengths differ, or an index is out of range.
        """
        from scipy.sparse import csr_matrix

        values = np.ones(len(item_index), np.float32) if weights is None else np.asarray(weights, np.float32)
        if len(values) != len(item_index) or indptr[-1] != len(item_index):
            raise ValueError(f"user_vectors: {len(item_index)} titles, {len(values)} weights, indptr to {indptr[-1]}")
        matrices.check_rows("item_index", item_index, len(self.item_in))
        shape = (len(indptr) - 1, len(self.item_in))
        histories = csr_matrix((values, item_index, indptr), shape)
        vectors = np.asarray(histories @ self.item_in, np.float32)
        vectors[:, -1] = matrices.told_boost(matrices.row_sums(histories), self.config) * vectors.any(axis=1)
        return vectors

    def to_pair_form(
        self, user_index: Index, item_index: Index, rating: Floats, num_users: int, timestamp: Int64s | None = None
    ) -> PairForm:
        """The model with every user's vector, for the engine. Arguments and errors as ``fit``; ids may be new to it.

        Where ratings age, ``timestamp`` is needed; each user's newest rating here counts in full.
        """
        columns, shape = (user_index, item_index, rating), (num_users, len(self.item_in))
        user, item, stars, times = matrices.known_ratings(columns, timestamp, shape, may_be_empty=True)
        history = rating_matrix(user, item, self.weights(stars, user, times), shape)
        return self.form_of(self.user_vectors(history.indptr.astype(np.int64), history.indices, history.data))

    def weights(self, rating: Floats, user_index: Index, timestamp: Int64s | None = None) -> Float32s:
        """(N,) float32 weight of each rating in its user's history, by its stars and, where ratings age, its time.

        Args:
            rating: (N,) float, stars.
            user_index: (N,) integers from 0.
            timestamp: (N,) int64 seconds; None where ratings do not age.

        Raises:
            ValueError: ratings age, and there are no timestamps.
        """
        return aged_weights(self.config, rating, user_index, timestamp, self.config.half_life_days or 0.0)

    def repeat_bonus(self, rating: Floats, user_index: Index, timestamp: Int64s | None = None) -> Float32s:
        """(N,) float32, what is added to the score of an item that its user has and may be given again.

        Args:
            rating: (N,) float, stars or weights.
            user_index: (N,) integers from 0.
            timestamp: (N,) int64 seconds; None where age does not count.
        """
        return repeat_bonus(self.config, rating, user_index, timestamp)

    @property
    def needs_times(self) -> bool:
        """Whether histories or what comes again are weighed by age."""
        return self.config.needs_times

    def form_of(self, user_vectors: Float32s) -> PairForm:
        """The pair form whose users have the given (B, r + 1) float32 vectors, row by row."""
        users = Side.plain(np.zeros(len(user_vectors), np.float32), user_vectors)
        return PairForm(users, Side.plain(self.item_bias, self.item_out), NO_MLP, user_vectors.any(axis=1))

    def contributions(self, item: int, item_index: Index, weights: Floats | None = None) -> Float32s:
        """Why this title: (N,) float32, what each title of a history adds to the score of row ``item``.

        Args:
            item: the recommended title's row.
            item_index: (N,) integers, rows of the user's titles.
            weights: (N,) float, ``config.weights(rating)``; None counts every title as a like.
        """
        added = self.item_in[item_index] @ self.item_out[item]
        return np.asarray(added if weights is None else added * weights, np.float32)

    def popularity(self, item_index: Index, weights: Floats | None = None) -> Float32s:
        """(R,) float32, the rest of each score that ``contributions`` takes apart: what popularity adds.

        Args:
            item_index: (N,) integers, rows of the user's titles.
            weights: as there.
        """
        values = np.ones(len(item_index), np.float32) if weights is None else np.asarray(weights, np.float32)
        says = (values @ self.item_in[item_index]).any()  # else a user of whom the model knows nothing
        boost = matrices.told_boost(values.sum(keepdims=True), self.config)[0] * says
        return np.asarray(self.item_bias * (1 + boost), np.float32)

    def save(self, folder: Path | str) -> None:
        """Write ``history.npz`` and ``history.json`` into a folder that exists; equal models give equal bytes."""
        arrays = {"item_bias": self.item_bias, "item_in": self.item_in[:, :-1], "item_out": self.item_out[:, :-1]}
        write_arrays(Path(folder) / "history.npz", arrays)
        choice = None if self.choice is None else self.choice.to_json()
        words: dict[str, Any] = {"version": FORMAT_VERSION, "config": to_json(self.config), "choice": choice}
        for name in ("time_choice", "repeat_choice"):
            if (found := getattr(self, name)) is not None:
                words[name] = found.to_json()
        write_json(Path(folder) / "history.json", words)

    @classmethod
    def load(cls, folder: Path | str, *, num_items: int | None = None) -> HistoryModel:
        """Read what ``save`` wrote.

        Args:
            folder: where it was saved.
            num_items: rows of the items' table that it must fit; None takes any.

        Raises:
            BundleError: a file is absent, damaged, of another version, or does not fit the other.
        """
        words = _words(folder)
        arrays = read_arrays(Path(folder) / "history.npz", _ARRAYS)
        try:
            config = from_json(HistoryConfig, words["config"])
            choice = RecipeChoice.from_json(words["choice"])
            by_time = TimeChoice.from_json(words.get("time_choice"))
            again = RepeatChoice.from_json(words.get("repeat_choice"))
            _check_arrays(arrays, num_items)
            factors = _widened(arrays["item_in"], arrays["item_out"], arrays["item_bias"])
            return cls(*factors, config, choice, by_time, again)
        except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
            raise BundleError(f"{folder}: not a history model ({error!r}). Train and save it again.") from error


def _words(folder: Path | str) -> dict[str, Any]:
    return read_json(Path(folder) / "history.json", version=FORMAT_VERSION)


def load_config(folder: Path | str) -> HistoryConfig:
    """The settings of a saved model, without its arrays.

    Raises:
        BundleError: the file is absent, damaged or of another version.
    """
    try:
        return from_json(HistoryConfig, _words(folder)["config"])
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise BundleError(f"{folder}: not a history model ({error!r}). Train and save it again.") from error


def _check_arrays(arrays: Mapping[str, NDArray[Any]], num_items: int | None) -> None:
    for name, width in (("item_in", 2), ("item_out", 2), ("item_bias", 1)):
        values = arrays[name]
        if values.dtype != np.float32 or values.ndim != width or not np.isfinite(values).all():
            raise ValueError(f"{name} is {values.dtype} of shape {values.shape}, expected finite float32")
    if num_items not in (None, len(arrays["item_in"])):
        raise ValueError(f"it knows {len(arrays['item_in'])} rows of titles, the bundle has {num_items}")


def _widened(item_in: Float32s, item_out: Float32s, bias: NDArray[Any]) -> tuple[Float32s, Float32s, Float32s]:
    """The arrays of a model: beside the factors a column for the boost, which no title adds to."""
    single = bias.astype(np.float32)
    return np.column_stack([item_in, np.zeros_like(single)]), np.column_stack([item_out, single]), single


def blend(history: PairForm, ranker: PairForm, weight: float) -> PairForm:
    """One form whose every score is ``history``'s plus ``weight`` times ``ranker``'s; who has a history, as there.

    Args:
        history: a form without an MLP.
        ranker: any form over the same user and item rows.
        weight: at least 0.

    Raises:
        ValueError: the rows differ, the weight is negative, or ``history`` has an MLP.
    """
    sizes = (len(history.users), len(history.items)), (len(ranker.users), len(ranker.items))
    if sizes[0] != sizes[1]:
        raise ValueError(f"blend: forms of {sizes[0]} and {sizes[1]} (users, items); expected the same rows")
    if weight < 0 or history.head.has_mlp:
        raise ValueError(f"blend: got weight {weight}, MLP {history.head.has_mlp}; expected at least 0, no MLP")
    factor = np.float32(weight)
    tail = ranker.head.tail
    last = tuple((matrix * factor, bias * factor) for matrix, bias in tail[-1:])
    users = _joined(history.users, ranker.users, factor, factor)
    items = _joined(history.items, ranker.items, factor, np.float32(1))
    return PairForm(users, items, Head(ranker.head.cross, (*tail[:-1], *last)), history.has_history)


def _joined(first: Side, second: Side, bias_factor: np.float32, dot_factor: np.float32) -> Side:
    dot = np.hstack([first.dot, dot_factor * second.dot]).astype(np.float32)
    return Side(first.bias + bias_factor * second.bias, dot, second.hidden, second.fields)


def _settled(
    columns: tuple[Index, Index, Floats],
    timestamp: Int64s | None,
    features: Float32s,
    config: HistoryConfig,
    repeats: Repeats | None,
    *,
    by_time: bool,
) -> tuple[HistoryConfig, RecipeChoice | None, TimeChoice | None, RepeatChoice | None]:
    """The configuration with what it leaves open chosen, and how that was chosen."""
    settled, choice = choose(ChoiceRatings.of(columns, features, config, timestamp))
    by_time &= timestamp is not None and None in (config.penalty, config.half_life_days)
    again = repeats is not None and None in (config.repeat_weight, config.repeat_half_life_days)
    if timestamp is None or not (by_time or again):
        return settled, choice, None, None
    moments = Moments.of(columns, timestamp, features, settled, repeats)
    if moments.num_lists < FEWEST_MEASURED:
        log.info("history model: too few likes after a moment to choose by")
        return settled, choice, None, None
    time_choice = _time_choice(moments, config) if by_time else None
    if time_choice is not None:
        settled = time_choice.onto(settled)
    repeat_choice = choose_repeats(moments, settled) if again else None
    if repeat_choice is not None:
        days = repeat_choice.half_life_days
        settled = replace(settled, repeat_weight=repeat_choice.weight, repeat_half_life_days=days)
    return settled, choice, time_choice, repeat_choice


def _time_choice(moments: Moments, config: HistoryConfig) -> TimeChoice:
    """What lists over time want, of what the configuration leaves open."""
    penalty, given = moments.config.penalty or 0.0, config.half_life_days
    penalties = tuple(penalty * times for times in TIMES_PENALTY) if config.penalty is None else (penalty,)
    half_lives = (0.0, *HALF_LIVES_DAYS) if given is None else (given,)
    open_popularity = config.popularity_weight is None and config.popularity_half_life_days is None
    return moments.choose(penalties, half_lives, POPULARITY_DAYS if open_popularity else ())


def _factors(
    columns: tuple[Index, Index, Floats],
    timestamp: Int64s | None,
    features: Float32s,
    counts: Int64s,
    fitted: Int64s,
    config: HistoryConfig,
) -> tuple[Float32s, Float32s]:
    """``item_in`` and ``item_out`` of all rows: the fitted titles' by the regression, the others' by their features."""
    users, rows = (each[:, fitted] for each in learnt_rows(columns, timestamp, len(counts), config))
    own, weight = features[fitted], config.content_weight or 0.0
    present().expect(NUM_STEPS)
    regression = fit_regression(rows, own, config.penalty or 0.0, weight)
    present().advance()
    pair = factors(regression, users, counts[fitted], config)
    rest = np.setdiff1d(np.arange(FIRST_KNOWN, len(counts)), fitted)
    out = np.zeros((2, len(counts), pair[0].shape[1]), np.float32)
    for whole, part in zip(out, pair, strict=True):
        whole[fitted], whole[rest] = part, extend(weight * own, part, weight * features[rest])
    return out[0], out[1]
