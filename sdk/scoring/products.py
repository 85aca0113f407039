"""A matrix times a strip, for any number of rows: the kernels' fixed numbers of rows, one after the other."""

from __future__ import annotations

from typing import Any

from sdk.machine.compiled import compiled
from sdk.scoring.kernels import (
    MAX_ROWS,
    rows1,
    rows1_base,
    rows1_base_relu,
    rows1_relu,
    rows8,
    rows8_base,
    rows8_base_relu,
    rows8_relu,
)

_F32 = 4  # bytes


@compiled
def product(x: Any, k: Any, w: Any, ldw: Any, c: Any, out: Any, ldo: Any, rows: Any) -> None:
    """Compute out = c + w x, for any number of rows. Addresses in bytes, strides in floats."""
    r = 0
    while r + MAX_ROWS <= rows:
        rows8(x, k, w + r * ldw * _F32, ldw, c + r * _F32, c, 0, out + r * ldo * _F32, ldo)
        r += MAX_ROWS
    while r < rows:
        rows1(x, k, w + r * ldw * _F32, ldw, c + r * _F32, c, 0, out + r * ldo * _F32, ldo)
        r += 1


@compiled
def product_base(x: Any, k: Any, w: Any, ldw: Any, c: Any, base: Any, ldb: Any, out: Any, ldo: Any, rows: Any) -> None:
    """Compute out = c + base + w x."""
    r = 0
    while r + MAX_ROWS <= rows:
        rows8_base(x, k, w + r * ldw * _F32, ldw, c + r * _F32, base + r * ldb * _F32, ldb, out + r * ldo * _F32, ldo)
        r += MAX_ROWS
    while r < rows:
        rows1_base(x, k, w + r * ldw * _F32, ldw, c + r * _F32, base + r * ldb * _F32, ldb, out + r * ldo * _F32, ldo)
        r += 1


@compiled
def product_base_relu(
    x: Any, k: Any, w: Any, ldw: Any, c: Any, base: Any, ldb: Any, out: Any, ldo: Any, rows: Any
) -> None:
    """Compute out = relu(c + base + w x)."""
    r = 0
    while r + MAX_ROWS <= rows:
        rows8_base_relu(
            x, k, w + r * ldw * _F32, ldw, c + r * _F32, base + r * ldb * _F32, ldb, out + r * ldo * _F32, ldo
        )
        r += MAX_ROWS
    while r < rows:
        rows1_base_relu(
            x, k, w + r * ldw * _F32, ldw, c + r * _F32, base + r * ldb * _F32, ldb, out + r * ldo * _F32, ldo
        )
        r += 1


@compiled
def product_relu(x: Any, k: Any, w: Any, ldw: Any, c: Any, out: Any, ldo: Any, rows: Any) -> None:
    """Compute out = relu(c + w x)."""
    r = 0
    while r + MAX_ROWS <= rows:
        rows8_relu(x, k, w + r * ldw * _F32, ldw, c + r * _F32, c, 0, out + r * ldo * _F32, ldo)
        r += MAX_ROWS
    while r < rows:
        rows1_relu(x, k, w + r * ldw * _F32, ldw, c + r * _F32, c, 0, out + r * ldo * _F32, ldo)
        r += 1
