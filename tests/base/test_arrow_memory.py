"""What Arrow's threads hold while a process ends is no Python object."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from sdk.base.arrow_memory import reader_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("size", [0, 1, 100_003])
def test_a_reader_gives_the_bytes_and_holds_no_python_object(size):
    data = bytes(i % 251 for i in range(size)) if size != 1 else b"\x07\x08"
    held = sys.getrefcount(data)
    reader = reader_of(data)
    assert sys.getrefcount(data) == held
    assert reader.read() == data
    plain = pa.BufferReader(data)  # what it is there to avoid
    assert sys.getrefcount(data) > held or not size  # from Python 3.12 on, b"" is counted no more
    del plain


@pytest.mark.needs("checkout")
def test_nothing_hands_python_bytes_to_arrow():
    found = [
        path.relative_to(ROOT).as_posix()
        for package in ("sdk", "batch", "export")
        for path in (ROOT / package).rglob("*.py")
        if re.search(r"\bpa\.(BufferReader|py_buffer)\(", path.read_text("utf-8"))
    ]
    assert found == ["sdk/base/arrow_memory.py"]
