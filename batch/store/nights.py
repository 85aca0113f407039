"""What is done to nights that are published: going back to an earlier one, deleting old ones, checking one again."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from batch.store import clock
from batch.store.clock import check_not_ahead, is_due, is_far_ahead
from batch.store.layout import HOLD, REPORTS, RUNS, folder_date, night_of
from batch.store.places import open_target
from batch.store.publish import newest_night, point, read_manifest, recover
from batch.store.target import Target, first_altered, write_failed
from sdk.base.errors import OutputError
from sdk.base.logs import facts

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
class Held(Rollback):
    """The same, and readers stay there whatever is published, until they are released.

    Attributes:
        held: True.
    """

    held: bool = True


@dataclass(frozen=True, slots=True)
class Released:
    """What readers use after a hold has ended: ``LATEST`` stays until the next later night is published.

    Attributes:
        latest: the night that readers use.
        was_held: whether they were held.
        newest: the newest night, but for those far ahead.
    """

    latest: str | None
    was_held: bool
    newest: str | None


@dataclass(frozen=True, slots=True)
class VerifiedNight:
    """A night that was held to its manifest.

    Attributes:
        night: its folder.
        parts: parts whose sha256 was computed again.
        bytes: of them together.
    """

    night: str
    parts: int
    bytes: int


def rollback(out: str, to: str | None = None, *, hold: bool = False, force: bool = False) -> Rollback:
    """Send readers back to a published night; the one they leave stays where it is.

    Args:
        out: where nights are published.
        to: the night; None takes the newest complete one before the one that ``LATEST`` names.
        hold: whether they stay there until ``release``; readers who are held already stay held, on the chosen night.
        force: whether the night may lie far ahead of the machine's date.

    Raises:
        UsageError: ``to`` lies far ahead.
        OutputError: there is no such complete night, its manifest or a part is missing or altered, or ``LATEST`` cannot
            be written.
        LockedError: a run is at work on the same output.
    """
    if to is not None:
        check_not_ahead(to, "--rollback", force=force)
    with _looked_after(out) as target:
        was, held = target.latest(), hold or target.is_held()
        chosen = to if to is not None else target.night_before(was or "")
        if chosen is None or chosen not in target.nights():
            have = ", ".join(target.nights()[-5:]) or "none"
            wanted = f"no complete night {to}" if to else f"no complete night before {was or 'LATEST, which is absent'}"
            raise OutputError(f"{target.location}: {wanted}; complete nights: {have}. LATEST stays as it is.")
        read_manifest(target, chosen)  # readers are not sent to a night of which somebody has deleted a part
        if held:
            target.write(HOLD, f"{chosen}\n".encode())  # first: killed from here on, the next run points readers to it
        point(target, chosen)
    values = facts(stage="rollback", latest=chosen, was=was, held=held)
    until = "; readers are held there until --release" if held else ""
    log.info("LATEST: %s, was %s%s", chosen, was or "absent", until, extra=values)
    return Held(chosen, was) if held else Rollback(chosen, was)


def release(out: str) -> Released:
    """Let readers move on with the next later night that is published; ``LATEST`` stays as it is until then.

    Raises:
        OutputError: no night is published there, or the hold cannot be removed.
        LockedError: a run is at work on the same output.
    """
    with _looked_after(out) as target:
        done = Released(target.latest(), target.is_held(), newest_night(target))
        target.remove(HOLD)
    stays = f"readers use {done.latest} until a later night is published"
    newer = f"; --rollback {done.newest} sends them to the newest now" if done.newest != done.latest else ""
    said = "released" if done.was_held else "readers were not held"
    log.info("%s: %s%s", said, stays, newer, extra=facts(stage="release", latest=done.latest, newest=done.newest))
    return done


@contextlib.contextmanager
def _looked_after(out: str) -> Iterator[Target]:
    """An output with nights, locked and recovered."""
    target = open_target(out)
    try:
        if not target.folders():
            raise OutputError(f"{target.location}: no night is published there")
        with target.lock():
            recover(target)
            yield target
    except OSError as error:
        raise write_failed(out, error) from error


def retain(target: Target, keep: int, run_date: str) -> list[str]:
    """Delete the complete nights beyond the newest ``keep`` that are due, with their reports and run records.

    Never ``run_date``'s, nor the one that readers use or are held on, nor one dated after the machine's date, which
    does not count either.

    Returns:
        The dates that were deleted.

    Raises:
        OSError: one cannot be deleted.
    """
    nights = target.nights()
    beyond = beyond_the_last(keep, nights, target)
    gone = [date for date in beyond if date != run_date]
    for date in gone:
        target.retire(date)
        values = facts(stage="retention", deleted=date, keep=keep)
        log.info("%s: deleted, beyond the last %d nights", night_of(date), keep, extra=values)
    _sweep(target)
    if run_date in beyond:
        log.warning("%s: beyond the last %d nights; the next night with --keep deletes it", night_of(run_date), keep)
    if ahead := [date for date in nights if is_far_ahead(date)]:
        values = facts(stage="retention", ahead=ahead, keep=keep)
        message = "%s: dated after this machine's date, %s; --keep neither counts nor deletes such nights"
        log.warning(message, ", ".join(map(night_of, ahead)), clock.today(), extra=values)
    return gone


def beyond_the_last(keep: int, nights: Iterable[str], target: Target) -> list[str]:
    """Those of the dates that do not belong to the newest ``keep`` which are due, oldest first.

    Without the night that readers use, the one that they are held on, and what is dated after the machine's date.
    """
    spared = {target.latest(), target.held_on()}
    return [date for date in sorted(filter(is_due, nights))[:-keep] if date not in spared]


def _sweep(target: Target) -> None:
    """Delete the run records and reports of nights that are there no more."""
    there = set(target.folders())
    for folder, end in ((RUNS, ".json"), (REPORTS, ".html")):
        for name in target.files(folder):
            night = name.removesuffix(end)
            if name.endswith(end) and folder_date(night) and night.startswith("run_date=") and night not in there:
                target.remove(f"{folder}/{name}")


def verify(out: str, run_date: str | None = None) -> VerifiedNight:
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
            raise OutputError(f"{target.location}: no night {date or 'named by LATEST'} is published there")
        place = target.describe(night_of(date))
        with target.on_disk(night_of(date)) as folder:
            bad = first_altered(folder, manifest["files"])
    except OSError as error:
        raise OutputError(f"{error.filename or out}: cannot be read ({error.strerror or error})") from error
    if bad is not None:
        raise OutputError(f"{place}/{bad}: altered since it was published. Write it again with --force.")
    return VerifiedNight(place, len(manifest["files"]), sum(manifest["bytes"].values()))
