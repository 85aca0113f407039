"""Which columns the content model reads, and how: of films ten, of other items those that a description names."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pyarrow as pa

from sdk.base import schema
from sdk.base.config import CONTENT_FIELDS, ContentConfig
from sdk.base.description import CONTENT, FILMS, Description, Role
from sdk.base.errors import ConfigError
from sdk.base.types import Float64s

Roles = Mapping[str, Role]
"""The columns that a model reads -> their roles, in the order of its blocks."""
PRESET: Roles = MappingProxyType({name: FILMS[name] for name in CONTENT_FIELDS})
WORDS: frozenset[Role] = frozenset({"text", "title"})
NUMBERS: frozenset[Role] = frozenset({"continuous", "time"})
ONE: frozenset[Role] = frozenset({"categorical", "group"})
"""Roles whose columns hold one value, which is a token as it stands."""
WEIGHTS: Mapping[Role, float] = MappingProxyType(
    {
        "categorical": 0.35, "group": 0.7, "list": 0.35, "terms": 0.6, "text": 0.5, "title": 0.8,
        "continuous": 0.3, "time": 0.3,
    }
)  # fmt: skip
"""What a column of each role weighs before a choice: what the films' columns of that role do, thereabouts."""
_BUCKETS = 20
_EARLIEST, _LATEST = 1000, 2200


def roles_of(about: Description | None) -> Roles:
    """The columns that are read of described items; None is MovieLens with TMDB."""
    if about is None or about.is_preset("items"):
        return PRESET
    return MappingProxyType({name: about.items[name] for name in about.item_columns(*CONTENT)})


def weights_of(config: ContentConfig, roles: Roles) -> Mapping[str, float] | None:
    """The weight of each column, by the configuration; None where it leaves them open, for columns that are not films'.

    Raises:
        ConfigError: it names a column that is not read.
    """
    if roles != PRESET and config.weights == ContentConfig().weights:
        return None
    if set(config.weights) - set(roles):
        expected = f"only the fields {', '.join(roles)}"
        raise ConfigError(type(config).__name__, "weights", dict(config.weights), expected)
    return config.weights


def column_types(roles: Roles) -> pa.Schema:
    """What the columns that are read are cast to."""
    if roles == PRESET:
        return schema.ITEMS.remove(0)
    types = {name: schema.ROLE_TYPES[role] for name, role in roles.items()}
    return pa.schema(list({"title": pa.string(), **types}.items()))


def numbers(column: pa.ChunkedArray | pa.Array) -> Float64s:
    """(N,) float64, NaN where a number is missing or none."""
    import pyarrow.compute as pc

    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    values: Float64s = pc.cast(whole, pa.float64(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False)
    return np.where(np.isfinite(values), values, np.nan)


def edges_of(name: str, values: Float64s) -> list[float] | None:
    """The centres of a column's buckets: numbers that part its known ones into equal shares, each once.

    None where they are years, whose buckets are the same for every data set.
    """
    known = np.sort(values[~np.isnan(values)])
    if not len(known):
        return []
    is_whole = bool((known == np.trunc(known)).all())
    if "year" in name.lower() and is_whole and known[0] >= _EARLIEST and known[-1] <= _LATEST:
        return None
    at = np.linspace(0, len(known) - 1, _BUCKETS + 1).astype(np.int64)
    return [float(edge) for edge in np.unique(known[at])]
