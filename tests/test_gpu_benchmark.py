"""The GPU benchmark's code works from end to end at a tiny size on the CPU, and finds a wrong list."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_engine_exact import random_form, random_seen

from sdk.scoring.engine import Engine

SCRIPT = Path(__file__).parent / "benchmarks" / "gpu.py"
BARE = """
import runpy, sys
for name in ("nvtabular", "merlin", "dask", "distributed", "safetensors", "tqdm", "scipy", "sklearn", "matplotlib"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def benchmark(monkeypatch):
    """The benchmark's own names; the path is put back afterwards."""
    import runpy

    monkeypatch.setattr(sys, "path", list(sys.path))
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    """What it writes where there is neither NVTabular nor much else."""
    path = tmp_path_factory.mktemp("gpu") / "gpu.json"
    command = [sys.executable, "-c", BARE, str(SCRIPT), "--device", "cpu", "--small", "--json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(path.read_text("utf-8"))


def test_every_part_has_figures(figures):
    assert figures["machine"]["device"] == "cpu"
    assert set(figures) == {"machine", "limits", "training", "training_agreement", "training_ncf", "night_dlrm",
                            "night_ncf", "little_memory", "targets", "seconds"}  # fmt: skip
    assert not [name for name, part in figures.items() if isinstance(part, dict) and "failed" in part]
    assert figures["training"]["float32"]["rows_s"] > 0
    assert figures["training_agreement"]["difference"] == 0, "the CPU against itself"


@pytest.mark.parametrize("name", ["dlrm", "ncf"])
def test_the_nights_lists_are_the_cpu_engines(figures, name):
    agreement = figures[f"night_{name}"]["agreement"]
    assert agreement["users"] == 50
    assert agreement["beyond_near_ties"] == 0
    assert agreement["identical"] >= 48
    assert agreement["largest_difference"] < 1e-4


def test_the_pairs_arithmetic_is_the_heads(figures):
    """Five fields of width 32: 2 x 3 dot products, 6 x 64 into the first layer, 64 x 32, 32 x 1, and a 64-wide dot."""
    assert figures["night_dlrm"]["limit"]["flop_per_pair"] == 2 * (64 + 6 * 32 + 6 * 64 + 64 * 32 + 32)
    assert figures["night_ncf"]["limit"]["flop_per_pair"] == 2 * 64


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
    found = benchmark["agreement"](form, users, seen, lists, k)
    assert found["beyond_near_ties"] == (fault != "none")
    assert found["first_wrong"] == ([] if fault == "none" else [3])
    assert found["identical"] == (8 if fault in ("none", "score") else 7)


def test_a_part_that_fails_is_named_and_the_others_run(benchmark, capsys):
    run = benchmark["Run"]("cpu", benchmark["SMALL"], float("inf"))
    run.part("first", lambda: 1 / 0)
    run.part("second", lambda: {"figure": 1})
    assert run.figures["first"]["failed"].startswith("ZeroDivisionError")
    assert run.figures["second"] == {"figure": 1}
    run.ends = 0.0
    run.part("third", lambda: {"figure": 1})
    assert run.figures["third"] == {"skipped": "no time left"}
    assert "first" in capsys.readouterr().out


def test_the_plot_is_drawn_from_the_file(benchmark, figures, tmp_path):
    source = tmp_path / "gpu.json"
    source.write_text(json.dumps(figures), encoding="utf-8")
    assert benchmark["main"](["--from-json", str(source), "--plots", str(tmp_path)]) == 0
    assert (tmp_path / "gpu.png").stat().st_size > 10_000


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_nothing_is_measured(benchmark, capsys, tmp_path):
    assert benchmark["main"](["--json", str(tmp_path / "gpu.json")]) == 2
    assert capsys.readouterr().err.startswith("no GPU: nothing is measured")
    assert not list(tmp_path.iterdir())
