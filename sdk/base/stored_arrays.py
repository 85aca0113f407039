"""Arrays and words on disk, without pickle, and the same bytes for the same content."""

from __future__ import annotations

import io
import json
import mmap
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

DAMAGE = (OSError, ValueError, TypeError, EOFError, KeyError, NotImplementedError, RuntimeError, SyntaxError,
           OverflowError, MemoryError, struct.error, zlib.error, zipfile.BadZipFile, tokenize.TokenError)  # fmt: skip
"""What numpy and zipfile raise for a damaged archive: numpy reads an array's header as Python source, and zipfile says
NotImplementedError of a way to compress that it does not know."""
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip archive can hold
_HEAD, _PADDING, _ALIGNED = 30, 0xD935, 64  # bytes before a member's name; the field that others align by, too
_MOST_HEADER = 2**16 + 10  # of an array, in its first form


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays as an uncompressed ``.npz``, in name order and with fixed dates, so equal arrays give equal bytes.

    ``numpy.load(path, allow_pickle=False)`` reads it. Each begins at a multiple of 64 bytes, for ``map_arrays``.
    """
    with path.open("wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            buffer, member = io.BytesIO(), zipfile.ZipInfo(f"{name}.npy", _EPOCH)
            np.lib.format.write_array(buffer, np.asanyarray(arrays[name]), allow_pickle=False)
            padding = -(file.tell() + _HEAD + len(member.filename.encode()) + 4) % _ALIGNED
            member.extra = struct.pack("<HH", _PADDING, padding) + bytes(padding)
            archive.writestr(member, buffer.getvalue())


def map_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """What ``write_arrays`` wrote, mapped into memory, which any number of processes share; read-only.

    Raises:
        BundleError: the file is absent or damaged.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            return {member.filename.removesuffix(".npy"): _mapped(whole, member) for member in archive.infolist()}
    except DAMAGE as error:
        raise BundleError(f"{path}: not a readable .npz ({error}). Train and save the model again.") from error


def _mapped(whole: mmap.mmap, member: zipfile.ZipInfo) -> NDArray[Any]:
    start = member.header_offset + _HEAD + sum(struct.unpack_from("<HH", whole, member.header_offset + _HEAD - 4))
    head = io.BytesIO(whole[start : start + _MOST_HEADER])
    if np.lib.format.read_magic(head) != (1, 0) or member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{member.filename} is compressed, or of a later form")
    shape, by_columns, dtype = np.lib.format.read_array_header_1_0(head)
    if dtype.hasobject:
        raise ValueError(f"{member.filename} holds objects")
    return np.ndarray(shape, dtype, whole, start + head.tell(), order="F" if by_columns else "C")


def copied(values: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """Some rows of an array as one of its own; where it is mapped, its pages do not stay in this process's memory."""
    found, owner = np.ascontiguousarray(values[rows]), values.base
    while isinstance(owner, np.ndarray):
        owner = owner.base
    owner = owner.obj if isinstance(owner, memoryview) else owner
    if isinstance(owner, mmap.mmap):
        owner.madvise(mmap.MADV_DONTNEED)  # read again from the file, if anybody asks
    return found


def read_arrays(path: Path, names: frozenset[str]) -> dict[str, NDArray[Any]]:
    """Read what ``write_arrays`` wrote.

    Raises:
        BundleError: the file is absent, damaged or lacks one of the names.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    except DAMAGE as error:
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
