"""Vector kernels in LLVM's own terms, compiled by Numba for the machine at hand.

Everything works on strips: ``LANES`` items side by side, one feature per row. A kernel computes some rows of

    out[r, :] = c[r] + base[r, :] + sum_k w[r, k] * x[k, :]

with one fused multiply-add per term, in the order of k, whatever the vector width, the number of rows at a time or the
neighbours in the tile. So a score's bits depend on its user and its item alone.

Rows and strips stay in vector registers: eight rows of two vectors each, as in the micro-kernels of Goto and
van de Geijn (2008, "Anatomy of High-Performance Matrix Multiplication", section 4).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic as _numba_intrinsic

intrinsic: Callable[[Any], Any] = _numba_intrinsic  # its stubs describe the definition, not the calls
HAS_AVX512 = bool(llvm.get_host_cpu_features().get("avx512f", False))
VECTOR_WIDTH = 16 if HAS_AVX512 else 8  # float32 per vector register
_NUM_VECTORS = 2
LANES = VECTOR_WIDTH * _NUM_VECTORS
MAX_ROWS = 8 if HAS_AVX512 else 4  # rows at a time: their sums and two strips fill the registers

_I32, _I64, _F32 = ir.IntType(32), ir.IntType(64), ir.FloatType()
VECTOR = ir.VectorType(_F32, VECTOR_WIDTH)
_ROWS = ir.VectorType(_I32, VECTOR_WIDTH)
_ADDRESS = types.int64


def _const(value: int) -> Any:
    return ir.Constant(_I64, value)


def emit_load(builder: Any, address: Any, kind: Any) -> Any:
    """Read a value of an LLVM type at an address in bytes."""
    loaded = builder.load(builder.inttoptr(address, kind.as_pointer()))
    loaded.align = 4
    return loaded


def emit_store(builder: Any, value: Any, address: Any) -> None:
    """Write a value at an address in bytes."""
    stored = builder.store(value, builder.inttoptr(address, value.type.as_pointer()))
    stored.align = 4


def _splat(builder: Any, scalar: Any) -> Any:
    nothing = ir.Constant(VECTOR, ir.Undefined)
    one = builder.insert_element(nothing, scalar, ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(_I32, VECTOR_WIDTH), [0] * VECTOR_WIDTH))


def emit_fma(builder: Any, x: Any, y: Any, z: Any) -> Any:
    """``x * y + z`` of vectors, rounded once."""
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{VECTOR_WIDTH}f32"), [x, y, z])


def rows_kernel(rows: int, *, relu: bool, has_base: bool) -> Any:
    """A kernel for a fixed number of rows; see the module's formula. All addresses are in bytes, strides in floats."""

    @intrinsic
    def kernel(typing: Any, x: Any, k: Any, w: Any, ldw: Any, c: Any, base: Any, ldb: Any, out: Any, ldo: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            x, k, w, ldw, c, base, ldb, out, ldo = args
            sums = _start_sums(builder, rows, c, base, ldb, has_base=has_base)
            _emit_sums(builder, sums, (x, k, w, ldw))
            zero = ir.Constant(VECTOR, [0.0] * VECTOR_WIDTH)
            for r in range(rows):
                for v in range(_NUM_VECTORS):
                    value = builder.load(sums[r][v])
                    if relu:
                        value = builder.select(builder.fcmp_ordered(">", value, zero), value, zero)
                    emit_store(builder, value, _cell(builder, out, ldo, r, v))
            return context.get_dummy_value()

        return types.void(*[_ADDRESS] * 9), generate

    return kernel


def _start_sums(builder: Any, rows: int, c: Any, base: Any, ldb: Any, *, has_base: bool) -> Any:
    """The rows' running sums, in registers once LLVM has promoted them: c, or c + base."""
    sums = [[cgutils.alloca_once(builder, VECTOR) for _ in range(_NUM_VECTORS)] for _ in range(rows)]
    for r in range(rows):
        start = _splat(builder, emit_load(builder, builder.add(c, _const(4 * r)), _F32))
        for v in range(_NUM_VECTORS):
            value = start
            if has_base:
                value = builder.fadd(start, emit_load(builder, _cell(builder, base, ldb, r, v), VECTOR))
            builder.store(value, sums[r][v])
    return sums


def _cell(builder: Any, address: Any, stride: Any, row: int, vector: int) -> Any:
    """Address of one vector of one row."""
    offset = builder.add(builder.mul(stride, _const(4 * row)), _const(4 * VECTOR_WIDTH * vector))
    return builder.add(address, offset)


def _emit_sums(builder: Any, sums: Any, operands: Any) -> None:
    x, k, w, ldw = operands
    row_starts = [builder.add(w, builder.mul(ldw, _const(4 * r))) for r in range(len(sums))]
    with cgutils.for_range(builder, k) as loop:
        strip = builder.add(x, builder.mul(loop.index, _const(4 * LANES)))
        vectors = [
            emit_load(builder, builder.add(strip, _const(4 * VECTOR_WIDTH * v)), VECTOR) for v in range(_NUM_VECTORS)
        ]
        column = builder.mul(loop.index, _const(4))
        for start, row in zip(row_starts, sums, strict=True):
            weight = _splat(builder, emit_load(builder, builder.add(start, column), _F32))
            for vector, cell in zip(vectors, row, strict=True):
                builder.store(emit_fma(builder, weight, vector, builder.load(cell)), cell)


@intrinsic
def address_of(typing: Any, array: Any) -> Any:
    """Where an array's values begin, in bytes.

    int64, unlike ``array.ctypes.data``: Numba takes the sum of a signed and an unsigned integer for a float.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values = context.make_array(array)(context, builder, args[0]).data
        return builder.ptrtoint(values, _I64)

    return _ADDRESS(array), generate


@intrinsic
def score_rows(typing: Any, x: Any, k: Any, w: Any, c: Any, base: Any, limits: Any, out: Any) -> Any:
    """Score ``MAX_ROWS`` users against a strip: out[r] = c[r] + base + w[r] x, and who has news.

    All arguments but k are addresses: x (k, LANES), w (MAX_ROWS, k), c and ``limits`` (MAX_ROWS,), base (LANES,), out
    (MAX_ROWS, LANES). Bit r of the returned uint64 is set where a lane of row r reaches ``limits[r]``.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, k, w, c, base, limits, out = args
        sums = _start_sums(builder, MAX_ROWS, c, base, _const(0), has_base=True)
        _emit_sums(builder, sums, (x, k, w, k))
        news = _const(0)
        for r in range(MAX_ROWS):
            values = [builder.load(cell) for cell in sums[r]]
            for v, value in enumerate(values):
                emit_store(builder, value, builder.add(out, _const(4 * (r * LANES + v * VECTOR_WIDTH))))
            limit = _splat(builder, emit_load(builder, builder.add(limits, _const(4 * r)), _F32))
            reached = [builder.fcmp_ordered(">=", value, limit) for value in values]
            some = reached[0]
            for more in reached[1:]:
                some = builder.or_(some, more)
            bits = builder.bitcast(some, ir.IntType(VECTOR_WIDTH))
            has_news = builder.icmp_unsigned("!=", bits, ir.Constant(ir.IntType(VECTOR_WIDTH), 0))
            news = builder.or_(news, builder.shl(builder.zext(has_news, _I64), _const(r)))
        return news

    return types.uint64(*[_ADDRESS] * 7), generate


@intrinsic
def lowest_bit(typing: Any, mask: Any) -> Any:
    """Position of the lowest set bit of a uint64 that is not 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


def _mask(builder: Any, start: Any, limits: Any) -> Any:
    """uint64 with a bit for each lane of a strip row that is at least its limit."""
    mask = _const(0)
    for v, limit in enumerate(limits):
        vector = emit_load(builder, builder.add(start, _const(4 * VECTOR_WIDTH * v)), VECTOR)
        bits = builder.bitcast(builder.fcmp_ordered(">=", vector, limit), ir.IntType(VECTOR_WIDTH))
        mask = builder.or_(mask, builder.shl(builder.zext(bits, _I64), _const(v * VECTOR_WIDTH)))
    return mask


@intrinsic
def lanes_at_least(typing: Any, address: Any, threshold: Any) -> Any:
    """uint64 with bit l set where lane l of the strip row at ``address`` is at least ``threshold`` (NaN never is)."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start, scalar = args
        limit = _splat(builder, scalar)
        return _mask(builder, start, [limit] * _NUM_VECTORS)

    return types.uint64(_ADDRESS, types.float32), generate


@intrinsic
def lanes_at_least_each(typing: Any, address: Any, thresholds: Any) -> Any:
    """Like ``lanes_at_least``, with a threshold per lane, read from a strip row at ``thresholds``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start, limits = args
        offsets = [_const(4 * VECTOR_WIDTH * v) for v in range(_NUM_VECTORS)]
        return _mask(builder, start, [emit_load(builder, builder.add(limits, offset), VECTOR) for offset in offsets])

    return types.uint64(_ADDRESS, _ADDRESS), generate


@intrinsic
def store_lanes(typing: Any, mask: Any, scores: Any, rows: Any, kept_scores: Any, kept_rows: Any) -> Any:
    """Store the lanes of a strip row whose bits are set, one after the other; their number is returned (int64).

    ``scores`` and ``rows`` are addresses of LANES float32 and int32; ``kept_*`` of where the chosen ones go.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        mask, scores, rows, kept_scores, kept_rows = args
        stored = _const(0)
        for v in range(_NUM_VECTORS):
            part = builder.trunc(builder.lshr(mask, _const(v * VECTOR_WIDTH)), ir.IntType(VECTOR_WIDTH))
            lanes = builder.bitcast(part, ir.VectorType(ir.IntType(1), VECTOR_WIDTH))
            offset = _const(4 * VECTOR_WIDTH * v)
            behind = builder.mul(stored, _const(4))
            for kind, source, target in ((VECTOR, scores, kept_scores), (_ROWS, rows, kept_rows)):
                values = emit_load(builder, builder.add(source, offset), kind)
                _compress(builder, values, builder.add(target, behind), lanes)
            count = builder.ctpop(part)
            stored = builder.add(stored, builder.zext(count, _I64))
        return stored

    return types.int64(types.uint64, *[_ADDRESS] * 4), generate


def _compress(builder: Any, values: Any, address: Any, lanes: Any) -> None:
    """Store the chosen lanes; with AVX-512 a whole vector is written, of which only the chosen ones count.

    There the lanes are moved together in a register first: storing through a mask is microcode on AMD's processors.
    """
    kind = f"v{VECTOR_WIDTH}{'f' if values.type == VECTOR else 'i'}32"
    if HAS_AVX512:
        signature = ir.FunctionType(values.type, [values.type, values.type, lanes.type])
        together = cgutils.get_or_insert_function(builder.module, signature, f"llvm.x86.avx512.mask.compress.{kind}")
        emit_store(builder, builder.call(together, [values, values, lanes]), address)
        return
    pointer = builder.inttoptr(address, values.type.element.as_pointer())
    signature = ir.FunctionType(ir.VoidType(), [values.type, pointer.type, lanes.type])
    store = cgutils.get_or_insert_function(builder.module, signature, f"llvm.masked.compressstore.{kind}")
    builder.call(store, [values, pointer, lanes])


def _bits_as(source: Any, target: Any, kind: Any) -> Any:
    """Read the bits of one type as those of another, of the LLVM type ``kind``."""

    @intrinsic
    def cast(typing: Any, value: Any) -> Any:
        return target(source), lambda context, builder, signature, args: builder.bitcast(args[0], kind)

    return cast


bits_of = _bits_as(types.float32, types.uint32, _I32)
float_of = _bits_as(types.uint32, types.float32, _F32)
bits_of_double = _bits_as(types.float64, types.int64, _I64)
double_of = _bits_as(types.int64, types.float64, ir.DoubleType())
