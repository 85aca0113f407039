"""A DLRM's training pass over rows, forward and backward, in the vector registers of one core.

Rows lie side by side in strips of ``LANES``, one value of the network per line: an activation is a (LANES,) vector, and
each layer is the scoring engine's product (``sdk.scoring.kernels``), in both directions. A strip goes through the whole
network and back while its activations are in the cache; the weights' gradients are summed up over a block of strips.

Sums run in one order, given by the number of rows alone.
"""

from __future__ import annotations

import numpy as np

from sdk.base.types import Float32s, Int64s
from sdk.machine.compiled import compiled, compiled_loosely
from sdk.scoring.kernels import LANES
from sdk.scoring.products import product, product_relu
from sdk.training.compiled_pass.strip_lines import (
    LINE,
    OUTER,
    add_scaled_lines,
    dot_lines,
    float_at,
    outer_block,
    outer_column,
    outer_one,
    outer_row,
    put_float,
    stop_where_off,
)

_F32 = 4  # bytes

# columns of a network's table of layers
INPUTS, OUTPUTS, X_LINE, Y_LINE, WEIGHTS, BIASES, HAS_RELU, PASSES_BACK, IS_LIST = range(9)


@compiled
def _outer(left: int, rows: int, right: int, columns: int, stride: int, strips: int, out: int) -> None:
    """Add left right', summed over the rows of all strips, to the (rows, columns) matrix at ``out``."""
    height, width = OUTER
    r = 0
    while r < rows:
        is_high = r + height <= rows
        x, at, c = left + r * LINE, out + r * columns * _F32, 0
        while c + width <= columns:
            if is_high:
                outer_block(x, right + c * LINE, stride, strips, at + c * _F32, columns)
            else:
                outer_row(x, right + c * LINE, stride, strips, at + c * _F32, columns)
            c += width
        while c < columns:
            if is_high:
                outer_column(x, right + c * LINE, stride, strips, at + c * _F32, columns)
            else:
                outer_one(x, right + c * LINE, stride, strips, at + c * _F32, columns)
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
                values[line + d, lane] = float_at(source + d * _F32)


@compiled_loosely
def _scatter(scatters: Int64s, first: int, stop: int, gradient: Float32s) -> None:
    """Write lines of gradients as rows of arrays."""
    for t in range(len(scatters)):
        out, width, line = scatters[t, 0], scatters[t, 1], scatters[t, 2]
        for lane in range(min(LANES, stop - first)):
            target = out + (first + lane) * width * _F32
            for d in range(width):
                put_float(target + d * _F32, gradient[line + d, lane])


@compiled_loosely
def _dots(left: int, num_left: int, right: int, num_right: int, dim: int, own: bool, out: int, at: int) -> None:
    """Dot products of the vectors from line ``left`` with those from line ``right``; of one's own, each pair once."""
    for f in range(num_left):
        for g in range(f + 1 if own else 0, num_right):
            dot_lines(at + (left + f * dim) * LINE, at + (right + g * dim) * LINE, dim, at + out * LINE)
            out += 1


@compiled_loosely
def _dots_back(
    left: int, num_left: int, right: int, num_right: int, dim: int, own: bool, out: int, at: int, to: int
) -> None:
    """Add what ``_dots`` passes back to the gradients of its vectors."""
    for f in range(num_left):
        for g in range(f + 1 if own else 0, num_right):
            a, b = (left + f * dim) * LINE, (right + g * dim) * LINE
            add_scaled_lines(to + out * LINE, at + b, dim, to + a)
            add_scaled_lines(to + out * LINE, at + a, dim, to + b)
            out += 1


@compiled_loosely
def _ahead(layers: Int64s, first: int, last: int, matrices: Float32s, biases: Float32s, values: Float32s) -> None:
    """Layers ``first`` to ``last``, forward."""
    at, at_matrices, at_biases = values.ctypes.data, matrices.ctypes.data, biases.ctypes.data
    for n in range(first, last):
        layer = layers[n]
        x, y = at + layer[X_LINE] * LINE, at + layer[Y_LINE] * LINE
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
            stop_where_off(values.ctypes.data + y * LINE, outputs, at + y * LINE)
        if layer[PASSES_BACK]:
            weights = transposed.ctypes.data + layer[WEIGHTS] * _F32
            product(at + y * LINE, outputs, weights, outputs, zeros.ctypes.data,
                    at + layer[X_LINE] * LINE, LANES, inputs)  # fmt: skip


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
    stride = values.shape[1] * LINE
    for n in range(len(layers)):
        layer = layers[n]
        inputs, outputs = layer[INPUTS], layer[OUTPUTS]
        x = values.ctypes.data + layer[X_LINE] * LINE
        y = gradient.ctypes.data + layer[Y_LINE] * LINE
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
