"""Fitting the BFM: sweep after sweep of the chain, until the mean of its samples does better on validation no more."""

from __future__ import annotations

import logging
import math
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np

from sdk.base.config import RunConfig
from sdk.base.progress import Progress
from sdk.base.types import Float32s, Float64s
from sdk.features.encode import Features
from sdk.features.loaders import against_sampled
from sdk.features.tables import EncodedInteractions
from sdk.machine.device import usable_cores
from sdk.metrics.pointwise import EpochRecord, auc, log_loss
from sdk.models.bfm import BFM
from sdk.training.gibbs import Chain
from sdk.training.sample_mean import SampleMean

log = logging.getLogger(__name__)

SWEEPS = 25
"""Of an epoch: between two measurements on the validation part."""
_CALIBRATED_ON = 20_000


def sample(
    model: BFM, features: Features, rows: EncodedInteractions, validation: EncodedInteractions | None,
    config: RunConfig, *, name: str, num_epochs: int | None = None, progress: Progress | None = None,
) -> tuple[EpochRecord, ...]:  # fmt: skip
    """Draw samples given encoded training ratings, and fill the model with the mean of their scores, as logits.

    Args:
        model: freshly built, over the features' tables.
        features: both tables.
        rows: encoded training ratings; where negatives are sampled, the likes among them are held to such.
        validation: measured after every ``SWEEPS`` sweeps; None draws ``num_epochs`` times so many.
        config: ``bfm`` says how long; ``training`` has the seed, and how negatives are sampled.
        name: shown in progress and logs.
        num_epochs: overrides what ``config.bfm`` says.
        progress: of the stage that this belongs to; None shows it by itself.

    Returns:
        What each epoch gave; the model is that of the last one.
    """
    settings, training = config.bfm, config.training
    learnt, seed = rows, training.seed
    if training.negatives != "none":
        learnt = against_sampled(rows.take(rows.label == 1), rows, len(features.items), training, seed)
    chain = Chain(learnt, features.users, features.items, settings.rank, seed, by_others=learnt is rows)
    found = SampleMean(settings.width, *(side.count.astype(np.float32) + 1 for side in (chain.users, chain.items)))
    odds, measured = _Scores(_shuffled(learnt, seed)), _Scores(validation or learnt.take(np.zeros(0, np.int64)))
    history: list[EpochRecord] = []
    last = num_epochs or settings.epochs_for(len(rows))
    shown = progress or Progress(name)
    with nullcontext() if progress else shown, ThreadPoolExecutor(usable_cores(), "marquee-gibbs") as pool:
        shown.count("sweeps", 0)
        while len(history) < last and not (validation is not None and _is_done(history, settings.least_gain)):
            start, title = time.perf_counter(), f"{name} epoch {len(history) + 1}/{last}"
            shown.expect(SWEEPS * (1 if validation is not None else last - len(history)))
            for _ in range(SWEEPS):
                chain.sweep(pool)
                found.add(chain.users.expected, chain.items.expected)
                for scores in (odds, measured):
                    scores.add(chain)
                shown.advance()
            speed = SWEEPS * len(learnt) / max(time.perf_counter() - start, 1e-9)
            history.append(_record(len(history) + 1, odds, measured, speed))
            log.debug("%s: %s%s rows/s", title, *_figures(history[-1]))
            if validation is not None:
                shown.show_best(history[-1].auc)
    scale = np.float32(odds.logits_per_score)
    users, items = found.result()
    model.fill((users[0] * scale, users[1] * scale), (items[0], items[1] * scale))
    return tuple(history)


class _Scores:
    """The mean score and probability of some pairs over samples.

    Attributes:
        rows: the pairs.
        score: (N,) float64 summed scores.
        liked: (N,) float64 summed probabilities.
    """

    def __init__(self, rows: EncodedInteractions) -> None:
        self.rows, self.count = rows, 0
        self.score, self.liked = np.zeros(len(rows)), np.zeros(len(rows))

    def add(self, chain: Chain) -> None:
        """Count what a chain holds: scores by what its vectors were drawn about, probabilities by the vectors."""
        from scipy.special import ndtr

        self.count += 1
        self.score += self._scores(chain.users.expected, chain.items.expected)
        self.liked += ndtr(self._scores(chain.users.vectors, chain.items.vectors))

    def _scores(self, users: Float32s, items: Float32s) -> Float32s:
        left, right = users[self.rows.user_index], items[self.rows.item_index]
        found: Float32s = np.einsum("nd,nd->n", left[:, :-1], right[:, :-1]) + left[:, -1] + right[:, -1]
        return found

    @property
    def mean(self) -> Float64s:
        """(N,) float64 mean scores."""
        return self.score / max(self.count, 1)

    @property
    def logits_per_score(self) -> float:
        """What to multiply mean scores by, so that they come nearest to the log odds of the mean probabilities."""
        liked = np.clip(self.liked / max(self.count, 1), 1e-6, 1 - 1e-6)
        return float(np.log(liked / (1 - liked)) @ self.mean / max(float(self.mean @ self.mean), 1e-12))


def _shuffled(rows: EncodedInteractions, seed: int) -> EncodedInteractions:
    """Some of the users and items of ratings, paired at random."""
    rng = np.random.default_rng(seed)
    some = [rng.permutation(len(rows))[:_CALIBRATED_ON] for _ in range(2)]
    return EncodedInteractions(rows.user_index[some[0]], rows.item_index[some[1]], rows.label[some[0]])


def _record(epoch: int, odds: _Scores, measured: _Scores, rows_per_s: float) -> EpochRecord:
    label, score = measured.rows.label, measured.mean * odds.logits_per_score
    found = (auc(label, score), log_loss(label, score)) if len(label) else (math.nan, math.nan)
    return EpochRecord(epoch, math.nan, *found, rows_per_s)


def _figures(record: EpochRecord) -> tuple[str, str]:
    on_validation = f"validation AUC {record.auc:.4f}, log loss {record.log_loss:.4f}, "
    return "" if math.isnan(record.auc) else on_validation, f"{record.rows_per_s:,.0f}"


def _is_done(history: list[EpochRecord], least_gain: float) -> bool:
    """Whether the last epoch has added less than is worth its time."""
    return len(history) > 1 and history[-1].auc - history[-2].auc < least_gain
