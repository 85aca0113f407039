"""What is learnt of ratings, users and titles for both engines, and the built-in engine: Arrow and NumPy, no Merlin.

It is the same on every processor: equally frequent values have their codes in ascending order of the values, and sums
are exact (``math.fsum``), so no order of adding shows in a mean or a deviation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sdk.base.config import FeatureConfig
from sdk.base.errors import BundleError
from sdk.base.stored_arrays import read_arrays, read_json, write_arrays, write_json
from sdk.base.types import Float64s, Int64s, Interactions
from sdk.features.tables import FIRST_KNOWN, UNKNOWN

NULL = 1
LABEL = "rating"
FORMAT_VERSION = 1
_FACTS, _IDS = "encoding.json", "ids.npz"
Transform = Callable[[pd.DataFrame], pd.DataFrame]
"""Encodes a table that has the columns that were learnt."""


class Number(NamedTuple):
    """What was learnt of a number: a missing one becomes the median; then the mean is taken off, and it is divided."""

    median: float
    mean: float
    std: float


@dataclass(frozen=True, slots=True, eq=False)
class Encoding:
    """A fitted encoding.

    Attributes:
        vocabularies: column -> (V,) int64 or string, the known values in the order of their codes, from 3.
        numbers: column -> what was learnt of it.
        like_above: ``rating`` becomes 1 above this many stars, else 0; None where it is no column.
    """

    vocabularies: Mapping[str, pa.Array]
    numbers: Mapping[str, Number]
    like_above: float | None = None

    def save(self, path: str) -> None:
        """Write ``encoding.json`` and, where there are ids, ``ids.npz`` into a folder, which is made."""
        folder = Path(path)
        folder.mkdir(parents=True)
        ids = {name: known for name, known in self.vocabularies.items() if pa.types.is_int64(known.type)}
        words = {name: known.to_pylist() for name, known in self.vocabularies.items() if name not in ids}
        numbers = {name: number._asdict() for name, number in self.numbers.items()}
        facts = {"version": FORMAT_VERSION, "words": words, "numbers": numbers, "like_above": self.like_above}
        write_json(folder / _FACTS, {**facts, "ids": sorted(ids)})
        if ids:
            write_arrays(folder / _IDS, {name: known.to_numpy() for name, known in ids.items()})

    @classmethod
    def load(cls, path: str) -> Encoding:
        """Read what ``save`` wrote.

        Raises:
            BundleError: a file is absent or not of this form.
        """
        folder = Path(path)
        facts = read_json(folder / _FACTS, version=FORMAT_VERSION)
        try:
            ids = read_arrays(folder / _IDS, frozenset(facts["ids"])) if facts["ids"] else {}
            words = {name: pa.array(known, pa.string()) for name, known in facts["words"].items()}
            numbers = {name: Number(**number) for name, number in facts["numbers"].items()}
            known = {name: pa.array(values, pa.int64()) for name, values in ids.items()}
            return cls({**known, **words}, numbers, facts["like_above"])
        except (KeyError, TypeError, AttributeError, ValueError, pa.ArrowException) as error:
            raise BundleError(f"{folder}: not a fitted encoding ({error}). Train the bundle again.") from error

    def normalisation(self, names: Sequence[str]) -> tuple[Float64s, Float64s]:
        """(F,) means and (F,) deviations that were learnt, in the order of ``names``; 1 where a column is constant."""
        numbers = [self.numbers[name] for name in names]
        return np.array([number.mean for number in numbers]), np.array([number.std for number in numbers])

    def cardinalities(self, names: Sequence[str]) -> Mapping[str, int]:
        """Number of codes of each categorical column, the reserved ones included."""
        return {name: len(self.vocabularies[name]) + FIRST_KNOWN for name in names}


def fit_interactions(user_ids: Int64s, item_ids: Int64s, config: FeatureConfig) -> Encoding:
    """Learn to turn (user_id, item_id, rating) into (row, row, label).

    Args:
        user_ids: (U,) int64, ascending: every user of the bundle.
        item_ids: (I,) int64, ascending: every title of the bundle.
        config: ``like_above`` is the label's threshold.
    """
    return Encoding({"user_id": pa.array(user_ids), "item_id": pa.array(item_ids)}, {}, config.like_above)


def fit_codes(train: Interactions, config: FeatureConfig) -> Encoding:
    """Learn to give an id with enough training ratings its own code, and all others code 2."""
    least = {"user_id": config.min_user_ratings, "item_id": config.min_item_ratings}
    return Encoding({name: by_count(pa.array(getattr(train, name)), count) for name, count in least.items()}, {})


def fit_attributes(table: pd.DataFrame, categorical: Sequence[str], numeric: Sequence[str]) -> Encoding:
    """Learn one side's attributes: categories to codes, numbers filled with the median and normalised."""
    known = {name: by_count(_flat(_column(table[name]))) for name in categorical}
    return Encoding(known, {name: _fit_number(_numbers(table[name])) for name in numeric})


def by_count(values: pa.Array, least: int = 0) -> pa.Array:
    """The distinct values that occur ``least`` times or more, the most frequent first, equal ones ascending."""
    counted = pa.table(values.drop_null().value_counts().flatten(), names=["values", "counts"])
    counted = counted.filter(pc.greater_equal(counted["counts"], least))
    ordered = counted.sort_by([("counts", "descending"), ("values", "ascending")])
    return _whole(ordered["values"])


def _fit_number(values: Float64s) -> Number:
    """Median, mean and deviation of a sample (N - 1); the deviation is 1 where all values are the same."""
    median = float(np.nanmedian(values))
    filled = np.where(np.isnan(values), median, values)
    if filled.min() == filled.max():
        return Number(median, float(filled[0]), 1.0)
    mean = math.fsum(filled.tolist()) / len(filled)
    variance = math.fsum(((filled - mean) ** 2).tolist()) / (len(filled) - 1)
    return Number(median, mean, math.sqrt(variance) or 1.0)


def transformer(encoding: Encoding, lists: Collection[str], work: Path) -> Transform:
    """What encodes a table by Arrow and NumPy; it needs only ``encoding``."""
    return partial(transform, encoding)


def transform(encoding: Encoding, table: pd.DataFrame) -> pd.DataFrame:
    """The encoding's output for a table that has its input columns."""
    columns: dict[str, Any] = {name: _codes(_column(table[name]), v) for name, v in encoding.vocabularies.items()}
    for name, (median, mean, std) in encoding.numbers.items():
        values = _numbers(table[name])
        columns[name] = (np.where(np.isnan(values), median, values) - mean) / std
    if encoding.like_above is not None:
        columns[LABEL] = (table[LABEL].to_numpy() > encoding.like_above).astype(np.int8)
    return pd.DataFrame(columns)


def _codes(values: pa.Array, known: pa.Array) -> Any:
    """(N,) int64 codes; of lists (N,) lists of them. A missing value has code 1, an unknown one 2."""
    flat = _flat(values).cast(known.type)
    codes = pc.fill_null(pc.add(pc.index_in(flat, value_set=known).cast(pa.int64()), FIRST_KNOWN), UNKNOWN)
    codes = pc.if_else(pc.is_null(flat), NULL, codes)
    if not pa.types.is_list(values.type):
        return codes.to_numpy(zero_copy_only=False)
    return pa.ListArray.from_arrays(values.offsets, codes).to_pandas()


def _column(values: pd.Series[Any]) -> pa.Array:
    return _whole(pa.array(values, from_pandas=True))


def _whole(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    if not isinstance(values, pa.ChunkedArray):
        return values
    return values.combine_chunks() if values.num_chunks else pa.array([], values.type)


def _flat(values: pa.Array) -> pa.Array:
    """The values of lists one after the other; others as they are."""
    return values.flatten() if pa.types.is_list(values.type) else values


def _numbers(values: pd.Series[Any]) -> Float64s:
    """(N,) float64, NaN where a value is missing."""
    return values.to_numpy(np.float64, na_value=np.nan)
