"""Which kernels linear algebra runs here: a BLAS that does not know the processor takes five times as long."""

from __future__ import annotations

import contextlib
import platform
from pathlib import Path

from sdk.machine.device import usable_cores, versions_of

_BEFORE_AVX2 = frozenset(
    """Katmai Coppermine Northwood Prescott Banias Core2 Penryn Dunnington Nehalem Athlon Opteron Opteron_SSE3
    Barcelona Bobcat Atom Nano SandyBridge Bulldozer Piledriver Steamroller""".casefold().split()
)
"""OpenBLAS's names of kernels without AVX2, in lower case."""
_WIDE = {"avx512f": "AVX-512", "avx2": "AVX2", "neon": "NEON", "asimd": "NEON"}


def vector_unit() -> str:
    """The widest vector instructions of the processor that the scoring engine knows."""
    try:
        from llvmlite import binding
    except ImportError:
        return "unknown: numba is not installed"
    features = binding.get_host_cpu_features()
    return next((unit for name, unit in _WIDE.items() if features.get(name)), "none that the engine knows")


def numpy_kernels() -> tuple[str, str]:
    """NumPy's BLAS with its version, and the processor that its kernels are for; "unknown" where it does not say."""
    with contextlib.suppress(ImportError):
        import numpy as np
        from threadpoolctl import threadpool_info

        np.ones((2, 2)) @ np.ones((2, 2))  # it is loaded at the latest now
        found = [each for each in threadpool_info() if each["user_api"] == "blas"]
        found.sort(key=lambda each: "numpy" not in Path(each["filepath"]).parent.name)  # before SciPy's and torch's
        for each in found[:1]:
            return f"{each['internal_api']} {each['version'] or ''}".strip(), str(each.get("architecture") or "unknown")
    return "unknown", "unknown"


def kernels() -> str:
    """Whose kernels NumPy and torch run, in one line: ``NumPy 2.2: openblas 0.3.30, Haswell; torch 2.9: MKL, AVX2``."""
    words = f"NumPy {versions_of(['numpy'])['numpy']}: {', '.join(numpy_kernels())}"
    try:
        import torch
    except ImportError:
        return words
    has = {"MKL": torch.backends.mkl.is_available(), "oneDNN": torch.backends.mkldnn.is_available()}
    libraries = ", ".join(name for name, there in has.items() if there) or "neither MKL nor oneDNN"
    return f"{words}; torch {torch.__version__}: {libraries}, {torch.backends.cpu.get_cpu_capability()}"


def slow_blas() -> str | None:
    """What to do where NumPy's BLAS runs kernels of an older processor than this one; None where it does not."""
    library, architecture = numpy_kernels()
    unit = vector_unit()
    if architecture.casefold() not in _BEFORE_AVX2 or unit not in ("AVX2", "AVX-512"):
        return None
    found = f"NumPy's BLAS ({library}) runs kernels for {architecture}, though this processor has {unit}"
    remedy = "Unset OPENBLAS_CORETYPE if it is set; else upgrade NumPy, or set OPENBLAS_CORETYPE=Haswell"
    return f"{found}: linear algebra takes several times as long. {remedy}."


def machine() -> str:
    """Processor, cores, Python and ``kernels`` in one line: what stands above every figure of speed."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text("utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {usable_cores()} cores, Python {platform.python_version()}; {kernels()}"
