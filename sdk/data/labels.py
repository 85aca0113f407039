"""What a run makes of its data's feedback: the scale, what a like is, and whether rankers can learn from it.

Ratings are on a scale that is found from them; what was liked follows its place there. Where every pair is a like,
by its weight, or because the ratings tell nothing apart, rankers learn from likes against sampled unseen items.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from typing import Any, NamedTuple

import numpy as np

from sdk.base.config import RANKERS, FromData, RunConfig
from sdk.base.description import Feedback
from sdk.base.errors import DataError, UsageError
from sdk.base.types import Dataset, Float32s, Interactions
from sdk.data.ratings import found_scale, scale_settings
from sdk.data.splits import Split, split

log = logging.getLogger(__name__)
_LEFT = ",".join(name for name in RunConfig().models if name not in RANKERS)
_USUAL = (RunConfig().data.rating_min, RunConfig().data.rating_max)
_MOST_WEIGHT = 1e6


class Ready(NamedTuple):
    """A run made to fit its data.

    Attributes:
        dataset: the data; ``about.feedback`` is ``implicit`` where every pair is a like.
        config: with what it left open settled, and the models that can learn from the data.
        parts: the split.
    """

    dataset: Dataset
    config: RunConfig
    parts: Split


def ready(dataset: Dataset, config: RunConfig, *, level: int = logging.WARNING) -> Ready:
    """Settle all that a run leaves to its data: the one place for it, and nothing else is left open afterwards.

    Args:
        dataset: the data.
        config: the run; what somebody gave stays as it is.
        level: of the warnings.

    Raises:
        DataError: a rating is not finite, a weight not above 0; there is nothing to train on, or nothing for the
            rankers that were asked for to learn from.
        UsageError: ``like_above`` was given, and the feedback is implicit or no rating is above it.
    """
    dataset, config = for_data(dataset, config, level=level)
    parts = split(dataset.interactions, config.split)
    feedback = dataset.about.feedback
    return Ready(dataset, learnable(dataset.interactions, parts, config, feedback=feedback, level=level), parts)


def for_data(dataset: Dataset, config: RunConfig, *, level: int = logging.WARNING) -> tuple[Dataset, RunConfig]:
    """``ready`` without the split: the scale, what a like is, and the kind of the feedback."""
    rating = dataset.interactions.rating
    _require_numbers(rating, dataset.about.feedback)
    if not len(rating):
        return dataset, _given(config)
    if dataset.about.feedback == "explicit":
        require_likes(config, float(rating.min()), float(rating.max()), dataset.name)
    if dataset.about.feedback == "implicit":
        return dataset, _of_likes(config, rating, weights=True)
    if rating.min() == rating.max() and isinstance(config.features.like_above, FromData):
        found, more = f"{rating.min():g}", ""
    else:
        config = _on_scale(dataset, config, min(level, logging.INFO))
        above = config.features.like_above
        if rating.min() <= above:
            return dataset, _given(config)
        found, more = f"above {above:g}", f"; if not all are alike, --like-above {_middle(rating):g} parts them"
    text = "all %s ratings are %s: taken as implicit feedback, every pair a like%s"
    log.log(level, text, f"{len(rating):,}", found, more)
    about = dataclasses.replace(dataset.about, feedback="implicit")
    return dataclasses.replace(dataset, about=about), _of_likes(config, rating, weights=False)


def require_likes(config: RunConfig, low: float, high: float, where: object) -> None:
    """Refuse a threshold that was given though nothing can lie above it.

    Args:
        config: the run.
        low: the lowest rating, or the scale's.
        high: the highest.
        where: what the ratings are of.

    Raises:
        UsageError: no rating can be a like.
    """
    above = config.features.like_above
    if not isinstance(above, FromData) and above >= high:
        message = f"like_above: got {above:g}, but the ratings of {where} go from {low:g} to {high:g}: none would be a"
        raise UsageError(f"{message} like. Give a number below {high:g}, or leave it out (--like-above).")


def _require_numbers(rating: Float32s, feedback: Feedback) -> None:
    wrong = ~np.isfinite(rating) if feedback == "explicit" else ~(np.isfinite(rating) & (rating > 0))
    if wrong.any():
        row = int(wrong.argmax())
        kind, expected = ("rating", "finite") if feedback == "explicit" else ("weight", "above 0")
        found = f"interactions: {wrong.sum():,} of {len(rating):,} {kind}s are not {expected}"
        raise DataError(f"{found}; the first, in row {row}, is {rating[row]:g}. Leave such rows out.")


def _on_scale(dataset: Dataset, config: RunConfig, level: int) -> RunConfig:
    """The run on the scale that it names, or that the ratings have; ratings that fit MovieLens's scale are on it."""
    data, rating = config.data, dataset.interactions.rating
    low, high = float(rating.min()), float(rating.max())
    fits = _USUAL[0] <= low and (high > config.features.like_above or _is_films(dataset)) and high <= _USUAL[1]
    scale = _USUAL if fits else found_scale(low, high)
    if not (isinstance(data.rating_min, FromData) and isinstance(data.rating_max, FromData)):
        scale = (data.rating_min, data.rating_max)
    if scale == _USUAL:
        return config
    config = _filled(config, scale_settings(*scale))
    words = "ratings from %g to %g, scale %g to %g: above %g is a like (--like-above); %g weighs 1 in a history"
    likes = config.features.like_above, config.history.like_at
    log.log(level, words, low, high, *scale, *likes)
    return config


def _is_films(dataset: Dataset) -> bool:
    return dataset.about.is_preset("items") and dataset.about.is_preset("users")


def _of_likes(config: RunConfig, rating: Float32s, *, weights: bool) -> RunConfig:
    """The run where every pair is a like; ``weights`` says that the ratings are such, and on no scale."""
    least = float(rating.min())
    above = config.features.like_above
    if not isinstance(above, FromData) and above >= least:
        message = f"like_above: got {above:g}, but the feedback is implicit: every pair is a like, from {least:g} on"
        raise UsageError(f"{message}. Leave it out (--like-above), or describe the feedback as explicit.")
    floor = min(0.0, math.floor(least) - 1.0)
    settings: dict[str, dict[str, float]] = {
        "features": {"like_above": floor},
        "history": {"like_at": floor, "star_weight": float(f"{1 / np.median(rating):.3g}") if weights else 0.0},
        "data": {"rating_min": 0.0, "rating_max": _MOST_WEIGHT} if weights else {},
    }
    config, weighting = _filled(config, settings), config.history.weighting
    if weighting == "stars":
        weighting = None if weights and rating.max() > least else "alike"
    history = dataclasses.replace(config.history, weighting=weighting)
    training = config.training
    if training.negatives == "none":
        training = dataclasses.replace(training, negatives="uniform")
    return dataclasses.replace(config, history=history, training=training)


def _filled(config: RunConfig, settings: dict[str, dict[str, float]]) -> RunConfig:
    """The run with these settings in place of what was not given; nothing is open afterwards."""
    sections: dict[str, Any] = {}
    for section, values in settings.items():
        owner = getattr(config, section)
        fresh = {name: value for name, value in values.items() if isinstance(getattr(owner, name), FromData)}
        sections[section] = dataclasses.replace(owner, **fresh)
    return _given(dataclasses.replace(config, **sections))


def _given(config: RunConfig) -> RunConfig:
    """The same run, whose numbers are no longer open."""
    sections = {}
    for section in ("data", "features", "history"):
        owner = getattr(config, section)
        values = {each.name: getattr(owner, each.name) for each in dataclasses.fields(owner)}
        known = {name: float(value) for name, value in values.items() if isinstance(value, FromData)}
        sections[section] = dataclasses.replace(owner, **known)
    return dataclasses.replace(config, **sections)


def _middle(rating: Float32s) -> float:
    """The rating that parts ratings of several values most evenly."""
    values, counts = np.unique(rating, return_counts=True)
    return float(values[np.argmin(np.abs(np.cumsum(counts)[:-1] / len(rating) - 0.5))])


def learnable(
    interactions: Interactions,
    parts: Split,
    config: RunConfig,
    *,
    feedback: Feedback = "explicit",
    level: int = logging.WARNING,
) -> RunConfig:
    """The run without those of its rankers that cannot learn or would gain nothing, if ``models`` is at its default.

    Rankers must see likes and dislikes in every part; of implicit feedback, likes, and users with unseen items. The
    history model and the content model learn from less. A warning says what is left out, and what would help. Against
    sampled negatives the BFM is no better than NCF (``docs/how_it_works.md``) and is not trained.

    Args:
        interactions: all ratings.
        parts: their split.
        config: the run.
        feedback: of the data.
        level: of the warning.

    Raises:
        DataError: the rankers cannot learn, and were asked for.
    """
    if not config.rankers:
        return config
    if config.models != RunConfig().models:
        require_both_labels(interactions, parts, config, feedback=feedback)
        return config
    problem = _problem(interactions, parts, config, feedback)
    if not problem:
        gains = [name for name in config.models if feedback == "explicit" or name != "bfm"]
        return dataclasses.replace(config, models=tuple(gains))
    advice = "" if feedback == "implicit" else _advice(interactions, parts, config)
    text = "%s: the rankers cannot learn from it and are left out; %s are trained%s"
    log.log(level, text, problem, _LEFT, advice)
    return dataclasses.replace(config, models=tuple(name for name in config.models if name not in RANKERS))


def require_both_labels(
    interactions: Interactions, parts: Split, config: RunConfig, remedy: str = "", *, feedback: Feedback = "explicit"
) -> None:
    """Refuse ratings that no ranker can learn from or be measured on; arguments as ``learnable``.

    Args:
        interactions: see there.
        parts: see there.
        config: see there.
        remedy: what to do instead, where it is not to train other models.
        feedback: see there.

    Raises:
        DataError: a part has one label only; of implicit feedback, nothing at all or nothing to sample.
    """
    if problem := _problem(interactions, parts, config, feedback):
        if feedback == "implicit":
            message = f"{problem}, and dlrm and ncf learn from likes against unseen items"
            raise DataError(f"{message}. {remedy or f'Train {_LEFT} (--models {_LEFT}).'}")
        remedy = remedy or f"Train {_LEFT} (--models {_LEFT}){_advice(interactions, parts, config)}."
        raise DataError(f"{problem}, and dlrm and ncf must see both. {remedy}")


def _problem(interactions: Interactions, parts: Split, config: RunConfig, feedback: Feedback) -> str:
    if feedback == "implicit":
        return _nothing_unseen(interactions, parts)
    return one_label(interactions.rating, parts, config.features.like_above)


def _nothing_unseen(interactions: Interactions, parts: Split) -> str:
    """Which part has no likes, or none of users who have not seen everything that anybody has; "" where none is so."""
    users, items = interactions.user_id, interactions.item_id
    _, row, counts = np.unique(users, return_inverse=True, return_counts=True)
    some_left = (counts < len(np.unique(items)))[row]
    rows = {"training": parts.train, "validation": parts.validation} | ({"test": parts.test} if len(parts.test) else {})
    for name, part in rows.items():
        if not some_left[part].any():
            missing = "no user there has an unseen item" if len(part) else "it is empty"
            return f"the {name} part holds nothing to tell apart: {missing}"
    return ""


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
    """What would help: another threshold, or another split."""
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
