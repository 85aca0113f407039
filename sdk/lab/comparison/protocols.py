"""The three protocols as tasks: which ratings may be learnt from, and which are asked for.

A: telling liked from disliked; a random fifth of all ratings is asked for, the label is ``rating > 3``. B: lists; a
random fifth of the ratings of at least 4 stars is asked for. C: lists by time; trained before a moment, asked after
it. Where one moment leaves few users who have a past and a future, C is also measured at several moments, each asked
for the time up to the next one (rolling origin, Tashman 2000, International Journal of Forecasting 16). On another
scale likes are what ``sdk.data.labels`` takes for such; of implicit feedback every pair is one, and there is no A.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from sdk.base.config import SplitConfig
from sdk.base.errors import DataError
from sdk.base.files import sha256_of
from sdk.base.types import Dataset, Int64s
from sdk.data.splits import before_and_asked, split, time_at
from sdk.measure.list_evaluation import LIKE_AT, split_by_time, split_positives

Protocol = Literal["A", "B", "C", "rolling"]
CHOICES = ("A", "B", "C")
ENOUGH_BY_TIME = 1000
"""Users that one moment must leave for its lists to be told apart; below, there are the rolling origin's as well."""
VALIDATION_SEEDS = (7, 8)
"""Of the two draws of likes that lists are tuned on: one alone leaves much to chance."""
CUTS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""Shares of the ratings, by time, that the rolling origin learns from: 0.5 to 0.95."""


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One split of one data set.

    Attributes:
        protocol: which of the protocols it belongs to.
        name: of the split, in words.
        seed: of the split; also seeds what is drawn from its training part.
        dataset: the whole data set.
        train: (T,) int64 ascending rows of its ratings that models learn from and lists leave out.
        test: (S,) int64 ascending rows that are asked for; none is in ``train``.
        like_at: a rating of at least this much is a like.
    """

    protocol: Protocol
    name: str
    seed: int
    dataset: Dataset
    train: Int64s
    test: Int64s
    like_at: float = LIKE_AT

    @property
    def is_list_task(self) -> bool:
        """Whether lists are measured; else the AUC of single ratings is."""
        return self.protocol != "A"

    @property
    def learnt(self) -> Dataset:
        """The data set with its training ratings alone: what is learnt from it cannot know the others."""
        digest = sha256_of(self.dataset.fingerprint.encode() + self.train.tobytes())
        return dataclasses.replace(
            self.dataset,
            name=f"{self.dataset.name}, protocol {self.protocol}, {self.name}",
            interactions=self.dataset.interactions.take(self.train),
            fingerprint=digest,
        )

    def tuning(self) -> tuple[Task, ...]:
        """The tasks that peers are tuned on, cut from the training part alone.

        A's validation part is the one that our rankers stop on; for lists there are two, cut by protocol B's rule.
        """
        ratings = self.dataset.interactions.take(self.train)
        if not self.is_list_task:
            parts = split(ratings, SplitConfig(seed=self.seed))
            return (self._within(parts.train, parts.validation),)
        draws = (split_positives(ratings, seed=seed, like_at=self.like_at) for seed in VALIDATION_SEEDS)
        return tuple(self._within(draw.train, draw.held_out) for draw in draws)

    def _within(self, train: Int64s, test: Int64s) -> Task:
        """A task on some of the training rows, given by their places among them."""
        name = f"{self.name}, validation"
        return dataclasses.replace(self, name=name, train=self.train[train], test=self.train[test])


def protocols_for(dataset: Dataset, asked: Sequence[str] | None) -> tuple[str, ...]:
    """The protocols that a data set can be measured on: those that were asked for, or else all that there are.

    Raises:
        DataError: one was asked for that these data do not have.
    """
    times, implicit = dataset.interactions.timestamp, dataset.about.feedback == "implicit"
    without: dict[str, str] = {}
    if implicit:
        without["A"] = "every pair is a like, so there is nothing to tell likes from"
    if not len(times) or (times == times[0]).all():
        without["C"] = f"all {len(times):,} ratings have one timestamp, so there is no before and after"
    for protocol in asked or ():
        if protocol in without:
            left = ",".join(each for each in CHOICES if each not in without)
            raise DataError(f"--protocols {protocol}: {without[protocol]}. Give --protocols {left}, or leave it out.")
    return tuple(asked or (each for each in CHOICES if each not in without))


def tasks_for(
    dataset: Dataset,
    protocols: Sequence[str],
    seeds: Sequence[int],
    cuts: Sequence[float] = CUTS,
    like_at: float = LIKE_AT,
) -> list[Task]:
    """Every split of the given protocols; C gives its one split by time and, where need be, the rolling origin's.

    Args:
        dataset: all of it.
        protocols: of ``CHOICES``.
        seeds: of A's and B's splits.
        cuts: of the rolling origin.
        like_at: a rating of at least this much is a like.

    Raises:
        DataError: the data set is too small for one of them.
    """
    tasks: list[Task] = []
    for seed in seeds if "A" in protocols else ():
        whole = split(dataset.interactions, SplitConfig(test_share=0.2, validation_share=0.0, seed=seed))
        tasks.append(Task("A", f"seed {seed}", seed, dataset, whole.train, whole.test, like_at))
    for seed in seeds if "B" in protocols else ():
        parts = split_positives(dataset.interactions, seed=seed, like_at=like_at)
        tasks.append(Task("B", f"seed {seed}", seed, dataset, parts.train, parts.held_out, like_at))
    if "C" in protocols:
        timeless = without_tags(dataset)
        parts = split_by_time(timeless.interactions, like_at=like_at)
        then = known_at(timeless, parts.moment)
        tasks.append(Task("C", "latest 20 %", seeds[0], then, parts.train, parts.held_out, like_at))
        if len(np.unique(timeless.interactions.user_id[parts.held_out])) < ENOUGH_BY_TIME:
            tasks += rolling_tasks(timeless, cuts, seeds[0], like_at)
    return tasks


def rolling_tasks(
    dataset: Dataset, cuts: Sequence[float] = CUTS, seed: int = 0, like_at: float = LIKE_AT
) -> list[Task]:
    """One task per cut: train before it, ask for what is liked from it up to the next cut (the last: up to the end).

    A cut lies at the time of the rating that the share of all ratings, by time, ends at. Users without a rating
    before the cut are not asked for. Cuts that leave nothing to learn or to ask for give no task.

    Raises:
        DataError: no cut gives a task.
    """
    ratings = dataset.interactions
    size, times, liked = len(ratings), ratings.since, ratings.rating >= like_at
    moments = [time_at(times, min(size - 1, round(cut * size))) for cut in cuts]
    tasks = []
    for cut, start, end in zip(cuts, moments, [*moments[1:], None], strict=True):
        train, test = map(np.flatnonzero, before_and_asked(ratings.user_id, times, liked, start, end))
        if len(train) and len(test):
            tasks.append(Task("rolling", f"after {cut:.0%}", seed, known_at(dataset, start), train, test, like_at))
    if not tasks:
        raise DataError(
            f"{len(ratings):,} ratings leave no user with some before and a like after any of {len(cuts)} cuts"
        )
    return tasks


def known_at(dataset: Dataset, moment: int | None) -> Dataset:
    """The data set whose pairs weigh what their events before a moment say; those that begin later are as they are."""
    pairs = dataset.interactions
    return dataset if moment is None else dataclasses.replace(dataset, interactions=pairs.as_of(moment))


def without_tags(dataset: Dataset) -> Dataset:
    """The data set with no tags: a film's tags carry no time, so by time they would tell of the future."""
    if not dataset.about.is_preset("items"):
        return dataset
    items, at = dataset.items, dataset.items.schema.get_field_index("tags")
    field = items.schema.field(at)
    bare = pa.array([[]] * items.num_rows, field.type)
    digest = sha256_of(f"{dataset.fingerprint} without tags".encode())
    return dataclasses.replace(dataset, items=items.set_column(at, field, bare), fingerprint=digest)
