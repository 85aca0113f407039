"""Arrays and words on disk, without pickle, and the same bytes for the same content."""

from __future__ import annotations

import io
import json
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdk.base.errors import BundleError

_DAMAGE = (OSError, ValueError, TypeError, EOFError, KeyError, NotImplementedError, RuntimeError, SyntaxError,
           OverflowError, MemoryError, struct.error, zlib.error, zipfile.BadZipFile, tokenize.TokenError)  # fmt: skip
"""What numpy and zipfile raise for a damaged archive: numpy reads an array's header as Python source, and zipfile says
NotImplementedError of a way to compress that it does not know."""
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip archive can hold


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays as an uncompressed ``.npz``, in name order and with fixed dates, so equal arrays give equal bytes.

    ``numpy.load(path, allow_pickle=False)`` reads it.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asanyarray(arrays[name]), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _EPOCH), buffer.getvalue())


def read_arrays(path: Path, names: frozenset[str]) -> dict[str, NDArray[Any]]:
    """Read what ``write_arrays`` wrote.

    Raises:
        BundleError: the file is absent, damaged or lacks one of the names.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    except _DAMAGE as error:
        raise BundleError(f"{path}: not a readable .npz ({error}). Train and save the model again.") from error
    if strange := sorted(name for name, value in found.items() if not isinstance(value, np.ndarray)):
        raise BundleError(f"{path}: {strange[0]!r} is no array, its head is damaged. Train and save the model again.")
    if missing := sorted(names - set(found)):
        raise BundleError(f"{path}: no array {missing[0]!r} (it has {', '.join(sorted(found))}). Save the model again.")
    return found


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON with sorted keys, UTF-8, one newline at the end."""
    path.write_text(json.dumps(value, ensure_ascii=False, sort_keys=True, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path, *, version: int) -> dict[str, Any]:
    """Read an object that carries ``"version"``.

    Raises:
        BundleError: the file is absent, is not JSON, or has another version.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path}: not readable ({error}). Train and save the model again.") from error
    got = value.get("version") if isinstance(value, dict) else None
    if got != version:
        raise BundleError(f"{path}: version {got!r}, this release reads {version}. Train and save the model again.")
    return dict(value)
