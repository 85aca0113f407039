"""What a search maximises, measured on validation parts alone.

Rankers: AUC on the run's validation part. History model: NDCG@10 by protocol B's rule, cut from what is neither in
the run's test part nor in protocol B's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import ClassVar, TypeAlias

import numpy as np

from sdk.base.config import FeatureConfig, RunConfig
from sdk.base.ids import rows_of
from sdk.base.types import Dataset, Float32s, Int64s, Interactions
from sdk.data.labels import require_both_labels
from sdk.data.splits import split
from sdk.features.encode import Features, fit_features
from sdk.features.loaders import against_sampled
from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN, EncodedInteractions
from sdk.measure.list_evaluation import split_positives
from sdk.metrics.lists import RelevanceSets, ndcg, user_mean
from sdk.metrics.pointwise import EpochRecord
from sdk.models.history.model import HistoryModel
from sdk.models.ranker import build_ranker
from sdk.scoring.engine import Engine
from sdk.training.content_fit import fit_content
from sdk.training.loop import seeded, train

Report = Callable[[int, float], None]
"""Told of (step, value so far) while a value is being measured; what it raises ends the measurement."""

_FIRST_DRAW = 7
_LIST_LENGTH = 10


def _content_vectors(dataset: Dataset, config: RunConfig) -> Callable[[int, int], Float32s]:
    """What gives every title's content vector by width and seed, (I, width) float32: one fit for all of them, width 0
    where there is no content model.
    """
    model = fit_content(dataset, config, split(dataset.interactions, config.split))

    @cache
    def vectors(dim: int, seed: int) -> Float32s:
        if model is None or dim == 0:
            return np.zeros((dataset.items.num_rows, 0), np.float32)
        return model.vectors(dim, seed=seed)

    return vectors


class RankerObjective:
    """A ranker's best validation AUC over the epochs of one run; a repetition is another training seed.

    The first repetition reports the best AUC so far after each of its epochs.

    Args:
        dataset: validated ratings and titles; of the test part of ``config.split`` nothing is learnt or measured.
        config: the run that trials vary; its split holds for all of them.
        model: ``dlrm`` or ``ncf``.
        work: an empty folder for NVTabular's files, which must outlive the objective.

    Raises:
        DataError: a part holds one label only.
    """

    metric: ClassVar[str] = "validation AUC"
    patience: ClassVar[int] = 3  # epochs: a small learning rate is behind in the first ones

    def __init__(self, dataset: Dataset, config: RunConfig, model: str, work: Path) -> None:
        parts = split(dataset.interactions, config.split)
        self._train = dataset.interactions.take(parts.train)
        self._validation = dataset.interactions.take(parts.validation)
        remedy = "Search for --model history, or set features.like_above in --config so that it parts them."
        require_both_labels(dataset.interactions, parts, config, remedy, feedback=dataset.about.feedback)
        self._dataset, self._model, self._work, self._seed = dataset, model, work, config.training.seed
        self._training, self._draw = config.training, config.split.seed
        self._vectors = _content_vectors(dataset, config)
        self._parts: dict[FeatureConfig, tuple[Features, EncodedInteractions, EncodedInteractions]] = {}

    def measure(self, config: RunConfig, repeats: int, report: Report) -> float:
        """The mean over ``repeats`` training seeds of the best epoch's validation AUC."""
        best = -math.inf

        def hear(record: EpochRecord) -> None:
            nonlocal best
            best = max(best, record.auc)
            report(record.epoch, best)

        values = [self.once(config, 0, hear), *(self.once(config, repeat) for repeat in range(1, repeats))]
        return math.fsum(values) / len(values)

    def once(self, config: RunConfig, repeat: int, on_epoch: Callable[[EpochRecord], None] | None = None) -> float:
        """The best epoch's validation AUC with seed ``config.training.seed + repeat``."""
        config = config.with_seed(config.training.seed + repeat)
        features, learnt, validation = self._part(config.features)
        training = config.training_of(self._model)[0]  # a study varies the penalty itself
        model = seeded(lambda: build_ranker(self._model, config, features.users, features.items), training)
        result = train(model, learnt, validation, training, name=f"{self._model} trial", on_epoch=on_epoch)
        return result.history[result.best_epoch - 1].auc

    def _part(self, config: FeatureConfig) -> tuple[Features, EncodedInteractions, EncodedInteractions]:
        """Features of the training part, fitted once per distinct configuration, and both parts encoded by them."""
        if config not in self._parts:
            work = self._work / f"features-{len(self._parts)}"
            work.mkdir(parents=True)
            vectors = self._vectors(config.content_dim, self._seed)
            data = self._dataset
            features = fit_features(self._train, data.users, data.items, vectors, config, work, data.about)
            validation = features.encode(self._validation)
            if data.about.feedback == "implicit":
                known = features.encode(data.interactions)
                validation = against_sampled(validation, known, len(features.items), self._training, self._draw)
            self._parts[config] = features, features.encode(self._train), validation
        return self._parts[config]


class HistoryObjective:
    """The history model's NDCG@10 on held-out positives; a repetition is another draw of them.

    Each draw holds out a fifth of the positives among the ratings that are neither in the test part of
    ``config.split`` nor held out by protocol B, so that neither is looked at. The mean so far is reported after each.

    Args:
        dataset: validated ratings and titles.
        config: the run that trials vary; its split holds for all of them.
    """

    metric: ClassVar[str] = "validation NDCG@10"
    patience: ClassVar[int] = 1

    def __init__(self, dataset: Dataset, config: RunConfig) -> None:
        self._dataset = dataset
        self._vectors = _content_vectors(dataset, config)
        ratings = dataset.interactions
        learnt = split(ratings, config.split).fit_rows()
        apart = split_positives(ratings, seed=config.split.seed, like_at=config.history.like_at)
        self._within = np.intersect1d(learnt, apart.train)

    def measure(self, config: RunConfig, repeats: int, report: Report) -> float:
        """The mean NDCG@10 over ``repeats`` draws."""
        total = 0.0
        for repeat in range(repeats):
            total += self.once(config, repeat)
            report(repeat + 1, total / (repeat + 1))
        return total / repeats

    def once(self, config: RunConfig, repeat: int) -> float:
        """The mean NDCG@10 over the users of one draw."""
        like_at, seed = config.history.like_at, _FIRST_DRAW + repeat
        parts = split_positives(self._dataset.interactions, seed=seed, like_at=like_at, within=self._within)
        known = self._dataset.interactions.take(parts.train)
        user, item = self._rows(known)
        shape = self._dataset.users.num_rows + FIRST_KNOWN, self._dataset.items.num_rows + FIRST_KNOWN
        none = np.zeros((FIRST_KNOWN, config.history.feature_dim), np.float32)
        vectors = self._vectors(config.history.feature_dim, config.history.seed)
        features = np.vstack([none, vectors]) if vectors.shape[1] else None
        model = HistoryModel.fit(user, item, known.rating, *shape, features, config.history)
        form = model.to_pair_form(user, item, known.rating, shape[0], known.timestamp)
        held_user, held_item = self._rows(self._dataset.interactions.take(parts.held_out))
        wanted, row = np.unique(held_user, return_inverse=True)
        lists = Engine(form).top_k(wanted, Seen.build(user, item, shape[0]).take(wanted), _LIST_LENGTH)
        relevant = RelevanceSets(row.astype(np.int64), held_item, len(wanted))
        return user_mean(ndcg(lists.item_index, relevant, _LIST_LENGTH, lengths=lists.lengths))

    def _rows(self, ratings: Interactions) -> tuple[Int64s, Int64s]:
        """Rows of the users' and of the items' table, as the encoded tables number them."""
        users, items = (table.column(0).to_numpy() for table in (self._dataset.users, self._dataset.items))
        return rows_of(users, ratings.user_id) + FIRST_KNOWN, rows_of(items, ratings.item_id) + FIRST_KNOWN


Objective: TypeAlias = RankerObjective | HistoryObjective
"""A figure to maximise: ``metric`` says which, ``patience`` from which report on a measurement may be ended early.
``measure`` is the mean of repetitions and tells of the value so far from step 1 on, ``once`` is one of them."""


def objective_of(model: str, dataset: Dataset, config: RunConfig, work: Path) -> Objective:
    """The objective of a model: AUC for a ranker, NDCG@10 for the history model."""
    return HistoryObjective(dataset, config) if model == "history" else RankerObjective(dataset, config, model, work)
