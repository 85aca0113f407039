"""A head in parts that do not touch before the last sum: they are found in its zeros, and the zeros never multiplied.

The mean of several networks is one network whose layers are block-diagonal (``sdk/models/averaged.py``), so all but
each network's own share of the products is zero times something. Leaving a zero out of a sum of finite terms changes
no bit of it, so a score is the same in parts as in one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from sdk.base.types import Bools, Float32s, Int64s
from sdk.models.pair_form import Head
from sdk.scoring.kernels import MAX_ROWS


@dataclass(frozen=True, slots=True, eq=False)
class HeadParts:
    """A head laid out for the kernels, part after part.

    Attributes:
        cross: each part's columns of W for its own pairs of fields, (H, F * G), flat.
        weights: each part's tail weights, flat, one layer after the other; ``biases`` likewise, the last layer's with
            the first part alone.
        bounds: (P, 6) int64, where each part's hidden units, user fields and item fields begin and end.
        starts: (P, 4) int64, how many user fields, and numbers of ``cross``, ``weights`` and ``biases``, lie before.
        shapes: (P, L, 2) int64, outputs and inputs of each tail layer.
    """

    cross: Float32s
    weights: Float32s
    biases: Float32s
    bounds: Int64s
    starts: Int64s
    shapes: Int64s

    @classmethod
    def of(cls, head: Head, item_fields: int) -> HeadParts:
        """Take a head with an MLP apart; one that does not fall apart is one part.

        Args:
            head: with a tail.
            item_fields: G, how many fields an item has.
        """
        cuts = _cuts(head)
        parts = [_part(head, item_fields, layers, first=layers[0].start == 0) for layers in _slices(cuts)]
        bounds, cross, weights, biases, shapes = zip(*parts, strict=True)
        sizes = [
            (part[3] - part[2], *map(len, flat)) for part, *flat in zip(bounds, cross, weights, biases, strict=True)
        ]
        starts = np.cumsum([(0, 0, 0, 0), *sizes[:-1]], axis=0, dtype=np.int64)
        joined = [np.concatenate(each).astype(np.float32) for each in (cross, weights, biases)]
        return cls(joined[0], joined[1], joined[2], np.array(bounds, np.int64), starts, np.array(shapes, np.int64))

    def user_fields(self, fields: Float32s) -> Float32s:
        """Users' (T, F, D) fields for the kernels: each part's own (T, F_part, D), flat, part after part."""
        return np.concatenate([fields[:, part[2] : part[3]].ravel() for part in self.bounds])


_Part: TypeAlias = tuple[tuple[int, ...], Float32s, Float32s, Float32s, list[tuple[int, ...]]]


def _slices(cuts: list[list[int]]) -> list[list[slice]]:
    """Of each part, its units of each hidden layer."""
    return [[slice(layer[n], layer[n + 1]) for layer in cuts] for n in range(len(cuts[0]) - 1)]


def _part(head: Head, item_fields: int, units: list[slice], *, first: bool) -> _Part:
    """A part's bounds, cross, weights, biases and shapes; the last bias is with the first part."""
    cross = head.cross[units[0]].reshape(units[0].stop - units[0].start, -1, max(item_fields, 1))
    users, items = _used((cross != 0).any(axis=(0, 2))), _used((cross != 0).any(axis=(0, 1)))
    outputs = [*units[1:], slice(0, 1)]
    layers = [weight[o, i] for (weight, _), o, i in zip(head.tail, outputs, units, strict=True)]
    biases = [bias[o] for (_, bias), o in zip(head.tail, outputs, strict=True)]
    biases[-1] = biases[-1] * np.float32(first)
    bounds = (units[0].start, units[0].stop, users.start, users.stop, items.start, items.stop)
    flat = np.concatenate([layer.ravel() for layer in layers])
    return bounds, cross[:, users, items].ravel(), flat, np.concatenate(biases), [each.shape for each in layers]


def _used(used: Bools) -> slice:
    """From the first that is used to the last; nothing where none is."""
    places = np.flatnonzero(used)
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)


def _cuts(head: Head) -> list[list[int]]:
    """Of each hidden layer, from the first on, where parts begin, and its width at the end."""
    sizes = [len(head.cross), *(len(bias) for _, bias in head.tail[:-1])]
    names = _connected(head, sizes)
    found = [[0] for _ in sizes]
    for unit in range(MAX_ROWS, sizes[0] - MAX_ROWS + 1):
        here = [_boundary(layer, names[0][:unit], names[0][unit:]) for layer in names]
        if here[0] == unit and None not in here and unit - found[0][-1] >= MAX_ROWS:
            for layer, place in zip(found, here, strict=True):
                layer.append(place or 0)
    return [[*layer, size] for layer, size in zip(found, sizes, strict=True)]


def _connected(head: Head, sizes: list[int]) -> list[Int64s]:
    """Of each hidden layer's units, the number of the part that they belong to: who shares a weight, shares a part."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    starts = np.cumsum([head.cross.shape[1], *sizes])  # the columns of W first, then layer after layer
    unit, column = np.nonzero(head.cross)
    edges = [(unit + starts[0], column)]
    for (weight, _), start, behind in zip(head.tail[:-1], starts, starts[1:], strict=False):
        outputs, inputs = np.nonzero(weight)
        edges.append((outputs + behind, inputs + start))
    rows, columns = (np.concatenate(each) for each in zip(*edges, strict=True))
    graph = coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), (starts[-1], starts[-1]))
    names = connected_components(graph, directed=False)[1]
    return [names[start : start + size].astype(np.int64) for start, size in zip(starts, sizes, strict=False)]


def _boundary(layer: Int64s, before: Int64s, behind: Int64s) -> int | None:
    """Where the layer's units of the parts before end and those of the parts behind begin; None where they mix."""
    first, last = np.flatnonzero(np.isin(layer, before)), np.flatnonzero(np.isin(layer, behind))
    end, begin = (int(first[-1]) + 1 if len(first) else 0), (int(last[0]) if len(last) else len(layer))
    return begin if end <= begin else None
