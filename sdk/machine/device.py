"""Where to score: on the CPU and its cores, or on a GPU where there is one; and with which packages."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sdk.base import __version__
from sdk.base.errors import UsageError, how_to_get

DEVICES = ("auto", "cpu", "cuda")


def usable_cores() -> int:
    """Number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions_of(packages: Sequence[str]) -> dict[str, str]:
    """The installed version of each package, or that it is none; of ``marquee`` that of this code."""
    found = dict.fromkeys(packages, "not installed as a package")
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found | {name: __version__ for name in found if name == "marquee"}


def require_trainer(trainer: str) -> None:
    """Refuse a trainer that cannot train here, before anything else is done.

    Raises:
        UsageError: it is ``merlin``, and Merlin Models, its data loader or Lightning is not installed.
    """
    if trainer != "merlin":
        return
    try:
        needed = ("merlin.models", "merlin.dataloader", "pytorch_lightning")
        lacking = [name for name in needed if importlib.util.find_spec(name) is None]
    except ModuleNotFoundError:  # no Merlin at all
        lacking = ["merlin"]
    if lacking:
        message = (
            f"trainer: 'merlin' needs {', '.join(lacking)}, not installed here; {how_to_get('merlin')}, or leave it"
        )
        raise UsageError(f"{message} to 'builtin'")


def resolve_device(device: str) -> str:
    """``cpu`` or ``cuda``, for a device's name or ``auto``.

    Raises:
        UsageError: the name is unknown, or ``cuda`` is asked for and torch finds no GPU.
    """
    if device not in DEVICES:
        raise UsageError(f"device: got {device!r}, expected one of {', '.join(DEVICES)}")
    if device == "cpu" or (device == "auto" and "torch" not in sys.modules and not _may_have_gpu()):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        message = "device cuda: torch finds no GPU here; leave the option out, or choose cpu"
        raise UsageError(message)
    return "cpu"


def _may_have_gpu() -> bool:
    """Whether a driver's device is there, for to ask torch takes a second or two; elsewhere than on Linux it may be."""
    drivers = ("nvidia*", "nvhost*", "nvmap", "dxg", "kfd")  # NVIDIA's, also of boards and in WSL; AMD's
    return not sys.platform.startswith("linux") or any(any(Path("/dev").glob(each)) for each in drivers)
