"""Measuring rankers and baselines on held-out rows, the same way while training and from a bundle."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sdk.config import RunConfig
from sdk.errors import DataError, UsageError
from sdk.features.encode import EncodedInteractions
from sdk.metrics import Calibration, MetricRow, auc, calibration, log_loss
from sdk.models.baselines import BiasedMF, MeansBaseline, popularity_scores
from sdk.models.pair_model import PairModel
from sdk.training.loop import predict
from sdk.types import Float32s

if TYPE_CHECKING:
    from sdk.bundle import Bundle


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What a test part says.

    Attributes:
        rows: one line per model, the rankers first.
        calibrations: ranker name -> its calibration.
        split: the split in words.
        label_rule: which ratings count as likes, in words.
    """

    rows: tuple[MetricRow, ...]
    calibrations: Mapping[str, Calibration]
    split: str
    label_rule: str


def label_rule(config: RunConfig) -> str:
    """Which ratings count as likes, in words."""
    return f"rating > {config.features.like_above:g}"


def evaluate(
    models: Mapping[str, PairModel],
    fitted_on: EncodedInteractions,
    test: EncodedInteractions,
    shape: tuple[int, int],
    config: RunConfig,
) -> Evaluation:
    """Measure models beside popularity, user-and-item means and a biased matrix factorisation.

    Args:
        models: trained rankers by name.
        fitted_on: the rows that they learnt from; the baselines learn from the same.
        test: the rows to measure on.
        shape: rows of the users' and of the items' table.
        config: names the split and the label rule, and seeds the baselines.

    Raises:
        DataError: the test rows lack one of the two labels, so that no AUC exists.
    """
    if len(np.unique(test.label)) < 2:
        message = f"{len(test):,} test rows hold one label only: no AUC can be measured. Choose a larger test share."
        raise DataError(message)
    scores = {name: predict(model, test) for name, model in models.items()}
    rows = [_row(name, test, logits) for name, logits in scores.items()]
    rows += _baseline_rows(fitted_on, test, shape, config.training.seed)
    calibrations = {name: calibration(test.label, _sigmoid(logits)) for name, logits in scores.items()}
    return Evaluation(tuple(rows), calibrations, config.split.describe(), label_rule(config))


def evaluate_bundle(bundle: Bundle) -> Evaluation:
    """Measure a bundle's rankers on the test part that its training never saw.

    Raises:
        UsageError: the bundle holds no ranker, or was trained without a test part.
    """
    from sdk.features.stored_interactions import TEST, TRAIN, VALIDATION

    config = bundle.info.config
    names = list(config.rankers)
    fit_parts = (TRAIN, VALIDATION) if config.training.refit else (TRAIN,)
    fitted_on, test = bundle.interactions.of(*fit_parts), bundle.interactions.of(TEST)
    if not names or not len(test):
        message = f"{bundle.path}: nothing to evaluate (rankers: {names or 'none'}, test rows: {len(test)})"
        raise UsageError(message)
    models: dict[str, PairModel] = {name: bundle.model(name) for name in names}
    shape = (len(bundle.encoded_users), len(bundle.encoded_items))
    return evaluate(models, fitted_on, test, shape, config)


def _baseline_rows(
    fitted_on: EncodedInteractions, test: EncodedInteractions, shape: tuple[int, int], seed: int
) -> Sequence[MetricRow]:
    users, items, labels = fitted_on.user_index, fitted_on.item_index, fitted_on.label
    popular = popularity_scores(items, labels, shape[1])[test.item_index]
    rows = [
        _row(
            name, test, baseline.fit(users, items, labels, *shape, seed=seed).predict(test.user_index, test.item_index)
        )
        for name, baseline in (
            ("biased MF", BiasedMF(num_epochs=_baseline_epochs(len(labels)))),
            ("user and item means", MeansBaseline()),
        )
    ]
    bare = MetricRow("popularity", auc(test.label, popular), math.nan, math.nan, len(test), "its scores are no logits")
    return [*rows, bare]


def _baseline_epochs(num_rows: int) -> int:
    """40 passes up to a million rows, fewer beyond, never under 8: more rows need fewer passes."""
    return min(40, max(8, 40_000_000 // max(num_rows, 1)))


def _row(name: str, test: EncodedInteractions, logits: Float32s) -> MetricRow:
    error = calibration(test.label, _sigmoid(logits)).expected_error
    return MetricRow(name, auc(test.label, logits), log_loss(test.label, logits), error, len(test))


def _sigmoid(logits: Float32s) -> Float32s:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)), dtype=np.float32)
