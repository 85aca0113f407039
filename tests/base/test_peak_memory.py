"""The most memory that a process held is its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sdk.base.stages import peak_memory_mib

SAID = "from sdk.base.stages import peak_memory_mib; print(peak_memory_mib())"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not tell them apart")
def test_what_started_a_process_does_not_count():
    held = f"import subprocess, sys; kept = bytearray(800 << 20); kept[::4096] = kept[::4096]; {SAID}"
    asked = f"{held}; sys.stdout.flush(); subprocess.run([sys.executable, '-c', {SAID!r}], check=True)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    parent, child = map(float, done.stdout.split())
    assert parent > 800
    assert 5 < child < 400


def test_what_was_held_and_given_back_counts():
    before = peak_memory_mib()
    kept = bytearray(int(before + 300) << 20)
    kept[::4096] = b"x" * len(kept[::4096])
    del kept
    assert peak_memory_mib() > before + 200
