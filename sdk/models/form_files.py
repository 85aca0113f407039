"""A pair form as plain arrays, which any number of processes map into memory. No pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdk.base.errors import BundleError
from sdk.base.stored_arrays import map_arrays
from sdk.models.pair_form import Head, PairForm, Side

Arrays: TypeAlias = Mapping[str, NDArray[Any]]
_PARTS = ("bias", "dot", "hidden", "fields")
_HISTORY = "user_has_history"


def form_arrays(form: PairForm) -> dict[str, NDArray[Any]]:
    """A form by the names of its arrays; ``form_of`` reads them."""
    arrays: dict[str, NDArray[Any]] = {"cross": form.head.cross}
    for side, table in (("user", form.users), ("item", form.items)):
        arrays.update({f"{side}_{part}": getattr(table, part) for part in _PARTS})
    for n, (weight, bias) in enumerate(form.head.tail):
        arrays[f"tail_{n}_weight"], arrays[f"tail_{n}_bias"] = weight, bias
    if form.has_history is not None:
        arrays[_HISTORY] = form.has_history
    return arrays


def form_of(arrays: Arrays) -> PairForm:
    """The form that ``form_arrays`` gave the arrays of; others are passed over.

    Raises:
        KeyError: one is absent.
    """
    users, items = (Side(*(np.asarray(arrays[f"{side}_{part}"]) for part in _PARTS)) for side in ("user", "item"))
    layers = sum(name.startswith("tail_") for name in arrays) // 2
    tail = tuple((np.asarray(arrays[f"tail_{n}_weight"]), np.asarray(arrays[f"tail_{n}_bias"])) for n in range(layers))
    has_history = np.asarray(arrays[_HISTORY]) if _HISTORY in arrays else None
    return PairForm(users, items, Head(np.asarray(arrays["cross"]), tail), has_history)


def read_form(path: Path, num_users: int, num_items: int) -> PairForm:
    """Map a form that ``write_arrays`` wrote.

    Args:
        path: where it was written.
        num_users: rows of the users' table that it must fit.
        num_items: rows of the items' table that it must fit.

    Raises:
        BundleError: the file is absent, damaged, or does not fit the tables.
    """
    arrays = map_arrays(path)
    try:
        form = form_of(arrays)
        _check(form, num_users, num_items)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path}: not the form of lists ({error!r}). Train the bundle again.") from error
    return form


def _check(form: PairForm, num_users: int, num_items: int) -> None:
    """Refuse arrays of other types and shapes: compiled code would read outside them.

    Raises:
        ValueError: the message names the first.
    """
    (dot,), (hidden,), (num_fields, dim) = (part.shape[1:] for part in form.users.parts[1:])
    (others,) = form.items.fields.shape[1:2]
    shapes: dict[str, tuple[int, ...]] = {"cross": (hidden, num_fields * others), _HISTORY: (num_users,)}
    for side, rows, count in (("user", num_users, num_fields), ("item", num_items, others)):
        each = ((rows,), (rows, dot), (rows, hidden), (rows, count, dim))
        shapes |= {f"{side}_{part}": shape for part, shape in zip(_PARTS, each, strict=True)}
    for n, (weight, _) in enumerate(form.head.tail):
        shapes |= {f"tail_{n}_weight": (len(weight), hidden), f"tail_{n}_bias": (len(weight),)}
        hidden = len(weight)
    for name, values in form_arrays(form).items():
        if values.shape != shapes[name] or values.dtype != (np.bool_ if name == _HISTORY else np.float32):
            raise ValueError(f"{name} is {values.dtype} of shape {values.shape}, expected {shapes[name]}")
    if form.head.tail and hidden != 1:
        raise ValueError(f"its last layer has {hidden} outputs, expected 1")
