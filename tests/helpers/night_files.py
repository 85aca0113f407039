"""What the tests of publishing share: a night's bytes, the debris of a run, and a crash that can be put anywhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from batch.job.job import Job

DATE = "2026-11-23"
PARTS = 6 + 9
"""Of 41 users and 61 titles, seven to a part."""


def job(bundle_path: Path, out: Path | str, **options: object) -> Job:
    return Job(
        **{"bundle": bundle_path, "out": out, "run_date": DATE, "k": 5, "users_per_part": 7, "threads": 1} | options
    )  # type: ignore[arg-type]


def tree(folder: Path) -> dict[str, bytes]:
    """Every file in a folder and its bytes."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def debris(out: Path) -> list[str]:
    """Whatever lies in an output that is no night, pointer, lock, run record or report."""
    known = re.compile(
        r"run_date=\d{4}-\d\d-\d\d/.*|LATEST|\.lock|(runs|reports)/run_date=\d{4}-\d\d-\d\d\.(json|html)"
    )
    found = [p.relative_to(out).as_posix() for p in sorted(out.rglob("*")) if p.is_file()]
    empty = [p.name for p in out.iterdir() if p.is_dir() and p.name.startswith(".")]
    return [name for name in found if not known.fullmatch(name)] + empty


class Crash(BaseException):
    """As if the process had been killed: no handler of ours may catch it."""


def fail_at(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, when: int, error: BaseException) -> list[int]:
    """Make the ``when``-th call of a function raise instead of working; a list that holds the number of calls."""
    real: Callable[..., object] = getattr(owner, name)
    calls = [0]

    def wrapped(*args: object, **kwargs: object) -> object:
        calls[0] += 1
        if calls[0] == when:
            raise error
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, wrapped)
    return calls
