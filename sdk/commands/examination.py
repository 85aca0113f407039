"""What this machine and this environment can do: versions, device, optional parts and how to get those that lack."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sdk.machine.device import usable_cores

DISTRIBUTION = "marquee"
EXTRAS = {
    "server": "run a real Triton server: python -m export serve",
    "compare": "measure iALS and LightGBM beside ours: python -m sdk compare",
    "tune": "search for settings: python -m sdk tune",
    "onnx": "export a ranker for ONNX Runtime: python -m export --backend onnxruntime",
    "s3": "write nights to s3://",
    "gcs": "write nights to gs://",
    "web": "browse lists: examples/web_app",
    "tensorflow": "feed encoded interactions to TensorFlow",
}
State = Literal["ok", "absent", "other version"]


@dataclass(frozen=True, slots=True)
class Package:
    """One package that Marquee asks for.

    Attributes:
        name: the distribution.
        asked: the versions that do, such as ``<1.6,>=1.5``; empty where any does.
        found: the version installed; None where it is absent.
        state: how the two compare.
        extra: the optional part that asks for it; empty for what every installation needs.
    """

    name: str
    asked: str
    found: str | None
    state: State
    extra: str


@dataclass(frozen=True, slots=True)
class Examination:
    """What the doctor found.

    Attributes:
        version: of Marquee.
        python: version and path of the interpreter.
        system: operating system and processor.
        cores: that this process may run on.
        memory_gib: of the machine; None where the system does not tell.
        device: ``cuda`` with the GPU's name, or ``cpu`` with the reason.
        vector_unit: the widest vector instructions that the scoring engine uses here.
        packages: what every installation needs.
        extras: optional part -> its packages.
    """

    version: str
    python: str
    system: str
    cores: int
    memory_gib: float | None
    device: str
    vector_unit: str
    packages: tuple[Package, ...]
    extras: dict[str, tuple[Package, ...]]

    @property
    def healthy(self) -> bool:
        """Whether everything that every installation needs is there in a version that does."""
        return all(package.state == "ok" for package in self.packages)

    def lacking(self, extra: str) -> tuple[Package, ...]:
        """The packages that an optional part still needs."""
        return tuple(package for package in self.extras[extra] if package.state != "ok")


def examine() -> Examination:
    """Look at the machine and the installed packages; nothing is changed."""
    packages = _packages(importlib.metadata.requires(DISTRIBUTION) or [])
    return Examination(
        version=importlib.metadata.version(DISTRIBUTION),
        python=f"{platform.python_version()} ({sys.executable})",
        system=f"{platform.system()} {platform.release()}, {platform.machine()}",
        cores=usable_cores(),
        memory_gib=_memory_gib(),
        device=_device(),
        vector_unit=_vector_unit(),
        packages=tuple(package for package in packages if not package.extra),
        extras={extra: tuple(p for p in packages if p.extra == extra) for extra in EXTRAS},
    )


def _packages(requirements: Sequence[str]) -> list[Package]:
    """Every requirement that holds for this interpreter, compared with what is installed."""
    from packaging.requirements import Requirement

    found = []
    for line in requirements:
        requirement = Requirement(line)
        for extra in ("", *EXTRAS):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                found.append(_package(requirement.name, str(requirement.specifier), extra))
                break
    return found


def _package(name: str, asked: str, extra: str) -> Package:
    from packaging.specifiers import SpecifierSet

    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Package(name, asked, None, "absent", extra)
    fits = SpecifierSet(asked).contains(version, prereleases=True)
    return Package(name, asked, version, "ok" if fits else "other version", extra)


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _device() -> str:
    try:
        import torch
    except ImportError:
        return "unknown: torch is not installed"
    if torch.cuda.is_available():
        return f"cuda: {torch.cuda.get_device_name(0)}, torch {torch.__version__}"
    return f"cpu: torch {torch.__version__} finds no GPU"


def _vector_unit() -> str:
    try:
        from llvmlite import binding
    except ImportError:
        return "unknown: numba is not installed"
    features = binding.get_host_cpu_features()
    for name, label in (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("neon", "NEON")):
        if features.get(name, False):
            return label
    return "none that the engine knows"
