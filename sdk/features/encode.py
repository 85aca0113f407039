"""Fitting every workflow on a training part and making the encoded tables from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from sdk.base.config import FeatureConfig
from sdk.base.types import Bools, Float32s, Float64s, Int32s, Int64s, Interactions
from sdk.features import workflows
from sdk.features.table_files import unknown_dense, with_unknown_rows
from sdk.features.tables import (
    FIRST_KNOWN,
    STATISTIC_NAMES,
    EncodedTable,
    Statistics,
    raw_statistics,
)

USER_ATTRIBUTES = ("gender", "occupation", "zip_prefix")
NO_GENRE = "(none)"  # NVTabular refuses a column whose lists are all empty


@dataclass(frozen=True, slots=True, eq=False)
class EncodedInteractions:
    """Ratings as two index columns and a label: 9 bytes a row.

    Attributes:
        user_index: (N,) int32 rows of the users' table.
        item_index: (N,) int32 rows of the items' table.
        label: (N,) int8, 1 = liked.
    """

    user_index: Int32s
    item_index: Int32s
    label: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: Bools | Int64s) -> EncodedInteractions:
        """The given rows (a boolean mask or row numbers), in that order."""
        return EncodedInteractions(self.user_index[rows], self.item_index[rows], self.label[rows])


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """What a model is made from: the encoded tables, and the fitted workflows by name (``workflows.WORKFLOWS``)."""

    users: EncodedTable
    items: EncodedTable
    workflows: Mapping[str, Any]

    def encode(self, interactions: Interactions) -> EncodedInteractions:
        """Turn ratings into rows and labels with the fitted workflow."""
        return encode_interactions(self.workflows["interactions"], interactions)


def encode_interactions(workflow: Any, interactions: Interactions) -> EncodedInteractions:
    """Ids to rows (unknown ids to row 2) and ratings to labels, by the NVTabular workflow."""
    if not len(interactions):
        none = np.zeros(0, dtype=np.int32)
        return EncodedInteractions(none, none, none.astype(np.int8))
    frame = pd.DataFrame(
        {
            "user_id": interactions.user_id,
            "item_id": interactions.item_id,
            "rating": interactions.rating,
        }
    )
    encoded = workflows.transform(workflow, frame)
    return EncodedInteractions(
        encoded["user_id"].to_numpy(np.int32),
        encoded["item_id"].to_numpy(np.int32),
        encoded["rating"].to_numpy(np.int8),
    )


def fit_features(
    train: Interactions,
    users: pa.Table,
    items: pa.Table,
    content_vectors: Float32s,
    config: FeatureConfig,
    work: Path,
) -> Features:
    """Fit all workflows and build both encoded tables, looking at the training ratings alone.

    Args:
        train: the training ratings.
        users: ``schema.USERS``, every user of the bundle, ascending by user_id.
        items: ``schema.ITEMS``, every title, ascending by item_id.
        content_vectors: (I, C) float32, one row per title of ``items``; C may be 0.
        config: thresholds, label rule, smoothing.
        work: an empty folder for NVTabular's category files; it must outlive the result.
    """
    user_ids = users.column("user_id").to_numpy()
    item_ids = items.column("item_id").to_numpy()
    index = workflows.fit_interactions(user_ids, item_ids, config, work / "interactions")
    codes = workflows.fit_codes(train, config, work / "codes")
    encoded = encode_interactions(index, train)
    code_table = _codes(codes, user_ids, item_ids)
    cards = workflows.cardinalities(codes, ("user_id", "item_id"))
    user_table, user_workflow = _encode_side(
        _Side(user_ids, code_table["user_id"].to_numpy(np.int64)[: len(user_ids)], cards["user_id"]),
        _user_frame(users),
        _tally(encoded.user_index, encoded.label, len(user_ids)),
        config,
        work / "users",
    )
    item_table, item_workflow = _encode_side(
        _Side(item_ids, code_table["item_id"].to_numpy(np.int64)[: len(item_ids)], cards["item_id"]),
        _item_frame(items, content_vectors),
        _tally(encoded.item_index, encoded.label, len(item_ids)),
        config,
        work / "items",
    )
    fitted = dict(zip(workflows.WORKFLOWS, (index, codes, user_workflow, item_workflow), strict=True))
    return Features(user_table, item_table, fitted)


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    ids: Int64s
    id_codes: Int64s
    id_cardinality: int


@dataclass(frozen=True, slots=True, eq=False)
class _Frame:
    """One side's attributes as NVTabular takes them."""

    table: pd.DataFrame
    categorical: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()


def _codes(workflow: Any, user_ids: Int64s, item_ids: Int64s) -> pd.DataFrame:
    """Each id's embedding code; the shorter column is padded with its last id, since a workflow takes a table."""
    rows = max(len(user_ids), len(item_ids))
    padded = {
        name: np.pad(ids, (0, rows - len(ids)), mode="edge")
        for name, ids in (("user_id", user_ids), ("item_id", item_ids))
    }
    return workflows.transform(workflow, pd.DataFrame(padded))


def _tally(index: Int32s, label: NDArray[np.int8], num_known: int) -> tuple[Float64s, Float64s]:
    """Per row, the reserved ones included: number of ratings and of likes."""
    rows = num_known + FIRST_KNOWN
    count = np.bincount(index, minlength=rows).astype(np.float64)
    likes = np.bincount(index, weights=label, minlength=rows).astype(np.float64)
    count[:FIRST_KNOWN] = likes[:FIRST_KNOWN] = 0
    return count, likes


def _user_frame(users: pa.Table) -> _Frame:
    table = users.to_pandas()
    present = tuple(name for name in USER_ATTRIBUTES if table[name].notna().any())
    ages = ("age",) if table["age"].notna().any() else ()
    return _Frame(table[[*present, *ages]], categorical=present, numeric=ages)


def _item_frame(items: pa.Table, content_vectors: Float32s) -> _Frame:
    table = items.select(["year", "genres"]).to_pandas()
    table["genres"] = [list(values) if len(values) else [NO_GENRE] for values in table["genres"]]
    years = ("year",) if table["year"].notna().any() else ()
    content = {f"content_{d}": content_vectors[:, d] for d in range(content_vectors.shape[1])}
    frame = pd.concat([table[["genres", *years]], pd.DataFrame(content, index=table.index)], axis=1)
    return _Frame(frame, lists=("genres",), numeric=(*years, *content))


def _encode_side(
    side: _Side, frame: _Frame, tally: tuple[Float64s, Float64s], config: FeatureConfig, work: Path
) -> tuple[EncodedTable, Any]:
    count, likes = tally
    prior_rate = float(likes.sum() / max(count.sum(), 1.0))
    raw = raw_statistics(count, likes, prior_rate, config.rate_prior)
    table = frame.table.assign(**dict(zip(STATISTIC_NAMES, raw[FIRST_KNOWN:].T, strict=True)))
    names = (*STATISTIC_NAMES, *frame.numeric)
    categorical = (*frame.categorical, *frame.lists)
    workflow = workflows.fit_attributes(table, categorical, names, work)
    encoded = workflows.transform(workflow, table)
    mean, std = workflows.normalisation(workflow, STATISTIC_NAMES)
    cards = {**workflows.cardinalities(workflow, categorical), "id": side.id_cardinality}
    statistics = Statistics(count, likes, prior_rate, config.rate_prior, mean, std)
    dense = np.vstack([unknown_dense(statistics, len(names)), encoded[list(names)].to_numpy(np.float32)])
    codes = {"id": side.id_codes, **{name: encoded[name].to_numpy(np.int64) for name in frame.categorical}}
    return EncodedTable(
        ids=np.concatenate([np.full(FIRST_KNOWN, -1, dtype=np.int64), side.ids]),
        codes={name: with_unknown_rows(values) for name, values in codes.items()},
        cardinalities={name: cards[name] for name in (*codes, *frame.lists)},
        multi_hot={name: _multi_hot(encoded[name], cards[name]) for name in frame.lists},
        dense=dense,
        dense_names=names,
        statistics=statistics,
    ), workflow


def _multi_hot(lists: pd.Series[Any], cardinality: int) -> Float32s:
    """(R, G) float32: each code's share of a row's list; reserved rows have none."""
    lengths = np.array([len(codes) for codes in lists], dtype=np.int64)
    rows = np.repeat(np.arange(len(lists)), lengths) + FIRST_KNOWN
    codes = np.concatenate([np.asarray(codes, dtype=np.int64) for codes in lists]) if len(rows) else rows
    shares = np.zeros((len(lists) + FIRST_KNOWN, cardinality), dtype=np.float32)
    np.add.at(shares, (rows, codes), np.float32(1) / np.repeat(lengths, lengths).astype(np.float32))
    return shares
