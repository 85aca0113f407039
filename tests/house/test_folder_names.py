"""Folders beside a program may be called anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OPTIMISE = "import torch; torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])"


def run(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


def test_a_model_repository_called_triton_does_not_keep_torch_from_training(tmp_path):
    (tmp_path / "triton" / "rank").mkdir(parents=True)
    assert run(tmp_path, "import triton").returncode == 0  # what Python makes of the folder
    done = run(tmp_path, f"import sdk; {OPTIMISE}")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_package_of_that_name_with_contents_is_left_alone(tmp_path):
    (tmp_path / "triton").mkdir()
    (tmp_path / "triton" / "__init__.py").write_text("language = 'own'\n")
    done = run(tmp_path, "import sdk, triton; print(triton.language)")
    assert (done.returncode, done.stdout) == (0, "own\n")
