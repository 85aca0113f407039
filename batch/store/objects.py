"""Object stores through fsspec: no rename there, so readers go by ``_SUCCESS``, which is written last."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from batch.store.layout import MANIFEST, SUCCESS, folder_date, night_of, removed_of, staging_of
from batch.store.target import Target, file_lock
from sdk.base.errors import MarqueeError, OutputError, UsageError


class ObjectTarget(Target):
    """A prefix in an object store: ``s3://``, ``gs://``, ``memory://`` or another protocol of fsspec's.

    Credentials come from the environment or from fsspec's configuration. One object is written whole or not at all,
    which is what such stores promise; several together are not, hence the marker.

    Args:
        location: the URL.

    Raises:
        UsageError: fsspec knows no such protocol, or the package for it is not installed.
    """

    renames = False

    def __init__(self, location: str) -> None:
        from fsspec.core import url_to_fs

        self.location = location
        try:
            self.fs, self.root = url_to_fs(location)
        except (ImportError, ValueError) as error:
            message = f"--out: {location.partition('://')[0]}:// cannot be written here ({error})"
            raise UsageError(message) from error
        self.lasts = self.fs.protocol != "memory"

    def _path(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}"

    @contextlib.contextmanager
    def _asking(self, name: str) -> Iterator[None]:
        """Turn whatever a store's client raises into an error of ours; OSErrors pass as they are."""
        try:
            yield
        except (OSError, MarqueeError):
            raise
        except Exception as error:
            message = (
                f"{self.describe(name)}: the store answered {type(error).__name__}: {error}. What was published still "
                "stands. Check that it can be written to, credentials and network; then run the same command."
            )
            raise OutputError(message) from error

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """See ``Target``: keeps out other runs of this machine only; a store has no lock that ends with its holder."""
        key = hashlib.sha256(self.location.encode()).hexdigest()[:16]
        with file_lock(Path(tempfile.gettempdir()) / f"marquee-{key}.lock", self.location):
            yield

    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """See ``Target``: one PUT."""
        with self._in_a_bucket(), self._asking(name):
            self.fs.pipe_file(self._path(name), data)

    @contextlib.contextmanager
    def _in_a_bucket(self) -> Iterator[None]:
        """A store makes folders by itself, but no buckets: what is not found where nothing need be is the bucket."""
        try:
            yield
        except FileNotFoundError as error:
            bucket = f"{self.location.partition('://')[0]}://{self.root.strip('/').partition('/')[0]}"
            message = (
                f"{bucket}: there is no such bucket ({error}). Create it, or correct --out. Nothing was published."
            )
            raise OutputError(message) from error

    def read(self, name: str) -> bytes | None:
        """See ``Target``."""
        try:
            with self._asking(name):
                data: bytes = self.fs.cat_file(self._path(name))
                return data
        except (FileNotFoundError, IsADirectoryError):
            return None

    def files(self, folder: str) -> dict[str, int]:
        """See ``Target``."""
        with self._in_a_bucket(), self._asking(folder):
            self.fs.invalidate_cache()
            found: dict[str, Any] = self.fs.find(self._path(folder), detail=True)
        start = len(self.fs._strip_protocol(self._path(folder)).rstrip("/")) + 1
        return {path[start:]: int(info["size"]) for path, info in sorted(found.items())}

    def folders(self) -> list[str]:
        """See ``Target``."""
        try:
            with self._asking(""):
                self.fs.invalidate_cache()
                entries = self.fs.ls(self.root, detail=True)
        except FileNotFoundError:
            return []
        names = [entry["name"].rstrip("/").rpartition("/")[2] for entry in entries if entry["type"] == "directory"]
        return sorted(names)

    def remove(self, name: str) -> None:
        """See ``Target``."""
        with self._asking(name):
            self.fs.invalidate_cache()
            if self.fs.exists(self._path(name)):
                self.fs.rm(self._path(name), recursive=True)

    def set_aside(self, name: str, to: str) -> None:
        """See ``Target``: copied by the store itself; one that is killed half-way is done again."""
        for file in self.files(name):
            with self._asking(f"{to}/{file}"):
                self.fs.cp_file(self._path(f"{name}/{file}"), self._path(f"{to}/{file}"))
        self.remove(name)

    def hide(self, run_date: str) -> None:
        """See ``Target``."""
        self.remove(f"{night_of(run_date)}/{SUCCESS}")

    def show(self, run_date: str) -> None:
        """See ``Target``: copied by the store itself, parts first, then the manifest, then the marker."""
        staging, night = staging_of(run_date), night_of(run_date)
        self.hide(run_date)
        staged = self.files(staging)
        for name in (*(n for n in staged if n != MANIFEST), MANIFEST):
            with self._asking(f"{night}/{name}"):
                self.fs.cp_file(self._path(f"{staging}/{name}"), self._path(f"{night}/{name}"))
        for name in self.files(night).keys() - staged.keys():
            self.remove(f"{night}/{name}")
        self.write(f"{night}/{SUCCESS}", b"")

    def mark(self, run_date: str) -> str:
        """See ``Target``: none is needed, for the marker of the old night goes before."""
        return ""

    def is_shown(self, run_date: str, mark: str) -> bool:
        """See ``Target``."""
        return self.read(f"{night_of(run_date)}/{SUCCESS}") is not None

    def retire(self, run_date: str) -> None:
        """See ``Target``: the intent is written first, so that a killed run's rest is deleted by the next."""
        self.write(f"{removed_of(run_date)}/{SUCCESS}", b"")
        self._finish_retiring(run_date)

    def _finish_retiring(self, run_date: str) -> None:
        self.hide(run_date)
        self.remove(night_of(run_date))
        self.remove(removed_of(run_date))

    def recover(self) -> None:
        """See ``Target``: what was being deleted is deleted."""
        for name in self.folders():
            prefix, date = folder_date(name) or ("", "")
            if prefix == ".removed-":
                self._finish_retiring(date)

    @contextlib.contextmanager
    def on_disk(self, folder: str) -> Iterator[Path]:
        """See ``Target``: fetched into a temporary folder."""
        with tempfile.TemporaryDirectory(prefix="marquee-") as place:
            for name in self.files(folder):
                path = Path(place) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with self._asking(f"{folder}/{name}"):
                    self.fs.get_file(self._path(f"{folder}/{name}"), str(path))
            yield Path(place)
