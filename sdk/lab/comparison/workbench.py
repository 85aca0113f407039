"""One task's data in the forms that contenders need, made when first asked for; and how a contender is measured."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from sdk.base.config import RunConfig
from sdk.base.types import Float64s, Int64s
from sdk.bundles.bundle import Bundle
from sdk.features.interactions import TRAIN, VALIDATION
from sdk.lab.comparison import ours
from sdk.lab.comparison.contenders import Contender
from sdk.lab.comparison.list_peers import RatingMatrix, lists_of
from sdk.lab.comparison.peer_tuning import Settings, Tuned, draw_settings, tune
from sdk.lab.comparison.protocols import Task
from sdk.lab.comparison.rating_peers import RatingProblem, Scored
from sdk.measure.list_evaluation import evaluate_lists
from sdk.metrics.lists import RelevanceSets, ndcg, user_mean
from sdk.metrics.pointwise import auc, log_loss

log = logging.getLogger(__name__)
_LENGTH = 20
_Draw: TypeAlias = tuple[RatingMatrix, Int64s, RelevanceSets]
_LIST_FIGURES = ("ndcg10", "recall20", "map10", "hit_rate10", "novelty", "distinct_in_top10", "coverage", "gini")


@dataclass(frozen=True, slots=True)
class Result:
    """What one contender reached on one task.

    Attributes:
        figures: metric -> value; None where it cannot be measured.
        intervals: metric -> 95 % bootstrap interval over users (lists only).
        settings: what a peer was tuned to; empty for ours.
        tried: settings that were measured on the validation part; 0 for ours.
        tuning_value: the best one's AUC or NDCG@10 there; None for ours and where there was nothing to choose.
        seconds: tuning, fitting and scoring; for ours also training the whole bundle.
        users: ids of the users measured (lists only).
        ndcg10: their values, in the same order.
        recall20: their values, in the same order.
    """

    figures: Mapping[str, float | None]
    intervals: Mapping[str, tuple[float, float]]
    settings: Settings
    tried: int
    tuning_value: float | None
    seconds: float
    users: tuple[int, ...] = ()
    ndcg10: tuple[float, ...] = ()
    recall20: tuple[float, ...] = ()


class Workbench:
    """Measures contenders on one task.

    Args:
        task: the split.
        config: what our models are trained with.
        folder: for the task's bundle and NVTabular's files; ``clear`` removes it.
        budget: settings tried per peer.
    """

    def __init__(self, task: Task, config: RunConfig, folder: Path, budget: int) -> None:
        self.task, self.config, self.folder, self.budget = task, config, folder, budget

    def measure(self, contender: Contender) -> Result:
        """Tune the contender on the validation part, fit it on the whole training part, and ask it."""
        trained = self._training_seconds() if contender.is_ours else 0.0
        if not self.task.is_list_task:
            _ = self._problem  # its tables come from our bundle, whose training is not the peers' time
        start = time.perf_counter()
        result = self._lists(contender) if self.task.is_list_task else self._rating(contender)
        return result(trained + time.perf_counter() - start)

    def clear(self) -> None:
        """Remove the task's files."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @cached_property
    def bundle(self) -> Bundle:
        """Our models, trained on the task's training part."""
        return ours.trained(self.task, self.config, self.folder / "bundle")

    def _training_seconds(self) -> float:
        stages = json.loads((self.bundle.path / "reports" / "stages.json").read_text("utf-8"))
        return float(sum(stages["seconds"].values()))

    # lists -------------------------------------------------------------------------------------------------------

    @cached_property
    def _ratings(self) -> RatingMatrix:
        return RatingMatrix.of(self.task)

    @cached_property
    def _asked(self) -> tuple[Int64s, RelevanceSets]:
        return _relevance(self.task)

    def _lists(self, contender: Contender) -> Callable[[float], Result]:
        users, _ = self._asked
        if contender.fit is None:
            tuned = Tuned({}, float("nan"), 0)
            items, lengths = ours.lists(self.bundle, contender.form, users, _LENGTH)
        else:
            tuned = self._tuned(contender, self._list_value(contender.fit))
            scorer = contender.fit(self._ratings, **tuned.settings)
            rows = np.searchsorted(self._ratings.user_id, users)
            items, lengths = lists_of(scorer, self._ratings, rows, _LENGTH)
        return lambda seconds: self._list_result(items, lengths, tuned, seconds)

    def _list_value(self, fit: Callable[..., Any]) -> Callable[[Settings], tuple[float, Settings]]:
        """Mean NDCG@10 on the validation parts."""
        return lambda settings: (float(np.mean([_ndcg10(fit, settings, each) for each in self._draws])), settings)

    @cached_property
    def _draws(self) -> list[_Draw]:
        return [(RatingMatrix.of(task), *_relevance(task)) for task in self.task.tuning()]

    def _list_result(self, items: Int64s, lengths: Int64s, tuned: Tuned, seconds: float) -> Result:
        interactions, catalogue = self.task.dataset.interactions, self._ratings.item_id
        users = self._asked[0]
        measured = evaluate_lists(items, lengths, users, interactions, self.task.list_parts, catalogue)
        found, pooled = measured.whole(), ("ndcg10", "recall20")
        figures = {name: float(found.values[name]) for name in _LIST_FIGURES}
        intervals = {name: found.intervals[name] for name in pooled}
        values = [tuple(measured.per_user[name].tolist()) for name in pooled]
        return Result(
            figures, intervals, tuned.settings, tuned.tried, _finite(tuned.value), seconds,
            tuple(users.tolist()), *values,
        )  # fmt: skip

    # single ratings ----------------------------------------------------------------------------------------------

    @cached_property
    def _problem(self) -> RatingProblem:
        """Learn from the training part, score the test part, with the tables of our own bundle."""
        rows = self.bundle.interactions.of(TRAIN, VALIDATION)
        asked = ours.encode(
            self.bundle.encoded_users,
            self.bundle.encoded_items,
            self.task.dataset.interactions.take(self.task.test),
            self.config.features.like_above,
        )
        return RatingProblem(self.bundle.encoded_users, self.bundle.encoded_items, rows, asked, self.task.seed)

    @cached_property
    def _tuning_problem(self) -> RatingProblem:
        """Learn from what our rankers learn from before they stop, score what they stop on."""
        from sdk.features.encode import fit_features

        (inner,), dataset = self.task.tuning(), self.task.dataset
        work = self.folder / "tuning"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        train, vectors = dataset.interactions.take(inner.train), ours.content_vectors(self.bundle)
        features = fit_features(train, dataset.users, dataset.items, vectors, self.config.features, work)
        asked = features.encode(dataset.interactions.take(inner.test))
        return RatingProblem(features.users, features.items, features.encode(train), asked, self.task.seed)

    def _rating(self, contender: Contender) -> Callable[[float], Result]:
        if contender.fit is None:
            tuned = Tuned({}, float("nan"), 0)
            scored = Scored(ours.logits(self.bundle, contender.form, self._problem.asked), {})
        else:
            tuned = self._tuned(contender, self._rating_value(contender.fit))
            scored = contender.fit(self._problem, **tuned.settings)
        label = self._problem.asked.label
        loss = log_loss(label, scored.logits) if scored.is_logit else None
        figures = {"auc": auc(label, scored.logits), "log_loss": loss, "num_rows": float(len(label))}
        return lambda seconds: Result(figures, {}, tuned.settings, tuned.tried, _finite(tuned.value), seconds)

    def _rating_value(self, fit: Callable[..., Scored]) -> Callable[[Settings], tuple[float, Settings]]:
        """AUC on the validation part."""

        def measure(settings: Settings) -> tuple[float, Settings]:
            scored = fit(self._tuning_problem, **settings)
            return auc(self._tuning_problem.asked.label, scored.logits), scored.settings

        return measure

    def _tuned(self, contender: Contender, measure: Callable[[Settings], tuple[float, Settings]]) -> Tuned:
        settings = draw_settings(contender.grid, self.budget, self.task.seed)
        if settings == [{}]:
            return Tuned({}, float("nan"), 0)
        return tune(settings, measure, f"{contender.name}, {self.task.name}")


def _ndcg10(fit: Callable[..., Any], settings: Settings, draw: _Draw) -> float:
    ratings, users, relevant = draw
    rows = np.searchsorted(ratings.user_id, users)
    items, lengths = lists_of(fit(ratings, **settings), ratings, rows, 10)
    return user_mean(ndcg(items, relevant, 10, lengths=lengths))


def _relevance(task: Task) -> tuple[Int64s, RelevanceSets]:
    """The users of whom something is asked, ascending, and what."""
    asked = task.dataset.interactions.take(task.test)
    users, row = np.unique(asked.user_id, return_inverse=True)
    return users, RelevanceSets.from_pairs(row.astype(np.int64), asked.item_id, len(users))


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def per_user(result: Result, metric: str) -> tuple[Int64s, Float64s]:
    """A list result's user ids and their values of ``ndcg10`` or ``recall20``."""
    return np.array(result.users, np.int64), np.array(getattr(result, metric), np.float64)
