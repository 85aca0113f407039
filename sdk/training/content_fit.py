"""The content model of a data set: by what its items are, and by who likes what."""

from __future__ import annotations

from sdk.base.config import RunConfig
from sdk.base.ids import rows_of
from sdk.base.types import Dataset, Int64s
from sdk.data.splits import Split
from sdk.models.content.model import ContentModel
from sdk.models.content.together import Likes


def fit_content(dataset: Dataset, config: RunConfig, parts: Split) -> ContentModel | None:
    """None where the configuration trains none.

    The training part's likes choose what liking together counts in lists and, of other data than MovieLens, the
    weights; the lists are made of all likes that the bundle learns from. The test part is never looked at.
    """
    if "content" not in config.models:
        return None
    about = None if dataset.about.is_preset("items") else dataset.about
    model = ContentModel(config.content).fit(dataset.items, about, _likes(dataset, config, parts.train))
    return content_of(model, dataset, config, parts)


def content_of(model: ContentModel, dataset: Dataset, config: RunConfig, parts: Split) -> ContentModel:
    """The model with lists of the likes that a split lets a bundle learn."""
    return model.listing_together(_likes(dataset, config, parts.fit_rows() if config.training.refit else parts.train))


def _likes(dataset: Dataset, config: RunConfig, rows: Int64s) -> Likes:
    """Who likes what in some of the ratings: all of what is implicit, else what is rated above ``like_above``."""
    rated = dataset.interactions.take(rows)
    if dataset.about.feedback == "explicit":
        rated = rated.take(rated.rating > config.features.like_above)
    return Likes(rated.user_id, rows_of(dataset.item_keys, rated.item_id))
