"""Several processes that train one model end with the weights of one process that takes the same batches."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small import planted
from small_steps import CONFIG, KINDS, PlainStep, adam, batch_of, ranker
from small_training import SMALL, fresh

import sdk
from sdk.base.config import from_json
from sdk.base.errors import UsageError
from sdk.commands import distributed
from sdk.data.sample.writer import write_sample
from sdk.features.loaders import InteractionLoader
from sdk.metrics.pointwise import auc
from sdk.models.predict import predict
from sdk.training.device_step import DeviceStep
from sdk.training.process_share import Share

LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
WORKER = """
import sys
sys.path[:0] = ["tests/helpers"]
import torch
from small import planted
from small_training import SMALL, fresh
from sdk.commands.distributed import joined
from sdk.training.loop import train
rows, held_out = planted(1)
with joined("cpu") as where:
    model = fresh("dlrm", rows, id_dropout=0.2)
    result = train(model, rows, held_out, SMALL, name="dlrm", num_epochs=2, share=where.share)
    torch.save((result.history, model.state_dict()), f"{sys.argv[1]}/rank-{where.share.rank}.pt")
assert not torch.distributed.is_initialized()
assert not group_threads(), group_threads()
"""
GROUP_THREADS = """
from pathlib import Path
def group_threads():
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if "gloo" in name]
"""
BROKEN = """
import sys
import torch
from sdk.commands.distributed import joined
try:
    with joined("cpu") as where:
        where.share.total(torch.ones(1))
        assert group_threads()
        import torch.distributed.nn
        raise KeyError
except KeyError:
    assert not torch.distributed.is_initialized()
    assert not group_threads(), group_threads()
"""


def torchrun(*arguments, timeout_s=240):
    """Two processes on loopback; torchrun has waited for both when it ends."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d",
               "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1", *arguments]  # fmt: skip
    environment = {**os.environ, **LOOPBACK}
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=environment, check=False)


def processes_naming(text):
    """Command lines of running processes that hold a text."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            lines.append(path.read_bytes().decode(errors="replace"))
    return [line for line in lines if text in line]


@pytest.mark.parametrize("size", [1, 5, 64])
@pytest.mark.parametrize("num_processes", [1, 2, 3])
def test_the_shares_are_the_batch(size, num_processes):
    bounds = [Share(rank, num_processes).bounds(size) for rank in range(num_processes)]
    assert [row for first, last in bounds for row in range(first, last)] == list(range(size))
    lengths = [last - first for first, last in bounds]
    assert max(lengths) - min(lengths) <= 1


class Recorded(Share):
    """A share whose gradients are not summed but kept."""

    def sum_gradients(self, parameters):
        KEPT.append([None if p.grad is None else p.grad.clone() for p in parameters])

    def total(self, value):
        return value


KEPT: list = []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 33])
def test_the_shares_gradients_add_up_to_the_batchs(kind, size):
    whole = ranker(kind, 0, 0.3)
    loss = PlainStep(whole, adam(whole), CONFIG)(batch_of(size), torch.Generator().manual_seed(9))
    KEPT.clear()
    losses = []
    for rank in range(2):
        model = ranker(kind, 0, 0.3)
        step = DeviceStep(model, adam(model), CONFIG, share=Recorded(rank, 2))
        losses.append(float(step(batch_of(size), torch.Generator().manual_seed(9))))
    assert sum(losses) == pytest.approx(loss, rel=1e-5)
    for parameter, first, second in zip(whole.parameters(), *KEPT, strict=True):
        assert (parameter.grad is None) == (first is None) == (second is None)
        if first is not None:
            torch.testing.assert_close(first + second, parameter.grad, rtol=1e-4, atol=1e-6)


def reference(rows):
    """One process, the same batches, by the plain step."""
    model = fresh("dlrm", rows, id_dropout=0.2)
    optimiser = torch.optim.Adam(model.parameters(), lr=SMALL.learning_rate)
    step, loader = PlainStep(model, optimiser, SMALL), InteractionLoader(rows, SMALL.batch_size, seed=SMALL.seed)
    for epoch in (1, 2):
        model.train()
        loader.set_epoch(epoch)
        generator = torch.Generator().manual_seed(SMALL.seed * 1_000_003 + epoch)
        for batch in loader:
            step(batch, generator)
    return model.eval()


def test_two_processes_end_where_one_ends(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(GROUP_THREADS + WORKER, encoding="utf-8")
    done = torchrun(str(script), str(tmp_path))
    assert done.returncode == 0, done.stderr
    results = [torch.load(tmp_path / f"rank-{rank}.pt", weights_only=False) for rank in range(2)]
    rows, held_out = planted(1)
    expected = reference(rows)
    for name, weight in expected.state_dict().items():
        assert torch.equal(results[0][1][name], results[1][1][name]), f"{name}: the processes differ"
        torch.testing.assert_close(results[0][1][name], weight, rtol=0, atol=1e-5)
    score = auc(held_out.label, predict(expected, held_out))
    assert [history[-1].auc for history, _ in results] == pytest.approx([score] * 2, abs=1e-3)
    assert not processes_naming(str(script))


def test_after_an_error_no_thread_of_the_group_is_left(tmp_path):
    """A thread that outlives its group runs into the interpreter's exit: "terminate called", SIGABRT, now and then."""
    script = tmp_path / "worker.py"
    script.write_text(GROUP_THREADS + BROKEN, encoding="utf-8")
    done = torchrun(str(script))
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_torchrun_writes_one_bundle_with_the_auc_of_one_process(tmp_path):
    movielens, tmdb = write_sample(tmp_path, num_users=60)
    settings = {
        "models": ["ncf"],
        "ncf": {"embedding_dim": 4},
        "training": {"max_epochs": 2, "batch_size": 256, "refit": False},
    }
    (tmp_path / "run.json").write_text(json.dumps(settings), encoding="utf-8")
    options = ["--movielens", str(movielens), "--tmdb", str(tmdb), "--config", str(tmp_path / "run.json")]
    out = tmp_path / "two" / "bundle"
    done = torchrun("-m", "sdk.training.distributed", *options, "--out", str(out), "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("bundle: ") == 1
    assert [path.name for path in out.parent.iterdir()] == ["bundle"]
    config = from_json(sdk.RunConfig, settings)
    alone = sdk.train(sdk.load_movielens(movielens, tmdb=tmdb), config, tmp_path / "one", device="cpu")
    two = sdk.load(out)
    assert two.info.metrics["validation_auc"]["ncf"] == pytest.approx(
        alone.info.metrics["validation_auc"]["ncf"], abs=1e-3
    )
    for name, weight in alone.model("ncf").state_dict().items():
        torch.testing.assert_close(two.model("ncf").state_dict()[name], weight, rtol=0, atol=1e-4)
    assert not processes_naming(str(out))


def test_without_torchrun_it_says_so(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UsageError, match=r"RANK.*torchrun"), distributed.joined("cpu"):
        pass
