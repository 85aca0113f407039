"""The chosen model in pair form, on NumPy: sdk/models/pair_form.py says why this is the model itself.

score(u, i) = tail(relu(A[u] + B[i] + W z)) + <p[u], q[i]> + a[u] + b[i],   z_k = <P_f[u], Q_g[i]>
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS_AT_ONCE = 4096  # keeps the gathered rows in the cache

Int64s = NDArray[np.int64]
Float32s = NDArray[np.float32]


class PairScorer:
    """Scores (row, row) pairs.

    Args:
        arrays: ``user_bias``, ``user_dot``, ``user_hidden``, ``user_fields``, the same four for items, ``cross``, and
            ``tail_0_weight``, ``tail_0_bias`` and so on; all float32.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.users = {name: arrays[f"user_{name}"] for name in ("bias", "dot", "hidden", "fields")}
        self.items = {name: arrays[f"item_{name}"] for name in ("bias", "dot", "hidden", "fields")}
        self.cross = np.ascontiguousarray(arrays["cross"].T)
        layers = sum(name.startswith("tail_") for name in arrays) // 2
        self.tail = [(arrays[f"tail_{n}_weight"].T, arrays[f"tail_{n}_bias"]) for n in range(layers)]

    def __call__(self, user_index: Int64s, item_index: Int64s) -> Float32s:
        """(N,) float32 logits of (N,) user rows and (N,) item rows."""
        out = np.empty(len(user_index), dtype=np.float32)
        for start in range(0, len(out), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            out[part] = self._tile(user_index[part], item_index[part])
        return out

    def bad_rows(self, user_index: Int64s, item_index: Int64s) -> bool:
        """Whether a row number lies outside the tables."""
        return _outside(user_index, len(self.users["bias"])) or _outside(item_index, len(self.items["bias"]))

    def _tile(self, user_index: Int64s, item_index: Int64s) -> Float32s:
        user = {name: table[user_index] for name, table in self.users.items()}
        item = {name: table[item_index] for name, table in self.items.items()}
        score: Float32s = user["bias"] + item["bias"] + np.einsum("nd,nd->n", user["dot"], item["dot"])
        if not self.tail:
            return score
        hidden = user["hidden"] + item["hidden"]
        if len(self.cross):
            z = np.matmul(user["fields"], item["fields"].transpose(0, 2, 1))
            hidden += z.reshape(len(z), len(self.cross)) @ self.cross
        for weight, bias in self.tail:
            hidden = np.maximum(hidden, 0, out=hidden) @ weight + bias
        return score + hidden[:, 0]


def _outside(rows: Int64s, size: int) -> bool:
    return bool(len(rows)) and not (rows.min() >= 0 and rows.max() < size)
