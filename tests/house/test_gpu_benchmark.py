"""The GPU benchmark's code works from end to end at a tiny size on the CPU, and finds a wrong list."""

from __future__ import annotations

import importlib
import json
import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pair_forms import random_form, random_seen

from sdk.features.tables import EncodedInteractions
from sdk.scoring.engine import Engine

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu.py"
BARE = """
import runpy, sys
for name in ("nvtabular", "merlin", "dask", "distributed", "tritonclient", "safetensors", "tqdm", "scipy", "sklearn",
             "matplotlib", "optuna", "lightgbm", "implicit"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def benchmark(monkeypatch):
    """The benchmark's own modules; the path is put back afterwards."""
    monkeypatch.setattr(sys, "path", [str(SCRIPT.parent), *sys.path])
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)
    names = ("gpu", "gpu_run", "gpu_night", "gpu_training")
    return SimpleNamespace(**{name: importlib.import_module(name) for name in names})


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    """What it writes where there is neither NVTabular nor much else."""
    path = tmp_path_factory.mktemp("gpu") / "gpu.json"
    command = [sys.executable, "-c", BARE, str(SCRIPT), "--device", "cpu", "--small", "--json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(path.read_text("utf-8"))


FUSED = ["night_dlrm_fused", "night_dlrm_tf32x3", "night_ncf_fused", "night_wide", "tiles_tf32x3",
         "tiles_ieee", "tiles_dot"]  # fmt: skip
ON_A_GPU_ALONE = ["training_bf16", "training_uncaptured", "little_memory"]
MEASURED = [
    "limits",
    "training_float32",
    "training_ncf",
    "training_agreement",
    "cpu_lists",
    "night_dlrm_plain",
    "night_ncf_plain",
]


def test_every_part_has_figures_or_says_why_not(figures):
    assert figures["machine"]["device"] == "cpu"
    assert set(figures) == {*FUSED, *ON_A_GPU_ALONE, *MEASURED, "machine", "targets", "generated_s", "seconds"}
    assert not [name for name, part in figures.items() if isinstance(part, dict) and "failed" in part]
    assert sorted(name for name, part in figures.items() if isinstance(part, dict) and "skipped" in part) == sorted(
        FUSED + ON_A_GPU_ALONE
    )
    assert figures["training_float32"]["rows_s"] > 0
    assert all(0.6 < auc < 0.9 for auc in figures["training_float32"]["auc"]), "the rows have something to learn"
    assert figures["training_agreement"]["difference"] == 0, "the CPU against itself"


@pytest.mark.parametrize("name", ["dlrm", "ncf"])
def test_the_nights_lists_are_the_cpu_engines(figures, name):
    agreement = figures[f"night_{name}_plain"]["agreement"]
    assert agreement["users"] == 50
    assert agreement["beyond_near_ties"] == 0
    assert agreement["identical"] >= 48
    assert agreement["largest_difference"] < 1e-4
    assert figures[f"night_{name}_plain"]["log"] == [
        "scoring on cpu with plain torch: the fused kernel is not asked for"
    ]


def test_the_pairs_arithmetic_is_the_heads(figures):
    """Five fields of width 32: 2 x 3 dot products, 6 x 64 into the first layer, 64 x 32, 32 x 1, and a 64-wide dot."""
    assert figures["night_dlrm_plain"]["limit"]["flop_per_pair"] == 2 * (64 + 6 * 32 + 6 * 64 + 64 * 32 + 32)
    assert figures["night_ncf_plain"]["limit"]["flop_per_pair"] == 2 * 64


@pytest.mark.parametrize("fault", ["none", "worse title", "seen title", "twice", "score"])
def test_a_list_that_is_not_the_cpus_is_found(benchmark, fault):
    form, seen = random_form(8, 60, (4, 6, 2, 2, 3, [4]), seed=1), random_seen(8, 60, 0.2, 1)
    users, k = np.arange(8), 5
    lists = Engine(form).top_k(users, seen, k)
    if fault == "worse title":
        lists.item_index[3, 4] = Engine(form).top_k(users, seen, 20).item_index[3, 19]
    elif fault == "seen title":
        lists.item_index[3, 0] = seen.row(3)[0]
    elif fault == "twice":
        lists.item_index[3, 1] = lists.item_index[3, 0]
    elif fault == "score":
        lists.scores[3, 2] += 0.5
    found = benchmark.gpu_night.agreement(form, users, seen, lists, Engine(form).top_k(users, seen, k))
    assert found["beyond_near_ties"] == (fault != "none")
    assert found["first_wrong"] == ([] if fault == "none" else [3])
    assert found["identical"] == (8 if fault in ("none", "score") else 7)


def test_a_part_that_fails_is_named_and_the_others_run(benchmark, capsys, tmp_path):
    run = benchmark.gpu_run.Run("cpu", benchmark.gpu_run.SMALL, float("inf"), tmp_path / "gpu.json")

    def told():
        logging.getLogger("sdk.training").warning("not captured")
        return {"figure": 1}

    run.part("first", lambda: 1 / 0)
    run.part("second", told)
    assert run.figures["first"]["failed"].startswith("ZeroDivisionError")
    assert run.figures["second"]["figure"] == 1
    assert run.figures["second"]["log"] == ["not captured"]
    assert json.loads(run.path.read_text("utf-8")) == run.figures, "written after every part"
    run.ends = 0.0
    run.part("third", told)
    assert run.figures["third"]["skipped"] == "no time left"
    assert "first" in capsys.readouterr().out


def test_a_part_that_takes_too_long_is_stopped(benchmark):
    run = benchmark.gpu_run.Run("cpu", benchmark.gpu_run.SMALL, float("inf"))

    def endless():
        while True:
            pass

    run.part("endless", endless, 0.05)
    assert run.figures["endless"]["failed"].startswith("OutOfTime: stopped")
    assert run.figures["endless"]["part_s"] < 10


def test_labels_follow_tastes(benchmark):
    """A pair's label is its own: the same pair twice is liked alike more often than two pairs of the same title."""
    users, items = np.repeat(np.arange(3, 403, dtype=np.int32), 2), np.full(800, 5, dtype=np.int32)
    label = benchmark.gpu_training.with_tastes(EncodedInteractions(users, items, np.zeros(800, np.int8))).label
    pairs = label.reshape(-1, 2)
    same, by_chance = (pairs[:, 0] == pairs[:, 1]).mean(), label.mean() ** 2 + (1 - label.mean()) ** 2
    assert same > by_chance + 0.05


def test_the_plot_is_drawn_from_the_file(benchmark, figures, tmp_path):
    source = tmp_path / "gpu.json"
    source.write_text(json.dumps(figures), encoding="utf-8")
    assert benchmark.gpu.main(["--from-json", str(source), "--plots", str(tmp_path)]) == 0
    assert (tmp_path / "gpu.png").stat().st_size > 10_000


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_nothing_is_measured(benchmark, capsys, tmp_path):
    assert benchmark.gpu.main(["--json", str(tmp_path / "gpu.json")]) == 2
    assert capsys.readouterr().err.startswith("no GPU: nothing is measured")
    assert not list(tmp_path.iterdir())
