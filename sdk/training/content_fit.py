"""The content model of a data set: of films as its configuration says, of other items also by who likes what."""

from __future__ import annotations

from copy import copy

from sdk.base.config import RunConfig
from sdk.base.ids import rows_of
from sdk.base.types import Dataset, Int64s
from sdk.data.splits import Split
from sdk.models.content.model import ContentModel
from sdk.models.content.together import Likes


def fit_content(dataset: Dataset, config: RunConfig, parts: Split) -> ContentModel | None:
    """None where the configuration trains none.

    Of other data than MovieLens the training part's likes choose the weights; lists of items without content are made
    of all likes that the bundle learns from. The test part is never looked at.
    """
    if "content" not in config.models:
        return None
    model = ContentModel(config.content)
    if dataset.about.is_preset("items"):
        return model.fit(dataset.items)
    model.fit(dataset.items, dataset.about, _likes(dataset, config, parts.train))
    return content_of(model, dataset, config, parts)


def content_of(model: ContentModel, dataset: Dataset, config: RunConfig, parts: Split) -> ContentModel:
    """The model with lists of items without content made of the likes that a split lets a bundle learn."""
    return copy(model).listing_together(
        _likes(dataset, config, parts.fit_rows() if config.training.refit else parts.train)
    )


def _likes(dataset: Dataset, config: RunConfig, rows: Int64s) -> Likes:
    """Who likes what in some of the ratings: all of what is implicit, else what is rated above ``like_above``."""
    rated = dataset.interactions.take(rows)
    if dataset.about.feedback == "explicit":
        rated = rated.take(rated.rating > config.features.like_above)
    return Likes(rated.user_id, rows_of(dataset.item_keys, rated.item_id))
