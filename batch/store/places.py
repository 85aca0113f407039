"""The place that a path or URL names."""

from __future__ import annotations

from pathlib import Path

from batch.store.local import LocalTarget
from batch.store.target import Target
from sdk.base.paths import as_location


def open_target(out: str | Path) -> Target:
    """The target that a path or URL names.

    Raises:
        UsageError: it is neither, the URL holds a password, or nothing here can write to such a place.
    """
    location = as_location(out)
    if "://" not in location:
        return LocalTarget(Path(location))
    from batch.store.objects import ObjectTarget

    return ObjectTarget(location)
