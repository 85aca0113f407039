"""Learning every encoding from a training part and making the encoded tables from them."""

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
from sdk.base.description import Description
from sdk.base.ids import ids_in
from sdk.base.types import Float32s, Float64s, IdArray, Int32s, Int64s, Interactions, keys_of
from sdk.features.builtin import Encoding, Transform, fit_attributes, fit_codes, fit_interactions
from sdk.features.columns import Attributes, attributes
from sdk.features.engine import WORKFLOWS, engine_of
from sdk.features.tables import (
    FIRST_KNOWN,
    STATISTIC_NAMES,
    EncodedInteractions,
    EncodedTable,
    Statistics,
    raw_statistics,
)

_FILMS = Description()


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """What a model is made from: the encoded tables, what was learnt by name (``WORKFLOWS``), and what applies it."""

    users: EncodedTable
    items: EncodedTable
    encodings: Mapping[str, Encoding]
    to_rows: Transform

    def encode(self, interactions: Interactions) -> EncodedInteractions:
        """Turn ratings into rows and labels as it was learnt."""
        return encode_interactions(self.to_rows, interactions)


def encode_interactions(to_rows: Transform, interactions: Interactions) -> EncodedInteractions:
    """Ids to rows (unknown ids to row 2) and ratings to labels, by an engine's transform."""
    if not len(interactions):
        none = np.zeros(0, dtype=np.int32)
        return EncodedInteractions(none, none, none.astype(np.int8))
    columns = {name: getattr(interactions, name) for name in ("user_id", "item_id", "rating")}
    encoded = to_rows(pd.DataFrame(columns))
    user_index, item_index = (encoded[name].to_numpy(np.int32) for name in ("user_id", "item_id"))
    return EncodedInteractions(user_index, item_index, encoded["rating"].to_numpy(np.int8))


def fit_features(
    train: Interactions,
    users: pa.Table,
    items: pa.Table,
    content_vectors: Float32s,
    config: FeatureConfig,
    work: Path,
    about: Description = _FILMS,
) -> Features:
    """Learn all encodings and build both encoded tables, looking at the training ratings alone.

    Args:
        train: the training ratings.
        users: every user of the bundle, ascending by user_id.
        items: every item, ascending by item_id.
        content_vectors: (I, C) float32, one row per title of ``items``; C may be 0.
        config: thresholds, label rule, smoothing, engine.
        work: an empty folder for NVTabular's category files; it must outlive the result.
        about: what the columns of users and items mean.

    Raises:
        UsageError: the engine is ``nvtabular``, which is not installed.
    """
    engine = engine_of(config.engine)
    tables = {"user_id": users, "item_id": items}
    ids = {name: keys_of(table, name) for name, table in tables.items()}
    index, codes = fit_interactions(ids["user_id"], ids["item_id"], config), fit_codes(train, config)
    to_rows = engine.transformer(index, (), work / "interactions")
    encoded = encode_interactions(to_rows, train)
    id_codes, cardinalities = _codes(engine.transformer(codes, (), work / "codes"), ids), codes.cardinalities(list(ids))

    def side(id_name: str, rows: Int32s, found: Attributes, place: Path) -> tuple[EncodedTable, Encoding]:
        known, tally = ids[id_name], _tally(rows, encoded.label, len(ids[id_name]))
        own, named = id_codes[id_name].to_numpy(np.int64)[: len(known)], ids_in(tables[id_name][id_name])
        return _encode_side(named, {"id": own}, {"id": cardinalities[id_name]}, found, tally, config, place)

    nothing = np.zeros((users.num_rows, 0), dtype=np.float32)
    of_both = attributes(users, about.users, nothing), attributes(items, about.items, content_vectors)
    user_table, of_users = side("user_id", encoded.user_index, of_both[0], work / "users")
    item_table, of_items = side("item_id", encoded.item_index, of_both[1], work / "items")
    fitted = dict(zip(WORKFLOWS, (index, codes, of_users, of_items), strict=True))
    return Features(user_table, item_table, fitted, to_rows)


def _codes(to_codes: Transform, ids: Mapping[str, Int64s]) -> pd.DataFrame:
    """Each id's embedding code; the shorter column is padded with its last id, since a transform takes a table."""
    rows = max(map(len, ids.values()))
    padded = {name: np.pad(known, (0, rows - len(known)), mode="edge") for name, known in ids.items()}
    return to_codes(pd.DataFrame(padded))


def _tally(index: Int32s, label: NDArray[np.int8], num_known: int) -> tuple[Float64s, Float64s]:
    """Of each known row: number of ratings and of likes."""
    counts = (np.bincount(index, weights=weights, minlength=num_known + FIRST_KNOWN) for weights in (None, label))
    count, likes = (each[FIRST_KNOWN:].astype(np.float64) for each in counts)
    return count, likes


def _encode_side(
    ids: IdArray,
    codes: dict[str, Int64s],
    cards: dict[str, int],
    found: Attributes,
    tally: tuple[Float64s, Float64s],
    config: FeatureConfig,
    work: Path,
) -> tuple[EncodedTable, Encoding]:
    """One side's table and what was learnt of it; ``codes`` and ``cards`` hold those of the ids."""
    count, likes = tally
    prior_rate = float(likes.sum() / max(count.sum(), 1.0))
    raw = raw_statistics(count, likes, prior_rate, config.rate_prior)
    table = found.frame.assign(**dict(zip(STATISTIC_NAMES, raw.T, strict=True)))
    names = (*STATISTIC_NAMES, *found.numeric)
    table = table.astype(dict.fromkeys(names, np.float64))
    coded = (*found.categorical, *found.lists)
    learnt = fit_attributes(table, coded, names)
    encoded = engine_of(config.engine).transformer(learnt, found.lists, work)(table)
    codes |= {name: encoded[name].to_numpy(np.int64) for name in found.categorical}
    cards |= learnt.cardinalities(coded)
    mean, std = learnt.normalisation(STATISTIC_NAMES)
    statistics = Statistics(count, likes, prior_rate, config.rate_prior, mean, std)
    multi_hot = {name: _multi_hot(encoded[name], cards[name]) for name in found.lists}
    dense = encoded[list(names)].to_numpy(np.float32)
    return EncodedTable(ids, codes, cards, multi_hot, dense, names, statistics).with_reserved_rows(), learnt


def _multi_hot(lists: pd.Series[Any], cardinality: int) -> Float32s:
    """(N, G) float32: each code's share of a row's list."""
    lengths = np.array([len(codes) for codes in lists], dtype=np.int64)
    rows = np.repeat(np.arange(len(lists)), lengths)
    codes = np.concatenate([np.asarray(codes, dtype=np.int64) for codes in lists]) if len(rows) else rows
    shares = np.zeros((len(lists), cardinality), dtype=np.float32)
    np.add.at(shares, (rows, codes), np.float32(1) / np.repeat(lengths, lengths).astype(np.float32))
    return shares
