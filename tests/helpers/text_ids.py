"""A data set under other names: the same rows in the same order, whose ids are text."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa

from sdk.base.types import Dataset, IdArray

PREFIXES = {"user_id": "u-", "item_id": "tt"}
_DIGITS = 19  # of the largest id: text of one length ascends as the numbers do


def named(ids: Any, name: str) -> IdArray:
    """Any array of whole ``user_id`` or ``item_id`` as text, object: ``u-…`` or ``tt…``, "" below 0.

    It keeps the order of ids, so lists by text are those by number, renamed.
    """
    numbers = np.asarray(ids)
    texts = [f"{PREFIXES[name]}{number:0{_DIGITS}d}" if number >= 0 else "" for number in numbers.ravel().tolist()]
    return np.fromiter(texts, dtype=object, count=len(texts)).reshape(numbers.shape)


def with_text_ids(data: Dataset, *sides: str) -> Dataset:
    """The data set with text as ids of these sides, ``user_id`` and ``item_id``; of both where none is named."""
    sides = sides or tuple(PREFIXES)
    rows, tables = data.interactions, {"user_id": data.users, "item_id": data.items}
    for name in sides:
        ids = tables[name][name].to_numpy()
        rows = dataclasses.replace(rows, **{name: np.searchsorted(ids, getattr(rows, name)).astype(np.int64)})
        column = pa.array(named(ids, name), pa.string())
        field = pa.field(name, pa.string(), nullable=False)
        tables[name] = tables[name].set_column(tables[name].column_names.index(name), field, column)
    return dataclasses.replace(
        data, interactions=rows, users=tables["user_id"], items=tables["item_id"],
        fingerprint=f"{data.fingerprint} renamed {' '.join(sides)}",
    )  # fmt: skip
