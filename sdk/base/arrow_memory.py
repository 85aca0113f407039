"""Bytes for Arrow to read, in memory of its own."""

from __future__ import annotations

import pyarrow as pa


def reader_of(data: bytes) -> pa.BufferReader:
    """A reader over a copy that Arrow owns."""
    return pa.BufferReader(buffer_of(data))


def buffer_of(data: bytes) -> pa.Buffer:
    """A copy that Arrow owns.

    Arrow's threads may let go of what they read a moment after a read has returned. Where that is a Python object and
    the process is just ending, letting go of it ends the process with SIGABRT (exit code 134) in place of its own exit
    code. It was seen once in about forty commands that refused a file and ended at once.
    """
    buffer = pa.allocate_buffer(len(data))
    memoryview(buffer).cast("B")[:] = data
    return buffer
