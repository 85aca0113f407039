"""Work on other processes is asked for in one way, and Dask is named where it is missed."""

from __future__ import annotations

import re
import sys

import pytest

from sdk.base.errors import UsageError, how_to_get
from sdk.machine.cluster import ClusterConfig


@pytest.mark.parametrize("asked", [{"workers": 2}, {"address": "tcp://127.0.0.1:8786"}])
def test_without_dask_workers_are_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch, asked: dict[str, object]):
    for name in ("dask", "distributed"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=f"^--workers and --dask need Dask, .* {re.escape(how_to_get('dask'))}"):
        ClusterConfig(**asked)  # type: ignore[arg-type]
    assert not ClusterConfig().is_used
    with pytest.raises(UsageError, match="goes with --workers"):
        ClusterConfig(worker_memory="4GiB")
