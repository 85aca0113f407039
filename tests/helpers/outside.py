"""Trouble from outside: what a run asks of the system fails, or is where it dies; no function of ours is touched."""

from __future__ import annotations

import contextlib
import functools
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

_WATCHERS: list[Callable[[str, tuple[object, ...]], None]] = []


def _tell(event: str, args: tuple[object, ...]) -> None:
    for watcher in tuple(_WATCHERS):
        watcher(event, args)


@contextlib.contextmanager
def watched(watcher: Callable[[str, tuple[object, ...]], None]) -> Iterator[None]:
    """Tell of every event of ``sys.addaudithook`` (Python's table of audit events); the event raises what it raises."""
    _hook()
    _WATCHERS.append(watcher)
    try:
        yield
    finally:
        _WATCHERS.remove(watcher)


@functools.cache  # a hook stays for as long as the process
def _hook() -> None:
    sys.addaudithook(_tell)


@contextlib.contextmanager
def failing(event: str, error: BaseException, *, at: str = "", when: int = 1) -> Iterator[list[str]]:
    """Raise at the ``when``-th event of a kind whose arguments, as text, hold ``at``; a list of those seen.

    ``open`` is told of every file that Python opens, ``os.rename`` of ``os.replace`` too, ``os.remove`` of ``unlink``.
    """
    seen: list[str] = []

    def watcher(name: str, args: tuple[object, ...]) -> None:
        if name == event and at in (text := " ".join(str(arg) for arg in args)):
            seen.append(text)
            if len(seen) == when:
                raise error

    with watched(watcher):
        yield seen


@contextlib.contextmanager
def contents_of(path: Path) -> Iterator[list[bytes | None]]:
    """What a reader would find in a file meanwhile, each change once, looked for at every step of the process."""
    found: list[bytes | None] = []
    looking = False

    def watcher(event: str, args: tuple[object, ...]) -> None:
        nonlocal looking
        if looking or not event.startswith(("open", "os.", "shutil.")):
            return
        looking = True
        try:
            content = path.read_bytes() if path.exists() else None
        finally:
            looking = False
        if [content] != found[-1:]:
            found.append(content)

    with watched(watcher):
        yield found
        watcher("os.", ())


@contextlib.contextmanager
def files_up_to(num_bytes: int) -> Iterator[None]:
    """The system refuses to let a file grow beyond this (EFBIG), as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
