"""All titles of MovieLens latest-small: what the content model's and the hybrid lists hold of the co-liked ones.

Hybrid lists know who liked what, so they are measured on likes that they have not seen: the history model learns
from one half of the users (even ids), co-likes are counted over the other half, and the other way round.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sdk.base.types import Dataset
from sdk.data import movielens
from sdk.features.tables import FIRST_KNOWN, EncodedTable, Statistics
from sdk.models.content.hybrid import hybrid_scores
from sdk.models.content.model import ContentModel
from sdk.models.history.model import HistoryConfig, HistoryModel

K = 10
LIKE_AT = 4.0
BLOCK = 512


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


def encoded(items: pa.Table, count: NDArray[np.float64]) -> EncodedTable:
    """The items' table as far as hybrid lists read it: ids and how often each title was rated."""
    none, size = np.zeros(FIRST_KNOWN), items.num_rows + FIRST_KNOWN
    counts = np.concatenate([none, count])
    ids = np.concatenate([np.full(FIRST_KNOWN, -1), items["item_id"].to_numpy()])
    statistics = Statistics(counts, counts, 0.5, 5.0, np.zeros(2), np.ones(2))
    return EncodedTable(ids, {}, {}, {}, np.zeros((size, 0), np.float32), (), statistics)


def half_model(dataset: Dataset, content: ContentModel, learns: NDArray[np.bool_]) -> tuple[HistoryModel, EncodedTable]:
    """The history model of half of the users, and the items' table with their counts."""
    rated, rows = dataset.interactions.take(learns), title_rows(dataset)[learns]
    config = HistoryConfig()
    user = np.unique(rated.user_id, return_inverse=True)[1]
    vectors = content.vectors(config.feature_dim, seed=config.seed)
    features = np.vstack([np.zeros((FIRST_KNOWN, vectors.shape[1]), np.float32), vectors])
    columns = (user + FIRST_KNOWN, rows + FIRST_KNOWN, rated.rating)
    model = HistoryModel.fit(*columns, user.max() + FIRST_KNOWN + 1, len(features), features, config)
    return model, encoded(dataset.items, np.bincount(rows, minlength=dataset.items.num_rows).astype(np.float64))


def hybrid_nearest(
    content: ContentModel, model: HistoryModel, items: EncodedTable, films: NDArray[np.int64], shares: Sequence[float]
) -> Iterator[tuple[float, NDArray[np.int64]]]:
    """For each learned share, (N, 10) rows of the nearest titles; the titles not asked for have -1."""
    out = {share: np.full((len(content.item_id), K), -1) for share in shares}
    for start in range(0, len(films), BLOCK):
        block = films[start : start + BLOCK]
        asked = content.item_id[block]
        alone, learned = (hybrid_scores(content, model, items, asked, share) for share in (0.0, 1.0))
        for share, nearest in out.items():
            blended = (1 - share) * alone + share * learned  # the score is linear in the share
            nearest[block] = np.argpartition(-blended, K, axis=1)[:, :K]
    yield from out.items()
