"""What ``sdk.training.compiled_pass.strip_kernels`` does with single lines of a strip, in LLVM's own terms.

A line is ``LANES`` float32 values, side by side, of as many rows. Lines are given by address, in bytes.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from sdk.machine.compiled import compiled
from sdk.scoring.kernels import HAS_AVX512, LANES, VECTOR, VECTOR_WIDTH, emit_fma, emit_load, emit_store, intrinsic

_F32 = 4  # bytes
LINE = LANES * _F32
_OUTER = (8, 3) if HAS_AVX512 else (4, 2)  # lines by lines whose products are summed at a time: they fill the registers

_PARTS = range(0, LINE, VECTOR_WIDTH * _F32)  # where a line's vectors start
_FLOAT, _I64 = ir.FloatType(), ir.IntType(64)


@intrinsic
def copy_float(typing: Any, source: Any, target: Any) -> Any:
    """Copy the float32 at one address to another."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        emit_store(builder, emit_load(builder, args[0], _FLOAT), args[1])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


def _outer_kernel(rows: int, columns: int) -> Any:
    """A kernel that adds the (rows, columns) products of two groups of lines, summed over all lanes, to a matrix.

    Arguments: addresses of the first line of each group, bytes between strips, number of strips, the matrix's address
    and its floats a line.
    """

    @intrinsic
    def kernel(typing: Any, left: Any, right: Any, stride: Any, strips: Any, out: Any, ldo: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            _emit_outer(builder, (rows, columns), args)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), generate

    return kernel


def _emit_outer(builder: Any, size: tuple[int, int], args: Any) -> None:
    left, right, stride, strips, out, ldo = args
    zero = ir.Constant(VECTOR, [0.0] * VECTOR_WIDTH)
    sums = [[cgutils.alloca_once_value(builder, zero) for _ in range(size[1])] for _ in range(size[0])]
    with cgutils.for_range(builder, strips) as loop:
        offset = builder.mul(loop.index, stride)
        for part in _PARTS:
            rights = _load_lines(builder, builder.add(right, offset), size[1], part)
            for value, row in zip(_load_lines(builder, builder.add(left, offset), size[0], part), sums, strict=True):
                for other, cell in zip(rights, row, strict=True):
                    builder.store(emit_fma(builder, value, other, builder.load(cell)), cell)
    for r, row in enumerate(sums):
        for c, cell in enumerate(row):
            at = builder.add(out, builder.mul(builder.add(builder.mul(ldo, _const(r)), _const(c)), _const(_F32)))
            total = builder.fadd(emit_load(builder, at, _FLOAT), _lane_sum(builder, builder.load(cell)))
            emit_store(builder, total, at)


def _load_lines(builder: Any, address: Any, lines: int, part: int) -> list[Any]:
    """One vector of each of some neighbouring lines of a strip."""
    return [emit_load(builder, builder.add(address, _const(n * LINE + part)), VECTOR) for n in range(lines)]


def _lane_sum(builder: Any, vector: Any) -> Any:
    kind = ir.FunctionType(_FLOAT, [_FLOAT, VECTOR])
    reduce = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.v{VECTOR_WIDTH}f32")
    return builder.call(reduce, [ir.Constant(_FLOAT, 0.0), vector], fastmath=("reassoc",))


def _const(value: int) -> Any:
    return ir.Constant(_I64, value)


@intrinsic
def dot_lines(typing: Any, left: Any, right: Any, dim: Any, out: Any) -> Any:
    """The line at ``out`` becomes the dot product of two vectors of ``dim`` lines; all are addresses."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        left, right, dim, out = args
        zero = ir.Constant(VECTOR, [0.0] * VECTOR_WIDTH)
        sums = [cgutils.alloca_once_value(builder, zero) for _ in _PARTS]
        with cgutils.for_range(builder, dim) as loop:
            for at, total in zip(_parts_at(builder, loop.index), sums, strict=True):
                a, b = (emit_load(builder, builder.add(side, at), VECTOR) for side in (left, right))
                builder.store(emit_fma(builder, a, b, builder.load(total)), total)
        for part, total in zip(_PARTS, sums, strict=True):
            emit_store(builder, builder.load(total), builder.add(out, _const(part)))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), generate


@intrinsic
def add_scaled_lines(typing: Any, scale: Any, values: Any, dim: Any, out: Any) -> Any:
    """Add ``dim`` lines of values, each times the line at ``scale``, to those at ``out``; all are addresses."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        scale, values, dim, out = args
        factors = [emit_load(builder, builder.add(scale, _const(part)), VECTOR) for part in _PARTS]
        with cgutils.for_range(builder, dim) as loop:
            for at, factor in zip(_parts_at(builder, loop.index), factors, strict=True):
                value, cell = emit_load(builder, builder.add(values, at), VECTOR), builder.add(out, at)
                emit_store(builder, emit_fma(builder, factor, value, emit_load(builder, cell, VECTOR)), cell)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), generate


@intrinsic
def stop_where_off(typing: Any, values: Any, lines: Any, gradient: Any) -> Any:
    """A ReLU's backward: gradients become 0 where the value is; addresses of as many lines."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values, lines, gradient = args
        zero = ir.Constant(VECTOR, [0.0] * VECTOR_WIDTH)
        with cgutils.for_range(builder, lines) as loop:
            for at in _parts_at(builder, loop.index):
                is_on = builder.fcmp_ordered(">", emit_load(builder, builder.add(values, at), VECTOR), zero)
                cell = builder.add(gradient, at)
                emit_store(builder, builder.select(is_on, emit_load(builder, cell, VECTOR), zero), cell)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), generate


def _parts_at(builder: Any, line: Any) -> list[Any]:
    """Bytes from the first line to each vector of a line."""
    start = builder.mul(line, _const(LINE))
    return [builder.add(start, _const(part)) for part in _PARTS]


_outer_block, _outer_column = _outer_kernel(*_OUTER), _outer_kernel(_OUTER[0], 1)
_outer_row, _outer_one = _outer_kernel(1, _OUTER[1]), _outer_kernel(1, 1)


@compiled
def outer(left: int, rows: int, right: int, columns: int, stride: int, strips: int, out: int) -> None:
    """Add left right', summed over the rows of all strips, to the (rows, columns) matrix at ``out``."""
    height, width = _OUTER
    r = 0
    while r < rows:
        is_high = r + height <= rows
        c = 0
        while c < columns:
            is_wide = c + width <= columns
            x, y, to = left + r * LINE, right + c * LINE, out + (r * columns + c) * _F32
            if is_high and is_wide:
                _outer_block(x, y, stride, strips, to, columns)
            elif is_high:
                _outer_column(x, y, stride, strips, to, columns)
            elif is_wide:
                _outer_row(x, y, stride, strips, to, columns)
            else:
                _outer_one(x, y, stride, strips, to, columns)
            c += width if is_wide else 1
        r += height if is_high else 1
