"""A bundle whose ranker is a ``DLRMModel`` of Merlin Models that was trained elsewhere, on a bundle's columns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sdk.base.config import RANKERS, RunConfig
from sdk.base.errors import OutputError
from sdk.base.files import lock_of, locked
from sdk.base.paths import as_path
from sdk.base.rights import reason
from sdk.bundles.bundle import Bundle, load
from sdk.bundles.info import MEASURED
from sdk.features.interactions import TEST, VALIDATION
from sdk.features.loaders import against_sampled
from sdk.machine.device import require_trainer
from sdk.measure.evaluation import evaluate, known_pairs, learnt_parts
from sdk.metrics.pointwise import auc
from sdk.models.merlin_lowering import dlrm_of_merlin
from sdk.models.predict import predict
from sdk.training.bundle_writer import write_with_ranker
from sdk.training.pipeline import require_room


def from_merlin(model: Any, bundle: Bundle, out: str | Path | None = None, *, force: bool = False) -> Bundle:
    """Write a bundle like the given one, whose only ranker, ``dlrm``, is a Merlin model trained elsewhere.

    Nights and exports are made of it as of any bundle. It is measured on the given bundle's validation and test
    ratings, which says something only if it was trained on that bundle's training ratings. A bundle that learnt from
    every rating has none of these: train on ``bundle.measured`` and give that, to have the model measured. No share of
    it in lists was chosen, so beside a history model it takes part in them only by ``history.ranker_weight``.

    Args:
        model: a trained ``merlin.models.torch.DLRMModel`` on the bundle's encoded columns (docs/how_it_works.md names
            them).
        bundle: whose tables, users, titles and other models the new one has.
        out: the new bundle's folder; by default the given one's, or that around it, with ``-merlin`` at its end.
        force: whether an existing bundle may be replaced.

    Raises:
        UsageError: Merlin Models is not installed, or the model cannot be lowered; the message says why.
        OutputError: ``out`` exists (and ``force`` is not given), or cannot be written.
        LockedError: another run is writing the same bundle.
    """
    require_trainer("merlin")
    whole = bundle.path.parent if bundle.path.name == MEASURED else bundle.path
    target = (whole.with_name(f"{whole.name}-merlin") if out is None else as_path(out)).absolute()
    require_room(target, force=force)
    ranker = dlrm_of_merlin(model, bundle.encoded_users, bundle.encoded_items)
    config = _config_of(bundle, ranker.config)
    measured, test, known = bundle.interactions.of(VALIDATION), bundle.interactions.of(TEST), known_pairs(bundle)
    if known is not None:
        measured = against_sampled(measured, known, len(bundle.encoded_items), config.training, config.split.seed)
    validation = {"dlrm": auc(measured.label, predict(ranker, measured))} if len(np.unique(measured.label)) > 1 else {}
    shape, fitted_on = (
        (len(bundle.encoded_users), len(bundle.encoded_items)),
        bundle.interactions.of(*learnt_parts(config)),
    )
    measurable = len(np.unique(test.label)) > 1 or (known is not None and len(test) > 0)
    evaluation = evaluate({"dlrm": ranker}, fitted_on, test, shape, config, known=known) if measurable else None
    try:
        with locked(
            lock_of(target), f"{target}: another run is writing this bundle; wait for it, or choose another out"
        ):
            write_with_ranker(bundle, ranker, config, validation, evaluation, target)
    except OSError as error:
        found, why = error.filename or target, reason(error, target)
        message = f"{found}: cannot be written or deleted ({why}); make room there, or choose another out"
        raise OutputError(message) from error
    return load(target)


def _config_of(bundle: Bundle, dlrm: Any) -> RunConfig:
    config = bundle.info.config
    others = [name for name in config.models if name not in RANKERS]
    training = replace(config.training, trainer="merlin")
    return replace(config, models=("dlrm", *others), dlrm=dlrm, training=training)
