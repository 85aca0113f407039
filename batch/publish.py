"""Showing a finished night: written aside, renamed in one step, then named by the pointer."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdk.errors import OutputError

MANIFEST, SUCCESS, LATEST = "manifest.json", "_SUCCESS", "LATEST"


def staging_for(night: Path) -> Path:
    """The folder beside a night's own in which it is written."""
    return night.with_name(f".staging-{night.name.partition('=')[2]}")


def read_manifest(night: Path) -> Mapping[str, Any] | None:
    """A published night's manifest; None where none is published.

    Raises:
        OutputError: something stands there that is not a published night.
    """
    if not night.exists():
        return None
    try:
        manifest: Mapping[str, Any] = json.loads((night / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError) as error:
        message = f"{night}: stands there but holds no readable {MANIFEST} ({error}). Move it away, or pass --force."
        raise OutputError(message) from error
    return manifest


def publish(staging: Path, night: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest and the marker, rename the folder into place, then move the pointer.

    Raises:
        OutputError: a step failed; what was published before still stands.
    """
    try:
        (staging / MANIFEST).write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", "utf-8")
        (staging / SUCCESS).write_bytes(b"")
        _swap(staging, night)
        _point(night.parent / LATEST, str(manifest["run_date"]))
    except OSError as error:
        message = f"{night}: cannot be published ({error.strerror or error}); the last published night still stands"
        raise OutputError(message) from error


def _swap(staging: Path, night: Path) -> None:
    """Rename the finished night into place; one that is replaced steps aside and comes back if that fails."""
    old = night.with_name(f".replaced-{night.name.partition('=')[2]}")
    shutil.rmtree(old, ignore_errors=True)
    if night.exists():
        os.replace(night, old)  # noqa: PTH105
    try:
        os.replace(staging, night)  # noqa: PTH105
    except OSError:
        if old.exists():
            os.replace(old, night)  # noqa: PTH105
        raise
    shutil.rmtree(old, ignore_errors=True)


def _point(pointer: Path, run_date: str) -> None:
    aside = pointer.with_name(f".{pointer.name}.new")
    aside.write_text(run_date + "\n", "utf-8")
    os.replace(aside, pointer)  # noqa: PTH105
