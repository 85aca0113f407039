"""User ids to lists: the exact engine over the whole catalogue. It needs sdk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import marquee_serving as serving
import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray
from stored_recommender import StoredRecommender


class TritonPythonModel:
    """Gives each user the best unseen titles."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Check and read the model, and make one list where the instance runs, which compiles the engine."""
        folder = serving.checked_folder(pb_utils, args)
        self.limits = serving.read_limits(args)
        self.lists = StoredRecommender(serving.read_arrays(folder), serving.gpu_of(args))
        self.lists.recommend(np.concatenate([self.lists.nobody, self.lists.user_ids[:1]]), 1)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """(B, k) titles and scores of each request's (B,) users; past the end of a short list -1 or "", and -inf."""
        return serving.answer_each(pb_utils, requests, self._answer)

    def _answer(self, request: Any) -> dict[str, NDArray[Any]]:
        user_ids = serving.flat_ids(pb_utils, request, "user_id")
        serving.require_rows("user_id", user_ids, self.limits["max_ids"])
        k = int(serving.flat(pb_utils, request, "k")[0])
        serving.require_k(k, len(user_ids), self.limits)
        excluded = None
        if pb_utils.get_input_tensor_by_name(request, "exclude") is not None:
            excluded = serving.flat_ids(pb_utils, request, "exclude")
            serving.require_rows("exclude", excluded, self.limits["max_ids"])
        item_id, score = self.lists.recommend(user_ids, k, excluded)
        return {"item_id": item_id, "score": score}
