"""Lists over the full catalogue, measured the same way for every model: a bundle's on its test part, and by protocol.

A bundle's users' histories, and what its lists leave out, are the ratings that the models learnt from, so the test part
stays unknown. They are measured against the likes of the test part, beside baselines.

Protocol B: positives are ratings of at least 4 stars; a random fifth of them, in file order, is held out; everything
else is the training part. Protocol C: everything after a moment is held out, and its positives are asked for. Lists
exclude every title that the user rated in the training part, liked or not. Validation is cut from the training part
by the rule of protocol B.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from sdk.base.description import Description
from sdk.base.errors import DataError
from sdk.base.ids import rows_of
from sdk.base.types import Bools, Float32s, Float64s, Int32s, Int64s, Interactions
from sdk.data.splits import before_and_asked, drawn, time_at
from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN
from sdk.measure.slices import USERS, Slice
from sdk.metrics import lists as metrics
from sdk.metrics.intervals import MOST_SAMPLES, mean_intervals
from sdk.metrics.pointwise import SliceFigures

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from sdk.bundles.bundle import Bundle
    from sdk.features.interactions import StoredInteractions
    from sdk.scoring.recommender import Recommender

LIKE_AT = 4.0
_PER_USER: tuple[tuple[str, Callable[..., Float64s], int], ...] = (
    ("ndcg10", metrics.ndcg, 10),
    ("recall20", metrics.recall, 20),
    ("map10", metrics.average_precision, 10),
    ("hit_rate10", metrics.hit_rate, 10),
)
MAX_USERS = 20_000
POPULARITY, AGAIN = "popularity", "their own again"
_LENGTH = 20


@dataclass(frozen=True, slots=True, eq=False)
class ListSplit:
    """Row numbers into one Interactions, each ascending.

    Attributes:
        train: (T,) int64, what models learn from and what lists exclude.
        held_out: (H,) int64, positives that lists should name; none is in ``train``.
        moment: seconds; what came before it may be learnt from. None where the split is not by time.
    """

    train: Int64s
    held_out: Int64s
    moment: int | None = None


def split_positives(
    interactions: Interactions,
    *,
    seed: int = 42,
    share: float = 0.2,
    like_at: float = LIKE_AT,
    within: Int64s | None = None,
) -> ListSplit:
    """Protocol B: hold out ``numpy.random.default_rng(seed).random(n) < share`` of the n positives in file order.

    Args:
        interactions: ratings in file order.
        seed: of the draw.
        share: of the positives, between 0 and 1.
        like_at: a rating of at least this many stars is positive.
        within: (T,) int64 ascending rows to split, a training part whose validation part is wanted; None takes all.

    Raises:
        DataError: a part would be empty.
    """
    rows = np.arange(len(interactions), dtype=np.int64) if within is None else within
    positive = np.flatnonzero(interactions.rating[rows] >= like_at)
    held_out = positive[drawn(len(positive), share, seed)]
    rule = f"{share:g} of {len(positive):,} positives, seed {seed}"
    return _parts(np.delete(rows, held_out), rows[held_out], rule)


def split_by_time(interactions: Interactions, *, share: float = 0.2, like_at: float = LIKE_AT) -> ListSplit:
    """Protocol C: train on what came before a moment T, ask for the positives from T on.

    T is the time of the rating that parts the latest ``share`` of all ratings off; ratings at T itself are held out.
    Users without a training rating are left out of ``held_out``: nothing personal can be said of them. A pair of
    several events counts by its first; ``as_of(T)`` is what may be known of the others.

    Raises:
        DataError: a part would be empty.
    """
    size, times = len(interactions), interactions.since
    moment = time_at(times, min(size - 1, size - round(share * size))) if size else 0
    before, asked = before_and_asked(interactions.user_id, times, interactions.rating >= like_at, moment)
    return _parts(np.flatnonzero(before), np.flatnonzero(asked), f"latest {share:g} of {size:,} ratings", moment)


def _parts(train: Int64s, held_out: Int64s, rule: str, moment: int | None = None) -> ListSplit:
    if not len(train) or not len(held_out):
        raise DataError(
            f"a list split ({rule}) leaves {len(train):,} ratings to train on and {len(held_out):,} to find; "
            "expected some of each. Choose another share, or give more ratings"
        )
    return ListSplit(train, held_out, moment)


@dataclass(frozen=True, slots=True, eq=False)
class RatedCatalogue:
    """All items that could be recommended, and what the training part says of them.

    Attributes:
        ids: (I,) int64, unique.
        counts: (I,) int64 training ratings.
        num_users: users with a training rating.
        vectors: (I, D) float, dense or sparse, whose cosines say how alike two items are; None leaves diversity out.
    """

    ids: Int64s
    counts: Int64s
    num_users: int
    vectors: Float32s | csr_matrix | None = None


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredLists:
    """One model's lists for some users, and how good each of them is.

    Attributes:
        model: its name.
        items: (U, w) int64 item ids, best first; w should be at least 20.
        lengths: (U,) real entries of each row.
        catalogue: holds every listed title.
        num_held_out: items held out for the same users.
        per_user: ``ndcg10``, ``recall20``, ``map10``, ``hit_rate10``, ``novelty`` and, where the catalogue has vectors,
            ``diversity``: (U,) float64 each, NaN where a user has nothing to measure.
    """

    model: str
    items: Int64s
    lengths: Int32s | Int64s
    catalogue: RatedCatalogue
    num_held_out: int
    per_user: Mapping[str, Float64s]

    @classmethod
    def build(
        cls,
        model: str,
        items: Int64s,
        lengths: Int32s | Int64s,
        relevant: metrics.RelevanceSets,
        catalogue: RatedCatalogue,
    ) -> MeasuredLists:
        """Measure lists by what was held out for each of the same users.

        Raises:
            ValueError: a list names a title twice, or one outside the catalogue.
        """
        values = {name: metric(items, relevant, k, lengths=lengths) for name, metric, k in _PER_USER}
        top, named = items[:, :10], {"catalogue_ids": catalogue.ids, "lengths": np.minimum(lengths, 10)}
        values["novelty"] = metrics.novelty(top, catalogue.counts, catalogue.num_users, **named)
        if catalogue.vectors is not None:
            values["diversity"] = metrics.intra_list_diversity(top, catalogue.vectors, **named)
        return cls(model, items, lengths, catalogue, len(relevant.item_ids), values)

    def whole(self, samples: int = MOST_SAMPLES) -> SliceFigures:
        """The figures of all users, with ``coverage``, ``gini`` and ``distinct_in_top10`` of their first ten together.

        Those three have no interval, for they depend on how many users there are.
        """
        everyone = np.ones(len(self.items), dtype=np.bool_)
        figures = self.figures("all", self.per_user, everyone, self.num_held_out, samples)
        top, size, ids = self.items[:, :10], np.minimum(self.lengths, 10), self.catalogue.ids
        covered = metrics.coverage(top, len(ids), lengths=size)
        variety = {
            "coverage": covered,
            "gini": metrics.gini(top, ids, lengths=size),
            "distinct_in_top10": round(covered * len(ids)),
        }
        return replace(figures, values={**figures.values, **variety})

    def figures(
        self, part: str, per_user: Mapping[str, Float64s], users: Bools, num_rows: int, samples: int
    ) -> SliceFigures:
        """The means of some users' values, each with its 95 % interval; one that nobody has is left out.

        Args:
            part: the name of these users.
            per_user: name -> (U,) float64.
            users: (U,) bool, which of them count.
            num_rows: items held out for them.
            samples: resamplings of the users; 0 leaves the intervals out.
        """
        table = np.column_stack([each[users] for each in per_user.values()])
        known = ~np.isnan(table)
        means = {name: float(table[known[:, n], n].mean()) for n, name in enumerate(per_user) if known[:, n].any()}
        every = dict(zip(per_user, mean_intervals(table, samples), strict=True)) if means and samples else {}
        intervals = {name: interval for name, interval in every.items() if name in means}
        return SliceFigures(self.model, part, int(users.sum()), num_rows, means, intervals)


@dataclass(frozen=True, slots=True, eq=False)
class ListEvaluation:
    """How good lists are.

    Attributes:
        rows: one line per model over all measured users; the first is what ``batch.score`` writes by default.
            ``values`` holds the figures of ``MeasuredLists.whole``.
        slices: the same per part of the users; per part of the items only ``recall20``, of the held-out items there.
        num_users: users measured.
        num_eligible: users with a like in the test part; above ``num_users`` where a sample was measured.
        num_held_out: their likes in the test part.
        catalogue_size: items that could be recommended.
        like_at: a test rating of at least this many stars should be listed.
        samples: resamplings of the users behind each interval; 0 where none were asked for.
        about: what the data are, for the words.
        later: whether what came after the bundle was trained was asked for, in place of its test part.
        include_seen: whether lists may name what the user has.
    """

    rows: tuple[SliceFigures, ...]
    slices: tuple[SliceFigures, ...]
    num_users: int
    num_eligible: int
    num_held_out: int
    catalogue_size: int
    like_at: float
    samples: int
    about: Description = field(default_factory=Description)
    later: bool = False
    include_seen: bool = False

    def describe(self) -> str:
        """Who was measured on what, in words."""
        films, implicit = self.about.is_preset("items"), self.about.feedback == "implicit"
        part = "later" if self.later else "test"
        asked = (
            f"{part} pairs" if implicit else f"{part} ratings of at least {self.like_at:g}{' stars' if films else ''}"
        )
        noun, verb = "titles" if films else "items", "has" if implicit else "rated"
        known = f"that the user {verb} {'so far' if self.later else 'in the training part'}"
        users = f"{self.num_users:,} users"
        if self.num_users < self.num_eligible:
            users += f", drawn from {self.num_eligible:,} with seed 0,"
        left_out = f"with those {known} among them" if self.include_seen else f"without those {known}"
        return f"{users} with {self.num_held_out:,} {asked}; lists over {self.catalogue_size:,} {noun} {left_out}"


@dataclass(frozen=True, slots=True, eq=False)
class ListTask:
    """Whose lists are wanted, and what should be in them.

    Attributes:
        user_index: (U,) int64 user rows, ascending.
        row: (H,) int64, the place in ``user_index`` of each held-out like.
        item_index: (H,) int64, its item row.
        num_eligible: users that could have been asked for.
    """

    user_index: Int64s
    row: Int64s
    item_index: Int64s
    num_eligible: int

    @classmethod
    def build(
        cls, test: StoredInteractions, *, max_users: int = MAX_USERS, seed: int = 0, like_at: float = LIKE_AT
    ) -> ListTask:
        """Take the likes of a test part; of more than ``max_users`` users a seeded sample is kept."""
        liked = np.flatnonzero(test.rating >= like_at)
        users = test.rows.user_index[liked].astype(np.int64)
        eligible = np.unique(users)
        kept = eligible
        if len(eligible) > max_users:
            kept = np.sort(np.random.default_rng(seed).choice(eligible, max_users, replace=False))
        row = rows_of(kept, users)
        items = test.rows.item_index[liked[row >= 0]].astype(np.int64)
        return cls(kept, row[row >= 0], items, len(eligible))


def evaluate_lists_of(
    bundle: Bundle,
    learnt: Sequence[int],
    test: StoredInteractions,
    slices: Sequence[Slice],
    *,
    max_users: int = MAX_USERS,
    samples: int = MOST_SAMPLES,
    later: bool = False,
    include_seen: bool = False,
) -> ListEvaluation | None:
    """Measure the lists of a bundle's default, of its parts alone, and of popularity, for the same users.

    Args:
        bundle: holds a ranker, a history model or both.
        learnt: the parts of the split that the models learnt from.
        test: the ratings to find likes in.
        slices: parts of the users and of the items to measure on their own.
        max_users: of more users with a like, a seeded sample is measured.
        samples: resamplings of the users behind each interval; 0 leaves the intervals out.
        later: whether ``test`` is what came after the bundle was trained.
        include_seen: whether lists may name what the user has; each user's own items, the weightiest first, are then
            measured, too.

    Returns:
        None where the test part holds no like.
    """
    like_at = bundle.info.config.history.like_at
    task = ListTask.build(test, max_users=max_users, like_at=like_at)
    if not len(task.row):
        return None
    known = bundle.interactions.only(*learnt)
    has = known.seen(len(bundle.encoded_users)).take(task.user_index)
    seen = Seen.nothing(len(task.user_index)) if include_seen else has
    again = bundle.coming_again(parts=learnt) if include_seen else None
    again = None if again is None else again.take(task.user_index)
    catalogue = _catalogue(bundle, known)
    relevant = metrics.RelevanceSets(task.row, task.item_index, len(task.user_index))
    measured = []
    for name, recommender in recommenders(bundle, learnt).items():
        rises = None if name in (bundle.info.chosen_model, POPULARITY) else again
        found = recommender.recommend(task.user_index, seen, _LENGTH, again=rises)
        listed = bundle.encoded_items.index_of(found.item_id.ravel()).reshape(found.item_id.shape)
        measured.append(MeasuredLists.build(name, listed, found.lengths, relevant, catalogue))
    if include_seen:
        measured.append(MeasuredLists.build(AGAIN, *_own_items(known, task.user_index), relevant, catalogue))
    sliced = (_in_slice(each, part, task, samples) for each in measured for part in slices)
    return ListEvaluation(
        rows=tuple(each.whole(samples) for each in measured),
        slices=tuple(row for row in sliced if row.num_rows),
        num_users=len(task.user_index),
        num_eligible=task.num_eligible,
        num_held_out=len(task.row),
        catalogue_size=len(catalogue.ids),
        like_at=like_at,
        samples=samples,
        about=bundle.about,
        later=later,
        include_seen=include_seen,
    )


def recommenders(bundle: Bundle, learnt: Sequence[int]) -> dict[str, Recommender]:
    """What makes lists, by name: the bundle's default first, its parts alone, popularity last."""
    from sdk.scoring.recommender import Recommender

    best, forms = bundle.info.chosen_model, {}
    if best is not None and bundle.history is not None:
        forms[f"{best} + history"] = bundle.list_form(best, parts=learnt)
    if bundle.history is not None:
        forms["history"] = bundle.list_form(None, parts=learnt)
    if best is not None:
        forms[best] = bundle.model(best).lower()
    forms[POPULARITY] = None
    users, items = bundle.encoded_users, bundle.encoded_items
    return {name: Recommender(name, form, users, items) for name, form in forms.items()}


def _own_items(known: StoredInteractions, users: Int64s) -> tuple[Int64s, Int64s]:
    """(U, 20) int64 rows of each user's own items, the weightiest first, and how many there are; equal ones by row."""
    rows = known.rows
    order = np.lexsort((rows.item_index, -known.rating, rows.user_index))
    place = rows_of(users, rows.user_index[order].astype(np.int64))
    order, place = order[place >= 0], place[place >= 0]
    counts = np.bincount(place, minlength=len(users))
    rank = np.arange(len(place)) - np.repeat(np.cumsum(counts) - counts, counts)
    lists = np.zeros((len(users), _LENGTH), np.int64)
    top = rank < _LENGTH
    lists[place[top], rank[top]] = rows.item_index[order[top]]
    return lists, np.minimum(counts, _LENGTH)


def _catalogue(bundle: Bundle, known: StoredInteractions) -> RatedCatalogue:
    counts = np.bincount(known.rows.item_index, minlength=len(bundle.encoded_items))[FIRST_KNOWN:]
    vectors = bundle.content.transform(bundle.items) if bundle.has_content else None
    if vectors is not None and not vectors.nnz:  # nothing is known of any item: nothing tells how alike two are
        vectors = None
    rows = np.arange(FIRST_KNOWN, len(bundle.encoded_items))
    return RatedCatalogue(rows, counts, len(np.unique(known.rows.user_index)), vectors)


def _in_slice(lists: MeasuredLists, part: Slice, task: ListTask, samples: int) -> SliceFigures:
    if part.side == USERS:
        mine = part.members[task.user_index]
        return lists.figures(part.name, lists.per_user, mine, int(mine[task.row].sum()), samples)
    held = part.members[task.item_index]
    relevant = metrics.RelevanceSets(task.row[held], task.item_index[held], len(task.user_index))
    values = {"recall20": metrics.recall(lists.items, relevant, _LENGTH, lengths=lists.lengths)}
    return lists.figures(part.name, values, relevant.counts > 0, int(held.sum()), samples)
