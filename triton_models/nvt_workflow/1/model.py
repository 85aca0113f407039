"""Ids to rows, compiled: the vocabularies of the fitted NVTabular workflow as sorted arrays. It needs NumPy only.

NVTabular's codes: 0 padding, 1 null, 2 out of vocabulary, 3 onwards the known ids in ascending order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import marquee_serving as serving
import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

UNKNOWN = 2
FIRST_KNOWN = 3


class TritonPythonModel:
    """Looks ids up."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Check and read the vocabularies."""
        folder = serving.checked_folder(pb_utils, args)
        arrays = serving.read_arrays(folder)
        self.user_ids, self.item_ids = arrays["user_ids"], arrays["item_ids"]

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Rows of users and titles: an unknown user is row 2, an unknown title is an error."""
        return serving.answer_each(pb_utils, requests, self._answer)

    def _answer(self, request: Any) -> dict[str, NDArray[np.int64]]:
        user_ids, item_ids = (serving.flat_ids(pb_utils, request, name) for name in ("user_id", "item_id"))
        user_at, user_known = serving.lookup(self.user_ids, user_ids)
        item_at, item_known = serving.lookup(self.item_ids, item_ids)
        serving.require_known_titles(item_ids, item_known, len(self.item_ids))
        user_index = np.where(user_known, user_at + FIRST_KNOWN, UNKNOWN)
        return {"user_index": user_index[:, None], "item_index": (item_at + FIRST_KNOWN)[:, None]}
