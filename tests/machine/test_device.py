"""Training and scoring where the device says: one step on any device, memory that runs out, and what is imported."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from pair_forms import random_form
from small import dataset, planted, run_config
from small_steps import CONFIG, KINDS, PlainStep, adam, batch_of, ranker
from small_training import SMALL, assert_same_weights, fresh, state_of

from sdk.__main__ import main
from sdk.base import __version__
from sdk.base.errors import ScoreError
from sdk.features.loaders import InteractionLoader
from sdk.features.seen import Seen
from sdk.machine.device import _may_have_gpu, versions_of
from sdk.metrics.pointwise import auc
from sdk.models.pair_model import PairModel
from sdk.models.predict import predict
from sdk.scoring import torch_engine
from sdk.scoring.torch_engine import TorchEngine
from sdk.training.device_step import CudaGraph, DeviceStep, capturable
from sdk.training.loop import train
from sdk.training.pipeline import train_bundle
from sdk.training.process_share import Share

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


def stepped(kind, step_class, batches, id_dropout=0.3, **options):
    model = ranker(kind, 0, id_dropout)
    step, generator = step_class(model, adam(model), CONFIG, **options), torch.Generator().manual_seed(9)
    return model, [float(step(batch, generator)) for batch in batches], step


def assert_close(got, expected, atol=1e-6):
    for name, weight in expected.state_dict().items():
        torch.testing.assert_close(got.state_dict()[name], weight, rtol=1e-4, atol=atol)


def short_of_memory(monkeypatch, most):
    """From now on a training forward pass of more than ``most`` rows runs out of a GPU's memory."""
    original, sizes = PairModel.training_forward, []

    def forward(self, users, items, batch):
        sizes.append(len(users))
        if len(users) > most:
            raise torch.cuda.OutOfMemoryError
        return original(self, users, items, batch)

    monkeypatch.setattr(PairModel, "training_forward", forward)
    return sizes


class Whole(Share):
    """One of two processes, of which the other has nothing to do: training takes the device's route on a CPU, too."""

    def bounds(self, num_rows):
        return 0, num_rows

    def sum_gradients(self, parameters):
        pass

    def total(self, value):
        return value

    def first_ones(self, value, device):
        return value


@pytest.mark.parametrize("kind", KINDS)
def test_the_devices_step_is_autograds(kind):
    batches = [batch_of(size, size) for size in (50, 50, 33)]
    expected, losses, _ = stepped(kind, PlainStep, batches)
    got, mine, _ = stepped(kind, DeviceStep, batches)
    assert mine == pytest.approx(losses, rel=1e-6)
    assert_close(got, expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("id_dropout", [0.0, 0.3])
def test_a_step_that_is_repeated_in_its_buffers_is_the_same_step(kind, id_dropout):
    """All batches of the first one's size go through the same memory; the epoch's last one is taken as it comes."""
    batches, repeated, places = [batch_of(size, number) for number, size in enumerate((50, 50, 33, 50))], [], set()

    def repeat(work):
        repeated.append(work())
        places.update(buffer.data_ptr() for buffer in step.buffers)
        return repeated[-1].clone()

    expected, losses, _ = stepped(kind, PlainStep, batches, id_dropout)
    model = ranker(kind, 0, id_dropout)
    step, generator = DeviceStep(model, adam(model), CONFIG, repeat=repeat), torch.Generator().manual_seed(9)
    assert [float(step(batch, generator)) for batch in batches] == pytest.approx(losses, rel=1e-6)
    assert len(repeated) == 3
    assert len(places) == (6 if id_dropout else 4)
    assert_close(model, expected)


@pytest.mark.parametrize("error", [RuntimeError("operation not permitted"), torch.cuda.OutOfMemoryError("full")])
def test_a_step_that_cannot_be_repeated_is_taken_as_it_comes(error, caplog):
    def refuse(work):
        raise error

    batches = [batch_of(20, number) for number in range(3)]
    expected, losses, _ = stepped("dlrm", PlainStep, batches)
    model, mine, _ = stepped("dlrm", DeviceStep, batches, repeat=refuse)
    assert mine == pytest.approx(losses, rel=1e-6)
    assert_close(model, expected)
    assert [record.levelname for record in caplog.records] == ["WARNING"], "said once"
    assert str(error) in caplog.text


def test_the_optimiser_is_capturable_only_while_it_is_captured():
    """Its state goes into checkpoints, and a CPU's Adam refuses the flag."""
    optimiser = adam(ranker("ncf", 0))
    with contextlib.suppress(KeyError), capturable(optimiser):
        assert all(group["capturable"] for group in optimiser.param_groups)
        raise KeyError
    assert not any(group["capturable"] for group in optimiser.param_groups)


@pytest.mark.parametrize("kind", KINDS)
def test_out_of_memory_is_met_with_smaller_parts_of_the_same_step(kind, monkeypatch):
    batches = [batch_of(size, size) for size in (50, 50, 33, 3)]
    expected, losses, _ = stepped(kind, PlainStep, batches)
    sizes = short_of_memory(monkeypatch, 15)
    got, mine, step = stepped(kind, DeviceStep, batches)
    assert sizes == [50, 25, 12, 13, 12, 13, *[12, 13, 12, 13], *[8, 8, 8, 9], *[1, 1, 1]]
    assert step.num_parts == 4
    assert mine == pytest.approx(losses, rel=1e-5)
    assert_close(got, expected, atol=1e-5)


def test_memory_for_no_row_at_all_is_one_clear_line(monkeypatch):
    short_of_memory(monkeypatch, 0)
    with pytest.raises(ScoreError, match=r"memory does not hold.*--device cpu"):
        stepped("ncf", DeviceStep, [batch_of(5)])
    engine = TorchEngine(random_form(4, 9, (4, 1, 0, 0, 1, []), mlp=False), device="cpu")
    monkeypatch.setattr(torch, "isfinite", lambda _: (_ for _ in ()).throw(torch.cuda.OutOfMemoryError))
    with pytest.raises(ScoreError, match=r"memory does not hold.*--device cpu"):
        engine.top_k(np.arange(4), Seen.nothing(4), 2)


@pytest.mark.parametrize(("free_gib", "expected"), [(139, 2 << 30), (16, 1 << 30), (1, 256 << 20)])
def test_tiles_grow_with_a_gpus_free_memory_within_bounds(free_gib, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free_gib << 30, 139 << 30))
    assert torch_engine._tile_bytes(torch.device("cuda")) == expected


def test_predicting_with_little_memory_gives_the_same_scores(monkeypatch):
    rows, held_out = planted(0)
    model = fresh("dlrm", rows)
    expected, original = predict(model, held_out), PairModel.forward

    def forward(self, users, items):
        if len(users) > 10:
            raise torch.cuda.OutOfMemoryError
        return original(self, users, items)

    monkeypatch.setattr(type(model), "forward", forward)
    np.testing.assert_allclose(predict(model, held_out), expected, atol=1e-6)


def test_bfloat16_learns_nearly_what_float32_learns():
    batches = [batch_of(64, seed) for seed in range(6)]
    expected, losses, _ = stepped("dlrm", DeviceStep, batches)
    got, mine, _ = stepped("dlrm", DeviceStep, batches, bf16=True)
    assert mine != losses, "nothing was rounded"
    assert mine == pytest.approx(losses, rel=0.02)
    assert all(weight.dtype == torch.float32 for weight in got.state_dict().values())
    del expected


@pytest.mark.parametrize("name", ["dlrm", "ncf"])
@pytest.mark.parametrize("negatives", ["none", "uniform"])
def test_the_devices_route_trains_as_the_cpus(name, negatives):
    rows, held_out = planted(1)
    config = dataclasses.replace(SMALL, max_epochs=3, negatives=negatives)
    reference, model = fresh(name, rows, config), fresh(name, rows, config)
    expected = train(reference, rows, held_out, config, name=name)
    result = train(model, rows, held_out, config, name=name, share=Whole(0, 2))
    for got, wanted in zip(result.history, expected.history, strict=True):
        assert got.train_loss == pytest.approx(wanted.train_loss, rel=1e-4)
        assert got.auc == pytest.approx(wanted.auc, abs=1e-3)
    assert_close(model, reference, atol=1e-3)
    assert auc(held_out.label, predict(model, held_out)) == pytest.approx(expected.history[-1].auc, abs=0.05)


def test_the_loader_keeps_the_rows_where_they_are_and_shuffles_by_epoch():
    rows, _ = planted(0)
    loader = InteractionLoader(rows, 50, seed=3, device="cpu")
    orders = []
    for epoch in (1, 2, 1):
        loader.set_epoch(epoch)
        kept = loader._epoch_columns()
        orders.append(torch.cat([batch.user_index * 10_000 + batch.item_index for batch in loader]).tolist())
        assert all(a is b for a, b in zip(kept, loader._epoch_columns(), strict=True)), "copied again"
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == sorted((rows.user_index.astype(np.int64) * 10_000 + rows.item_index).tolist())


@NO_GPU
def test_without_a_gpu_auto_is_the_cpu_bit_for_bit(tmp_path):
    config = run_config(models=("dlrm", "ncf"))
    bundles = [train_bundle(dataset(), config, tmp_path / device, device=device) for device in ("auto", "cpu")]
    for name in config.rankers:
        assert_same_weights(*(state_of(bundle.model(name)) for bundle in bundles))
    auto, cpu = (bundle.info.metrics["validation_auc"] for bundle in bundles)
    assert auto == cpu


@NO_GPU
def test_asking_for_a_gpu_that_is_not_there_is_one_line_and_exit_code_2(tmp_path, capsys):
    assert main(["train", "--sample", "--device", "cuda", "--out", str(tmp_path / "b")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "no GPU" in lines[0]
    assert not list(tmp_path.iterdir())


def test_training_and_scoring_need_neither_nvtabular_nor_what_a_bare_gpu_machine_lacks():
    """torch, NumPy, Numba, pandas and PyArrow are all there is."""
    code = """
import sys
for name in ("nvtabular", "merlin", "dask", "distributed", "tritonclient", "triton", "safetensors", "tqdm", "scipy",
             "sklearn", "matplotlib"):
    sys.modules[name] = None
sys.path[:0] = ["tests/helpers"]
import numpy as np
import sdk.scoring.engine, sdk.scoring.torch_engine, sdk.training.loop, sdk.training.device_step
from small import planted, tables_for
from sdk.base.config import DLRMConfig, TrainingConfig
from sdk.models.dlrm import DLRM
from sdk.features.seen import Seen
rows, _ = planted(0)
model = DLRM(DLRMConfig(), *tables_for(rows))
sdk.training.loop.train(model, rows, rows, TrainingConfig(), name="dlrm", num_epochs=1)
form, users = model.lower(), np.arange(4)
for engine in (sdk.scoring.engine.Engine(form), sdk.scoring.torch_engine.TorchEngine(form, device="cpu")):
    print(engine.top_k(users, Seen.nothing(4), 3).lengths.tolist())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[3, 3, 3, 3]"] * 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_learns_what_the_cpu_learns():
    rows, held_out = planted(1, share=0.6)
    config = dataclasses.replace(SMALL, max_epochs=10)
    scores = {}
    for device in ("cpu", "cuda"):
        model = fresh("dlrm", rows, config)
        train(model, rows, None, config, name="dlrm", device=device)
        assert model.users.dense.device.type == "cpu"
        scores[device] = auc(held_out.label, predict(model, held_out))
    assert scores["cuda"] == pytest.approx(scores["cpu"], abs=0.03)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bf16", [False, True])
def test_a_captured_step_is_the_step_kernel_by_kernel(kind, bf16):
    """Seven steps: three to warm up, the capture, replays, and a shorter batch between them."""
    batches = [batch_of(size, number) for number, size in enumerate((64, 64, 64, 64, 33, 64, 64))]
    losses, models = [], []
    for captured in (True, False):
        model = ranker(kind, 0, 0.3).to("cuda")
        optimiser = torch.optim.Adam(model.parameters(), fused=True)
        step = DeviceStep(model, optimiser, CONFIG, bf16=bf16, repeat=None if captured else lambda work: work())
        assert isinstance(step.repeat, CudaGraph) == captured
        generator = torch.Generator("cuda").manual_seed(9)
        losses.append([float(step(batch, generator)) for batch in batches])
        assert step.repeat is not None, "it was not captured"
        models.append(model)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert_close(*models, atol=1e-4)


def test_marquee_is_this_code_whatever_is_installed_under_that_name(monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.1.5")
    assert versions_of(("marquee", "numpy")) == {"marquee": __version__, "numpy": "0.1.5"}


@pytest.mark.skipif(_may_have_gpu(), reason="a GPU's driver is here")
def test_without_a_driver_auto_is_the_cpu_and_torch_is_not_loaded():
    code = "import sys; from sdk.machine.device import resolve_device as r; print(r('auto'), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["cpu", "False"]
