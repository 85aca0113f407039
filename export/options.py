"""What an export can be told."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Literal

from sdk.base.config import Checked, Limit, SimilarKind
from sdk.base.errors import ConfigError

Backend = Literal["python", "pytorch", "onnxruntime"]
WorkflowForm = Literal["auto", "nvtabular", "compiled"]
InstanceKind = Literal["cpu", "gpu"]
_MOST = 2**31 - 1  # Triton's own numbers have 32 bits
Instances = Annotated[int, Limit(lambda value: 1 <= value <= 1024, "at least 1, at most 1024: each is a process")]
Number = Annotated[int, Limit(lambda value: 1 <= value <= _MOST, f"at least 1, at most {_MOST}")]
Delay = Annotated[int, Limit(lambda value: 0 <= value <= _MOST, f"0 to {_MOST} microseconds")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions(Checked):
    """How a bundle becomes a model repository.

    Attributes:
        model: the ranker: ``dlrm``, ``ncf``, ``bfm``, or ``best`` by the bundle's validation AUC, without any the
            history model.
        kind: of ``similar_items``: ``hybrid``, by content and by who likes both, or by ``content`` alone.
        backend: what runs the ranker; ``pytorch`` and ``onnxruntime`` need a server that has them.
        workflow: ``nvtabular``, NVTabular's own, for a server that has it; ``compiled``, its vocabularies as sorted
            arrays; or ``auto``, NVTabular's where it is installed here.
        rules: that the lists of ``recommend`` keep to, as JSON (``docs/rules.md``; of the command a file of it); none
            unless given.
        instances: processes per model.
        instance_kind: where the ranker and ``recommend`` run; ``gpu`` only with ``pytorch`` or ``onnxruntime``.
        max_batch: pairs that ``rank`` answers in one request, and that are scored together.
        max_queue_delay_us: how long a request may wait for others to be scored together with it, microseconds.
        max_ids: ids that ``recommend`` and ``similar_items`` take in one request.
        max_k: longest list.
        max_results: most items in one answer, over all its lists.
        keep_versions: versions of ``recommend`` and ``similar_items`` that are served at once.
        warm_up: whether a native ranker scores a pair before it counts as loaded; the Python models always do.
    """

    model: str = "best"
    kind: SimilarKind = "hybrid"
    backend: Backend = "python"
    workflow: WorkflowForm = "auto"
    rules: str | None = None
    instances: Instances = 1
    instance_kind: InstanceKind = "cpu"
    max_batch: Number = 65536
    max_queue_delay_us: Delay = 0
    max_ids: Number = 65536
    max_k: Number = 1000
    max_results: Number = 4_000_000
    keep_versions: Number = 1
    warm_up: bool = True

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        if self.backend == "python" and self.instance_kind != "cpu":
            expected = "cpu with the python backend; choose pytorch or onnxruntime for a GPU"
            raise ConfigError(type(self).__name__, "instance_kind", self.instance_kind, expected)
        if self.rules is not None:
            self._check_rules(self.rules)

    def _check_rules(self, given: str) -> None:
        from sdk.scoring.rules import rules_of  # loads Arrow, which --help need not wait for

        try:
            values = json.loads(given)
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            raise ConfigError(type(self).__name__, "rules", given, 'a JSON object of rules, such as {"diversity": 0.5}')
        rules_of(values)
