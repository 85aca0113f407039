"""The machine's date, read for one purpose: to tell a night that lies ahead from one that is due."""

from __future__ import annotations

import datetime

from sdk.base.errors import UsageError

DAYS_AHEAD = 3
"""How far after the machine's date a night may lie: time zones, and nights that are made for the day after."""


def today() -> str:
    """The machine's date, ``YYYY-MM-DD``: here or in UTC, whichever is later."""
    here, utc = datetime.datetime.now(), datetime.datetime.now(datetime.UTC)
    return max(here.date(), utc.date()).isoformat()


def is_due(run_date: str) -> bool:
    """Whether a night is not dated after the machine's date."""
    return run_date <= today()


def is_far_ahead(run_date: str) -> bool:
    """Whether a date lies more than ``DAYS_AHEAD`` days after the machine's."""
    return _days_ahead(run_date) > DAYS_AHEAD


def check_not_ahead(run_date: str, option: str, *, force: bool) -> None:
    """Refuse a date that is years ahead before it freezes readers: no later night would become ``LATEST``.

    Raises:
        UsageError: it is far ahead, and ``force`` is not given.
    """
    if not force and is_far_ahead(run_date):
        raise UsageError(
            f"{option}: got {run_date}, {_days_ahead(run_date):,} days after this machine's date, {today()}; expected "
            f"at most {DAYS_AHEAD}. Correct the date or the machine's clock; pass --force if it is meant: readers then "
            "stay on it until that day, or until --rollback"
        )


def _days_ahead(run_date: str) -> int:
    return (datetime.date.fromisoformat(run_date) - datetime.date.fromisoformat(today())).days
