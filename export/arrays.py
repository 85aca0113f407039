"""A bundle's contents as plain arrays: what the served models read. No pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdk.base.config import SimilarKind
from sdk.base.ids import is_text
from sdk.base.types import IdArray
from sdk.bundles.bundle import Bundle
from sdk.models.form_files import form_arrays
from sdk.models.pair_form import PairForm
from sdk.scoring.rules import rules_of

ARRAYS = "arrays"
_SPARSE = ("data", "indices", "indptr")
Arrays = dict[str, NDArray[Any]]


def write_arrays(folder: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """One ``.npy`` file per array, below ``folder/arrays``, which the instances of a model can map into memory.

    Text is two: ``NAME`` its UTF-8, one after the other, and ``NAME_starts`` where each begins and the last one ends.
    """
    (folder / ARRAYS).mkdir()
    for name, values in arrays.items():
        for part, stored in (_utf8(name, values) if is_text(values) else {name: values}).items():
            np.save(folder / ARRAYS / f"{part}.npy", np.ascontiguousarray(stored), allow_pickle=False)


def _utf8(name: str, texts: IdArray) -> Arrays:
    each = [text.encode() for text in texts]
    starts = np.cumsum([0, *map(len, each)], dtype=np.int64)
    return {name: np.frombuffer(b"".join(each), dtype=np.uint8), f"{name}_starts": starts}


def vocabulary_arrays(bundle: Bundle) -> Arrays:
    """The known ids of users and titles, ascending: row = place + 3."""
    return {"user_ids": bundle.encoded_users.known_ids, "item_ids": bundle.encoded_items.known_ids}


def list_arrays(bundle: Bundle, form: PairForm, rules: str | None) -> Arrays:
    """Everything that lists need: the model, ids and codes by row, popularity, who has seen what, and the rules."""
    users, items = bundle.encoded_users, bundle.encoded_items
    seen = bundle.interactions.seen(len(users))
    return {
        **form_arrays(form),
        "user_ids": users.ids, "user_codes": users.codes["id"],
        "item_ids": items.ids, "item_codes": items.codes["id"], "item_likes": items.statistics.likes,
        "seen_indptr": seen.indptr, "seen_items": seen.items,
        **({} if rules is None else bundle.item_rules(rules_of(json.loads(rules))).to_arrays()),
    }  # fmt: skip


def content_arrays(bundle: Bundle, kind: SimilarKind) -> Arrays:
    """The items' vectors as compressed sparse rows, ascending by item_id.

    ``asked_…`` are the rows as they are asked for, where those are others than the rows that are found: where lists are
    also of what is liked together.
    """
    asked, found = bundle.look_alikes(kind).search_matrices()
    arrays = {"item_ids": np.sort(bundle.content.item_id), "num_columns": np.array([found.shape[1]])}
    sides = {"": found} if asked is found else {"": found, "asked_": asked}
    return arrays | {prefix + part: getattr(rows, part) for prefix, rows in sides.items() for part in _SPARSE}
