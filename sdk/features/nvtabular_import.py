"""One door to NVTabular: it takes seconds to import and warns about what a CPU machine lacks."""

from __future__ import annotations

import warnings
from typing import Any


def nvtabular() -> Any:
    """The nvtabular module, imported quietly on first use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import nvtabular as module
    return module
