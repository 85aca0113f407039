"""The content model's files, read with every number checked before compiled code sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdk.base.config import ContentConfig, from_json
from sdk.base.description import Description
from sdk.base.errors import BundleError, ConfigError
from sdk.models.content.fields import PRESET, Roles, weights_of
from sdk.models.content.hybrid import LikedShare
from sdk.models.content.matrix import SparseRows
from sdk.models.content.reading import Learnt

Arrays = Mapping[str, NDArray[Any]]
MATRIX, ALIKE, TOGETHER = "", "alike_", "together_"
"""What stands in front of the names of a matrix's arrays; the last one in bundles of earlier releases."""
_PARTS = ("data", "indices", "indptr")


def settings(folder: Path, words: Mapping[str, Any]) -> tuple[ContentConfig, Roles]:
    """The configuration, and the columns that are read, which are named where they are not films'.

    Raises:
        BundleError: there are none, or they do not fit each other.
    """
    try:
        config = from_json(ContentConfig, words["config"])
        roles = Description(items=dict(words["roles"])).items if "roles" in words else PRESET
        weights_of(config, roles)
        return config, roles
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise BundleError(f"{folder / 'content.json'}: no usable config ({error}). Train and save again.") from error


def stored_rows(
    folder: Path, words: Mapping[str, Any], arrays: Arrays, fields: tuple[str, ...]
) -> tuple[SparseRows, dict[str, Learnt]]:
    """The items' rows, and what was learnt of each field.

    Raises:
        BundleError: they do not fit each other.
    """
    with _fitting(folder):
        vocabulary = words.get("vocabulary", {})
        ordered = {field: list(vocabulary.get(field, ())) for field in fields}
        if not all(set(map(type, some)) <= {str} for some in ordered.values()):
            message = "a word of the vocabulary is no text"
            raise ValueError(message)
        shape, idf = (len(arrays["item_id"]), sum(map(len, ordered.values()))), arrays["idf"]
        if idf.dtype != np.float64 or not np.isfinite(idf).all():
            raise ValueError(f"idf is {idf.dtype}, expected finite float64")
        if idf.shape != shape[1:] or tuple(arrays["shape"]) != shape:
            raise ValueError(f"{idf.shape} idf and a matrix of shape {arrays['shape']}, expected {shape}")
        if (ids := arrays["item_id"]).dtype not in (np.int32, np.int64) or ids.ndim != 1:
            raise ValueError(f"item_id is {ids.dtype}")
        starts = np.cumsum([len(some) for some in ordered.values()])[:-1]
        edges = _edges(words.get("edges", {}))
        parts = zip(ordered.items(), np.split(idf, starts), strict=True) if ordered else ()
        learnt = {field: Learnt(some, part, edges.get(field)) for (field, some), part in parts}
        return _matrix(arrays, MATRIX, shape), learnt


def stored_together(
    folder: Path, words: Mapping[str, Any], arrays: Arrays
) -> tuple[SparseRows | None, LikedShare | None]:
    """What items are liked together with, and its share; of an earlier release only those without content, without one.

    Raises:
        BundleError: it does not fit the items.
    """
    if not (words.get("alike") or words.get("together")):
        return None, None
    with _fitting(folder):
        liked = LikedShare.from_json(words["alike"]) if words.get("alike") else None
        prefix = TOGETHER if liked is None else ALIKE
        return _matrix(arrays, prefix, (len(arrays["item_id"]),) * 2), liked


def _edges(stored: Mapping[str, Any]) -> dict[str, list[float] | None]:
    """The buckets of each column of numbers; None where they are years, and of other columns.

    Raises:
        ValueError: they do not rise.
    """
    edges = {name: None if some is None else [float(edge) for edge in some] for name, some in stored.items()}
    if any(some is not None and not (np.diff(some) > 0).all() for some in edges.values()):
        message = "the buckets of a number do not rise"
        raise ValueError(message)
    return edges


def arrays_of(matrix: SparseRows, prefix: str) -> dict[str, NDArray[Any]]:
    """A matrix by the names of its arrays."""
    return {prefix + name: getattr(matrix, name) for name in _PARTS}


@contextmanager
def _fitting(folder: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise BundleError(
            f"{folder}: content.npz does not fit content.json ({error}). Train and save again."
        ) from error


def _matrix(arrays: Arrays, prefix: str, shape: tuple[int, int]) -> SparseRows:
    """Refuse numbers that are none, and a CSR matrix whose rows or columns lie outside it: compiled code would read
    there.

    SciPy's own check passes over a matrix whose last pointer is 0, and over unsigned pointers that fall.
    """
    data, indices, indptr = (arrays[prefix + name] for name in _PARTS)
    if data.dtype != np.float32 or not np.isfinite(data).all():
        raise ValueError(f"data is {data.dtype}, expected finite float32")
    if not all(a.dtype in (np.int32, np.int64) and a.ndim == 1 for a in (indices, indptr)):
        raise ValueError(f"indices and indptr are {indices.dtype} and {indptr.dtype}")
    if len(indptr) != shape[0] + 1 or indptr[0] != 0 or (np.diff(indptr) < 0).any():
        raise ValueError(f"{len(indptr)} row pointers that do not rise from 0, for {shape[0]} titles")
    if not indptr[-1] == len(indices) == data.size or data.ndim != 1:
        raise ValueError(f"row pointers to {indptr[-1]}, for {len(indices)} columns and {data.size} values")
    if len(indices) and not (indices.min() >= 0 and indices.max() < shape[1]):
        raise ValueError(f"columns run from {indices.min()} to {indices.max()}, expected 0 to {shape[1] - 1}")
    return SparseRows(data, indices, indptr, shape)
