"""What an export can be told."""

from __future__ import annotations

from dataclasses import dataclass

from sdk.base.errors import ConfigError

BACKENDS = ("python", "pytorch", "onnxruntime")
WORKFLOW_FORMS = ("nvtabular", "compiled")
INSTANCE_KINDS = ("cpu", "gpu")
MOST, MOST_INSTANCES = 2**31 - 1, 1024  # Triton's own numbers have 32 bits; each instance is a process


def require(options: object, name: str, ok: bool, expected: str) -> None:
    """Refuse a field's value.

    Raises:
        ConfigError: it is not ``ok``.
    """
    if not ok:
        raise ConfigError(type(options).__name__, name, getattr(options, name), expected)


def require_one_of(options: object, name: str, allowed: tuple[str, ...]) -> None:
    """Refuse a field's value that is none of the allowed ones.

    Raises:
        ConfigError: it is another.
    """
    require(options, name, getattr(options, name) in allowed, f"one of {', '.join(allowed)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """How a bundle becomes a model repository.

    Attributes:
        model: the ranker: ``dlrm``, ``ncf``, or ``best`` by the bundle's validation AUC.
        backend: what runs the ranker; ``pytorch`` and ``onnxruntime`` need a server that has them.
        workflow: ``nvtabular``, the fitted workflow itself; or ``compiled``, its vocabularies as sorted arrays.
        instances: processes per model.
        instance_kind: where the ranker and ``recommend`` run; ``gpu`` only with ``pytorch`` or ``onnxruntime``.
        max_batch: pairs that ``rank`` answers in one request, and that are scored together.
        max_queue_delay_us: how long a request may wait for others to be scored together with it, microseconds.
        max_ids: ids that ``recommend`` and ``similar_items`` take in one request.
        max_k: longest list.
        max_results: most titles in one answer, over all its lists.
        keep_versions: versions of ``recommend`` and ``similar_items`` that are served at once.
        warm_up: whether a native ranker scores a pair before it counts as loaded; the Python models always do.
    """

    model: str = "best"
    backend: str = "python"
    workflow: str = "nvtabular"
    instances: int = 1
    instance_kind: str = "cpu"
    max_batch: int = 65536
    max_queue_delay_us: int = 0
    max_ids: int = 65536
    max_k: int = 1000
    max_results: int = 4_000_000
    keep_versions: int = 1
    warm_up: bool = True

    def __post_init__(self) -> None:
        require_one_of(self, "backend", BACKENDS)
        require_one_of(self, "workflow", WORKFLOW_FORMS)
        require_one_of(self, "instance_kind", INSTANCE_KINDS)
        for name in ("instances", "max_batch", "max_ids", "max_k", "max_results", "keep_versions"):
            most = MOST_INSTANCES if name == "instances" else MOST
            require(self, name, getattr(self, name) >= 1, "at least 1")
            require(self, name, getattr(self, name) <= most, f"at most {most}")
        require(self, "max_queue_delay_us", 0 <= self.max_queue_delay_us <= MOST, f"0 to {MOST} microseconds")
        native = self.backend != "python" or self.instance_kind == "cpu"
        require(self, "instance_kind", native, "cpu with the python backend; choose pytorch or onnxruntime for a GPU")
