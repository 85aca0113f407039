"""Ids to rows by NVTabular itself: Merlin Systems' workflow model, its files checked first, its errors made clear.

It needs nvtabular and merlin-systems of the versions that fitted the workflow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import marquee_serving as serving
import numpy as np
import triton_python_backend_utils as pb_utils
from merlin.systems.triton.models import workflow_model
from numpy.typing import NDArray

UNKNOWN = 2
RENAMED = {"user_id": "user_index", "item_id": "item_index"}


class TritonPythonModel(workflow_model.TritonPythonModel):
    """Merlin Systems' model around the fitted workflow."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Check every file, then let Merlin Systems unpickle the workflow, and run it once."""
        serving.checked_folder(pb_utils, args)
        super().initialize(args)
        texts = serving.text_tensors(args)
        self._transform({name: np.array([""], object) if name in texts else np.zeros(1, np.int64) for name in RENAMED})

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Rows of users and titles of all waiting requests at once: pandas costs the same for one row and many."""
        asked = [_ids_or_reason(each) for each in requests]
        answers = iter(self._answers([each for each in asked if not isinstance(each, str)]))
        return [serving.refusal(pb_utils, each) if isinstance(each, str) else next(answers) for each in asked]

    def _answers(self, inputs: Sequence[Mapping[str, NDArray[Any]]]) -> list[Any]:
        if not inputs:
            return []
        together = {name: np.concatenate([each[name] for each in inputs]) for name in RENAMED}
        rows = self._transform(together)
        ends = np.cumsum([len(each["user_id"]) for each in inputs])[:-1]
        users, items = (np.split(rows[name], ends) for name in RENAMED)
        return [self._respond(*each) for each in zip(inputs, users, items, strict=True)]

    def _transform(self, ids: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.int64]]:
        transformed = self.runner.run_workflow(dict(ids))
        return {name: np.asarray(transformed[name], dtype=np.int64).reshape(-1) for name in RENAMED}

    def _respond(self, ids: Mapping[str, Any], users: NDArray[np.int64], items: NDArray[np.int64]) -> Any:
        try:
            serving.require_known_titles(ids["item_id"], items > UNKNOWN, self.num_items)
        except serving.BadRequestError as error:
            return serving.refusal(pb_utils, str(error))
        return serving.response(pb_utils, {"user_index": users[:, None], "item_index": items[:, None]})

    @property
    def num_items(self) -> int:
        """Number of titles in the workflow's vocabulary."""
        domain = self.workflow.output_schema["item_id"].properties["embedding_sizes"]["cardinality"]
        return int(domain) - UNKNOWN - 1

    def _set_output_dtype(self, name: str) -> None:
        self.output_dtypes[name] = np.int64  # Merlin looks for an output called like the input; ours says what it is


def _ids_or_reason(request: Any) -> dict[str, NDArray[Any]] | str:
    """A request's ids by name; why it is refused where they are none."""
    try:
        return {name: serving.flat_ids(pb_utils, request, name) for name in RENAMED}
    except serving.BadRequestError as error:
        return str(error)
