"""What differs from run to run (timings, rates, memory), outside the night, so that nights stay the same bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from batch.store.layout import RUNS, record_of
from batch.store.target import Target
from sdk.base.files import json_text


def write_record(target: Target, run_date: str, values: Mapping[str, Any]) -> None:
    """Write a night's record in one step, over an older one.

    Raises:
        OSError: it cannot be written.
    """
    target.write(record_of(run_date), json_text(values).encode())


def read_record(target: Target, run_date: str) -> Mapping[str, Any] | None:
    """A night's record; None where there is none that can be read."""
    try:
        values = json.loads(target.read(record_of(run_date)) or b"")
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def records_before(target: Target, run_date: str, most: int) -> list[Mapping[str, Any]]:
    """The records of the last nights before one, the oldest first; those that cannot be read are left out."""
    found = (read_record(target, date) for date in [date for date in _dates(target) if date < run_date][:most])
    return [record for record in found if record is not None][::-1]


def last_record(target: Target) -> Mapping[str, Any] | None:
    """The record of the newest night that has one; None where there is none."""
    found = (read_record(target, date) for date in _dates(target))
    return next((record for record in found if record is not None), None)


def _dates(target: Target) -> list[str]:
    """The nights that have a record, the newest first."""
    names = sorted(target.files(RUNS), reverse=True)
    return [name.removeprefix("run_date=").removesuffix(".json") for name in names]
