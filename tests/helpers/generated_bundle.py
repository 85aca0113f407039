"""A bundle of any number of users, written by the project's own writers without training: taste is drawn at random."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from small import item_table, statistics

from sdk.base import schema
from sdk.base.config import FeatureConfig, HistoryConfig, RunConfig, to_json
from sdk.base.files import json_text, sha256_of
from sdk.base.ids import nobody
from sdk.base.stored_arrays import write_arrays
from sdk.bundles.info import FORMAT_VERSION, INFO, LISTS, sealed
from sdk.features import interactions
from sdk.features.interactions import StoredInteractions
from sdk.features.table_files import write_table
from sdk.features.tables import FIRST_KNOWN, UNKNOWN, EncodedInteractions, EncodedTable, raw_statistics, unknown_dense
from sdk.models.form_files import form_arrays
from sdk.models.history.model import HistoryModel
from sdk.models.pair_form import PairForm, Side

_CHUNK = 1 << 20
_PRIOR = 5.0


@dataclass(frozen=True)
class Sizes:
    """How much of everything.

    Attributes:
        users: every tenth has rated nothing.
        items: of the catalogue.
        per_user: ratings of a user, in the mean.
        rank: of the history model.
        ages: whether ratings age and what was had rises by its age.
        in_order: whether ratings lie by user, as they are written now, or in the order of some input.
        text: whether users' ids are text.
        stored: whether the form of lists is stored, as it is now.
        seed: of all that is drawn.
    """

    users: int
    items: int = 2000
    per_user: int = 4
    rank: int = 15
    ages: bool = False
    in_order: bool = True
    text: bool = False
    stored: bool = True
    seed: int = 0


def write_generated(folder: Path, sizes: Sizes) -> Path:
    """Write a bundle with the history model alone; its folder."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(sizes.seed)
    config = RunConfig(
        features=FeatureConfig(engine="builtin"), models=("history",),
        history=HistoryConfig(
            rank=sizes.rank, penalty=1.0, item_exponent=0.0, content_weight=0.0, popularity_weight=1.0,
            popularity_half_life_days=0.0, half_life_days=100.0 if sizes.ages else 0.0, session_gap_s=0.0,
            repeat_weight=2.0 if sizes.ages else 0.0, repeat_half_life_days=30.0 if sizes.ages else 0.0,
        ),
    )  # fmt: skip
    ratings, counts = _ratings(rng, sizes)
    ratings.write(folder / "seen.parquet")
    if not sizes.in_order:
        _as_early_releases(folder / "seen.parquet")
    history = _history(rng, sizes, config.history)
    history.save(folder)
    tables = {"users": _users(counts, sizes, folder), "items": _items(ratings, sizes, folder)}
    pq.write_table(schema.REJECTS.empty_table(), folder / "rejects.parquet")
    if sizes.stored:
        write_arrays(folder / LISTS, form_arrays(_form(history, ratings, counts)))
    _write_info(folder, config, tables, sizes, len(ratings.part))
    return folder


def _ratings(rng: np.random.Generator, sizes: Sizes) -> tuple[StoredInteractions, np.ndarray]:
    """Every rating, and how many each user has. A user's items lie one step apart, so that none comes twice."""
    most = 2 * sizes.per_user
    counts = rng.integers(1, most, sizes.users) * (rng.random(sizes.users) > 0.1)
    starts = np.cumsum(counts) - counts
    first, step = rng.integers(0, sizes.items, sizes.users), rng.integers(1, sizes.items // most, sizes.users)
    total = int(counts.sum())
    user, item = np.empty(total, np.int32), np.empty(total, np.int32)
    for begin in range(0, sizes.users, _CHUNK):
        part = slice(begin, begin + _CHUNK)
        who = np.repeat(np.arange(begin, min(begin + _CHUNK, sizes.users)), counts[part])
        where = slice(int(starts[begin]), int(starts[begin]) + len(who))
        nth = np.arange(where.start, where.stop) - starts[who]
        user[where], item[where] = who + FIRST_KNOWN, (first[who] + nth * step[who]) % sizes.items + FIRST_KNOWN
    rating = rng.integers(1, 6, total).astype(np.float32)
    rows = EncodedInteractions(user, item, (rating > 3).astype(np.int8))
    times = rng.integers(10**9, 11 * 10**8, total) if sizes.ages else None
    out = rng.random(total) < 0.8 if sizes.ages else None
    stored = StoredInteractions(rows, np.zeros(total, np.int8), rating, times, out)
    return stored if sizes.in_order else _taken(stored, rng.permutation(total)), counts


def _taken(stored: StoredInteractions, order: np.ndarray) -> StoredInteractions:
    columns = (stored.rating, stored.timestamp, stored.takes_out)
    rating, times, out = (None if column is None else column[order] for column in columns)
    assert rating is not None
    return StoredInteractions(stored.rows.take(order), stored.part[order], rating, times, out)


def _as_early_releases(path: Path) -> None:
    """The ratings in the order of the input, which nothing in the file tells."""
    table = pq.read_table(path).sort_by("place")
    pq.write_table(table.drop_columns("place"), path, row_group_size=interactions.ROWS_A_GROUP)


def _history(rng: np.random.Generator, sizes: Sizes, config: HistoryConfig) -> HistoryModel:
    shape, known = (sizes.items + FIRST_KNOWN, sizes.rank + 1), np.arange(sizes.items + FIRST_KNOWN) >= FIRST_KNOWN
    item_in, item_out = (rng.normal(size=shape).astype(np.float32) * known[:, None] for _ in range(2))
    bias = (rng.random(shape[0]) * known).astype(np.float32)
    item_in[:, -1], item_out[:, -1] = 0, bias
    return HistoryModel(item_in, item_out, bias, config)


def _form(history: HistoryModel, ratings: StoredInteractions, counts: np.ndarray) -> PairForm:
    """``Bundle.list_form``, a few users at a time."""
    order = np.argsort(ratings.rows.user_index, kind="stable")
    by_user = _taken(ratings, order)
    ends, size = np.concatenate([[0], np.cumsum(counts)]), len(counts) + FIRST_KNOWN
    vectors = np.zeros((size, history.item_in.shape[1]), np.float32)
    for begin in range(0, len(counts), _CHUNK):
        part = ends[begin : begin + _CHUNK + 1]
        own = slice(int(part[0]), int(part[-1]))
        form = history.to_pair_form(
            by_user.rows.user_index[own] - begin, by_user.rows.item_index[own], by_user.rating[own],
            len(part) - 1 + FIRST_KNOWN, None if by_user.timestamp is None else by_user.timestamp[own],
        )  # fmt: skip
        vectors[begin + FIRST_KNOWN : begin + FIRST_KNOWN + len(part) - 1] = form.users.dot[FIRST_KNOWN:]
    bias = np.zeros(size, np.float32)
    return PairForm(Side.plain(bias, vectors), form.items, form.head, vectors.any(axis=1))


def user_id(number: int, *, text: bool) -> int | str:
    """The id of a user, counted from 0."""
    return f"u{3 * number + 3:09d}" if text else 3 * number + 3


def _users(counts: np.ndarray, sizes: Sizes, folder: Path) -> dict[str, Any]:
    numbers, count = np.arange(len(counts)), counts.astype(np.float64)
    ids = np.array([user_id(n, text=True) for n in numbers.tolist()], object) if sizes.text else numbers * 3 + 3
    own = np.where(counts > 0, numbers + FIRST_KNOWN, UNKNOWN)
    layout = schema.USERS.set(0, pa.field("user_id", schema.id_type(ids), nullable=False))
    raw = {field.name: pa.nulls(len(ids), field.type) for field in layout} | {"user_id": pa.array(ids)}
    table = pa.table(raw, schema=layout)
    return write_table(table, _encoded(ids, own, count, np.floor(count / 2)), folder / "users.parquet")


def _items(ratings: StoredInteractions, sizes: Sizes, folder: Path) -> dict[str, Any]:
    ids = np.arange(1, sizes.items + 1)
    counts = np.bincount(ratings.rows.item_index, minlength=sizes.items + FIRST_KNOWN)[FIRST_KNOWN:]
    likes = np.bincount(ratings.rows.item_index, ratings.rows.label, sizes.items + FIRST_KNOWN)[FIRST_KNOWN:]
    encoded = _encoded(ids, np.arange(len(ids)) + FIRST_KNOWN, counts.astype(np.float64), likes)
    return write_table(item_table(ids.tolist()), encoded, folder / "items.parquet")


def _encoded(ids: np.ndarray, own: np.ndarray, count: np.ndarray, likes: np.ndarray) -> EncodedTable:
    """A table of statistics alone."""
    stats = statistics(count, likes, _PRIOR)
    raw = raw_statistics(count, likes, stats.prior_rate, _PRIOR)
    return EncodedTable(
        ids=np.concatenate([np.full(FIRST_KNOWN, nobody(ids), ids.dtype), ids]),
        codes={"id": np.concatenate([np.full(FIRST_KNOWN, UNKNOWN), own])},
        cardinalities={"id": len(ids) + FIRST_KNOWN},
        multi_hot={},
        dense=np.vstack([unknown_dense(stats, 2), (raw - stats.mean) / stats.std]).astype(np.float32),
        dense_names=("log_count", "like_rate"),
        statistics=stats,
    )


def _write_info(folder: Path, config: RunConfig, tables: dict[str, Any], sizes: Sizes, num_ratings: int) -> None:
    files = {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
    values = {
        "format_version": FORMAT_VERSION, "created": "2026-01-01T00:00:00+00:00",
        "data": {
            "name": "generated", "fingerprint": f"{sizes}", "num_ratings": num_ratings, "num_users": sizes.users,
            "num_items": sizes.items, "num_rejects": 0,
        },
        "config": to_json(config), "tables": tables, "models": list(config.models), "chosen_model": None,
        "metrics": {"split": "none", "label_rule": "above 3", "validation_auc": {}, "ranker_share": {}, "test": []},
        "packages": {}, "files": files,
    }  # fmt: skip
    (folder / INFO).write_text(json_text(sealed(values)), "utf-8")
