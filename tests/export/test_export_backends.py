"""The files for libtorch and ONNX Runtime, loaded by those libraries; their configs against Triton's rules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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
        for tensor in model.output:
            known[step.output_map[tensor.name]] = (tensor.data_type, (-1, *tensor.dims))
        assert (repository / step.model_name / str(step.model_version)).is_dir()
    (score,) = rank.output
    assert known["score"] == (score.data_type, tuple(score.reshape.shape))


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
