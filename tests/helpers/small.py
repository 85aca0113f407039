"""Small random tables, ratings and data sets to test with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from sdk.base import schema
from sdk.base.config import (
    ContentConfig,
    DLRMConfig,
    FeatureConfig,
    NCFConfig,
    RunConfig,
    SplitConfig,
    TrainingConfig,
)
from sdk.base.types import Dataset, Interactions
from sdk.features.tables import (
    FIRST_KNOWN,
    UNKNOWN,
    EncodedInteractions,
    EncodedTable,
    Statistics,
    raw_statistics,
    unknown_dense,
)

PRIOR = 5.0


def statistics(count: np.ndarray, likes: np.ndarray, prior: float = PRIOR) -> Statistics:
    """Statistics of known rows' counts, normalised over them; the reserved rows go in front."""
    rate = float(likes.sum() / max(count.sum(), 1))
    raw = raw_statistics(count, likes, rate, prior)
    std = raw.std(axis=0)
    none = np.zeros(FIRST_KNOWN)
    whole = (np.concatenate([none, count]), np.concatenate([none, likes]))
    return Statistics(*whole, rate, prior, raw.mean(axis=0), np.where(std > 0, std, 1.0))


def encoded_table(
    rng: np.random.Generator,
    num_known: int,
    *,
    fields: Mapping[str, int] | None = None,
    lists: Mapping[str, int] | None = None,
    num_numbers: int = 1,
    cold_share: float = 0.1,
    prior: float = PRIOR,
) -> EncodedTable:
    """A table of random features: some rows share the unknown id code, ids have gaps."""
    count = rng.integers(0, 30, num_known).astype(np.float64)
    stats = statistics(count, np.floor(count * rng.random(num_known)), prior)
    ids = np.sort(rng.choice(10 * num_known + 10, num_known, replace=False)).astype(np.int64)
    own = np.where(rng.random(num_known) < cold_share, UNKNOWN, np.arange(num_known) + FIRST_KNOWN)
    codes = {"id": own, **{name: rng.integers(1, size, num_known) for name, size in (fields or {}).items()}}
    raw = raw_statistics(stats.count[FIRST_KNOWN:], stats.likes[FIRST_KNOWN:], stats.prior_rate, prior)
    known = np.hstack([(raw - stats.mean) / stats.std, rng.normal(size=(num_known, num_numbers))])
    return EncodedTable(
        ids=np.concatenate([np.full(FIRST_KNOWN, -1), ids]),
        codes={name: np.concatenate([np.full(FIRST_KNOWN, UNKNOWN), values]) for name, values in codes.items()},
        cardinalities={"id": num_known + FIRST_KNOWN, **(fields or {}), **(lists or {})},
        multi_hot={name: _shares(rng, num_known, size) for name, size in (lists or {}).items()},
        dense=np.vstack([unknown_dense(stats, known.shape[1]), known]).astype(np.float32),
        dense_names=("log_count", "like_rate", *(f"number_{n}" for n in range(num_numbers))),
        statistics=stats,
    )


def _shares(rng: np.random.Generator, num_known: int, size: int) -> np.ndarray:
    shares = np.zeros((num_known + FIRST_KNOWN, size), dtype=np.float32)
    for row in range(FIRST_KNOWN, len(shares)):
        chosen = rng.choice(np.arange(1, size), int(rng.integers(1, min(4, size))), replace=False)
        shares[row, chosen] = 1 / len(chosen)
    return shares


def tables(seed: int = 0, num_users: int = 20, num_items: int = 15, **sizes: Any) -> tuple[EncodedTable, EncodedTable]:
    """A users' table with a gender and an items' table with genres."""
    rng = np.random.default_rng(seed)
    users = encoded_table(rng, num_users, fields={"gender": 5}, num_numbers=0, **sizes)
    return users, encoded_table(rng, num_items, lists={"genres": 8}, num_numbers=2, **sizes)


def jitter(model: torch.nn.Module, seed: int = 0, scale: float = 0.3) -> torch.nn.Module:
    """The model with every weight drawn anew, none of them small: a path that is left out shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, scale, generator=generator)
    return model.eval()


def all_pairs(num_users: int, num_items: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Every (user row, item row), the item running fastest."""
    users = torch.arange(num_users).repeat_interleave(num_items)
    return users, torch.arange(num_items).repeat(num_users)


def planted(
    seed: int, num_users: int = 60, num_items: int = 40, share: float = 0.5, dim: int = 3
) -> tuple[EncodedInteractions, EncodedInteractions]:
    """Ratings whose labels follow latent tastes, parted 80/20 into training and held-out rows."""
    rng = np.random.default_rng(seed)
    taste = rng.normal(size=(num_users, dim)) @ rng.normal(size=(dim, num_items))
    liking = 2 * taste + rng.normal(size=(num_users, 1)) + 1.5 * rng.normal(size=num_items)
    user, item = np.nonzero(rng.random((num_users, num_items)) < share)
    label = (rng.random(len(user)) < 1 / (1 + np.exp(-2 * liking[user, item]))).astype(np.int8)
    whole = EncodedInteractions((user + FIRST_KNOWN).astype(np.int32), (item + FIRST_KNOWN).astype(np.int32), label)
    held_out = rng.random(len(user)) < 0.2
    return whole.take(~held_out), whole.take(held_out)


def tables_for(rows: EncodedInteractions, num_users: int = 60, num_items: int = 40) -> tuple[EncodedTable, ...]:
    """The two encoded tables of encoded ratings: statistics only."""
    return tuple(
        _plain_table(index, rows.label, size)
        for index, size in ((rows.user_index, num_users), (rows.item_index, num_items))
    )


def _plain_table(index: np.ndarray, label: np.ndarray, size: int) -> EncodedTable:
    count = np.bincount(index, minlength=size + FIRST_KNOWN)[FIRST_KNOWN:].astype(np.float64)
    likes = np.bincount(index, weights=label, minlength=size + FIRST_KNOWN)[FIRST_KNOWN:]
    stats = statistics(count, likes)
    known = (raw_statistics(count, likes, stats.prior_rate, PRIOR) - stats.mean) / stats.std
    return EncodedTable(
        ids=np.concatenate([np.full(FIRST_KNOWN, -1), np.arange(1, size + 1)]),
        codes={"id": np.concatenate([np.full(FIRST_KNOWN, UNKNOWN), np.arange(size) + FIRST_KNOWN])},
        cardinalities={"id": size + FIRST_KNOWN},
        multi_hot={},
        dense=np.vstack([unknown_dense(stats, 2), known]).astype(np.float32),
        dense_names=("log_count", "like_rate"),
        statistics=stats,
    )


GENRES = ("Action", "Comedy", "Drama", "Horror", "Romance", "Sci-Fi")


def item_table(ids: Sequence[int], rng: np.random.Generator | None = None, **columns: Sequence[Any]) -> pa.Table:
    """``schema.ITEMS`` with these ids; columns not given are made up."""
    rng = rng or np.random.default_rng(0)
    size = len(ids)
    values: dict[str, Any] = {
        "item_id": list(ids),
        "title": [f"Film {'ABCDEFGHIJ'[n % 10]}{n}" for n in range(size)],
        "year": [int(year) for year in rng.integers(1950, 2020, size)],
        "genres": [sorted(rng.choice(GENRES, int(rng.integers(1, 4)), replace=False).tolist()) for _ in range(size)],
        "tags": [[] for _ in range(size)],
        "tmdb_id": [None] * size,
        "overview": [f"a story of {GENRES[n % 6]} and {GENRES[n % 5]}" for n in range(size)],
        **{name: [[] for _ in range(size)] for name in ("keywords", "cast", "directors", "crew", "companies")},
    }
    return pa.table({**values, **columns}, schema=schema.ITEMS)


def user_table(ids: Sequence[int], **columns: Sequence[Any]) -> pa.Table:
    """``schema.USERS`` with these ids; attributes that are not given are null."""
    values = {name: [None] * len(ids) for name in schema.USERS.names}
    return pa.table({**values, "user_id": list(ids), **columns}, schema=schema.USERS)


def ratings(user_id: Any, item_id: Any, rating: Any, timestamp: Any = None) -> Interactions:
    """Interactions of plain lists; the time counts up from 0 if it is not given."""
    when = np.arange(len(user_id)) if timestamp is None else timestamp
    return Interactions(
        np.asarray(user_id, np.int64), np.asarray(item_id, np.int64), np.asarray(rating, np.float32),
        np.asarray(when, np.int64),
    )  # fmt: skip


def dataset(seed: int = 0, num_users: int = 40, num_items: int = 30) -> Dataset:
    """A data set with planted tastes; ids have gaps, one user and two items have no rating."""
    rows, more = planted(seed, num_users - 1, num_items - 2)
    user = np.concatenate([rows.user_index, more.user_index]).astype(np.int64)
    item = np.concatenate([rows.item_index, more.item_index]).astype(np.int64)
    liked = np.concatenate([rows.label, more.label])
    rng = np.random.default_rng(seed)
    stars = np.where(liked == 1, rng.choice([3.5, 4.0, 5.0], len(liked)), rng.choice([0.5, 2.0, 3.0], len(liked)))
    order = rng.permutation(len(user))
    interactions = ratings(user * 7, item * 3, stars, rng.integers(0, 10**9, len(user))).take(order)
    users = user_table([7 * (row + FIRST_KNOWN) for row in range(num_users)])
    items = item_table([3 * (row + FIRST_KNOWN) for row in range(num_items)], rng)
    return Dataset("small", interactions, items, users, schema.REJECTS.empty_table(), f"fingerprint-{seed}")


def run_config(**changes: Any) -> RunConfig:
    """A run that takes a second or two; lists are the ranker's alone, unless ``models`` names the history model."""
    small = RunConfig(
        split=SplitConfig(test_share=0.2, validation_share=0.2),
        features=FeatureConfig(content_dim=3),
        content=ContentConfig(min_document_count=1),
        dlrm=DLRMConfig(embedding_dim=4, bottom_mlp=(8,), top_mlp=(8, 4), dot_dim=4, num_members=1, ncf_share=0.0),
        ncf=NCFConfig(embedding_dim=4, num_members=1, l2_factors=(1.0,)),
        training=TrainingConfig(max_epochs=3, patience=2, batch_size=64, learning_rate=1e-2),
        models=("dlrm", "ncf", "content"),
        final_fit=False,
    )
    return dataclasses.replace(small, **changes)
