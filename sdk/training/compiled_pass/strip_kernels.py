"""A DLRM's training pass over rows, forward and backward, in the vector registers of one core.

Rows lie side by side in strips of ``LANES``, one value of the network per line: an activation is a (LANES,) vector, and
each layer is the scoring engine's product (``sdk.scoring.kernels``), in both directions. A strip goes through the whole
network and back while its activations are in the cache; the weights' gradients are summed up over a block of strips.

Sums run in one order, given by the number of rows alone.
"""

from __future__ import annotations

import numpy as np

from sdk.base.types import Float32s, Int64s
from sdk.machine.compiled import compiled_loosely
from sdk.scoring.kernels import LANES, address_of
from sdk.scoring.products import product, product_relu
from sdk.training.compiled_pass.strip_lines import (
    LINE,
    add_scaled_lines,
    copy_float,
    dot_lines,
    outer,
    stop_where_off,
)

_F32 = 4  # bytes

# columns of a network's table of layers
INPUTS, OUTPUTS, X_LINE, Y_LINE, WEIGHTS, BIASES, HAS_RELU, PASSES_BACK, IS_LIST = range(9)
# of a side's lines: its dense vector, that vector's place in the top MLP's input, its part of the dot path, its bias
DENSE, TOP, DOT, BIAS = range(4)


@compiled_loosely
def _gather(gathers: Int64s, index: Int64s, first: int, stop: int, values: Float32s) -> None:
    """Fill lines with table rows; lanes behind the last row repeat it."""
    at = address_of(values)
    for t in range(len(gathers)):
        table, width, line, which = gathers[t, 0], gathers[t, 1], gathers[t, 2], gathers[t, 3]
        for lane in range(LANES):
            source = table + index[which, min(first + lane, stop - 1)] * width * _F32
            for d in range(width):
                copy_float(source + d * _F32, at + (line + d) * LINE + lane * _F32)


@compiled_loosely
def _scatter(scatters: Int64s, first: int, stop: int, gradient: Float32s) -> None:
    """Write lines of gradients as rows of arrays."""
    at = address_of(gradient)
    for t in range(len(scatters)):
        out, width, line = scatters[t, 0], scatters[t, 1], scatters[t, 2]
        for lane in range(min(LANES, stop - first)):
            target = out + (first + lane) * width * _F32
            for d in range(width):
                copy_float(at + (line + d) * LINE + lane * _F32, target + d * _F32)


@compiled_loosely
def _ahead(layers: Int64s, first: int, last: int, weights: Float32s, values: Float32s) -> None:
    """Layers ``first`` to ``last``, forward."""
    at, at_weights = address_of(values), address_of(weights)
    for n in range(first, last):
        layer = layers[n]
        x, y = at + layer[X_LINE] * LINE, at + layer[Y_LINE] * LINE
        matrix, bias = at_weights + layer[WEIGHTS] * _F32, at_weights + layer[BIASES] * _F32
        inputs, outputs = layer[INPUTS], layer[OUTPUTS]
        if layer[HAS_RELU]:
            product_relu(x, inputs, matrix, inputs, bias, y, LANES, outputs)
        else:
            product(x, inputs, matrix, inputs, bias, y, LANES, outputs)


@compiled_loosely
def _back(layers: Int64s, first: int, last: int, transposed: Float32s, values: Float32s, gradient: Float32s) -> None:
    """The layers backward, last to first: gradients of their inputs, where anything before them wants these."""
    at, zeros = address_of(gradient), address_of(transposed)
    for n in range(last - 1, first - 1, -1):
        layer = layers[n]
        inputs, outputs, y = layer[INPUTS], layer[OUTPUTS], layer[Y_LINE]
        if layer[HAS_RELU]:
            stop_where_off(address_of(values) + y * LINE, outputs, at + y * LINE)
        if layer[PASSES_BACK]:
            matrix = zeros + layer[WEIGHTS] * _F32
            product(at + y * LINE, outputs, matrix, outputs, zeros, at + layer[X_LINE] * LINE, LANES, inputs)


@compiled_loosely
def _meet(sides: Int64s, meetings: Int64s, dim: int, values: Float32s) -> None:
    """The top MLP's input from both sides' vectors: the dense ones, and dot products of pairs."""
    at = address_of(values)
    for s in range(2):
        dense, top = sides[s, DENSE], sides[s, TOP]
        values[top : top + dim] = values[dense : dense + dim]
    for n in range(len(meetings)):
        meeting = meetings[n]
        dot_lines(at + meeting[0] * LINE, at + meeting[1] * LINE, dim, at + meeting[2] * LINE)


@compiled_loosely
def _meet_back(
    sides: Int64s, meetings: Int64s, dim: int, num_fields: int, values: Float32s, gradient: Float32s
) -> None:
    """Gradients of both sides' vectors, from that of the top MLP's input."""
    at, to = address_of(values), address_of(gradient)
    gradient[: num_fields * dim] = 0
    for s in range(2):
        dense, top = sides[s, DENSE], sides[s, TOP]
        gradient[dense : dense + dim] += gradient[top : top + dim]
    for n in range(len(meetings)):
        meeting = meetings[n]
        a, b, out = meeting[0] * LINE, meeting[1] * LINE, to + meeting[2] * LINE
        add_scaled_lines(out, at + b, dim, to + a)
        add_scaled_lines(out, at + a, dim, to + b)


@compiled_loosely
def _judge(
    sides: Int64s, dot_dim: int, out: int, labels: Float32s, share: float, values: Float32s, gradient: Float32s
) -> float:
    """Add the dot path and the biases to the top MLP's output; binary cross-entropy of that score, summed over a
    strip's rows and times ``share``, and its gradients by the score, the dot path's vectors and the biases.
    """
    a, b = sides[0, DOT], sides[1, DOT]
    for d in range(dot_dim):
        for lane in range(LANES):
            values[out, lane] += values[a + d, lane] * values[b + d, lane]
    values[out] += values[sides[0, BIAS]] + values[sides[1, BIAS]]
    total = 0.0
    gradient[out] = 0
    for lane in range(min(LANES, len(labels))):
        score, label = values[out, lane], labels[lane]
        small = np.exp(-abs(score))
        total += max(score, np.float32(0)) - score * label + np.log1p(small)
        positive = (np.float32(1) if score >= 0 else small) / (1 + small)
        gradient[out, lane] = (positive - label) * share
    for d in range(dot_dim):
        for lane in range(LANES):
            gradient[a + d, lane] = gradient[out, lane] * values[b + d, lane]
            gradient[b + d, lane] = gradient[out, lane] * values[a + d, lane]
    for s in range(2):
        gradient[sides[s, BIAS]] = gradient[out]
    return total * share


@compiled_loosely
def _weight_gradients(layers: Int64s, strips: int, values: Float32s, gradient: Float32s, weights: Float32s) -> None:
    """Add a block's gradients of all layers; a list's matrix has a line per input, the others' one per output."""
    stride = values.shape[1] * LINE
    for n in range(len(layers)):
        layer = layers[n]
        inputs, outputs = layer[INPUTS], layer[OUTPUTS]
        x = address_of(values) + layer[X_LINE] * LINE
        y = address_of(gradient) + layer[Y_LINE] * LINE
        out = address_of(weights) + layer[WEIGHTS] * _F32
        if layer[IS_LIST]:
            outer(x, inputs, y, outputs, stride, strips, out)
        else:
            outer(y, outputs, x, inputs, stride, strips, out)
            for o in range(outputs):
                total = np.float32(0)
                for s in range(strips):
                    for lane in range(LANES):
                        total += gradient[s, layer[Y_LINE] + o, lane]
                weights[layer[BIASES] + o] += total


@compiled_loosely
def pass_rows(
    layers: Int64s, num_below: int, sides: Int64s, meetings: Int64s, penalised: Int64s, shape: Int64s,
    gathers: Int64s, scatters: Int64s, index: Int64s, labels: Float32s, start: int, stop: int, scales: Float32s,
    weights: Float32s, transposed: Float32s, values: Float32s, gradient: Float32s, weight_gradients: Float32s,
) -> float:  # fmt: skip
    """Some rows of a batch through the network and back; their part of the batch's mean loss.

    Args:
        layers: (L, 9) int64; see the columns' names. The first ``num_below`` belong to one side each.
        sides: (2, 4) int64 of the user and the item; see the columns' names.
        meetings: (M, 3) int64: lines of two vectors that meet, and of their dot product.
        penalised: (N, 2) int64: a line that an L2 penalty counts, and which of ``scales`` it has.
        shape: width of a vector, number of vectors (their lines come first), width of the dot path, line of the score.
        gathers: (T, 4) int64: address of a float32 table, its width, the first line that its rows go to, line of
            ``index`` that says which.
        scatters: (G, 3) int64: address of a (B, width) float32 array, width, the first line of gradients for it.
        index: (I, B) int64 rows of tables.
        labels: (B,) float32.
        start: the first row; ``stop`` one behind the last.
        scales: 1 / B, and the gradient of the two penalties by a list's vector and by a bias, each over its value.
        weights: flat: as many zeros as a layer has lines at the most, then the layers' (outputs, inputs) matrices and
            biases; ``transposed`` the same with (inputs, outputs) matrices.
        values: (S, lines, LANES) float32 room for activations; ``gradient`` the same.
        weight_gradients: like ``weights``, added to, each matrix as its parameter lies.
    """
    dim, num_fields, dot_dim, out = shape[0], shape[1], shape[2], shape[3]
    loss = 0.0
    for block in range(start, stop, len(values) * LANES):
        strips = min(len(values), (stop - block + LANES - 1) // LANES)
        for s in range(strips):
            first, a, g = block + s * LANES, values[s], gradient[s]
            _gather(gathers, index, first, stop, a)
            _ahead(layers, 0, num_below, weights, a)
            _meet(sides, meetings, dim, a)
            _ahead(layers, num_below, len(layers), weights, a)
            loss += _judge(sides, dot_dim, out, labels[first:stop], scales[0], a, g)
            _back(layers, num_below, len(layers), transposed, a, g)
            _meet_back(sides, meetings, dim, num_fields, a, g)
            for n in range(len(penalised)):
                line, penalty = penalised[n, 0], scales[penalised[n, 1]]
                for lane in range(min(LANES, stop - first)):
                    g[line, lane] += penalty * a[line, lane]
            _back(layers, 0, num_below, transposed, a, g)
            _scatter(scatters, first, stop, g)
        _weight_gradients(layers, strips, values, gradient, weight_gradients)
    return loss
