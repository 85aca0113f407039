"""python -m sdk doctor."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from sdk.shell.cli import new_parser
from sdk.shell.terminal import say

if TYPE_CHECKING:
    from sdk.commands.examination import Examination, Package
    from sdk.machine.code_cache import CodeCache

NOT_HEALTHY = 2


def add(commands: Any) -> None:
    """The command's options."""
    parser = new_parser(
        commands.add_parser, "doctor", "say what is installed, which device there is, and how to get what is missing",
        "python -m sdk doctor", work=_doctor, only_prints=True,
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    parser.add_argument(
        "--warm-up", action="store_true",
        help="first compile what scores models and finds similar titles, where it is not kept from an earlier run",
    )  # fmt: skip


def _doctor(args: argparse.Namespace) -> int:
    from sdk.commands.examination import examine
    from sdk.machine.code_cache import mend

    caches = mend()
    if args.warm_up:
        from sdk.commands.warm_up import warm_up

        warm_up()
        caches = [replace(after, removed=before.removed) for before, after in zip(caches, mend(), strict=True)]
    found = examine()
    if args.json:
        code = [asdict(cache) for cache in caches]
        print(json.dumps(asdict(found) | {"healthy": found.healthy, "compiled_code": code}))
    else:
        say(*_as_text(found, caches).split("\n"))
    return 0 if found.healthy else NOT_HEALTHY


def _as_text(found: Examination, caches: Sequence[CodeCache]) -> str:
    from sdk.commands.examination import EXTRAS

    machine = f"{found.cores} cores" + (f", {found.memory_gib:g} GiB" if found.memory_gib else "")
    lines = [
        f"marquee      {found.version}",
        f"python       {found.python}",
        f"system       {found.system}; {machine}",
        f"device       {found.device}",
        f"vector unit  {found.vector_unit}",
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
        remedy = _remedy(found, extra)
        lines.append(f"  {extra:11s} {'missing' if remedy else 'ok':8s} {purpose}")
        lines += [f"  {'':20s} {remedy}"] if remedy else []
    if not found.healthy:
        lines += ["", "Remedy: make setup, or pip install -r requirements.lock in a Python 3.10 or 3.11 environment."]
    return "\n".join(lines)


def _cache_line(cache: CodeCache) -> str:
    """Where compiled code lies, and what was wrong with it."""
    removed = f"; {len(cache.removed)} damaged or outdated deleted" if cache.removed else ""
    problem = f"\n    {cache.problem}: make room or give the right, or set NUMBA_CACHE_DIR" if cache.problem else ""
    return f"  {cache.folder}: {cache.kept} kept{removed}{problem}"


def _remedy(found: Examination, extra: str) -> str:
    """How to get an optional part; nothing where it is there."""
    if not found.extras[extra]:
        return "unknown to the installed release; install the project again"
    lacking = ", ".join(package.name for package in found.lacking(extra))
    return f"pip install 'marquee[{extra}]' ({lacking})" if lacking else ""


def _lines(packages: Sequence[Package]) -> Iterator[str]:
    """Name, version and state in columns."""
    versions = [package.found or "absent" for package in packages]
    name_width = max((len(package.name) for package in packages), default=0)
    version_width = max(map(len, versions), default=0)
    for package, version in zip(packages, versions, strict=True):
        asked = f"  (asked: {package.asked})" if package.state != "ok" else ""
        yield f"  {package.name:{name_width}s}  {version:{version_width}s}  {package.state}{asked}"
