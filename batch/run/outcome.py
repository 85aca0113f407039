"""How one attempt at a night ended, for those who watch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from batch.run.attempt import Attempt
from batch.run.summary import Report


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """An attempt that is over.

    Attributes:
        attempt: its id, and what took how long.
        exit_code: of the command.
        finished_s: when, in seconds since 1970-01-01 UTC.
        report: what it did; None where it failed.
        checks: figures and gates as a manifest holds them; empty where the audit was not reached.
    """

    attempt: Attempt
    exit_code: int
    finished_s: float
    report: Report | None = None
    checks: Mapping[str, Any] = field(default_factory=dict)
