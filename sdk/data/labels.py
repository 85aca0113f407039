"""What the rankers need of the labels: likes and dislikes in every part. Others learn from likes alone."""

from __future__ import annotations

import dataclasses
import json
import logging

import numpy as np

from sdk.base.config import RANKERS, RunConfig
from sdk.base.errors import DataError
from sdk.base.types import Float32s, Interactions
from sdk.data.splits import Split, split

log = logging.getLogger(__name__)
_LEFT = ",".join(name for name in RunConfig().models if name not in RANKERS)


def learnable(
    interactions: Interactions, parts: Split, config: RunConfig, *, level: int = logging.WARNING
) -> RunConfig:
    """The run without its rankers where they cannot learn or be measured, if ``models`` is left at its default.

    Ratings of one label only are data as people have them: likes, purchases, watches. The history model and the
    content model learn from them. A warning says what is left out, and whether another threshold would help.

    Args:
        interactions: all ratings.
        parts: their split.
        config: the run.
        level: of the warning.

    Raises:
        DataError: the rankers cannot learn, and were asked for.
    """
    if not config.rankers:
        return config
    if config.models != RunConfig().models:
        require_both_labels(interactions, parts, config)
        return config
    problem = one_label(interactions.rating, parts, config.features.like_above)
    if not problem:
        return config
    advice = _advice(interactions, parts, config)
    text = "%s: dlrm and ncf cannot learn from it and are left out; %s are trained%s"
    log.log(level, text, problem, _LEFT, advice)
    return dataclasses.replace(config, models=tuple(name for name in config.models if name not in RANKERS))


def require_both_labels(interactions: Interactions, parts: Split, config: RunConfig, remedy: str = "") -> None:
    """Refuse ratings that no ranker can learn from or be measured on; arguments as ``learnable``.

    Args:
        interactions: see there.
        parts: see there.
        config: see there.
        remedy: what to do instead, where it is not to train other models.

    Raises:
        DataError: a part has one label only.
    """
    if problem := one_label(interactions.rating, parts, config.features.like_above):
        remedy = remedy or f"Train {_LEFT} (--models {_LEFT}){_advice(interactions, parts, config)}."
        raise DataError(f"{problem}, and dlrm and ncf must see both. {remedy}")


def one_label(rating: Float32s, parts: Split, like_above: float) -> str:
    """Which part that rankers need lacks one of the two labels, in words; "" where none does.

    Args:
        rating: (N,) float32, of all ratings.
        parts: their split. The test part may be empty, the others may not.
        like_above: a rating above is a like.
    """
    liked = rating > like_above
    rows = {"training": parts.train, "validation": parts.validation} | ({"test": parts.test} if len(parts.test) else {})
    for of, labels in {"": liked, **{f" of the {name} part": liked[part] for name, part in rows.items()}}.items():
        if not len(labels):
            return f"there are no ratings{of}"
        if labels.all() or not labels.any():
            found = "likes" if labels.all() else "no likes"
            return f"the {len(labels):,} ratings{of} hold one label only (all are {found} by rating > {like_above:g})"
    return ""


def _advice(interactions: Interactions, parts: Split, config: RunConfig) -> str:
    """What would help: another threshold, or another split; or to count as likes what is all of one value."""
    values = np.unique(interactions.rating)
    if len(values) == 1 and values[0] <= config.features.like_above:
        likes = {"features": {"like_above": float(values[0]) / 2}, "history": {"like_at": float(values[0])}}
        return f"; if they are likes, say so in a file, --config likes.json, that holds {json.dumps(likes)}"
    threshold = _better_threshold(interactions.rating, parts)
    if threshold is not None:
        return f"; or, if not all of these ratings are alike, --like-above {threshold:g} parts them"
    if config.split.kind != "random" and len(parts.validation):
        drawn = split(interactions, dataclasses.replace(config.split, kind="random"))
        if not one_label(interactions.rating, drawn, config.features.like_above):
            return "; or --split random, which leaves both labels in every part"
    return ""


def _better_threshold(rating: Float32s, parts: Split) -> float | None:
    """The rating that parts the ratings most evenly, and every part of them; None where none does."""
    values, counts = np.unique(rating, return_counts=True)
    below = np.cumsum(counts)[:-1] / len(rating)
    for place in np.argsort(np.abs(below - 0.5), kind="stable").tolist():
        if not one_label(rating, parts, float(values[place])):
            return float(values[place])
    return None
