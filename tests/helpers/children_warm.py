"""Imported once by the process that every child is a copy of: no child imports again, nor needs to as another account.

What starts threads stays out, since a copy has only the thread that copied it: one that waits for another's lock
would wait forever. Only the allocator of Arrow has a thread of its own, and knows of copies.
"""

import importlib
import pkgutil
import threading
from pathlib import Path

import pytest  # noqa: F401
import tqdm

import batch
import batch.store.clock
import export
import sdk
from sdk.commands.doctor import _warm_up
from sdk.features.workflows import nvtabular

SLOW = ("__main__", "merlin", "tensorflow", "sdk.lab")
"""Modules that take seconds to import, which no child needs."""

for package in (sdk, export, batch):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not any(word in module.name for word in SLOW):
            importlib.import_module(module.name)
nvtabular()
_warm_up()
tqdm.tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system's, which a killed copy leaves behind
batch.store.clock.today = lambda: "2026-11-30"  # as in every test: see tests/conftest.py

threads = {(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()}
assert len(threads - {"jemalloc_bg_thd"}) == 1, threads
