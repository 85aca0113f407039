"""What is done to nights that are published: going back to an earlier one, deleting old ones, checking one again."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from batch.layout import night_of, report_of
from batch.publish import point, read_manifest, recover
from batch.target import Target, open_target, write_failed
from batch.writing import first_altered
from sdk.errors import OutputError
from sdk.logs import facts

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rollback:
    """What ``LATEST`` names now.

    Attributes:
        latest: the night that readers use from now on.
        was: the one that they used before; None where there was none.
    """

    latest: str
    was: str | None


@dataclass(frozen=True, slots=True)
class Verified:
    """A night that was held to its manifest.

    Attributes:
        night: its folder.
        parts: parts whose sha256 was computed again.
        bytes: of them together.
    """

    night: str
    parts: int
    bytes: int


def rollback(out: str, to: str | None = None) -> Rollback:
    """Send readers back to a published night; the one they leave stays where it is.

    Args:
        out: where nights are published.
        to: the night; None takes the newest complete one before the one that ``LATEST`` names.

    Raises:
        OutputError: there is no such complete night, or ``LATEST`` cannot be written.
        LockedError: a run is at work on the same output.
    """
    target = open_target(out)
    try:
        _require(target)
        with target.lock():
            recover(target)
            was = target.latest()
            chosen = to if to is not None else target.night_before(was or "")
            if chosen is None or chosen not in target.nights():
                raise OutputError(_no_such_night(target, to, was))
            point(target, chosen)
    except OSError as error:
        raise write_failed(out, error) from error
    values = facts(stage="rollback", latest=chosen, was=was)
    log.info("LATEST: %s, was %s", chosen, was or "absent", extra=values)
    return Rollback(chosen, was)


def _require(target: Target) -> None:
    if not target.folders():
        message = f"{target.location}: no night is published there"
        raise OutputError(message)


def _no_such_night(target: Target, to: str | None, was: str | None) -> str:
    have = ", ".join(target.nights()[-5:]) or "none"
    wanted = f"no complete night {to}" if to else f"no complete night before {was or 'LATEST, which is absent'}"
    return f"{target.location}: {wanted}; complete nights: {have}. LATEST stays as it is."


def retain(target: Target, keep: int, run_date: str) -> list[str]:
    """Delete the complete nights beyond the newest ``keep``, and their reports.

    Never ``run_date``'s, nor the one that readers use.

    Returns:
        The dates that were deleted.

    Raises:
        OSError: one cannot be deleted.
    """
    spared = {run_date, target.latest()}
    gone = [date for date in target.nights()[:-keep] if date not in spared]
    for date in gone:
        target.retire(date)
        target.remove(report_of(date))
        values = facts(stage="retention", deleted=date, keep=keep)
        log.info("%s: deleted, beyond the last %d nights", night_of(date), keep, extra=values)
    return gone


def verify(out: str, run_date: str | None = None) -> Verified:
    """Compute a published night's hashes again and hold them to its manifest.

    Args:
        out: where nights are published.
        run_date: the night; None takes the one that ``LATEST`` names.

    Raises:
        OutputError: the night is not published, or a part or the manifest was altered.
    """
    target = open_target(out)
    try:
        date = run_date or target.latest()
        manifest = read_manifest(target, date) if date else None
        if manifest is None or date is None:
            message = f"{target.location}: no night {date or 'named by LATEST'} is published there"
            raise OutputError(message)
        night = night_of(date)
        with target.on_disk(night) as folder:
            bad = first_altered(folder, manifest["files"])
    except OSError as error:
        message = f"{error.filename or out}: cannot be read ({error.strerror or error})"
        raise OutputError(message) from error
    if bad is not None:
        message = f"{target.describe(night)}/{bad}: altered since it was published. Write it again with --force."
        raise OutputError(message)
    return Verified(target.describe(night), len(manifest["files"]), sum(manifest["bytes"].values()))
