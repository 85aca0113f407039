"""Files and folders written aside, shown in one rename with a way back, and kept through a power cut.

What lies beside ``NAME`` meanwhile, or after a run that was killed, has a name of ours alone:

- ``.NAME.<8 hex digits>.marquee-tmp``: a file that is being written. Its writer holds a lock on it, so one that nobody
  holds is a killed run's, and the next that writes ``NAME`` deletes it.
- ``.NAME.marquee-new``: a folder that is being made, or one that has been replaced and is being deleted.
- ``.NAME.marquee-old``: a folder that stepped aside for a new one. Where ``NAME`` is empty, it is put back.
- ``.NAME.lock``: the lock of whoever writes ``NAME``.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from sdk.base.errors import LockedError, OutputError
from sdk.base.rights import reason

log = logging.getLogger(__name__)

Content = bytes | str | Callable[[IO[bytes]], object]
"""A file's content: bytes, text that becomes UTF-8, or a function that writes it."""
_ASIDE = re.compile(r"\.(.+)\.[0-9a-f]{8}\.marquee-tmp", re.DOTALL)
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EACCES}  # file systems without, folders that only may be written in
_READER_WAITS_S, _READER_LOOKS = 0.02, 50


# ---------------------------------------------------------------------------------------------- files


def write_file(path: Path, content: Content, *, durable: bool = True, tidy: bool = True) -> None:
    """Write a file whole or not at all, with the mode that the umask leaves; its folder must be there.

    Args:
        path: the file; one that is there is replaced.
        content: what it holds afterwards.
        durable: whether it must survive a power cut from here on.
        tidy: whether to look for what killed runs left of this file, which takes a look at the whole folder.

    Raises:
        OSError: it cannot be written; ``filename`` is ``path``, and what was there still is.
    """
    if tidy:
        sweep(path.parent, path.name)
    try:
        _write_aside(path, content, durable=durable)
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
    if durable:
        sync_folder(path.parent)


def _write_aside(path: Path, content: Content, *, durable: bool) -> None:
    aside, handle = _new_aside(path)
    try:
        with os.fdopen(handle, "w+b") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
            os.replace(aside, path)  # while the lock is held: nobody takes it for a killed run's  # noqa: PTH105
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise


def _new_aside(path: Path) -> tuple[Path, int]:
    """An empty file beside ``path``, locked."""
    while True:
        aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.marquee-tmp")
        handle = os.open(aside, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o666)
        with contextlib.suppress(OSError):  # no locks here: then nobody takes it for a killed run's either
            fcntl.flock(handle, fcntl.LOCK_EX)
        if _is_at(handle, aside):
            return aside, handle
        os.close(handle)  # swept away before it was locked


def sweep(folder: Path, name: str | None = None) -> None:
    """Delete the unfinished files that killed runs left in a folder, of one name or of all."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        found = [(entry.path, match[1]) for entry in entries if (match := _ASIDE.fullmatch(entry.name))]
        for path, of in found:
            if name in (None, of):
                _delete_if_left(Path(path))


def _delete_if_left(path: Path) -> None:
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        finally:
            os.close(handle)


def show(aside: Path, path: Path) -> None:
    """Give a finished file or folder its name, for good; it lies on the same disk.

    Raises:
        OSError: it cannot be renamed.
    """
    os.replace(aside, path)  # noqa: PTH105
    sync_folder(path.parent)


# ---------------------------------------------------------------------------------------------- folders


def new_of(target: Path) -> Path:
    """Where a folder is made that will be ``target``."""
    return target.with_name(f".{target.name}.marquee-new")


def old_of(target: Path) -> Path:
    """Where a folder stands that stepped aside for a new ``target``."""
    return target.with_name(f".{target.name}.marquee-old")


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """An empty folder in which ``target`` is made. What a killed run left of it is deleted, or put back, before.

    The caller holds the lock of ``target``, and calls ``put_in_place`` at the end; whatever is left is deleted.

    Raises:
        OSError: it cannot be made.
    """
    put_back(target, old_of(target))
    staging = new_of(target)
    for left in (staging, old_of(target)):
        remove(left)
    staging.mkdir(parents=True)
    try:
        yield staging
    finally:
        with contextlib.suppress(OSError):
            remove(staging)


def put_in_place(staging: Path, target: Path) -> None:
    """Make a finished folder ``target``, for good; one that stands there is deleted. The caller holds its lock.

    Killed or failing at any moment, the old folder or the new one is there, whole: at ``target``, or where folders
    cannot change places in one step, at ``old_of(target)``, from where ``standing`` and ``put_back`` fetch it.

    Raises:
        OSError: a step failed; what stood there does so still.
    """
    sync_tree(staging)
    old = old_of(target)
    old = staging if swap(staging, target, old) else old
    try:
        remove(old)
    except OSError as error:
        log.warning("%s: was replaced, and cannot be deleted (%s)", old, reason(error))


def swap(staging: Path, target: Path, old: Path) -> bool:
    """Rename a folder into place; one that stands there goes to ``staging``, in the same step, or else to ``old``.

    Returns:
        Whether it went to ``staging``.

    Raises:
        OSError: a step failed; what stood there does so still.
    """
    exchanged = os.path.lexists(target) and exchange(staging, target)
    if not exchanged:
        _step_aside(staging, target, old)
    sync_folder(target.parent)
    return exchanged


def _step_aside(staging: Path, target: Path, old: Path) -> None:
    if os.path.lexists(target):
        os.replace(target, old)  # noqa: PTH105
    try:
        os.replace(staging, target)  # noqa: PTH105
    except BaseException:
        if os.path.lexists(old) and not os.path.lexists(target):
            os.replace(old, target)  # noqa: PTH105
        raise


def exchange(first: Path, second: Path) -> bool:
    """Let two folders change names in one step (Linux, renameat2 with RENAME_EXCHANGE).

    Returns:
        False where the system or the file system cannot; nothing has changed then.
    """
    here, swap_names = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    return rename is not None and rename(here, os.fsencode(first), here, os.fsencode(second), swap_names) == 0


def put_back(target: Path, old: Path) -> None:
    """Where a killed run left ``target`` empty, give it back what it had set aside. The caller holds the lock.

    Raises:
        OSError: it cannot be renamed.
    """
    if os.path.lexists(old) and not os.path.lexists(target):
        show(old, target)
        log.warning("%s: was set aside by a run that was killed; it is back", target)


def standing(target: Path) -> Path:
    """The folder to read for ``target``: itself; or what a replacement has set aside that was cut off or goes on."""
    old = old_of(target)
    for _ in range(_READER_LOOKS):
        if target.exists() or not old.exists():
            break
        with contextlib.suppress(OSError, OutputError, LockedError), locked(lock_of(target), str(target)):
            put_back(target, old)
            break
        if not os.access(target.parent, os.W_OK):  # nobody waits for what only another account can mend
            break
        time.sleep(_READER_WAITS_S)
    return old if old.exists() and not target.exists() else target


def remove(path: Path) -> None:
    """Delete a file, a link, or a folder with all that is in it; one that is absent is no error.

    Raises:
        OSError: it cannot be deleted.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync_tree(folder: Path) -> None:
    """Flush every file in a folder and below it, and the folders' lists of names, to the disk."""
    for place, _, names in os.walk(folder):
        for name in names:
            _sync(Path(place) / name, os.O_RDONLY | os.O_NOFOLLOW)
        sync_folder(Path(place))


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to the disk, where its file system can."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    try:
        handle = os.open(path, flags | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


# ---------------------------------------------------------------------------------------------- locks


def lock_of(target: Path) -> Path:
    """The lock file of whoever writes ``target``."""
    return target.with_name(f".{target.name}.lock")


@contextlib.contextmanager
def locked(path: Path, busy: str, *, wait: bool = False, keep: bool = False) -> Iterator[None]:
    """Hold a lock file. The lock is the system's own, so it ends with its process, however that ends.

    Every account that may write in the folder can take it, whoever made the file.

    Args:
        path: the lock file; its folder must be there.
        busy: what to say where another process holds it.
        wait: whether to say so and wait, instead of raising.
        keep: whether the file stays afterwards.

    Raises:
        LockedError: another process holds it; the message is ``busy``.
        OutputError: the file cannot be made, or nothing can be locked there.
    """
    try:
        handle = _taken(path, busy, wait=wait)
    except OSError as error:
        message = f"{path}: cannot be locked ({reason(error, path)}). Make it writable, or choose another place."
        raise OutputError(message) from error
    try:
        yield
    finally:
        if not keep:
            with contextlib.suppress(OSError):
                path.unlink()  # before it is let go: whoever waited for it sees that, and makes a new one
        os.close(handle)


def _taken(path: Path, busy: str, *, wait: bool) -> int:
    while True:
        with contextlib.ExitStack() as unless_held:
            handle = _lock_file(path)
            unless_held.callback(os.close, handle)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if not wait:
                    raise LockedError(busy) from error
                log.info("%s", busy)
                fcntl.flock(handle, fcntl.LOCK_EX)
            if _is_at(handle, path):
                unless_held.pop_all()
                return handle


def _lock_file(path: Path) -> int:
    """The lock file, opened: to be written where that is allowed, as some network disks want it, else to be read."""
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        with contextlib.suppress(FileExistsError):
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | flags, 0o666)
            _open_to_the_folders_writers(handle, path.parent)
            return handle
        with contextlib.suppress(FileNotFoundError):
            try:
                return os.open(path, os.O_RDWR | flags)
            except PermissionError:
                return os.open(path, os.O_RDONLY | flags)


def _open_to_the_folders_writers(handle: int, folder: Path) -> None:
    writers = folder.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    with contextlib.suppress(OSError):
        os.fchmod(handle, stat.S_IMODE(os.fstat(handle).st_mode) | writers | writers << 1)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


# ---------------------------------------------------------------------------------------------- content


def sha256_of(content: Path | bytes) -> str:
    """Hex sha256 of a file, read in blocks, or of bytes."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    digest = hashlib.sha256()
    with content.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def canonical(values: Any) -> bytes:
    """JSON values as bytes, the same whatever the order of their keys."""
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()


def digest_of(values: Any) -> str:
    """Hex sha256 of plain JSON values, whatever the order of their keys."""
    return sha256_of(canonical(values))


def json_text(values: Mapping[str, Any], *, allow_nan: bool = True) -> str:
    """JSON for people to read: keys sorted, a newline at the end.

    Raises:
        ValueError: a number is not finite, where ``allow_nan`` is False.
    """
    return json.dumps(values, indent=2, sort_keys=True, allow_nan=allow_nan) + "\n"
