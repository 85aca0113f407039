"""The reviewed config.pbtxt files, with the user's options filled in."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from export.options import ExportOptions

COMPOSED = ("nvt_workflow", "ranker")  # the steps of rank; its config pins their version
_ON_GPU = ("ranker", "recommend")  # a workflow looks ids up, and similar titles are few: no work for a GPU
_VARIANTS = {"pytorch": "variants/ranker_pytorch", "onnxruntime": "variants/ranker_onnxruntime"}
_FILE_NAMES = {"pytorch": "model.pt", "onnxruntime": "model.onnx"}


def sources() -> Path:
    """The folder of reviewed sources, ``triton_models``."""
    return Path(str(files("triton_models")))


def native_file(backend: str) -> str:
    """The name of a native backend's model file."""
    return _FILE_NAMES[backend]


def configuration(model: str, options: ExportOptions, version: int) -> Any:
    """One model's configuration, a ``ModelConfig`` message.

    Args:
        model: ``rank``, ``nvt_workflow``, ``ranker``, ``recommend`` or ``similar_items``.
        options: what the user chose.
        version: the version being exported; ``rank`` names it for its steps.
    """
    folder = _VARIANTS.get(options.backend, model) if model == "ranker" else model
    config = read_config(sources() / folder / "config.pbtxt")
    if model == "rank":
        _pin(config, options, version)
    elif model in COMPOSED:
        _fill_batching(config, options)
    else:
        _fill_limits(config, options)
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


def _pin(config: Any, options: ExportOptions, version: int) -> None:
    steps = {step.model_name: step for step in config.ensemble_scheduling.step}
    for step in steps.values():
        step.model_version = version
    if options.backend == "pytorch":
        ranker = steps["ranker"]
        _rename(ranker.input_map, user_index="user_index__0", item_index="item_index__1")
        _rename(ranker.output_map, score="score__0")


def _rename(mapping: Any, **names: str) -> None:
    for old, new in names.items():
        mapping[new] = mapping.pop(old)


def _fill_batching(config: Any, options: ExportOptions) -> None:
    config.max_batch_size = options.max_batch
    if options.max_queue_delay_us:
        config.dynamic_batching.max_queue_delay_microseconds = options.max_queue_delay_us
    _fill_instances(config, options)
    config.version_policy.latest.num_versions = 1 + options.keep_versions


def _fill_limits(config: Any, options: ExportOptions) -> None:
    for name in ("max_ids", "max_k", "max_results"):
        config.parameters[name].string_value = str(getattr(options, name))
    _fill_instances(config, options)
    config.version_policy.latest.num_versions = options.keep_versions


def _fill_instances(config: Any, options: ExportOptions) -> None:
    (group,) = config.instance_group
    group.count = options.instances
    if config.name in _ON_GPU and options.instance_kind == "gpu":
        group.kind = type(group).KIND_GPU
