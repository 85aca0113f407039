"""The files for libtorch and ONNX Runtime, loaded by those libraries; their configs against Triton's rules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from export.configs import native_file, read_config
from export.selfcheck import load_scorer, sdk_scores
from sdk.bundles.bundle import Bundle
from sdk.features.tables import UNKNOWN

BACKENDS = ("python", "pytorch", "onnxruntime")
TOLERANCE = 1e-5  # of a logit: the same float32 sums in another order


def skip_unless_loadable(backend: str) -> None:
    if backend == "onnxruntime":
        pytest.importorskip("onnx", reason="no package onnx: pip install onnx")
        pytest.importorskip("onnxruntime", reason="no package onnxruntime: pip install onnxruntime")


@pytest.mark.parametrize("model", ["dlrm", "ncf"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_written_file_scores_every_pair_as_the_trained_network(
    bundle: Bundle, exported: Callable[..., Path], backend: str, model: str
):
    skip_unless_loadable(backend)
    scorer = load_scorer(exported(backend=backend, model=model) / "ranker" / "1", backend)
    assert scorer is not None
    users = np.arange(UNKNOWN, len(bundle.encoded_users))
    items = np.arange(UNKNOWN, len(bundle.encoded_items))
    pairs = np.repeat(users, len(items)), np.tile(items, len(users))
    expected = sdk_scores(bundle.model(model), *pairs)
    np.testing.assert_allclose(scorer(*pairs), expected, rtol=0, atol=TOLERANCE)
    assert expected.std() > 0.01
    np.testing.assert_allclose(scorer(pairs[0][:1], pairs[1][:1]), expected[:1], rtol=0, atol=TOLERANCE)


def test_torchscript_follows_libtorchs_naming_rule(exported: Callable[..., Path]):
    """Inputs and outputs are NAME__INDEX, the index being the position in forward's arguments and results."""
    folder = exported(backend="pytorch") / "ranker"
    config = read_config(folder / "config.pbtxt")
    assert (config.backend, config.platform) == ("pytorch", "pytorch_libtorch")
    assert [tensor.name for tensor in config.input] == ["user_index__0", "item_index__1"]
    assert [tensor.name for tensor in config.output] == ["score__0"]
    script = torch.jit.load(str(folder / "1" / config.default_model_filename))
    arguments = [argument.name for argument in script.forward.schema.arguments[1:]]
    assert [f"{name}__{n}" for n, name in enumerate(arguments)] == [tensor.name for tensor in config.input]
    rows = torch.full((4, 1), UNKNOWN)
    scores = script(rows, rows)
    assert (scores.shape, scores.dtype) == ((4, 1), torch.float32)


def test_onnx_tensors_are_those_of_the_config(exported: Callable[..., Path]):
    skip_unless_loadable("onnxruntime")
    import onnxruntime

    folder = exported(backend="onnxruntime") / "ranker"
    config = read_config(folder / "config.pbtxt")
    assert (config.backend, config.platform) == ("onnxruntime", "onnxruntime_onnx")
    session = onnxruntime.InferenceSession(str(folder / "1" / config.default_model_filename))
    types = {"tensor(int64)": "TYPE_INT64", "tensor(float)": "TYPE_FP32"}
    for side, tensors in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        enum = type(config.input[0]).DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
        assert [(t.name, enum[t.data_type].name) for t in side] == [(t.name, types[t.type]) for t in tensors]
        assert [["B", *t.dims] for t in side] == [t.shape for t in tensors]  # Triton adds the batch dimension


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_steps_of_rank_fit_each_other(exported: Callable[..., Path], backend: str):
    """Triton refuses an ensemble whose steps disagree in a tensor's type or shape, or lack an input."""
    skip_unless_loadable(backend)
    repository = exported(backend=backend)
    rank = read_config(repository / "rank" / "config.pbtxt")
    known = {tensor.name: (tensor.data_type, tuple(tensor.reshape.shape)) for tensor in rank.input}
    for step in rank.ensemble_scheduling.step:
        model = read_config(repository / step.model_name / "config.pbtxt")
        assert model.max_batch_size > 0
        assert set(step.input_map) == {tensor.name for tensor in model.input}
        for tensor in model.input:
            assert known[step.input_map[tensor.name]] == (tensor.data_type, (-1, *tensor.dims))
        assert set(step.output_map) <= {tensor.name for tensor in model.output}
        for tensor in model.output:
            assert step.output_map[tensor.name] not in known  # written once
            known[step.output_map[tensor.name]] = (tensor.data_type, (-1, *tensor.dims))
        assert (repository / step.model_name / str(step.model_version)).is_dir()
    (score,) = rank.output
    assert known["score"] == (score.data_type, tuple(score.reshape.shape))


PLATFORMS = {"": "ensemble", "python": "", "pytorch": "pytorch_libtorch", "onnxruntime": "onnxruntime_onnx"}
FIELDS = {"name", "max_batch_size", "input", "output", "version_policy"}  # no decoupled answers, no response cache
MORE_FIELDS = {
    "": {"platform", "ensemble_scheduling"},  # no process of its own, so no instances and no batching
    "python": {"backend", "instance_group", "dynamic_batching", "parameters"},
    "pytorch": {"backend", "instance_group", "dynamic_batching", "platform", "default_model_filename", "model_warmup"},
}
MORE_FIELDS["onnxruntime"] = MORE_FIELDS["pytorch"]
SERVED_TYPES = {"TYPE_INT64", "TYPE_INT32", "TYPE_FP32"}  # no strings: see marquee_serving
FORMS = [
    *({"workflow": "compiled", "backend": backend} for backend in BACKENDS),
    *(
        pytest.param({"workflow": "nvtabular", "backend": backend}, marks=pytest.mark.needs("nvtabular"))
        for backend in BACKENDS
    ),
    {"backend": "pytorch", "instance_kind": "gpu"},
    {"instances": 3, "max_queue_delay_us": 50, "keep_versions": 2, "max_batch": 1, "warm_up": False},
]


@pytest.mark.parametrize("options", FORMS, ids=lambda options: "-".join(map(str, options.values())))
def test_every_config_keeps_the_rules_of_a_current_triton(exported: Callable[..., Path], options: dict[str, object]):
    """What its server checks when it loads a model. A field that the newest client's ModelConfig lacks is no text."""
    skip_unless_loadable(str(options.get("backend", "python")))
    repository = exported(**options)
    folders = [path for path in repository.iterdir() if path.is_dir()]
    assert {path.name for path in folders} == {"nvt_workflow", "ranker", "recommend", "similar_items", "rank"}
    for folder in folders:
        config = read_config(folder / "config.pbtxt")
        given = [field for field, _ in config.ListFields()]
        assert {field.name for field in given} <= FIELDS | MORE_FIELDS[config.backend]
        assert not any(field.GetOptions().deprecated for field in given)
        assert (config.name, config.platform) == (folder.name, PLATFORMS[config.backend])
        assert config.version_policy.latest.num_versions >= 1
        assert all(path.name.isdigit() and path.name[0] != "0" for path in folder.iterdir() if path.is_dir())
        assert (config.WhichOneof("scheduling_choice") == "dynamic_batching") == (config.max_batch_size > 0)
        assert len(config.instance_group) == (config.platform != "ensemble")
        for group in config.instance_group:
            assert {field.name for field, _ in group.ListFields()} == {"count", "kind"}
        for side in (config.input, config.output):
            assert len({tensor.name for tensor in side}) == len(side) > 0
            for tensor in side:
                assert type_name(tensor) in SERVED_TYPES
                assert tensor.dims
                assert all(size == -1 or size > 0 for size in tensor.dims)
                if tensor.HasField("reshape"):  # as many elements, and the same sizes that vary
                    assert [n for n in tensor.reshape.shape if n != 1] == [n for n in tensor.dims if n != 1]


def type_name(tensor: Any) -> str:
    types = tensor.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
    return str(types[tensor.data_type].name)


@pytest.mark.parametrize("backend", ["pytorch", "onnxruntime"])
def test_a_native_ranker_warms_up_with_its_own_inputs_unless_told(exported: Callable[..., Path], backend: str):
    skip_unless_loadable(backend)
    config = read_config(exported(backend=backend) / "ranker" / "config.pbtxt")
    (sample,) = config.model_warmup
    assert {name: (v.data_type, tuple(v.dims)) for name, v in sample.inputs.items()} == {
        tensor.name: (tensor.data_type, tuple(tensor.dims)) for tensor in config.input
    }
    cold = read_config(exported(backend=backend, warm_up=False) / "ranker" / "config.pbtxt")
    assert not cold.model_warmup


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_a_gpu_is_asked_for_where_the_ranker_and_the_engine_run(exported: Callable[..., Path], kind: str):
    repository = exported(backend="pytorch", instance_kind=kind)
    models = ("nvt_workflow", "ranker", "recommend", "similar_items")
    groups = {name: read_config(repository / name / "config.pbtxt").instance_group[0] for name in models}
    on_gpu = [name for name, group in groups.items() if group.kind == group.KIND_GPU]
    assert on_gpu == (["ranker", "recommend"] if kind == "gpu" else [])
    assert all(group.kind == group.KIND_CPU for name, group in groups.items() if name not in on_gpu)
    assert (repository / "ranker" / "1" / native_file("pytorch")).is_file()
