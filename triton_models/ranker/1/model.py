"""Rows to scores: the chosen model in pair form. It needs NumPy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import marquee_serving as serving
import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray
from pair_score import PairScorer

INPUTS = ("user_index", "item_index")


class TritonPythonModel:
    """Scores all waiting requests together."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Check and read the model, and score one pair, so that the first request is as quick as the next."""
        folder = serving.checked_folder(pb_utils, args)
        self.scorer = PairScorer(serving.read_arrays(folder))
        self.scorer(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """(B, 1) float32 logits of each request's (B, 1) rows."""
        inputs = [[serving.flat(pb_utils, each, name) for name in INPUTS] for each in requests]
        good = [rows for rows in inputs if not self.scorer.bad_rows(*rows)]
        scores = iter(self._score(good))
        return [self._bad() if self.scorer.bad_rows(*rows) else self._good(next(scores)) for rows in inputs]

    def _score(self, inputs: Sequence[Sequence[NDArray[np.int64]]]) -> list[NDArray[np.float32]]:
        if not inputs:
            return []
        users, items = (np.concatenate(column) for column in zip(*inputs, strict=True))
        return np.split(self.scorer(users, items), np.cumsum([len(rows[0]) for rows in inputs])[:-1])

    def _good(self, scores: NDArray[np.float32]) -> Any:
        return serving.response(pb_utils, {"score": scores[:, None]})

    def _bad(self) -> Any:
        users, items = len(self.scorer.users["bias"]), len(self.scorer.items["bias"])
        reason = f"row numbers lie outside 0 to {users - 1} (user_index) or 0 to {items - 1} (item_index)"
        return serving.refusal(pb_utils, reason)
