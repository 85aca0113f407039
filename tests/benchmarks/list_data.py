"""What benchmarks of lists share: a data set by its usual place, its ratings as columns, its content vectors."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdk.base.types import Dataset, Interactions
from sdk.data import movielens
from sdk.data.sample.writer import write_sample
from sdk.features.tables import FIRST_KNOWN
from sdk.models.content.model import ContentModel

ROOT = Path(__file__).resolve().parents[2]


def sample() -> Dataset:
    with TemporaryDirectory() as folder:
        ratings, films = write_sample(Path(folder))
        return movielens.load(ratings, tmdb=films)


def latest_small(folder: Path | None) -> Dataset:
    data = folder or Path(os.environ.get("MARQUEE_DATA") or ROOT.parent / "shared" / "data")
    tmdb = data / "tmdb-5000"
    return movielens.load(data / "ml-latest-small", tmdb=tmdb if tmdb.exists() else None)


def columns_of(dataset: Dataset, train: Interactions) -> tuple[Any, ...]:
    """Rows of the users' and of the items' table (0 to 2 are reserved), stars, all user ids, all item ids."""
    users, items = (table.column(0).to_numpy() for table in (dataset.users, dataset.items))
    user, item = np.searchsorted(users, train.user_id), np.searchsorted(items, train.item_id)
    return user + FIRST_KNOWN, item + FIRST_KNOWN, train.rating, users, items


def content_features(items: object, dim: int = 256) -> NDArray[np.float32]:
    vectors = ContentModel().fit(items).vectors(dim)  # type: ignore[arg-type]
    return np.vstack([np.zeros((FIRST_KNOWN, dim), np.float32), vectors])
