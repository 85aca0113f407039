"""Showing a finished night: manifest, marker, one step into place, then the pointer; a killed run is finished."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from batch.gates.figures import Figures
from batch.store import clock
from batch.store.clock import is_due, is_far_ahead
from batch.store.journal import Journal
from batch.store.layout import COUNTS, LATEST, MANIFEST, SUCCESS, debris_of, night_of, publishing_of, staging_of
from batch.store.target import Target, missing_or_altered
from sdk.base.errors import OutputError
from sdk.base.files import digest_of, json_text
from sdk.base.logs import facts

log = logging.getLogger(__name__)


def read_manifest(target: Target, run_date: str) -> Mapping[str, Any] | None:
    """A published night's manifest; None where none is published, or where a store holds one without its marker.

    Raises:
        OutputError: something stands there that is no published night, or its manifest was altered.
    """
    night = night_of(run_date)
    found, place = target.files(night), target.describe(night)
    if not found or (SUCCESS not in found and not target.renames):
        return None
    again = "Pass --force to write the night again."
    try:
        manifest = json.loads(target.read(f"{night}/{MANIFEST}") or b"")
        checksum = manifest.pop("checksum")
        whole = SUCCESS in found and digest_of(manifest) == checksum and manifest["run_date"] == run_date
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        problem = f"stands there but holds no readable {MANIFEST} ({error})"
        raise OutputError(f"{place}: {problem}. Move it away, or pass --force.") from error
    if not whole:
        raise OutputError(f"{place}: its {MANIFEST} was altered, or {SUCCESS} is missing. {again}")
    if not _is_of_this_form(manifest):
        raise OutputError(f"{place}: its {MANIFEST} is not of this release. {again}")
    if bad := missing_or_altered(found, manifest["bytes"]):
        problem = f"missing or cut since it was published ({len(bad)} such parts)"
        raise OutputError(f"{place}/{bad[0]}: {problem}. {again}")
    return {**manifest, "checksum": checksum}


def last_published(target: Target, run_date: str) -> Mapping[str, Any] | None:
    """The manifest of the night that readers use, if it is before a date; else of the newest complete one before it.

    Raises:
        OutputError: it cannot be used.
        OSError: it cannot be read.
    """
    latest = target.latest()
    date = latest if latest is not None and latest < run_date else target.night_before(run_date)
    return None if date is None else read_manifest(target, date)


def _is_of_this_form(manifest: Mapping[str, Any]) -> bool:
    if not all(isinstance(manifest.get(name), dict) for name in ("inputs", "counts", "checks", "files", "bytes")):
        return False
    try:
        Figures.read(manifest)
    except (TypeError, AttributeError):  # lines without what every release writes
        return False
    return all(type(manifest["counts"].get(name)) is int for name in COUNTS)


def publish(target: Target, journal: Journal, manifest: Mapping[str, Any]) -> str:
    """Write the manifest, show the night in one step, move the pointer, and clear up.

    Returns:
        The manifest's checksum.

    Raises:
        OSError: a step failed; what was published before still stands.
    """
    run_date = journal.run_date
    checksum = digest_of(manifest)
    target.write(f"{staging_of(run_date)}/{MANIFEST}", json_text({**manifest, "checksum": checksum}).encode())
    target.hide(run_date)
    target.write(
        _intent(run_date), target.mark(staging_of(run_date)).encode()
    )  # killed from here on, the next run finishes
    target.show(run_date)
    _finish(target, run_date)
    return checksum


def recover(target: Target) -> None:
    """Finish or undo what a killed run left half done, of any night, and mend the pointer.

    It is called before a run looks at anything.

    Raises:
        OSError: the output cannot be read or written.
    """
    target.recover()
    for _, run_date in target.dated(".publishing-"):
        _finish_if_shown(target, run_date)
    _mend_pointer(target)


def _mend_pointer(target: Target) -> None:
    """Where ``LATEST`` is missing, damaged or names no complete night, point to the newest one; a warning says so.

    Readers who are held are pointed to the night that they are held on, if that is complete. A night that is dated
    far ahead of the machine's date counts only where there is no other.

    Raises:
        OSError: the output cannot be read or written.
    """
    found, latest, chosen = target.read(LATEST), target.latest(), _to_point_to(target)
    if chosen is None or chosen == latest:
        return
    was = "was missing" if found is None else f"held {found[:40].decode('utf-8', 'replace')!r}"
    was += "" if found is None or target.is_complete(latest) else ", no complete night"
    point(target, chosen)
    values = facts(stage="recovering", latest=chosen)
    why = "on which they are held" if target.is_held() else "the newest"
    log.warning("%s: %s; readers now get %s, %s", target.describe(LATEST), was, chosen, why, extra=values)


def _to_point_to(target: Target) -> str | None:
    """The complete night that readers are held on, or that ``LATEST`` names, or the newest; None without any."""
    named = (date for date in (target.held_on(), target.latest()) if target.is_complete(date))
    return next(named, None) or newest_night(target)


def newest_night(target: Target) -> str | None:
    """The newest complete night that is not dated far ahead, or else the newest; None without any."""
    nights = target.nights()
    return max([date for date in nights if not is_far_ahead(date)] or nights, default=None)


@dataclass(frozen=True, slots=True)
class Pointed:
    """What readers use after a run.

    Attributes:
        latest: the night that ``LATEST`` names; None where there is none.
        not_latest: why it is not the run's own, and what helps; None where it is.
    """

    latest: str | None
    not_latest: str | None


def pointed(target: Target, run_date: str) -> Pointed:
    """Whether readers use a night that is published.

    Raises:
        OSError: the output cannot be read.
    """
    latest = target.latest()
    if latest == run_date:
        return Pointed(latest, None)
    move = f"--rollback {run_date} sends them here"
    if target.is_held():
        return Pointed(latest, f"readers are held on {latest}, until --release")
    if latest is None or latest < run_date:
        return Pointed(latest, f"readers stay on {latest}, to which they were sent back; {move}")
    if not is_due(latest):
        ahead = f"which lies after this machine's date, {clock.today()}"
        return Pointed(latest, f"readers stay on {latest}, {ahead}; {move}")
    return Pointed(latest, f"readers stay on the later night {latest}")


def _intent(run_date: str) -> str:
    return f"{publishing_of(run_date)}/intent"


def _finish_if_shown(target: Target, run_date: str) -> None:
    mark, night = target.read(_intent(run_date)), night_of(run_date)
    if mark is not None and target.is_shown(run_date, mark.decode("utf-8", "replace")):
        values = facts(stage="recovering", night=night)
        log.info("%s: was published by a run that was killed; finishing its work", night, extra=values)
        _finish(target, run_date)
    else:
        target.remove(publishing_of(run_date))


def _finish(target: Target, run_date: str) -> None:
    """Point readers to a night that is shown, unless they use a later one or are held; delete the debris."""
    chosen = _to_point_to(target)
    if chosen is None or (chosen < run_date and not target.is_held()):
        chosen = run_date
    if chosen != target.latest():
        point(target, chosen)
    refused = [name for name, date in target.dated(".refused-") if date == run_date]
    for name in (*refused, *debris_of(run_date)):
        target.remove(name)


def point(target: Target, run_date: str) -> None:
    """Name the night that readers should use, in one step."""
    target.write(LATEST, f"{run_date}\n".encode())
