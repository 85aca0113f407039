"""What lies where in an output folder; every name is relative to OUT and uses forward slashes."""

from __future__ import annotations

import datetime
import re

from sdk.base import schema

MANIFEST, SUCCESS, LATEST, HOLD = "manifest.json", "_SUCCESS", "LATEST", "HOLD"
RUNS, REPORTS = "runs", "reports"
STATES = "states.parquet"
"""Of a night with newer ratings or blocked items: what users' lists follow from beyond the bundle."""
USER_ITEMS, ITEM_ITEMS, ITEM_USERS = "user_items", "item_items", "item_users"
LAYOUTS = {USER_ITEMS: schema.USER_ITEMS, ITEM_ITEMS: schema.ITEM_ITEMS, ITEM_USERS: schema.ITEM_USERS}
"""Side -> Arrow schema of its parts."""
COUNTS = ("user_rows", "item_rows", "audience_rows", "fallback_users", "fallback_items")
"""What a manifest counts."""
PARTIALS = "audience"
"""Folder beside a journal's records, with what audiences are merged from."""
SUMS = "sums"
"""Folder beside a journal's records, with what the check of each part adds to the audit."""

_OURS = r"run_date=|\.staging-|\.journal-|\.publishing-|\.replaced-|\.removed-"
_FOLDER = re.compile(rf"({_OURS}|(?P<refused>\.refused-))([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})(?(refused)-[0-9a-f]{{8}})")


def night_of(run_date: str) -> str:
    """The folder that readers see."""
    return f"run_date={run_date}"


def staging_of(run_date: str) -> str:
    """The folder in which a night is written; it becomes the night."""
    return f".staging-{run_date}"


def journal_of(run_date: str) -> str:
    """The folder that records which of a night's parts are finished."""
    return f".journal-{run_date}"


def publishing_of(run_date: str) -> str:
    """The note that a night is whole and being shown; it goes last."""
    return f".publishing-{run_date}"


def replaced_of(run_date: str) -> str:
    """Where the old night waits while ``--force`` puts the new one in its place."""
    return f".replaced-{run_date}"


def removed_of(run_date: str) -> str:
    """Where a night goes that is being deleted, so that no reader meets half of it."""
    return f".removed-{run_date}"


def refused_of(run_date: str, inputs: str) -> str:
    """Where the staging folder of a refused night waits for a look while the night is made from other inputs."""
    return f".refused-{run_date}-{inputs}"


def record_of(run_date: str) -> str:
    """The run record: timings and other facts that differ from run to run."""
    return f"{RUNS}/{night_of(run_date)}.json"


def report_of(run_date: str) -> str:
    """The HTML report of a published night."""
    return f"{REPORTS}/{night_of(run_date)}.html"


def refused_report_of(run_date: str) -> str:
    """The HTML report of a night that failed its gates; it goes when the night is published."""
    return f"{REPORTS}/refused-{run_date}.html"


def debris_of(run_date: str) -> tuple[str, ...]:
    """What making a night leaves behind; the note that it is being shown goes last."""
    return replaced_of(run_date), staging_of(run_date), journal_of(run_date), publishing_of(run_date)


def folder_date(name: str) -> tuple[str, str] | None:
    """What a folder in OUT is, as (prefix, date): ``("run_date=", "2026-11-23")``; None for anything else."""
    found = _FOLDER.fullmatch(name)
    try:
        return (found[1], datetime.date.fromisoformat(found[3]).isoformat()) if found else None
    except ValueError:  # 2026-13-77
        return None
