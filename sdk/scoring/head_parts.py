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
    uses = head.cross != 0
    layers = [weight != 0 for weight, _ in head.tail[:-1]]
    found = [[0] for _ in (uses, *layers)]
    for unit in range(MAX_ROWS, len(uses) - MAX_ROWS + 1):
        if unit - found[0][-1] >= MAX_ROWS and not (uses[:unit].any(axis=0) & uses[unit:].any(axis=0)).any():
            places = _through(layers, unit)
            for layer, place in zip(found, places, strict=False):
                layer.append(place)
    return [[*layer, len(weights)] for layer, weights in zip(found, (uses, *layers), strict=True)]


def _through(layers: list[Bools], place: int) -> list[int]:
    """Where a cut of the first layer goes on in the later ones; nothing where a weight crosses it."""
    places = [place]
    for uses in layers:
        before, behind = (np.flatnonzero(side.any(axis=1)) for side in (uses[:, :place], uses[:, place:]))
        end, begin = (int(before[-1]) + 1 if len(before) else 0), (int(behind[0]) if len(behind) else len(uses))
        if end > begin:
            return []
        place = begin
        places.append(place)
    return places
