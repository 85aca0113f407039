"""Measuring rankers, baselines and lists on held-out rows, the same way while training and from a bundle."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sdk.base.config import RunConfig
from sdk.base.description import Feedback
from sdk.base.errors import DataError, UsageError
from sdk.base.types import Bools, Float32s
from sdk.features.interactions import TEST, TRAIN, VALIDATION
from sdk.features.loaders import against_sampled
from sdk.features.tables import EncodedInteractions
from sdk.measure.baselines import BiasedMF, MeansBaseline, popularity_scores
from sdk.measure.later import later_pairs
from sdk.measure.list_evaluation import MAX_USERS, ListEvaluation, evaluate_lists_of
from sdk.measure.slices import USERS, Slice, item_slices, user_slices
from sdk.metrics.intervals import MOST_SAMPLES, auc_interval, likelihood_intervals, samples_for
from sdk.metrics.pointwise import Calibration, Interval, MetricRow, SliceFigures, auc, calibration, log_loss, sigmoid
from sdk.models.pair_model import PairModel
from sdk.models.predict import predict

if TYPE_CHECKING:
    from sdk.bundles.bundle import Bundle
    from sdk.data.events import Loaded

LEAST_OF_A_LABEL = 30  # rows of each label that a slice needs for an AUC


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What a test part says.

    Attributes:
        rows: one line per model, the rankers first.
        calibrations: ranker name -> its calibration.
        split: the split in words.
        label_rule: which ratings count as likes, in words.
        slices: the parts of users and items that were measured on their own, with their borders.
        slice_rows: one line per model and slice.
        samples: resamplings of the users behind each interval of ``rows``; 0 where none were asked for.
        lists: how good the lists over the full catalogue are; None where they were not measured.
        sampled: how the negatives were drawn that likes were measured against, in words; empty where ratings were
            measured against each other.
        learnt: in words, what was learnt from; empty where that is what the published models learnt from.
    """

    rows: tuple[MetricRow, ...]
    calibrations: Mapping[str, Calibration]
    split: str
    label_rule: str
    slices: tuple[Slice, ...] = ()
    slice_rows: tuple[SliceFigures, ...] = ()
    samples: int = 0
    lists: ListEvaluation | None = None
    sampled: str = ""
    learnt: str = ""


def label_rule(config: RunConfig, feedback: Feedback = "explicit") -> str:
    """Which ratings count as likes, in words; of implicit feedback also what they are told from, briefly."""
    if feedback == "implicit":
        return f"every pair ({config.training.num_negatives} sampled negatives each, {config.training.negatives})"
    return f"rating > {config.features.like_above:g}"


def sampled_negatives(config: RunConfig) -> str:
    """What likes of implicit feedback are learnt and measured against, in words."""
    how = "uniformly" if config.training.negatives == "uniform" else "by popularity"
    return f"sampled negatives, {config.training.num_negatives} per like, drawn {how} from what its user has not"


def learnt_parts(config: RunConfig) -> tuple[int, ...]:
    """The parts of the split that the final models learnt from."""
    return (TRAIN, VALIDATION) if config.training.refit else (TRAIN,)


def evaluate(
    models: Mapping[str, PairModel],
    fitted_on: EncodedInteractions,
    test: EncodedInteractions,
    shape: tuple[int, int],
    config: RunConfig,
    *,
    samples: int = 0,
    known: EncodedInteractions | None = None,
) -> Evaluation:
    """Measure models beside popularity, user-and-item means and a biased matrix factorisation.

    Args:
        models: trained rankers by name.
        fitted_on: the rows that they learnt from; the baselines learn from the same.
        test: the rows to measure on.
        shape: rows of the users' and of the items' table.
        config: names the split and the label rule, and seeds the baselines.
        samples: resamplings of the users behind each interval, fewer where there are many rows
            (``resampling.samples_for``); 0 leaves the intervals out.
        known: of implicit feedback every pair of all parts: likes are measured against sampled items beside these, the
            same for all models, and the baselines learn from likes against such. None: ratings have both labels.

    Raises:
        DataError: the test rows lack one of the two labels, so that no AUC exists.
    """
    slices, learnt = slices_of(fitted_on, test, shape), fitted_on
    if known is not None:
        test, learnt = (
            against_sampled(rows, avoided, shape[1], config.training, config.split.seed)
            for rows, avoided in ((test, known), (fitted_on, fitted_on))
        )
    if len(np.unique(test.label)) < 2:
        message = f"{len(test):,} test rows hold one label only: no AUC can be measured. Choose a larger test share."
        raise DataError(message)
    drawn = samples_for(len(test), samples) if samples else 0
    scored = [_Scored(name, test, predict(model, test), drawn) for name, model in models.items()]
    scored += _baselines(learnt, test, shape, config.training.seed, drawn)
    return Evaluation(
        rows=tuple(each.row() for each in scored),
        calibrations={each.name: calibration(test.label, sigmoid(each.scores)) for each in scored[: len(models)]},
        split=config.split.describe(),
        label_rule=label_rule(config, "explicit" if known is None else "implicit"),
        slices=slices,
        slice_rows=tuple(each.sliced(part) for each in scored for part in slices),
        samples=drawn,
        sampled="" if known is None else sampled_negatives(config),
    )


def slices_of(fitted_on: EncodedInteractions, test: EncodedInteractions, shape: tuple[int, int]) -> tuple[Slice, ...]:
    """Parts of the users and of the items by their training ratings; arguments as ``evaluate``."""
    users, items = (np.unique(index).astype(np.int64) for index in (test.user_index, test.item_index))
    user_counts = np.bincount(fitted_on.user_index, minlength=shape[0])
    return user_slices(user_counts, users) + item_slices(np.bincount(fitted_on.item_index, minlength=shape[1]), items)


def evaluate_later(
    bundle: Bundle,
    loaded: Loaded,
    *,
    include_seen: bool = False,
    samples: int = MOST_SAMPLES,
    max_list_users: int | None = None,
) -> Evaluation:
    """Measure a bundle's lists, as a night would make them, on what came after all that it knows.

    Args:
        bundle: a trained system.
        loaded: a table of interactions; of one that holds earlier ones, too, only later ones count.
        include_seen: whether lists may name what a user has, and what comes again is asked for.
        samples: as ``evaluate_bundle``.
        max_list_users: as ``evaluate_bundle``.

    Raises:
        DataError: nothing in the table is later, and of the bundle's users and items.
    """
    config, parts = bundle.info.config, (TRAIN, VALIDATION, TEST)
    asked = later_pairs(bundle, loaded, include_seen=include_seen)
    shape = (len(bundle.encoded_users), len(bundle.encoded_items))
    slices = slices_of(bundle.interactions.rows, asked.rows, shape)
    most = MAX_USERS if max_list_users is None else max_list_users
    lists = evaluate_lists_of(
        bundle, parts, asked, slices, max_users=most, samples=samples, later=True, include_seen=include_seen
    )
    rule = label_rule(config, bundle.about.feedback)
    return Evaluation((), {}, "what came after training", rule, slices, lists=lists)


def evaluate_bundle(bundle: Bundle, *, samples: int = MOST_SAMPLES, max_list_users: int | None = None) -> Evaluation:
    """Measure a bundle's rankers and lists on the test part that its training never saw.

    Of a bundle that learnt from every rating afterwards, those are the ones before that (``Bundle.measured``).

    Args:
        bundle: a trained system.
        samples: resamplings of the users behind each interval; 0 leaves the intervals out.
        max_list_users: lists of a seeded sample of so many users are measured; None means 20,000.

    Raises:
        UsageError: the bundle holds neither a ranker nor a history model, or was trained without a test part.
    """
    published, bundle = bundle, bundle.measured
    config, learnt = bundle.info.config, learnt_parts(bundle.info.config)
    names, test = list(config.rankers), bundle.interactions.only(TEST)
    if not (names or "history" in bundle.info.models) or not len(test.rows):
        message = f"{bundle.path}: nothing to evaluate (rankers: {names or 'none'}, test rows: {len(test.rows)})"
        raise UsageError(message)
    shape, fitted_on = (len(bundle.encoded_users), len(bundle.encoded_items)), bundle.interactions.of(*learnt)
    models: dict[str, PairModel] = {name: bundle.model(name) for name in names}
    rule = label_rule(config, bundle.about.feedback)
    rated = (
        evaluate(models, fitted_on, test.rows, shape, config, samples=samples, known=known_pairs(bundle))
        if models
        else Evaluation((), {}, config.split.describe(), rule, slices_of(fitted_on, test.rows, shape))
    )
    most = MAX_USERS if max_list_users is None else max_list_users
    lists = evaluate_lists_of(bundle, learnt, test, rated.slices, max_users=most, samples=samples)
    learnt_all = len(fitted_on), len(published.interactions.rows)
    words = "" if bundle is published else learnt_words(*learnt_all, bundle.about.feedback)
    return dataclasses.replace(rated, lists=lists, learnt=words)


def learnt_words(measured: int, published: int, feedback: Feedback) -> str:
    """What the figures are of, where what is published learnt from more afterwards."""
    rows = "pairs" if feedback == "implicit" else "ratings"
    return f"Measured after learning from {measured:,} {rows}; what is published learnt from all {published:,}."


def known_pairs(bundle: Bundle) -> EncodedInteractions | None:
    """Every pair of a bundle of implicit feedback, which sampled negatives avoid; None of ratings."""
    return bundle.interactions.rows if bundle.about.feedback == "implicit" else None


@dataclass(frozen=True, slots=True, eq=False)
class _Scored:
    """One model's scores of the test rows; ``note`` is set where they are no logits."""

    name: str
    test: EncodedInteractions
    scores: Float32s
    samples: int
    note: str = ""

    def row(self) -> MetricRow:
        everything = np.ones(len(self.test), dtype=np.bool_)
        values, intervals = self._figures(everything)
        loss, error = values.get("log_loss", math.nan), values.get("calibration_error", math.nan)
        return MetricRow(self.name, values["auc"], loss, error, len(self.test), self.note, intervals)

    def sliced(self, part: Slice) -> SliceFigures:
        mine = part.members[self.test.user_index if part.side == USERS else self.test.item_index]
        labels = self.test.label[mine]
        enough = min((labels == 1).sum(), (labels == 0).sum()) >= LEAST_OF_A_LABEL
        values, intervals = self._figures(mine) if enough else ({}, {})
        num_users = len(np.unique(self.test.user_index[mine]))
        return SliceFigures(self.name, part.name, num_users, len(labels), values, intervals)

    def _figures(self, rows: Bools) -> tuple[dict[str, float], dict[str, Interval]]:
        user, labels, scores = self.test.user_index[rows], self.test.label[rows], self.scores[rows]
        values = {"auc": auc(labels, scores)}
        intervals = {"auc": auc_interval(user, labels, scores, self.samples)} if self.samples else {}
        if self.note:
            return values, intervals
        bins = calibration(labels, sigmoid(scores))
        values |= {"log_loss": log_loss(labels, scores), "calibration_error": bins.expected_error}
        if self.samples:
            ends = likelihood_intervals(user, labels, scores, bins, self.samples)
            intervals |= dict(zip(("log_loss", "calibration_error"), ends, strict=True))
        return values, intervals


def _baselines(
    fitted_on: EncodedInteractions, test: EncodedInteractions, shape: tuple[int, int], seed: int, samples: int
) -> Iterator[_Scored]:
    users, items, labels = fitted_on.user_index, fitted_on.item_index, fitted_on.label
    epochs = min(40, max(8, 40_000_000 // max(len(labels), 1)))  # more rows need fewer passes
    for name, baseline in (("biased MF", BiasedMF(num_epochs=epochs)), ("user and item means", MeansBaseline())):
        fitted = baseline.fit(users, items, labels, *shape, seed=seed)
        yield _Scored(name, test, fitted.predict(test.user_index, test.item_index), samples)
    popular = popularity_scores(items, labels, shape[1])[test.item_index]
    yield _Scored("popularity", test, popular, samples, "its scores are no logits")
