"""Standard streams that may be closed, full, left by their reader or of a narrow encoding, and end no command.

A guarded stream drops what it cannot write and remembers why; ``run_command`` turns that into an exit code. Characters
that an encoding lacks are written as ``\\u2019``.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, Literal

_CLOSED = "it is closed"


class Guarded:
    """A text stream in place of another one, or of none: writing to it never raises.

    Args:
        stream: the real one; None where it is closed.

    Attributes:
        failure: why something was not written; None while all was.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.failure: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def encoding(self) -> str:
        """Of the real stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write what the encoding and the other end take."""
        with self._remembered():
            if self._stream is None:
                raise OSError(_CLOSED)
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                self._stream.write(text.encode(self.encoding, "backslashreplace").decode(self.encoding))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write one after the other."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Hand on what is buffered."""
        if self._stream is not None:
            with self._remembered():
                self._stream.flush()

    def isatty(self) -> bool:
        """Whether a person reads it."""
        return is_terminal(self._stream)

    @contextlib.contextmanager
    def _remembered(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: closed since
            self.failure = self.failure or error
            _point_nowhere(self._stream)


@contextlib.contextmanager
def guarded() -> Iterator[Guarded]:
    """Guard stdout and stderr meanwhile, give all three descriptors something to be, and flush at the end; stdout."""
    _occupy_descriptors()
    before = sys.stdout, sys.stderr
    out, err = (stream if isinstance(stream, Guarded) else Guarded(stream) for stream in before)
    sys.stdout, sys.stderr = out, err
    try:
        yield out
    finally:
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = before


def is_terminal(stream: Any) -> bool:
    """Whether a stream is a terminal; none, or a closed one, is not."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError, OSError):
        return False


Style = Literal["heading", "name", "warning", "error"]
_STYLES: dict[Style, str] = {"heading": "1", "name": "36", "warning": "33", "error": "31"}


def has_colours(stream: Any) -> bool:
    """Whether text may be coloured: on a terminal, unless ``TERM`` is dumb; the environment's word goes first.

    ``NO_COLOR`` forbids it, else ``FORCE_COLOR`` or ``CLICOLOR_FORCE`` asks for it in a pipe, too (0 does not).
    """
    if os.environ.get("NO_COLOR"):
        return False
    if any(os.environ.get(name, "0") not in ("", "0") for name in ("FORCE_COLOR", "CLICOLOR_FORCE")):
        return True
    return is_terminal(stream) and os.environ.get("TERM") != "dumb"


def painted(text: str, style: Style, stream: Any) -> str:
    """The text as it is written to a stream that may have colours."""
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if has_colours(stream) else text


def _occupy_descriptors() -> None:
    """Open nothing where a standard stream is closed: the next file opened would take its number, and its output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            _open_nothing(number)


def _point_nowhere(stream: Any) -> None:
    """Let what is still buffered, and what the interpreter flushes at exit, go nowhere."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        _open_nothing(stream.fileno())
        stream.flush()


def _open_nothing(number: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    if nothing != number:
        os.dup2(nothing, number)
        os.close(nothing)
