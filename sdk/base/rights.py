"""Why the system refused a file, in words: who asked, which right lacks, and whose the file is."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

DENIED = frozenset({errno.EACCES, errno.EPERM})


def reason(error: BaseException, path: str | Path | None = None) -> str:
    """An error's reason for people; where a right lacks, whose it is and of what.

    Args:
        error: what was raised.
        path: what was being read or written, where the error itself names no file.
    """
    if not isinstance(error, OSError):
        return str(error) or type(error).__name__
    where = error.filename if isinstance(error.filename, str | bytes | os.PathLike) else path
    if where is not None and (error.errno in DENIED or isinstance(error, PermissionError)):
        what = error.strerror or "Permission denied"
        return f"{what} for user {_user(os.geteuid())}{_lacking(Path(os.fsdecode(where)).absolute())}"
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "a file is there, where a folder was expected"
    return error.strerror or str(error) or type(error).__name__


def _lacking(path: Path) -> str:
    """The first right that lacks on the way to a path, or on it; nothing where all seem to be there."""
    for above in reversed(path.parents):
        if above.is_dir() and not _may(above, os.X_OK):
            return f", who may not enter {above}; {_whose(above)}"
    try:
        exists = stat.S_IFMT(path.lstat().st_mode)
    except OSError:
        exists = 0
    if exists and not _may(path, os.R_OK):
        return f", who may not read {path}; {_whose(path)}"
    folder = next(each for each in path.parents if each.is_dir())
    if not _may(folder, os.W_OK):
        return f", who may not write in {folder}; {_whose(folder)}"
    return f", who may not change {path}; {_whose(path)}" if exists else ""


def _may(path: Path, right: int) -> bool:
    return os.access(path, right, effective_ids=os.access in os.supports_effective_ids)


def _whose(path: Path) -> str:
    found = path.stat()
    return (
        f"it is {stat.filemode(found.st_mode)[1:]} of {_user(found.st_uid)}, group {_named(grp.getgrgid, found.st_gid)}"
    )


def _user(uid: int) -> str:
    return _named(pwd.getpwuid, uid)


def _named(find: Callable[[int], Sequence[Any]], number: int) -> str:
    """An account's or a group's name, which is the first thing that the system says of it."""
    try:
        return str(find(number)[0])
    except KeyError:
        return str(number)
