"""The SDK's recommender and who has seen what, from a version's arrays instead of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdk.serving import (
    UNKNOWN,
    Bools,
    EncodedTable,
    Float32s,
    Float64s,
    IdArray,
    Int64s,
    ItemRules,
    Recommender,
    Seen,
    Statistics,
    TopK,
    form_of,
    nobody,
)

Arrays = Mapping[str, NDArray[Any]]
MOST_PAIRS = 1_000_000  # of users and excluded titles, before the engine is built without these titles instead


class StoredRecommender:
    """Lists as the bundle's own ``recommend`` gives them.

    Args:
        arrays: the pair form (see pair_score.py); ``user_ids`` and ``item_ids`` by row; ``user_codes`` and
            ``item_codes``; ``item_likes``; ``seen_indptr`` and ``seen_items``; where lists are ranked by histories,
            ``user_has_history``; where lists keep to rules, ``rules`` and what their items are.
        gpu: number of the GPU that scores; None scores on the CPU.
    """

    def __init__(self, arrays: Arrays, gpu: int | None = None) -> None:
        users = _table(arrays["user_ids"], arrays["user_codes"], np.zeros(len(arrays["user_ids"])))
        items = _table(arrays["item_ids"], arrays["item_codes"], np.array(arrays["item_likes"]))
        form = form_of(arrays) if "cross" in arrays else None
        recommender = Recommender("model", form, users, items, device=_device(gpu))
        self._recommender = recommender.under(ItemRules.from_arrays(arrays)) if "rules" in arrays else recommender
        self._seen = Seen(np.array(arrays["seen_indptr"]), np.array(arrays["seen_items"]))

    @property
    def user_ids(self) -> IdArray:
        """(U,) int64, or object where they are text: the known users, ascending."""
        return self._recommender.users.known_ids

    @property
    def nobody(self) -> IdArray:
        """(1,) what stands for no user among ids of their kind."""
        return self._recommender.users.ids[:1]

    def recommend(self, user_ids: IdArray, k: int, excluded: IdArray | None = None) -> tuple[IdArray, Float32s]:
        """(B, k) titles and scores, best first; past the end of a short list -1 or "", and -inf.

        Args:
            user_ids: (B,) ids; an unknown user gets the most popular titles.
            k: list length, at least 1.
            excluded: titles that nobody gets; one that the catalogue does not have excludes nothing.
        """
        users = self._recommender.users.index_of(user_ids)
        seen, allowed = self._seen.take(users), None
        if excluded is not None:
            rows = self._known_items(excluded)
            if len(users) * len(rows) <= MOST_PAIRS:
                seen = _with_excluded(seen, len(users), rows)
            else:
                allowed = self._all_but(rows)
        return _padded(self._recommender.recommend(users, seen, k, allowed), k)

    def _known_items(self, item_ids: IdArray) -> Int64s:
        rows = self._recommender.items.index_of(item_ids)
        return np.unique(rows[rows != UNKNOWN])

    def _all_but(self, rows: Int64s) -> Bools:
        allowed = np.ones(len(self._recommender.items), dtype=np.bool_)
        allowed[rows] = False
        return allowed


def _device(gpu: int | None) -> str:
    """The device's name for the SDK; this process's work goes to that GPU from now on."""
    if gpu is None:
        return "cpu"
    import torch

    if torch.cuda.is_available():  # else the SDK says in one line that there is none
        torch.cuda.set_device(gpu)
    return "cuda"


def _with_excluded(seen: Seen, num_users: int, rows: Int64s) -> Seen:
    """The same as having seen them, which spares the engine to lay out the catalogue anew."""
    users = np.repeat(np.arange(num_users), np.diff(seen.indptr))
    return Seen.build(
        np.concatenate([users, np.repeat(np.arange(num_users), len(rows))]),
        np.concatenate([seen.items, np.tile(rows, num_users)]),
        num_users,
    )


def _table(ids: IdArray, codes: Int64s, likes: Float64s) -> EncodedTable:
    """As much of an encoded table as lists need: ids, codes and likes."""
    statistics = Statistics(np.zeros(len(ids)), likes, 0.0, 0.0, np.zeros(2), np.ones(2))
    codes = np.array(codes)
    none = np.zeros((len(ids), 0), dtype=np.float32)
    return EncodedTable(np.array(ids), {"id": codes}, {"id": int(codes.max()) + 1}, {}, none, (), statistics)


def _padded(found: TopK, k: int) -> tuple[IdArray, Float32s]:
    """A catalogue smaller than k gives narrower lists; the contract's are k wide."""
    rows, width = found.item_id.shape
    item_id = np.full((rows, k), nobody(found.item_id), found.item_id.dtype)
    item_id[:, :width] = found.item_id
    return item_id, np.pad(found.scores, ((0, 0), (0, k - width)), constant_values=-np.inf)
