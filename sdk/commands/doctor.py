"""python -m sdk doctor: what this machine and this environment can do, and how to get what lacks."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from sdk.base import __version__
from sdk.base.errors import DISTRIBUTION, how_to_get
from sdk.machine.blas import kernels, slow_blas, vector_unit
from sdk.machine.device import usable_cores
from sdk.shell.cli import new_parser
from sdk.shell.terminal import say

if TYPE_CHECKING:
    from sdk.machine.code_cache import CodeCache

NOT_HEALTHY = 2
EXTRAS = {
    "merlin": "fit features by NVTabular: --features nvtabular",
    "dask": "divide work among processes or machines: --workers",
    "plots": "draw the charts of reports and evaluations",
    "server": "run a real Triton server: python -m export serve",
    "compare": "measure iALS and LightGBM beside ours: sdk compare",
    "mlflow": "tell MLflow of bundles and nights: --mlflow",
    "otel": "send OpenTelemetry spans where OTEL_* says",
    "tune": "search for settings: python -m sdk tune",
    "onnx": "export a ranker for ONNX Runtime: --backend onnxruntime",
    "s3": "read tables and write nights at s3://",
    "gcs": "read tables and write nights at gs://",
    "duckdb": "take a query as a table: --interactions 'duckdb:SELECT …'",
    "delta": "read tables of Delta Lake",
    "web": "browse lists: examples/web_app",
    "site": "build the documentation's site: mkdocs build",
    "tensorflow": "feed encoded interactions to TensorFlow",
}
_MERLIN = ("nvtabular", "merlin-core", "merlin-dataloader", "merlin-models", "merlin-systems")
"""Installed by other means than pip's extras: they ask for versions that are older than what is here."""
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
        memory_gib: of the machine.
        device: ``cuda`` with the GPU's name, or ``cpu`` with the reason.
        vector_unit: the widest vector instructions that the scoring engine uses here.
        blas: whose kernels NumPy's and torch's linear algebra run.
        blas_problem: what is wrong with NumPy's, and what helps; None where nothing is.
        packages: what every installation needs.
        extras: optional part -> its packages.
    """

    version: str
    python: str
    system: str
    cores: int
    memory_gib: float
    device: str
    vector_unit: str
    blas: str
    blas_problem: str | None
    packages: tuple[Package, ...]
    extras: dict[str, tuple[Package, ...]]

    @property
    def healthy(self) -> bool:
        """Whether everything that every installation needs is there in a version that does."""
        return all(package.state == "ok" for package in self.packages)

    def remedy(self, extra: str) -> str:
        """How to get an optional part; nothing where it is there."""
        if not self.extras[extra]:
            return "unknown to the installed release; install the project again"
        lacking, how = [package.name for package in self.extras[extra] if package.state != "ok"], how_to_get(extra)
        if not lacking or all(name in how for name in lacking):
            return how if lacking else ""
        return f"{how} ({', '.join(lacking)})"


def examine() -> Examination:
    """Look at the machine and the installed packages; nothing is changed."""
    try:
        packages = packages_of(importlib.metadata.requires(DISTRIBUTION) or [])
    except importlib.metadata.PackageNotFoundError:  # a checkout on PYTHONPATH, or one that was called otherwise
        packages = [Package(DISTRIBUTION, "", None, "absent", "")]
    packages += [Package(name, "", *_found(name, ""), "merlin") for name in _MERLIN]
    return Examination(
        version=__version__,
        python=f"{platform.python_version()} ({sys.executable})",
        system=f"{platform.system()} {platform.release()}, {platform.machine()}",
        cores=usable_cores(),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        device=_device(),
        vector_unit=vector_unit(),
        blas=kernels(),
        blas_problem=slow_blas(),
        packages=tuple(package for package in packages if not package.extra),
        extras={extra: tuple(p for p in packages if p.extra == extra) for extra in EXTRAS},
    )


def packages_of(requirements: Iterable[str]) -> list[Package]:
    """Every requirement that holds for this interpreter, compared with what is installed."""
    try:
        from packaging.requirements import Requirement
    except ModuleNotFoundError:  # the others are compared once it is there
        return [Package("packaging", "", None, "absent", "")]
    found = []
    for asked in map(Requirement, requirements):
        asks = [extra for extra in ("", *EXTRAS) if asked.marker is None or asked.marker.evaluate({"extra": extra})]
        asked_for = str(asked.specifier)
        found += [Package(asked.name, asked_for, *_found(asked.name, asked_for), extra) for extra in asks[:1]]
    return found


def _found(name: str, asked: str) -> tuple[str | None, State]:
    """The version installed, and how it compares with what is asked for."""
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None, "absent"
    if asked:
        from packaging.specifiers import SpecifierSet

        return version, "ok" if SpecifierSet(asked).contains(version, prereleases=True) else "other version"
    return version, "ok"


def _device() -> str:
    try:
        import torch
    except ImportError:
        return "unknown: torch is not installed"
    if torch.cuda.is_available():
        return f"cuda: {torch.cuda.get_device_name(0)}, torch {torch.__version__}"
    return f"cpu: torch {torch.__version__} finds no GPU"


def add(commands: Any) -> None:
    """The command's options."""
    parser = new_parser(
        commands.add_parser, "doctor", "say what is installed, and how to get what is missing",
        "python -m sdk doctor", "Also which device there is, and where compiled code is kept.",
        work=_doctor, only_prints=True,
    )  # fmt: skip
    common = parser.group("common")
    common.add_argument("--json", action="store_true", help="print JSON instead of lines")
    warm_help = "first compile what scores models and finds similar items, where it is not kept from an earlier run"
    common.add_argument("--warm-up", action="store_true", help=warm_help)


def _doctor(args: argparse.Namespace) -> int:
    from sdk.machine.code_cache import mend

    caches = mend()
    if args.warm_up:
        _warm_up()
        caches = [replace(after, removed=before.removed) for before, after in zip(caches, mend(), strict=True)]
    found = examine()
    if args.json:
        code = [asdict(cache) for cache in caches]
        print(json.dumps(asdict(found) | {"healthy": found.healthy, "compiled_code": code}))
    else:
        say(*_as_text(found, caches).split("\n"))
    return 0 if found.healthy else NOT_HEALTHY


def _warm_up() -> None:
    """Score a made-up model of each kind once, and ask for similar items: a fresh container's lists need not wait."""
    import numpy as np
    from scipy.sparse import csr_matrix

    from sdk.features.seen import Seen
    from sdk.models.content.neighbours import NeighbourIndex
    from sdk.models.pair_form import Head, PairForm, Side
    from sdk.scoring.engine import Engine

    def zeros(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return np.zeros(shape, np.float32)

    for hidden, fields in ((0, 0), (2, 1)):
        side = Side(zeros(4), zeros(4, 2), zeros(4, hidden), zeros(4, fields, 2))
        tail = ((zeros(hidden, hidden), zeros(hidden)), (zeros(1, hidden), zeros(1))) if hidden else ()
        form = PairForm(side, side, Head(zeros(hidden, fields), tail))
        Engine(form, threads=1).top_k_and_audience(np.arange(2), Seen.nothing(2), 1)
    NeighbourIndex(csr_matrix(np.ones((2, 1), np.float32))).nearest(np.arange(2), 1, threads=1)


def _as_text(found: Examination, caches: Sequence[CodeCache]) -> str:
    system = f"{found.system}; {found.cores} cores, {found.memory_gib:g} GiB"
    facts = {"marquee": found.version, "python": found.python, "system": system, "device": found.device}
    facts |= {"vector unit": found.vector_unit, "kernels": found.blas}
    lines = [
        *(f"{name:13s}{value}" for name, value in facts.items()),
        *([f"{'':13s}{found.blas_problem}"] if found.blas_problem else []),
        "",
        "compiled code, kept so that it is compiled once:",
        *map(_cache_line, caches),
        "",
        f"needed by every installation ({'complete' if found.healthy else 'NOT complete'}):",
        *_lines(found.packages),
        "",
        "optional parts:",
    ]
    for extra, purpose in EXTRAS.items():
        remedy = found.remedy(extra)
        lines.append(f"  {extra:11s} {'missing' if remedy else 'ok':8s} {purpose}")
        lines += [f"    {remedy}"] if remedy else []
    if not found.healthy:
        lines += ["", "Remedy: sh setup.sh in a checkout, or install the project again with pip."]
    return "\n".join(lines)


def _cache_line(cache: CodeCache) -> str:
    """Where compiled code lies, and what was wrong with it."""
    removed = f"; {len(cache.removed)} damaged or outdated deleted" if cache.removed else ""
    problem = f"\n    {cache.problem}: make room or give the right, or set NUMBA_CACHE_DIR" if cache.problem else ""
    return f"  {cache.folder}: {cache.kept} kept{removed}{problem}"


def _lines(packages: Sequence[Package]) -> Iterator[str]:
    """Name, version and state in columns."""
    versions = [package.found or "absent" for package in packages]
    names, width = max(len(package.name) for package in packages), max(map(len, versions))
    for package, version in zip(packages, versions, strict=True):
        asked = f"  (asked: {package.asked})" if package.state != "ok" else ""
        yield f"  {package.name:{names}s}  {version:{width}s}  {package.state}{asked}"
