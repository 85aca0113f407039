"""Our models on a task: one bundle trained on its training part, asked as everybody asks a bundle.

The bundle's data set holds the training ratings alone, so neither the models, nor the histories that lists are made
from, nor the seen titles can know what is asked for.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
from pathlib import Path

import numpy as np

from sdk.base.config import RunConfig, SplitConfig
from sdk.base.errors import BundleError
from sdk.base.types import Float32s, Int64s
from sdk.bundles.bundle import Bundle, load
from sdk.lab.comparison.protocols import Task
from sdk.scoring.recommender import Recommender

log = logging.getLogger(__name__)


def run_config(task: Task, *, quick: bool) -> RunConfig:
    """The shipped defaults; nothing but the validation part is the task's own: its seed, and by time if the task is.

    Args:
        task: what to train for.
        quick: train for two epochs only, to try the command out.
    """
    by_time = task.protocol in ("C", "rolling")
    config = RunConfig(split=SplitConfig(kind="time" if by_time else "random", test_share=0.0, seed=task.seed))
    if not task.is_list_task:
        config = dataclasses.replace(config, models=("dlrm", "ncf", "content"))
    if quick:
        config = dataclasses.replace(config, training=dataclasses.replace(config.training, max_epochs=2))
    return config


def trained(task: Task, config: RunConfig, folder: Path) -> Bundle:
    """The task's bundle: the one in the folder if it is of these data and this configuration, else a new one."""
    from sdk.training.pipeline import train_bundle

    learnt = task.learnt
    if (folder / "bundle.json").is_file():
        try:
            bundle = load(folder)
            if bundle.info.data["fingerprint"] == learnt.fingerprint and bundle.info.config == config:
                return bundle
        except BundleError as error:
            log.info("%s: trained again (%s)", folder, error)
    shutil.rmtree(folder, ignore_errors=True)
    return train_bundle(learnt, config, folder, force=True)


def lists(bundle: Bundle, form: str, user_id: Int64s, k: int) -> tuple[Int64s, Int64s]:
    """A bundle's lists for the given users, without what they have rated.

    Args:
        bundle: trained on the training part alone.
        form: ``default``, what a night writes; ``history``, the history model alone; else a ranker's name, for its
            logits alone.
        user_id: (B,) int64.
        k: list length.

    Returns:
        (B, k) int64 item ids, and (B,) int64 lengths.
    """
    if form == "default":
        found = bundle.recommend(user_id, k)
    else:
        users, items = bundle.encoded_users, bundle.encoded_items
        ranked_by = bundle.list_form(None) if form == "history" else bundle.model(form).lower()
        index = users.index_of(user_id)
        seen = bundle.interactions.seen(len(users)).take(index)
        found = Recommender(form, ranked_by, users, items).recommend(index, seen, k)
    return found.item_id, found.lengths.astype(np.int64)


def content_vectors(bundle: Bundle) -> Float32s:
    """(I, C) float32, the content vectors that are among the DLRM's features."""
    config = bundle.info.config
    return bundle.content.vectors(config.features.content_dim, seed=config.training.seed)
