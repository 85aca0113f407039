"""A matrix times a strip, for any number of rows: the kernels' fixed numbers of rows, one after the other."""

from __future__ import annotations

from typing import Any

from sdk.machine.compiled import compiled
from sdk.scoring.kernels import MAX_ROWS, rows_kernel

_F32 = 4  # bytes


def _product(name: str, *, relu: bool = False, has_base: bool = False) -> Any:
    """Compute out = c + base + w x, or its relu, for any number of rows. Addresses in bytes, strides in floats."""
    many, one = (rows_kernel(rows, relu=relu, has_base=has_base) for rows in (MAX_ROWS, 1))

    def function(
        x: Any, k: Any, w: Any, ldw: Any, c: Any, out: Any, ldo: Any, rows: Any, base: Any = 0, ldb: Any = 0
    ) -> None:
        r = 0
        while r + MAX_ROWS <= rows:
            many(x, k, w + r * ldw * _F32, ldw, c + r * _F32, base + r * ldb * _F32, ldb, out + r * ldo * _F32, ldo)
            r += MAX_ROWS
        while r < rows:
            one(x, k, w + r * ldw * _F32, ldw, c + r * _F32, base + r * ldb * _F32, ldb, out + r * ldo * _F32, ldo)
            r += 1

    function.__qualname__ = name  # the machine code is kept under it
    return compiled(function)


product = _product("product")
product_relu = _product("product_relu", relu=True)
product_base = _product("product_base", has_base=True)
product_base_relu = _product("product_base_relu", relu=True, has_base=True)
