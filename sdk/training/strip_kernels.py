"""A DLRM's training pass over rows, forward and backward, in the vector registers of one core.

Rows lie side by side in strips of ``LANES``, one value of the network per line: an activation is a (LANES,) vector, and
each layer is the scoring engine's product (``sdk.scoring.kernels``), in both directions. A strip goes through the whole
network and back while its activations are in the cache; the weights' gradients are summed up over a block of strips.

Sums run in one order, given by the number of rows alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from sdk.compiled import compiled, compiled_loosely
from sdk.scoring.kernels import HAS_AVX512, LANES, VECTOR, VECTOR_WIDTH, emit_fma, emit_load, emit_store, intrinsic
from sdk.scoring.products import product, product_relu
from sdk.types import Float32s, Int64s

_F32 = 4  # bytes
_OUTER = (8, 3) if HAS_AVX512 else (4, 2)  # lines by lines whose products are summed at a time: they fill the registers
_LINE = LANES * _F32
_PARTS = range(0, _LINE, VECTOR_WIDTH * _F32)  # where a line's vectors start
_FLOAT, _I64 = ir.FloatType(), ir.IntType(64)

# columns of a network's table of layers
INPUTS, OUTPUTS, X_LINE, Y_LINE, WEIGHTS, BIASES, HAS_RELU, PASSES_BACK, IS_LIST = range(9)


@intrinsic
def _float_at(typing: Any, address: Any) -> Any:
    """The float32 at an address in bytes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return emit_load(builder, args[0], _FLOAT)

    return types.float32(types.int64), generate


@intrinsic
def _put_float(typing: Any, address: Any, value: Any) -> Any:
    """Store a float32 at an address in bytes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        emit_store(builder, args[1], args[0])
        return context.get_dummy_value()

    return types.void(types.int64, types.float32), generate


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
    return [emit_load(builder, builder.add(address, _const(n * _LINE + part)), VECTOR) for n in range(lines)]


def _lane_sum(builder: Any, vector: Any) -> Any:
    kind = ir.FunctionType(_FLOAT, [_FLOAT, VECTOR])
    reduce = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.v{VECTOR_WIDTH}f32")
    return builder.call(reduce, [ir.Constant(_FLOAT, 0.0), vector], fastmath=("reassoc",))


def _const(value: int) -> Any:
    return ir.Constant(_I64, value)


@intrinsic
def _dot_lines(typing: Any, left: Any, right: Any, dim: Any, out: Any) -> Any:
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
def _add_scaled_lines(typing: Any, scale: Any, values: Any, dim: Any, out: Any) -> Any:
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
def _stop_where_off(typing: Any, values: Any, lines: Any, gradient: Any) -> Any:
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
    start = builder.mul(line, _const(_LINE))
    return [builder.add(start, _const(part)) for part in _PARTS]


_outer_block, _outer_column = _outer_kernel(*_OUTER), _outer_kernel(_OUTER[0], 1)
_outer_row, _outer_one = _outer_kernel(1, _OUTER[1]), _outer_kernel(1, 1)


@compiled
def _outer(left: int, rows: int, right: int, columns: int, stride: int, strips: int, out: int) -> None:
    """Add left right', summed over the rows of all strips, to the (rows, columns) matrix at ``out``."""
    height, width = _OUTER
    r = 0
    while r < rows:
        is_high = r + height <= rows
        x, at, c = left + r * _LINE, out + r * columns * _F32, 0
        while c + width <= columns:
            if is_high:
                _outer_block(x, right + c * _LINE, stride, strips, at + c * _F32, columns)
            else:
                _outer_row(x, right + c * _LINE, stride, strips, at + c * _F32, columns)
            c += width
        while c < columns:
            if is_high:
                _outer_column(x, right + c * _LINE, stride, strips, at + c * _F32, columns)
            else:
                _outer_one(x, right + c * _LINE, stride, strips, at + c * _F32, columns)
            c += 1
        r += height if is_high else 1


@compiled_loosely
def _gather(gathers: Int64s, index: Int64s, first: int, stop: int, values: Float32s) -> None:
    """Fill lines with table rows; lanes behind the last row repeat it."""
    for t in range(len(gathers)):
        table, width, line, which = gathers[t, 0], gathers[t, 1], gathers[t, 2], gathers[t, 3]
        for lane in range(LANES):
            source = table + index[which, min(first + lane, stop - 1)] * width * _F32
            for d in range(width):
                values[line + d, lane] = _float_at(source + d * _F32)


@compiled_loosely
def _scatter(scatters: Int64s, first: int, stop: int, gradient: Float32s) -> None:
    """Write lines of gradients as rows of arrays."""
    for t in range(len(scatters)):
        out, width, line = scatters[t, 0], scatters[t, 1], scatters[t, 2]
        for lane in range(min(LANES, stop - first)):
            target = out + (first + lane) * width * _F32
            for d in range(width):
                _put_float(target + d * _F32, gradient[line + d, lane])


@compiled_loosely
def _dots(left: int, num_left: int, right: int, num_right: int, dim: int, own: bool, out: int, at: int) -> None:
    """Dot products of the vectors from line ``left`` with those from line ``right``; of one's own, each pair once."""
    for f in range(num_left):
        for g in range(f + 1 if own else 0, num_right):
            _dot_lines(at + (left + f * dim) * _LINE, at + (right + g * dim) * _LINE, dim, at + out * _LINE)
            out += 1


@compiled_loosely
def _dots_back(
    left: int, num_left: int, right: int, num_right: int, dim: int, own: bool, out: int, at: int, to: int
) -> None:
    """Add what ``_dots`` passes back to the gradients of its vectors."""
    for f in range(num_left):
        for g in range(f + 1 if own else 0, num_right):
            a, b = (left + f * dim) * _LINE, (right + g * dim) * _LINE
            _add_scaled_lines(to + out * _LINE, at + b, dim, to + a)
            _add_scaled_lines(to + out * _LINE, at + a, dim, to + b)
            out += 1


@compiled_loosely
def _ahead(layers: Int64s, first: int, last: int, matrices: Float32s, biases: Float32s, values: Float32s) -> None:
    """Layers ``first`` to ``last``, forward."""
    at, at_matrices, at_biases = values.ctypes.data, matrices.ctypes.data, biases.ctypes.data
    for n in range(first, last):
        layer = layers[n]
        x, y = at + layer[X_LINE] * _LINE, at + layer[Y_LINE] * _LINE
        weights, bias = at_matrices + layer[WEIGHTS] * _F32, at_biases + layer[BIASES] * _F32
        inputs, outputs = layer[INPUTS], layer[OUTPUTS]
        if layer[HAS_RELU]:
            product_relu(x, inputs, weights, inputs, bias, y, LANES, outputs)
        else:
            product(x, inputs, weights, inputs, bias, y, LANES, outputs)


@compiled_loosely
def _back(
    layers: Int64s, first: int, last: int, transposed: Float32s, zeros: Float32s, values: Float32s, gradient: Float32s
) -> None:
    """The layers backward, last to first: gradients of their inputs, where anything before them wants these."""
    at = gradient.ctypes.data
    for n in range(last - 1, first - 1, -1):
        layer = layers[n]
        inputs, outputs, y = layer[INPUTS], layer[OUTPUTS], layer[Y_LINE]
        if layer[HAS_RELU]:
            _stop_where_off(values.ctypes.data + y * _LINE, outputs, at + y * _LINE)
        if layer[PASSES_BACK]:
            weights = transposed.ctypes.data + layer[WEIGHTS] * _F32
            product(at + y * _LINE, outputs, weights, outputs, zeros.ctypes.data,
                    at + layer[X_LINE] * _LINE, LANES, inputs)  # fmt: skip


@compiled_loosely
def _meet(sides: Int64s, dim: int, top: int, values: Float32s) -> None:
    """The top MLP's input from both sides' vectors."""
    for s in range(2):
        fields, num_fields = sides[s, 0], sides[s, 1]
        dense = fields + (num_fields - 1) * dim
        values[top : top + dim] = values[dense : dense + dim]
        _dots(fields, num_fields, fields, num_fields, dim, True, top + dim, values.ctypes.data)
        top += dim + num_fields * (num_fields - 1) // 2
    _dots(sides[0, 0], sides[0, 1], sides[1, 0], sides[1, 1], dim, False, top, values.ctypes.data)


@compiled_loosely
def _meet_back(sides: Int64s, dim: int, top: int, values: Float32s, gradient: Float32s) -> None:
    """Gradients of both sides' vectors, from that of the top MLP's input."""
    at, to = values.ctypes.data, gradient.ctypes.data
    for s in range(2):
        fields, num_fields = sides[s, 0], sides[s, 1]
        gradient[fields : fields + num_fields * dim] = 0
    for s in range(2):
        fields, num_fields = sides[s, 0], sides[s, 1]
        dense = fields + (num_fields - 1) * dim
        gradient[dense : dense + dim] += gradient[top : top + dim]
        _dots_back(fields, num_fields, fields, num_fields, dim, True, top + dim, at, to)
        top += dim + num_fields * (num_fields - 1) // 2
    _dots_back(sides[0, 0], sides[0, 1], sides[1, 0], sides[1, 1], dim, False, top, at, to)


@compiled_loosely
def _score(sides: Int64s, dot_dim: int, has_bias: bool, out: int, values: Float32s) -> None:
    """Add the dot path and the biases to the top MLP's output, in place."""
    for d in range(dot_dim):
        for lane in range(LANES):
            values[out, lane] += values[sides[0, 2] + d, lane] * values[sides[1, 2] + d, lane]
    if has_bias:
        values[out] += values[sides[0, 3]] + values[sides[1, 3]]


@compiled_loosely
def _score_back(
    sides: Int64s, dot_dim: int, has_bias: bool, out: int, bias_penalty: Float32s, values: Float32s, gradient: Float32s
) -> None:
    """Gradients of the dot path's vectors and of the biases, the latter's penalty included (0 for lanes of no row)."""
    for d in range(dot_dim):
        a, b = sides[0, 2] + d, sides[1, 2] + d
        for lane in range(LANES):
            gradient[a, lane] = gradient[out, lane] * values[b, lane]
            gradient[b, lane] = gradient[out, lane] * values[a, lane]
    if has_bias:
        for s in range(2):
            line = sides[s, 3]
            for lane in range(LANES):
                gradient[line, lane] = gradient[out, lane] + bias_penalty[lane] * values[line, lane]


@compiled_loosely
def _losses(scores: Float32s, labels: Float32s, share: float, gradient: Float32s) -> float:
    """Binary cross-entropy of a strip's rows, summed and times ``share``, and its gradient by the score."""
    total = 0.0
    gradient[:] = 0
    for lane in range(min(LANES, len(labels))):
        score, label = scores[lane], labels[lane]
        small = np.exp(-abs(score))
        total += max(score, np.float32(0)) - score * label + np.log1p(small)
        positive = (np.float32(1) if score >= 0 else small) / (1 + small)
        gradient[lane] = (positive - label) * share
    return total * share


@compiled_loosely
def _weight_gradients(
    layers: Int64s, strips: int, values: Float32s, gradient: Float32s, matrices: Float32s, biases: Float32s
) -> None:
    """Add a block's gradients of all layers; a list's matrix has a line per input, the others' one per output."""
    stride = values.shape[1] * _LINE
    for n in range(len(layers)):
        layer = layers[n]
        inputs, outputs = layer[INPUTS], layer[OUTPUTS]
        x = values.ctypes.data + layer[X_LINE] * _LINE
        y = gradient.ctypes.data + layer[Y_LINE] * _LINE
        out = matrices.ctypes.data + layer[WEIGHTS] * _F32
        if layer[IS_LIST]:
            _outer(x, inputs, y, outputs, stride, strips, out)
        else:
            _outer(y, outputs, x, inputs, stride, strips, out)
            for o in range(outputs):
                total = np.float32(0)
                for s in range(strips):
                    for lane in range(LANES):
                        total += gradient[s, layer[Y_LINE] + o, lane]
                biases[layer[BIASES] + o] += total


@compiled_loosely
def pass_rows(
    layers: Int64s, num_below: int, sides: Int64s, shape: Int64s, gathers: Int64s, scatters: Int64s, index: Int64s,
    labels: Float32s, start: int, stop: int, scales: Float32s,
    matrices: Float32s, transposed: Float32s, biases: Float32s,
    values: Float32s, gradient: Float32s, matrix_gradients: Float32s, bias_gradients: Float32s,
) -> float:  # fmt: skip
    """Some rows of a batch through the network and back; their part of the batch's mean loss.

    Args:
        layers: (L, 9) int64; see the columns' names. The first ``num_below`` belong to one side each.
        sides: (2, 4) int64 of the user and the item: line of its first vector, vectors, lines of its dot part and bias.
        shape: width of a vector, width of the dot path, whether there are biases, line of the top MLP's input and of
            its output.
        gathers: (T, 4) int64: address of a float32 table, its width, the first line that its rows go to, line of
            ``index`` that says which.
        scatters: (G, 3) int64: address of a (B, width) float32 array, width, the first line of gradients for it.
        index: (I, B) int64 rows of tables.
        labels: (B,) float32.
        start: the first row; ``stop`` one behind the last.
        scales: 1 / B, and the gradient of the two penalties by a list's vector and by a bias, each over its value.
        matrices: all layers' (outputs, inputs) weights, flat; ``transposed`` the same as (inputs, outputs).
        biases: flat, followed by as many zeros as a layer has lines at the most.
        values: (S, lines, LANES) float32 room for activations; ``gradient`` the same.
        matrix_gradients: flat, added to, each matrix as its parameter lies; ``bias_gradients`` likewise.
    """
    dim, dot_dim, has_bias, top, out = shape[0], shape[1], shape[2] != 0, shape[3], shape[4]
    zeros = biases[len(biases) - values.shape[1] :]
    list_penalty, bias_penalty = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    loss = 0.0
    for block in range(start, stop, len(values) * LANES):
        strips = min(len(values), (stop - block + LANES - 1) // LANES)
        for s in range(strips):
            first, a, g = block + s * LANES, values[s], gradient[s]
            _gather(gathers, index, first, stop, a)
            _ahead(layers, 0, num_below, matrices, biases, a)
            _meet(sides, dim, top, a)
            _ahead(layers, num_below, len(layers), matrices, biases, a)
            _score(sides, dot_dim, has_bias, out, a)
            loss += _losses(a[out], labels[first:stop], scales[0], g[out])
            for lane in range(LANES):
                counts = np.float32(1) if first + lane < stop else np.float32(0)
                list_penalty[lane], bias_penalty[lane] = scales[1] * counts, scales[2] * counts
            _score_back(sides, dot_dim, has_bias, out, bias_penalty, a, g)
            _back(layers, num_below, len(layers), transposed, zeros, a, g)
            _meet_back(sides, dim, top, a, g)
            for n in range(num_below):
                if layers[n, IS_LIST]:
                    for line in range(layers[n, Y_LINE], layers[n, Y_LINE] + dim):
                        for lane in range(LANES):
                            g[line, lane] += list_penalty[lane] * a[line, lane]
            _back(layers, 0, num_below, transposed, zeros, a, g)
            _scatter(scatters, first, stop, g)
        _weight_gradients(layers, strips, values, gradient, matrix_gradients, bias_gradients)
    return loss
