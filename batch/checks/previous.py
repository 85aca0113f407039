"""The published night that tonight is held against."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from batch.checks.audit import SIDES, PreviousNight
from batch.store.layout import night_of
from batch.store.publish import read_manifest
from batch.store.target import Target
from sdk.base.arrow_memory import reader_of
from sdk.base.errors import OutputError

log = logging.getLogger(__name__)


def previous_night(target: Target, run_date: str) -> PreviousNight | None:
    """The night that readers use, if it is before this one; else the newest complete one before.

    So a night is held against what it replaces in readers' eyes, and a night that was rolled back is no yardstick.

    Returns:
        None where there is none, or where its manifest cannot be read: a warning says so, and nothing is compared.
    """
    latest = target.latest()
    date = latest if latest is not None and latest < run_date else target.night_before(run_date)
    if date is None:
        return None
    try:
        manifest = read_manifest(target, date)
    except (OutputError, OSError) as error:
        log.warning("nothing is compared with the night before: %s", error)
        return None
    if manifest is None:
        return None
    parts = {side: _parts(target, date, folder, manifest["files"]) for side, folder in SIDES.items()}
    return PreviousNight(manifest, parts)


def _parts(target: Target, date: str, folder: str, names: object) -> Iterator[tuple[str, pa.Table]]:
    """One part at a time, whole in memory, so that it may lie on any store."""
    wanted = sorted(names) if isinstance(names, dict) else []
    for name in wanted:
        if name.startswith(f"{folder}/"):
            path = f"{night_of(date)}/{name}"
            data = target.read(path)
            if data is None:
                message = f"{target.describe(path)}: missing"
                raise OutputError(message)
            yield path, pq.read_table(reader_of(data), read_dictionary=["source"])
