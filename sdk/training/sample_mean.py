"""The mean of many samples' dot products as one of few columns.

The mean of <p_s[u], q_s[i]> over the samples s is the dot product of all their columns side by side. Where these are
many they are cut to the best few by least squares: by a singular value decomposition of their products.
"""

from __future__ import annotations

import numpy as np

from sdk.base.types import Float32s
from sdk.machine.decompositions import svd

_MOST = 256
"""Columns that are kept side by side before they are cut."""
_SPARE = 3
"""How many times as many columns as are asked for at the end stay while samples are added."""


class SampleMean:
    """The mean of what is added.

    Args:
        width: columns that are asked for at the end.
        user_weight: (U,) float32, above 0: how much a user's scores count in the cut.
        item_weight: (I,) float32, above 0: how much an item's scores count in the cut.
    """

    def __init__(self, width: int, user_weight: Float32s, item_weight: Float32s) -> None:
        self.width, self.weights = width, (user_weight[:, None], item_weight[:, None])
        self.count = 0
        self.bias = tuple(np.zeros(len(weight)) for weight in self.weights)
        self._parts: list[tuple[Float32s, Float32s]] = []

    def add(self, users: Float32s, items: Float32s) -> None:
        """Count a sample's (U, D) and (I, D) vectors, whose last columns are biases."""
        self.count += 1
        for total, side in zip(self.bias, (users, items), strict=True):
            total += side[:, -1]
        self._parts.append((users[:, :-1].copy(), items[:, :-1].copy()))
        if sum(part.shape[1] for part, _ in self._parts) > max(_MOST, 2 * _SPARE * self.width):
            self._parts = [self._cut(_SPARE * self.width)]

    def result(self) -> tuple[tuple[Float32s, Float32s], tuple[Float32s, Float32s]]:
        """(U, width) float32 vectors and (U,) float32 biases of the users, and the same of the items."""
        vectors = self._cut(self.width)
        users, items = ((bias / self.count).astype(np.float32) for bias in self.bias)
        return (vectors[0] / np.float32(self.count), users), (vectors[1], items)

    def _cut(self, width: int) -> tuple[Float32s, Float32s]:
        """All columns so far as ``width`` of either side; where there are fewer, the rest are 0."""
        from threadpoolctl import threadpool_limits

        sides = [np.concatenate(columns, axis=1) for columns in zip(*self._parts, strict=True)]
        with threadpool_limits(1, "blas"):  # so that the number of cores changes no bit
            bases, triangles = zip(
                *(np.linalg.qr(side * weight) for side, weight in zip(sides, self.weights, strict=True)), strict=True
            )
            left, singular, right = svd(triangles[0] @ triangles[1].T)
            roots = np.sqrt(singular[:width])
            turns = left[:, :width] * roots, right[:width].T * roots
            found = [
                np.pad(basis @ turn / weight, ((0, 0), (0, width - len(roots))))
                for basis, turn, weight in zip(bases, turns, self.weights, strict=True)
            ]
        return found[0], found[1]
