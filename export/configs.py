"""The reviewed config.pbtxt files, with the user's options filled in."""

from __future__ import annotations

from collections.abc import Collection
from importlib.resources import files
from pathlib import Path
from typing import Any

from export.options import ExportOptions

COMPOSED = ("nvt_workflow", "ranker")  # the steps of rank; its config pins their version
_IDS = {"user_id": "user_id", "item_id": "item_id", "exclude": "item_id"}  # tensors of ids, and whose they are
_ON_GPU = ("ranker", "recommend")  # a workflow looks ids up, and similar titles are few: no work for a GPU
_NATIVE_FILES = {"pytorch": "model.pt", "onnxruntime": "model.onnx"}


def sources() -> Path:
    """The folder of reviewed sources, ``triton_models``."""
    return Path(str(files("triton_models")))


def native_file(backend: str) -> str:
    """The name of a native backend's model file."""
    return _NATIVE_FILES[backend]


def configuration(model: str, options: ExportOptions, version: int, texts: Collection[str] = ()) -> Any:
    """One model's configuration, a ``ModelConfig`` message.

    Args:
        model: ``rank``, ``nvt_workflow``, ``ranker``, ``recommend`` or ``similar_items``.
        options: what the user chose.
        version: the version being exported; ``rank`` names it for its steps.
        texts: of ``user_id`` and ``item_id``, whose ids are text.
    """
    is_native = model == "ranker" and options.backend in _NATIVE_FILES
    config = read_config(sources() / (f"variants/ranker_{options.backend}" if is_native else model) / "config.pbtxt")
    _type_ids(config, texts)
    if model == "rank":
        _pin(config, options, version)
        return config
    (group,) = config.instance_group
    group.count = options.instances
    if model in _ON_GPU and options.instance_kind == "gpu":
        group.kind = type(group).KIND_GPU
    if model in COMPOSED:
        config.max_batch_size = options.max_batch
        if options.max_queue_delay_us:
            config.dynamic_batching.max_queue_delay_microseconds = options.max_queue_delay_us
    else:
        for name in ("max_ids", "max_k", "max_results"):
            config.parameters[name].string_value = str(getattr(options, name))
    config.version_policy.latest.num_versions = options.keep_versions + (model in COMPOSED)
    if model == "ranker" and not options.warm_up:
        config.ClearField("model_warmup")
    return config


def read_config(path: Path) -> Any:
    """A ``config.pbtxt`` as a message."""
    from google.protobuf import text_format
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    return text_format.Parse(path.read_text("utf-8"), ModelConfig())


def config_text(config: Any) -> str:
    """A message as the text of a ``config.pbtxt``."""
    from google.protobuf import text_format

    return str(text_format.MessageToString(config))


def _type_ids(config: Any, texts: Collection[str]) -> None:
    from tritonclient.grpc.model_config_pb2 import TYPE_STRING

    for tensor in (*config.input, *config.output):
        if _IDS.get(tensor.name) in texts:
            tensor.data_type = TYPE_STRING


def _pin(config: Any, options: ExportOptions, version: int) -> None:
    for step in config.ensemble_scheduling.step:
        step.model_version = version
        if step.model_name == "ranker" and options.backend == "pytorch":
            _rename(step.input_map, user_index="user_index__0", item_index="item_index__1")
            _rename(step.output_map, score="score__0")


def _rename(mapping: Any, **names: str) -> None:
    for old, new in names.items():
        mapping[new] = mapping.pop(old)
