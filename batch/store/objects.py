"""Object stores through fsspec: no rename there, so readers go by ``_SUCCESS``, which is written last."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from batch.store.layout import MANIFEST, SUCCESS, night_of, removed_of, staging_of
from batch.store.target import Target
from sdk.base.errors import MarqueeError, OutputError, UsageError, how_to_get
from sdk.base.files import sha256_of


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
            scheme = location.partition("://")[0]
            extra = {"s3": "s3", "gs": "gcs", "gcs": "gcs"}.get(scheme) if isinstance(error, ImportError) else None
            remedy = f"; get what it needs: {how_to_get(extra)}" if extra else ""
            raise UsageError(f"--out: {scheme}:// cannot be written here ({error}){remedy}") from error
        self.lasts = self.fs.protocol != "memory"

    def _path(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}" if name else str(self.root)

    def _ask(self, method: str, name: str, *args: Any, **options: Any) -> Any:
        """Do something with a path. Whatever a store's client raises becomes an error of ours; OSErrors pass."""
        try:
            return getattr(self.fs, method)(self._path(name), *args, **options)
        except (OSError, MarqueeError):
            raise
        except Exception as error:
            raise OutputError(
                f"{self.describe(name)}: the store answered {type(error).__name__}: {error}. What was published still "
                "stands. Check that it can be written to, credentials and network; then run the same command."
            ) from error

    def _lock_file(self) -> Path:
        """See ``Target``: keeps out other runs of this machine only; a store has no lock that ends with its holder."""
        key = sha256_of(self.location.encode())[:16]
        return Path(tempfile.gettempdir()) / f"marquee-{key}.lock"

    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """See ``Target``: one PUT."""
        with self._in_a_bucket():
            self._ask("pipe_file", name, data)

    @contextlib.contextmanager
    def _in_a_bucket(self) -> Iterator[None]:
        """A store makes folders by itself, but no buckets: what is not found where nothing need be is the bucket."""
        try:
            yield
        except FileNotFoundError as error:
            bucket = f"{self.location.partition('://')[0]}://{self.root.strip('/').partition('/')[0]}"
            remedy = "Create it, or correct --out. Nothing was published."
            raise OutputError(f"{bucket}: there is no such bucket ({error}). {remedy}") from error

    def read(self, name: str) -> bytes | None:
        """See ``Target``."""
        try:
            data: bytes = self._ask("cat_file", name)
        except (FileNotFoundError, IsADirectoryError):
            return None
        return data

    def files(self, folder: str) -> dict[str, int]:
        """See ``Target``."""
        self.fs.invalidate_cache()
        with self._in_a_bucket():
            found: dict[str, Any] = self._ask("find", folder, detail=True)
        start = len(self.fs._strip_protocol(self._path(folder)).rstrip("/")) + 1
        return {path[start:]: int(info["size"]) for path, info in sorted(found.items())}

    def folders(self) -> list[str]:
        """See ``Target``."""
        self.fs.invalidate_cache()
        try:
            entries = self._ask("ls", "", detail=True)
        except FileNotFoundError:
            return []
        names = [entry["name"].rstrip("/").rpartition("/")[2] for entry in entries if entry["type"] == "directory"]
        return sorted(names)

    def remove(self, name: str) -> None:
        """See ``Target``."""
        self.fs.invalidate_cache()
        if self._ask("exists", name):
            self._ask("rm", name, recursive=True)

    def set_aside(self, name: str, to: str) -> None:
        """See ``Target``: copied by the store itself; one that is killed half-way is done again."""
        for file in self.files(name):
            self._ask("cp_file", f"{name}/{file}", self._path(f"{to}/{file}"))
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
            self._ask("cp_file", f"{staging}/{name}", self._path(f"{night}/{name}"))
        for name in self.files(night).keys() - staged.keys():
            self.remove(f"{night}/{name}")
        self.write(f"{night}/{SUCCESS}", b"")

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
        for _, date in self.dated(".removed-"):
            self._finish_retiring(date)

    @contextlib.contextmanager
    def on_disk(self, folder: str) -> Iterator[Path]:
        """See ``Target``: fetched into a temporary folder."""
        with tempfile.TemporaryDirectory(prefix="marquee-") as place:
            for name in self.files(folder):
                path = Path(place) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                self._ask("get_file", f"{folder}/{name}", str(path))
            yield Path(place)
