"""Titles to the titles most like them, by content and by who likes both. It needs sdk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import marquee_serving as serving
import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from sdk.serving import NeighbourIndex, nobody


class TritonPythonModel:
    """Finds each title's neighbours."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Check and read the titles' vectors, and search once, which compiles the search."""
        folder = serving.checked_folder(pb_utils, args)
        self.limits = serving.read_limits(args)
        arrays = serving.read_arrays(folder)
        self.item_ids = arrays["item_ids"]
        asked = _rows(arrays, "asked_") if "asked_data" in arrays else None
        self.index = NeighbourIndex(_rows(arrays), asked=asked)
        self.index.nearest(np.zeros(1, dtype=np.int64), 1)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """(B, k) titles and scores of each request's (B,) titles; past the end of a short list -1 or "", and -inf."""
        return serving.answer_each(pb_utils, requests, self._answer)

    def _answer(self, request: Any) -> dict[str, NDArray[Any]]:
        item_ids = serving.flat_ids(pb_utils, request, "item_id")
        serving.require_rows("item_id", item_ids, self.limits["max_ids"])
        k = int(serving.flat(pb_utils, request, "k")[0])
        serving.require_k(k, len(item_ids), self.limits)
        rows, known = serving.lookup(self.item_ids, item_ids)
        serving.require_known_titles(item_ids, known, len(self.item_ids))
        found = self.index.nearest(rows, k)
        return {
            "item_id": np.where(found.row >= 0, self.item_ids[found.row], nobody(self.item_ids)),
            "score": np.minimum(found.scores, np.float32(1)),
        }


def _rows(arrays: Mapping[str, NDArray[Any]], prefix: str = "") -> csr_matrix:
    parts = tuple(np.array(arrays[prefix + name]) for name in ("data", "indices", "indptr"))
    return csr_matrix(parts, shape=(len(parts[2]) - 1, int(arrays["num_columns"][0])))
