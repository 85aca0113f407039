"""A bundle can vanish or be replaced while a night reads it: say so, and never mix two bundles."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from sdk.base.errors import BundleError
from sdk.base.files import sha256_of, standing
from sdk.base.rights import reason
from sdk.bundles.bundle import INFO, Bundle, load


@dataclass(frozen=True, slots=True, eq=False)
class OpenedBundle:
    """A bundle, and which one it was when it was opened.

    Attributes:
        bundle: its files are read as they are needed.
        sha256: of its ``bundle.json``, taken before the bundle was checked and opened.
    """

    bundle: Bundle
    sha256: str


def open_bundle(path: Path) -> OpenedBundle:
    """Open a bundle, checking every file's sha256.

    Raises:
        BundleError: it is absent, altered or of another version.
    """
    try:
        info = standing(path) / INFO
        sha256 = sha256_of(info) if info.is_file() else ""
        return OpenedBundle(load(path), sha256)
    except OSError as error:
        raise _vanished(path, error) from error


@contextlib.contextmanager
def reading(opened: OpenedBundle) -> Iterator[None]:
    """Read more of a bundle that was opened before.

    Raises:
        BundleError: a file of it is gone, unreadable or broken, or another bundle stands there since it was opened.
    """
    path = opened.bundle.path
    try:
        yield
        now = sha256_of(path / INFO)
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, PermissionError) and path.absolute() not in Path(str(error.filename)).absolute().parents:
            raise  # of another input that is read meanwhile
        raise _vanished(path, error) from error
    if now != opened.sha256:
        raise BundleError(f"{path}: was replaced while it was read. Nothing was published; run the same command again.")


def _vanished(path: Path, error: Exception) -> BundleError:
    if isinstance(error, PermissionError):
        return BundleError(f"{error.filename or path}: cannot be read: {reason(error, path)}. Nothing was published.")
    return BundleError(
        f"{path}: vanished or changed while it was read ({error}). "
        "Nothing was published. Put the bundle back, whole, and run the same command."
    )
