"""All titles of MovieLens latest-small: what the content model's and the hybrid lists hold of the co-liked ones.

Hybrid lists know who liked what, so they are measured on likes that they have not seen: one half of the users chooses
and makes them, co-likes are counted over the other half, and the other way round.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sdk.base.types import Dataset
from sdk.data import movielens
from sdk.models.content.model import ContentModel
from sdk.models.content.together import Likes

K = 10
LIKE_AT = 4.0


def read(data: Path) -> Dataset:
    """Latest-small with TMDB 5000's features where ``links.csv`` joins them."""
    return movielens.load(data / "ml-latest-small", tmdb=data / "tmdb-5000")


def likes_of(dataset: Dataset, users: NDArray[np.bool_] | None = None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(title rows, user ids) of the likes, of the interactions where ``users`` is True."""
    rated = dataset.interactions
    kept = rated.rating >= LIKE_AT if users is None else (rated.rating >= LIKE_AT) & users
    return title_rows(dataset)[kept], rated.user_id[kept]


def title_rows(dataset: Dataset) -> NDArray[np.int64]:
    return np.searchsorted(dataset.items["item_id"].to_numpy(), dataset.interactions.item_id)


def half_model(dataset: Dataset, learns: NDArray[np.bool_]) -> ContentModel:
    """The content model whose share of liking together half of the users choose, and whose lists are of their likes."""
    row, user = likes_of(dataset, learns)
    likes = Likes(user, row)
    return ContentModel().fit(dataset.items, likes=likes).listing_together(likes)


def nearest(model: ContentModel, films: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N, 10) rows of the nearest titles; -1 past a list's end and of titles not asked for."""
    out = np.full((len(model.item_id), K), -1)
    ids = model.similar(model.item_id[films], K).item_id
    out[films] = np.where(ids >= 0, np.searchsorted(model.item_id, ids), -1)
    return out
