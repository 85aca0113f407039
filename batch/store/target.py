"""Where nights are written, whatever it is: what every place can do, and what its errors mean."""

from __future__ import annotations

import contextlib
import errno
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from batch.store.layout import HOLD, LATEST, SUCCESS, folder_date, night_of
from sdk.base.errors import MarqueeError, OutputError
from sdk.base.files import locked, sha256_of
from sdk.base.rights import reason

log = logging.getLogger(__name__)


class Target(ABC):
    """OUT. Names are relative to it; a file is written whole or not at all.

    Every method may raise OSError, or OutputError where a store's client raises an error of its own.

    Attributes:
        location: the path or URL, without a trailing slash.
        renames: whether a night is shown in one rename; if not, one without ``_SUCCESS`` is none.
        lasts: whether what is written outlives this process.
    """

    location: str
    renames: bool
    lasts: bool = True

    def describe(self, name: str) -> str:
        """A name as people see it: with OUT in front."""
        return f"{self.location}/{name}"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other runs out; makes OUT where it is missing.

        Raises:
            LockedError: another run is at work.
            OutputError: OUT cannot be made.
        """
        busy = f"{self.location}: another run is at work here; wait for it, or give another --out"
        with locked(self._lock_file(), busy, keep=True):
            yield

    @abstractmethod
    def _lock_file(self) -> Path:
        """On this machine; the folder in which it lies is there."""

    @abstractmethod
    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Write a file in one step.

        Args:
            name: the file.
            data: its content.
            durable: whether it must survive a power cut from here on.
        """

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """A file's content; None where it is absent."""

    @abstractmethod
    def files(self, folder: str) -> dict[str, int]:
        """Every file in a folder and below it: name relative to the folder -> bytes. Empty where it is absent."""

    @abstractmethod
    def folders(self) -> list[str]:
        """The names of the folders in OUT, sorted."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Delete a file, or a folder with all that is in it; one that is absent is no error."""

    @abstractmethod
    def set_aside(self, name: str, to: str) -> None:
        """Give a folder another name, in place of what stood there."""

    def hide(self, run_date: str) -> None:  # noqa: B027
        """Before a night is replaced: take its marker away, where it cannot be replaced in one step."""

    @abstractmethod
    def show(self, run_date: str) -> None:
        """Make the staged night, its manifest included, the published one; ``_SUCCESS`` comes last or with the rest."""

    def mark(self, folder: str) -> str:
        """What tells a folder from one that stands in its place already; it keeps it when it is shown.

        None is needed where the marker of the old night goes before.
        """
        return ""

    def is_shown(self, run_date: str, mark: str) -> bool:
        """Whether the staged night of which ``mark`` was taken has become the published one."""
        return self.is_complete(run_date) and self.mark(night_of(run_date)) == mark

    @abstractmethod
    def retire(self, run_date: str) -> None:
        """Delete a published night; it stops being complete first."""

    @abstractmethod
    def recover(self) -> None:
        """Undo what a killed run left half done, temporary files included."""

    @abstractmethod
    def on_disk(self, folder: str) -> AbstractContextManager[Path]:
        """A folder as a path on this machine, for reading; fetched there if need be, and gone afterwards."""

    def free_bytes(self) -> int | None:
        """Room left; None where that is not known."""
        return None

    def dated(self, *prefixes: str) -> list[tuple[str, str]]:
        """The folders of some kinds, such as ``run_date=``, each with its date; sorted by name."""
        found = ((name, *(folder_date(name) or ("", ""))) for name in self.folders())
        return [(name, date) for name, prefix, date in found if prefix in prefixes]

    def nights(self) -> list[str]:
        """The dates of the published nights that are complete, oldest first."""
        return [date for _, date in self.dated("run_date=") if self.is_complete(date)]

    def night_before(self, run_date: str) -> str | None:
        """The newest complete night before a date, whatever ``LATEST`` says; None where there is none."""
        return max((date for date in self.nights() if date < run_date), default=None)

    def is_complete(self, run_date: str | None) -> bool:
        """Whether there is such a night, whole."""
        return run_date is not None and self.read(f"{night_of(run_date)}/{SUCCESS}") is not None

    def latest(self) -> str | None:
        """The night that readers use; None where there is none, or where the pointer is damaged: a warning says so."""
        return self._date_in(LATEST)

    def is_held(self) -> bool:
        """Whether no later night may become the one that readers use."""
        return self.read(HOLD) is not None

    def held_on(self) -> str | None:
        """The night that readers are held on; None where they are not held, or where the note is damaged."""
        return self._date_in(HOLD)

    def _date_in(self, name: str) -> str | None:
        found = self.read(name)
        date = (found or b"").decode("utf-8", "replace").strip()
        if folder_date(night_of(date)) is not None:
            return date
        if found is not None:
            log.warning("%s: holds no date (%.40r): read as absent", self.describe(name), date)
        return None


_ANOTHER_OUT = "Make it writable for this account, or give another --out."
_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "Free some room and run the same command"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), _ANOTHER_OUT),
    **dict.fromkeys(
        (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP),
        "Something else stands there: move it away and run the same command",
    ),
}


def write_failed(where: object, error: OSError) -> MarqueeError:
    """What a failed write means and what to do about it."""
    usual = _ANOTHER_OUT if isinstance(error, PermissionError) else "Run the same command again"
    remedy = _REMEDIES.get(error.errno or 0, usual)
    remedy += "" if remedy is _ANOTHER_OUT else ": finished parts are kept."
    why = reason(error, None if "://" in str(where) else Path(str(where)))
    problem = f"cannot be written ({why}). What was published still stands"
    return OutputError(f"{error.filename or where}: {problem}. {remedy}")


def missing_or_altered(found: Mapping[str, int], expected: Mapping[str, int]) -> list[str]:
    """The names that are absent, or have another size than expected, sorted."""
    return sorted(name for name, size in expected.items() if found.get(name) != size)


def first_altered(folder: Path, files: Mapping[str, str]) -> str | None:
    """The first part that is absent or has another sha256 than it should; None where all are whole.

    Args:
        folder: the night's.
        files: part -> hex sha256.
    """
    return next((n for n, sha in files.items() if not (folder / n).is_file() or sha256_of(folder / n) != sha), None)
