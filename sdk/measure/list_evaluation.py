"""Splits and one function that measure lists over the full catalogue, the same for every model.

Protocol B: positives are ratings of at least 4 stars; a random fifth of them, in file order, is held out; everything
else is the training part. Protocol C: everything after a moment is held out, and its positives are asked for. Lists
exclude every title that the user rated in the training part, liked or not. Validation is cut from the training part
by the rule of protocol B.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sdk.base.errors import DataError
from sdk.base.types import Bools, Float32s, Float64s, Int32s, Int64s, Interactions
from sdk.data.splits import before_and_asked, drawn, time_at
from sdk.metrics.intervals import MOST_SAMPLES, mean_intervals
from sdk.metrics.lists import (
    RelevanceSets,
    average_precision,
    coverage,
    gini,
    hit_rate,
    intra_list_diversity,
    ndcg,
    novelty,
    recall,
)
from sdk.metrics.pointwise import SliceFigures

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

LIKE_AT = 4.0
_PER_USER: tuple[tuple[str, Callable[..., Float64s], int], ...] = (
    ("ndcg10", ndcg, 10),
    ("recall20", recall, 20),
    ("map10", average_precision, 10),
    ("hit_rate10", hit_rate, 10),
)


@dataclass(frozen=True, slots=True, eq=False)
class ListSplit:
    """Row numbers into one Interactions, each ascending.

    Attributes:
        train: (T,) int64, what models learn from and what lists exclude.
        held_out: (H,) int64, positives that lists should name; none is in ``train``.
    """

    train: Int64s
    held_out: Int64s


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
    Users without a training rating are left out of ``held_out``: nothing personal can be said of them.

    Raises:
        DataError: a part would be empty.
    """
    size, times = len(interactions), interactions.timestamp
    moment = time_at(times, min(size - 1, size - round(share * size))) if size else 0
    before, asked = before_and_asked(interactions.user_id, times, interactions.rating >= like_at, moment)
    return _parts(np.flatnonzero(before), np.flatnonzero(asked), f"latest {share:g} of {size:,} ratings")


def _parts(train: Int64s, held_out: Int64s, rule: str) -> ListSplit:
    if not len(train) or not len(held_out):
        raise DataError(
            f"a list split ({rule}) leaves {len(train):,} ratings to train on and {len(held_out):,} to find; "
            "expected some of each. Choose another share, or give more ratings"
        )
    return ListSplit(train, held_out)


@dataclass(frozen=True, slots=True, eq=False)
class RatedCatalogue:
    """All titles that could be recommended, and what the training part says of them.

    Attributes:
        ids: (I,) int64, unique.
        counts: (I,) int64 training ratings.
        num_users: users with a training rating.
        vectors: (I, D) float, dense or sparse, whose cosines say how alike two titles are; None leaves diversity out.
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
        num_held_out: titles held out for the same users.
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
        cls, model: str, items: Int64s, lengths: Int32s | Int64s, relevant: RelevanceSets, catalogue: RatedCatalogue
    ) -> MeasuredLists:
        """Measure lists by what was held out for each of the same users.

        Raises:
            ValueError: a list names a title twice, or one outside the catalogue.
        """
        values = {name: metric(items, relevant, k, lengths=lengths) for name, metric, k in _PER_USER}
        top, named = items[:, :10], {"catalogue_ids": catalogue.ids, "lengths": np.minimum(lengths, 10)}
        values["novelty"] = novelty(top, catalogue.counts, catalogue.num_users, **named)
        if catalogue.vectors is not None:
            values["diversity"] = intra_list_diversity(top, catalogue.vectors, **named)
        return cls(model, items, lengths, catalogue, len(relevant.item_ids), values)

    def whole(self, samples: int = MOST_SAMPLES) -> SliceFigures:
        """The figures of all users, with ``coverage``, ``gini`` and ``distinct_in_top10`` of their first ten together.

        Those three have no interval, for they depend on how many users there are.
        """
        everyone = np.ones(len(self.items), dtype=np.bool_)
        figures = self.figures("all", self.per_user, everyone, self.num_held_out, samples)
        top, size, ids = self.items[:, :10], np.minimum(self.lengths, 10), self.catalogue.ids
        covered = coverage(top, len(ids), lengths=size)
        variety = {
            "coverage": covered,
            "gini": gini(top, ids, lengths=size),
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
            num_rows: titles held out for them.
            samples: resamplings of the users; 0 leaves the intervals out.
        """
        table = np.column_stack([each[users] for each in per_user.values()])
        known = ~np.isnan(table)
        means = {name: float(table[known[:, n], n].mean()) for n, name in enumerate(per_user) if known[:, n].any()}
        every = dict(zip(per_user, mean_intervals(table, samples), strict=True)) if means and samples else {}
        intervals = {name: interval for name, interval in every.items() if name in means}
        return SliceFigures(self.model, part, int(users.sum()), num_rows, means, intervals)
