"""Which kernels linear algebra runs: as the library itself says, and what is said where they are too old."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sdk.machine import blas

ROOT = Path(__file__).resolve().parents[2]
OLD = "NumPy's BLAS"


def corename() -> str | None:
    """What NumPy's own OpenBLAS calls the processor that its kernels are for; None where NumPy has another BLAS."""
    np.ones((2, 2)) @ np.ones((2, 2))
    maps = Path("/proc/self/maps")
    loaded = set(re.findall(r"/\S*numpy\S*openblas\S*", maps.read_text("utf-8"))) if maps.exists() else set()
    for library in map(ctypes.CDLL, sorted(loaded)):
        for name in ("scipy_openblas_get_corename64_", "openblas_get_corename64_", "openblas_get_corename"):
            if hasattr(library, name):
                ask = getattr(library, name)
                ask.restype = ctypes.c_char_p
                return str(ask().decode())
    return None


needs_openblas = pytest.mark.skipif(corename() is None, reason="NumPy's BLAS is not OpenBLAS, or this is not Linux")


def doctor(**environment: str) -> str:
    code = [sys.executable, "-m", "sdk", "doctor"]
    done = subprocess.run(code, capture_output=True, text=True, env=os.environ | environment, check=False)
    assert "kernels" in done.stdout, done.stderr
    return done.stdout


@needs_openblas
def test_the_kernels_are_those_that_the_library_names() -> None:
    assert blas.numpy_kernels()[1] == corename()
    assert f", {corename()}; torch" in blas.machine()


@needs_openblas
@pytest.mark.skipif(blas.vector_unit() not in ("AVX2", "AVX-512"), reason="this processor has no AVX2")
def test_the_doctor_warns_of_kernels_of_an_older_processor_and_its_remedy_helps() -> None:
    assert "OPENBLAS_CORETYPE=Haswell" in doctor(OPENBLAS_CORETYPE="Prescott")
    assert OLD not in doctor(OPENBLAS_CORETYPE="Haswell")


@pytest.mark.parametrize(
    ("architecture", "unit", "warns"),
    [("Prescott", "AVX-512", True), ("NEHALEM", "AVX2", True), ("Haswell", "AVX2", False), ("Zen", "AVX2", False),
     ("Nehalem", "none that the engine knows", False), ("unknown", "AVX2", False), ("neoversen1", "NEON", False)],
)  # fmt: skip
def test_only_kernels_below_the_processor_are_warned_of(
    monkeypatch: pytest.MonkeyPatch, architecture: str, unit: str, warns: bool
) -> None:
    monkeypatch.setattr(blas, "numpy_kernels", lambda: ("openblas 0.3", architecture))
    monkeypatch.setattr(blas, "vector_unit", lambda: unit)
    assert bool(blas.slow_blas()) is warns


def test_every_benchmark_names_its_machine() -> None:
    benchmarks = [path.read_text("utf-8") for path in (ROOT / "tests" / "benchmarks").glob("*.py")]
    assert [text[:60] for text in benchmarks if "__main__" in text and "machine()" not in text] == []
