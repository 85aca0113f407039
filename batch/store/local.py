"""Nights in a folder on a disk."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from batch.store.layout import REPORTS, RUNS, SUCCESS, night_of, removed_of, replaced_of, staging_of
from batch.store.target import Target
from sdk.base.errors import OutputError
from sdk.base.files import put_back, remove, show, swap, sweep, sync_folder, write_file
from sdk.base.rights import reason


class LocalTarget(Target):
    """A folder on a disk of this machine, or one mounted as if it were.

    Args:
        root: the folder; it need not exist.
    """

    renames = True

    def __init__(self, root: Path) -> None:
        self.root, self.location = root, str(root)

    def _lock_file(self) -> Path:
        """See ``Target``. The lock is the system's own, so it ends with its process, however that ends."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            problem = f"cannot be made ({reason(error, self.root)})"
            raise OutputError(f"{self.root}: {problem}; choose another --out") from error
        return self.root / ".lock"

    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """See ``Target``: written aside, flushed to the disk, renamed."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, data, durable=durable, tidy=False)  # what a killed run left, recover and the journal find

    def read(self, name: str) -> bytes | None:
        """See ``Target``."""
        try:
            return (self.root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def files(self, folder: str) -> dict[str, int]:
        """See ``Target``."""
        top = self.root / folder
        if os.path.lexists(top) and not top.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(top))
        paths = sorted(path for path in top.rglob("*") if path.is_symlink() or path.is_file())
        return {path.relative_to(top).as_posix(): path.lstat().st_size for path in paths}

    def folders(self) -> list[str]:
        """See ``Target``."""
        return sorted(path.name for path in self.root.iterdir() if path.is_dir()) if self.root.is_dir() else []

    def remove(self, name: str) -> None:
        """See ``Target``."""
        remove(self.root / name)

    def set_aside(self, name: str, to: str) -> None:
        """See ``Target``."""
        self.remove(to)
        show(self.root / name, self.root / to)

    def show(self, run_date: str) -> None:
        """See ``Target``: one rename; a night that is replaced changes places with the new one, in one step too."""
        night, old = self.root / night_of(run_date), self.root / replaced_of(run_date)
        staging = self.root / staging_of(run_date)
        self.write(f"{staging.name}/{SUCCESS}", b"")
        for folder in (path for path in staging.rglob("*") if path.is_dir()):
            sync_folder(folder)
        if swap(staging, night, old):
            show(staging, old)

    def mark(self, folder: str) -> str:
        """See ``Target``: a folder keeps its inode through a rename."""
        return str((self.root / folder).stat().st_ino)

    def retire(self, run_date: str) -> None:
        """See ``Target``: out of sight in one rename, then deleted."""
        aside = removed_of(run_date)
        self.set_aside(night_of(run_date), aside)
        self.remove(aside)

    def recover(self) -> None:
        """See ``Target``: a night that stepped aside for one that never came is put back."""
        for name, date in self.dated(".replaced-"):
            put_back(self.root / night_of(date), self.root / name)
        for name, _ in self.dated(".replaced-", ".removed-"):
            self.remove(name)
        for folder in (self.root, self.root / RUNS, self.root / REPORTS):
            sweep(folder)

    @contextlib.contextmanager
    def on_disk(self, folder: str) -> Iterator[Path]:
        """See ``Target``."""
        yield self.root / folder

    def free_bytes(self) -> int | None:
        """See ``Target``: of the nearest folder above that exists."""
        existing = next((path for path in (self.root, *self.root.absolute().parents) if path.exists()), None)
        return None if existing is None else shutil.disk_usage(existing).free
