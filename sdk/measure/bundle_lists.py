"""A bundle's lists over the full catalogue, measured against the likes of its test part, beside baselines.

Users' histories and what lists leave out are the ratings that the models learnt from, so the test part stays unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sdk.base.types import Int64s
from sdk.features.tables import FIRST_KNOWN
from sdk.measure.list_evaluation import LIKE_AT, MeasuredLists, RatedCatalogue
from sdk.measure.slices import USERS, Slice
from sdk.metrics.intervals import MOST_SAMPLES
from sdk.metrics.lists import RelevanceSets, recall
from sdk.metrics.pointwise import SliceFigures

if TYPE_CHECKING:
    from sdk.bundles.bundle import Bundle
    from sdk.features.interactions import StoredInteractions
    from sdk.scoring.recommender import Recommender

MAX_USERS = 20_000
POPULARITY = "popularity"
_LENGTH = 20


@dataclass(frozen=True, slots=True, eq=False)
class ListEvaluation:
    """How good lists are.

    Attributes:
        rows: one line per model over all measured users; the first is what ``batch.score`` writes by default.
            ``values`` holds the figures of ``MeasuredLists.whole``.
        slices: the same per part of the users; per part of the titles only ``recall20``, of the held-out titles there.
        num_users: users measured.
        num_eligible: users with a like in the test part; above ``num_users`` where a sample was measured.
        num_held_out: their likes in the test part.
        catalogue_size: titles that could be recommended.
        like_at: a test rating of at least this many stars should be listed.
        samples: resamplings of the users behind each interval; 0 where none were asked for.
    """

    rows: tuple[SliceFigures, ...]
    slices: tuple[SliceFigures, ...]
    num_users: int
    num_eligible: int
    num_held_out: int
    catalogue_size: int
    like_at: float
    samples: int

    def describe(self) -> str:
        """Who was measured on what, in words."""
        users = f"{self.num_users:,} users"
        if self.num_users < self.num_eligible:
            users += f", drawn from {self.num_eligible:,} with seed 0,"
        return (
            f"{users} with {self.num_held_out:,} test ratings of at least {self.like_at:g} stars; lists over "
            f"{self.catalogue_size:,} titles without those that the user rated in the training part"
        )


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
        mine = np.isin(users, kept)
        items = test.rows.item_index[liked[mine]].astype(np.int64)
        return cls(kept, np.searchsorted(kept, users[mine]), items, len(eligible))


def evaluate_lists_of(
    bundle: Bundle,
    learnt: Sequence[int],
    test: StoredInteractions,
    slices: Sequence[Slice],
    *,
    max_users: int = MAX_USERS,
    samples: int = MOST_SAMPLES,
) -> ListEvaluation | None:
    """Measure the lists of a bundle's default, of its parts alone, and of popularity, for the same users.

    Args:
        bundle: holds a ranker, a history model or both.
        learnt: the parts of the split that the models learnt from.
        test: the ratings to find likes in.
        slices: parts of the users and of the titles to measure on their own.
        max_users: of more users with a like, a seeded sample is measured.
        samples: resamplings of the users behind each interval; 0 leaves the intervals out.

    Returns:
        None where the test part holds no like.
    """
    like_at = bundle.info.config.history.like_at
    task = ListTask.build(test, max_users=max_users, like_at=like_at)
    if not len(task.row):
        return None
    known = bundle.interactions.only(*learnt)
    seen = known.seen(len(bundle.encoded_users)).take(task.user_index)
    catalogue, item_ids = _catalogue(bundle, known), bundle.encoded_items.ids
    relevant = RelevanceSets.from_pairs(task.row, item_ids[task.item_index], len(task.user_index))
    measured = []
    for name, recommender in recommenders(bundle, learnt).items():
        found = recommender.recommend(task.user_index, seen, _LENGTH)
        measured.append(MeasuredLists.build(name, found.item_id, found.lengths, relevant, catalogue))
    sliced = (_in_slice(each, part, task, item_ids, samples) for each in measured for part in slices)
    return ListEvaluation(
        rows=tuple(each.whole(samples) for each in measured),
        slices=tuple(row for row in sliced if row.num_rows),
        num_users=len(task.user_index),
        num_eligible=task.num_eligible,
        num_held_out=len(task.row),
        catalogue_size=len(catalogue.ids),
        like_at=like_at,
        samples=samples,
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


def _catalogue(bundle: Bundle, known: StoredInteractions) -> RatedCatalogue:
    counts = np.bincount(known.rows.item_index, minlength=len(bundle.encoded_items))[FIRST_KNOWN:]
    vectors = bundle.content.transform(bundle.items) if bundle.has_content else None
    return RatedCatalogue(bundle.encoded_items.known_ids, counts, len(np.unique(known.rows.user_index)), vectors)


def _in_slice(lists: MeasuredLists, part: Slice, task: ListTask, item_ids: Int64s, samples: int) -> SliceFigures:
    if part.side == USERS:
        mine = part.members[task.user_index]
        return lists.figures(part.name, lists.per_user, mine, int(mine[task.row].sum()), samples)
    held = part.members[task.item_index]
    relevant = RelevanceSets.from_pairs(task.row[held], item_ids[task.item_index[held]], len(task.user_index))
    values = {"recall20": recall(lists.items, relevant, _LENGTH, lengths=lists.lengths)}
    return lists.figures(part.name, values, relevant.counts > 0, int(held.sum()), samples)
