"""One task's data in the forms that contenders need, made when first asked for; and how a contender is measured.

Our models are one bundle trained on the task's training part, asked as everybody asks a bundle. Its data set holds the
training ratings alone, so neither the models, nor the histories that lists are made from, nor the seen titles can know
what is asked for.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np

from sdk.base.config import ModelName, RunConfig, SplitConfig
from sdk.base.errors import BundleError
from sdk.base.ids import is_text, rows_of
from sdk.base.types import IdArray, Int64s
from sdk.bundles.bundle import Bundle, load
from sdk.bundles.fresh import encoded
from sdk.features.engine import with_engine
from sdk.features.interactions import TRAIN, VALIDATION
from sdk.lab.comparison.contenders import Contender, Settings, Tuned, draw_settings, tune
from sdk.lab.comparison.list_peers import RatingMatrix, Scorer, lists_of
from sdk.lab.comparison.protocols import Task
from sdk.lab.comparison.rating_peers import PeerScores, RatingProblem
from sdk.lab.comparison.results import Result
from sdk.measure.list_evaluation import MAX_USERS, MeasuredLists
from sdk.metrics.lists import RelevanceSets, ndcg, user_mean
from sdk.metrics.pointwise import auc, log_loss
from sdk.models.predict import predict
from sdk.scoring.recommender import Recommender

log = logging.getLogger(__name__)
_LENGTH = 20
MOST_TUNED_ON = 3000
"""Users whose lists are measured for each setting of a peer; of more a sample."""
_LIST_FIGURES = ("ndcg10", "recall20", "map10", "hit_rate10", "novelty", "distinct_in_top10", "coverage", "gini")


def run_config(task: Task, models: tuple[ModelName, ...] = RunConfig().models, *, quick: bool) -> RunConfig:
    """The shipped defaults; nothing but the split is the task's own: its seed, and by time if the task is.

    Args:
        task: what to train for.
        models: of lists; single ratings have the rankers among them and the content model.
        quick: train for two epochs only, to try the command out.
    """
    by_time = task.protocol in ("C", "rolling")
    split = SplitConfig(kind="time" if by_time else "random", seed=task.seed)
    config = RunConfig(split=split, models=models)
    if not task.is_list_task:
        config = dataclasses.replace(config, models=(*config.rankers, "content"))
    if quick:
        config = dataclasses.replace(config, training=dataclasses.replace(config.training, max_epochs=2))
    return config


def trained(task: Task, config: RunConfig, folder: Path) -> Bundle:
    """The task's bundle: the one in the folder if it is of these data and this configuration, else a new one."""
    from sdk.training.pipeline import train_bundle

    learnt, config = task.learnt, with_engine(config)
    if (folder / "bundle.json").is_file():
        try:
            bundle = load(folder)
            if bundle.info.data["fingerprint"] == learnt.fingerprint and bundle.info.config == config:
                return bundle
        except BundleError as error:
            log.info("%s: trained again (%s)", folder, error)
    shutil.rmtree(folder, ignore_errors=True)
    return train_bundle(learnt, config, folder, force=True)


def lists_by(bundle: Bundle, form: str, user_key: Int64s, k: int) -> tuple[Int64s, Int64s]:
    """A bundle's lists for the given users, without what they have rated.

    Args:
        bundle: trained on the training part alone.
        form: ``default``, what a night writes; ``history``, the history model alone; else a ranker's name, for its
            logits alone.
        user_key: (B,) int64, as ``Interactions`` calls users: their ids, or where these are text their places.
        k: list length.

    Returns:
        (B, k) int64 item keys, -1 past a list's end, and (B,) int64 lengths.
    """
    users, items = bundle.encoded_users, bundle.encoded_items
    ids = users.known_ids[user_key] if is_text(users.ids) else user_key
    if form == "default":
        found = bundle.recommend(ids, k)
    else:
        ranked_by = bundle.list_form(None) if form == "history" else bundle.model(form).lower()
        index = users.index_of(ids)
        seen = bundle.interactions.seen(len(users)).take(index)
        found = Recommender(form, ranked_by, users, items).recommend(index, seen, k)
    return _keys(found.item_id, items.known_ids), found.lengths.astype(np.int64)


def _keys(item_id: IdArray, known: IdArray) -> Int64s:
    """The keys of listed items: integers as they are, of text the places among the known ids."""
    if not is_text(item_id):
        return item_id.astype(np.int64)
    return rows_of(known, item_id.ravel()).reshape(item_id.shape)


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
        tuned = self._tuned(contender)
        result = self._lists(contender, tuned) if self.task.is_list_task else self._rating(contender, tuned)
        return dataclasses.replace(result, seconds=trained + time.perf_counter() - start)

    def _tuned(self, contender: Contender) -> Tuned:
        settings = draw_settings(contender.grid, self.budget, self.task.seed)
        fit, value = contender.fit, self._list_value if self.task.is_list_task else self._rating_value
        if fit is None or settings == [{}]:
            return Tuned({})
        return tune(settings, lambda each: value(fit, each), f"{contender.name}, {self.task.name}")

    def clear(self) -> None:
        """Remove the task's files."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @cached_property
    def bundle(self) -> Bundle:
        """Our models, trained on the task's training part."""
        return trained(self.task, self.config, self.folder / "bundle")

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

    def _lists(self, contender: Contender, tuned: Tuned) -> Result:
        (users, relevant), ratings = self._asked, self._ratings
        rows = rows_of(ratings.user_id, users)
        if contender.fit is None:
            items, lengths = lists_by(self.bundle, contender.form, users, _LENGTH)
        else:
            items, lengths = lists_of(contender.fit(ratings, **tuned.settings), ratings, rows, _LENGTH)
        ratings.refuse_seen(rows, items, lengths)
        lists = MeasuredLists.build(contender.name, items, lengths, relevant, ratings.catalogue)
        found, pooled = lists.whole(), ("ndcg10", "recall20")
        figures = {name: float(found.values[name]) for name in _LIST_FIGURES}
        intervals = {name: found.intervals[name] for name in pooled}
        values = (tuple(each.tolist()) for each in (users, *(lists.per_user[name] for name in pooled)))
        return Result(figures, intervals, tuned.settings, tuned.tried, tuned.value, 0.0, *values)

    def _list_value(self, fit: Callable[..., Scorer], settings: Settings) -> tuple[float, Settings]:
        """Mean NDCG@10 on the validation parts, of at most ``MOST_TUNED_ON`` users each."""
        values = []
        for ratings, (users, relevant) in self._draws:
            rows = rows_of(ratings.user_id, users)
            items, lengths = lists_of(fit(ratings, **settings), ratings, rows, 10)
            values.append(user_mean(ndcg(items, relevant, 10, lengths=lengths)))
        return float(np.mean(values)), settings

    @cached_property
    def _draws(self) -> list[tuple[RatingMatrix, tuple[Int64s, RelevanceSets]]]:
        return [(RatingMatrix.of(task), _relevance(task, MOST_TUNED_ON)) for task in self.task.tuning()]

    # single ratings ----------------------------------------------------------------------------------------------

    @cached_property
    def _problem(self) -> RatingProblem:
        """Learn from the training part, score the test part, with the tables of our own bundle."""
        rows, test = self.bundle.interactions.of(TRAIN, VALIDATION), self.task.dataset.interactions.take(self.task.test)
        tables = self.bundle.encoded_users, self.bundle.encoded_items
        return RatingProblem(*tables, rows, encoded(self.bundle, test), self.task.seed)

    @cached_property
    def _tuning_problem(self) -> RatingProblem:
        """Learn from what our rankers learn from before they stop, score what they stop on."""
        from sdk.features.encode import fit_features

        (inner,), dataset = self.task.tuning(), self.task.dataset
        work = self.folder / "tuning"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        train, config = dataset.interactions.take(inner.train), self.config
        vectors = self.bundle.content.vectors(config.features.content_dim, seed=config.training.seed)
        features = fit_features(train, dataset.users, dataset.items, vectors, config.features, work, dataset.about)
        asked = features.encode(dataset.interactions.take(inner.test))
        return RatingProblem(features.users, features.items, features.encode(train), asked, self.task.seed)

    def _rating(self, contender: Contender, tuned: Tuned) -> Result:
        if contender.fit is None:
            scored = PeerScores(predict(self.bundle.model(contender.form), self._problem.asked), {})
        else:
            scored = contender.fit(self._problem, **tuned.settings)
        label = self._problem.asked.label
        loss = log_loss(label, scored.logits) if scored.is_logit else None
        figures = {"auc": auc(label, scored.logits), "log_loss": loss, "num_rows": float(len(label))}
        return Result(figures, {}, tuned.settings, tuned.tried, tuned.value)

    def _rating_value(self, fit: Callable[..., PeerScores], settings: Settings) -> tuple[float, Settings]:
        """AUC on the validation part."""
        scored = fit(self._tuning_problem, **settings)
        return auc(self._tuning_problem.asked.label, scored.logits), scored.settings


def _relevance(task: Task, most: int = MAX_USERS) -> tuple[Int64s, RelevanceSets]:
    """The users of whom something is asked, ascending, and what; of more than ``most`` a seeded sample."""
    asked = task.dataset.interactions.take(task.test)
    users = np.unique(asked.user_id)
    if len(users) > most:
        users = np.sort(np.random.default_rng(0).choice(users, most, replace=False))
    row = rows_of(users, asked.user_id)
    return users, RelevanceSets(row[row >= 0], asked.item_id[row >= 0], len(users))
