"""Which texts are the same, of many millions: a hash table of which each step takes thousands of texts at once.

Arrow's dictionaries look up one text after the other, each a wait for memory, and begin anew with each part of a table.
Here the waits overlap, and a text is entered once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sdk.base.types import Bools, Int32s, Int64s

_STEP = 1 << 15  # texts at once, so that what is made of them stays in a processor's cache
_SLOTS = 1 << 17  # to begin with; always twice as many as texts, at least
Words = NDArray[np.uint64]


class TextPlaces:
    """Gives each text a place: how many others came before it.

    Open addressing with linear probing (Knuth, The Art of Computer Programming 3, section 6.4), hashed by
    multiply-shift (Dietzfelbinger et al. 1997, doi:10.1006/jagm.1997.0873). Texts are compared whole.

    Args:
        most_bytes: that a text may have.
        factors: (most_bytes // 8 + 2,) uint64, what a hash multiplies a text's size and words by; drawn unless given.
    """

    def __init__(self, most_bytes: int, factors: Words | None = None) -> None:
        if factors is None:
            draw = np.random.default_rng(0)
            factors = 2 * draw.integers(1 << 63, size=most_bytes // 8 + 2, dtype=np.uint64) + np.uint64(1)
        self._factors = factors
        self._slots: Int32s = np.full(_SLOTS, -1, np.int32)
        self._hashes = self._words = np.zeros(0, np.uint64)  # of each text the hash; its size, then its words
        self._starts = np.zeros(0, np.int64)  # where it begins in them
        self._count = self._end = 0

    def of(self, texts: pa.StringArray) -> tuple[Int32s, list[pa.StringArray]]:
        """(N,) int32 places of texts without nulls, and the texts that are new, in the order of their places."""
        new: list[pa.StringArray] = []
        steps = [self._some(texts.slice(start, _STEP), new) for start in range(0, len(texts), _STEP)]
        return np.concatenate([np.zeros(0, np.int32), *steps]), new

    def _some(self, texts: pa.StringArray, new: list[pa.StringArray]) -> Int32s:
        sizes, words = _sizes(texts), _words(texts)
        hashes = sizes * self._factors[0]
        for at in range(words.shape[1]):
            hashes += words[:, at] * self._factors[at + 1]
        self._reserve(self._count + len(texts))
        slots, places, left = self._slot(hashes), np.empty(len(texts), np.int32), np.arange(len(texts))
        while len(left):
            free = left[self._slots[slots[left]] < 0]
            if len(free):
                rows = free[np.sort(np.unique(slots[free], return_index=True)[1])]
                self._slots[slots[rows]] = self._count + np.arange(len(rows))
                self._enter(hashes[rows], sizes[rows], words[rows])
                new.append(texts.take(pa.array(rows)))
            found = self._slots[slots[left]]
            same = self._same(found, sizes[left], words[left] if len(left) < len(words) else words)
            places[left[same]] = found[same]
            left = left[~same]
            slots[left] = (slots[left] + 1) % len(self._slots)
        return places

    def _slot(self, hashes: Words) -> Int64s:
        return (hashes >> np.uint64(65 - len(self._slots).bit_length())).astype(np.int64)

    def _same(self, places: Int32s, sizes: Words, words: Words) -> Bools:
        """Which of some texts are those of their places."""
        starts, fewest = self._starts[places], sizes.min()
        same: Bools = self._words[starts] == sizes
        for at in range(words.shape[1]):
            equal = self._words[starts + (at + 1)] == words[:, at]
            same &= equal if 8 * at < fewest else equal | (8 * at >= sizes)
        return same

    def _enter(self, hashes: Words, sizes: Words, words: Words) -> None:
        count, used = self._count + len(hashes), (sizes + np.uint64(15)).astype(np.int64) // 8
        ends = self._end + np.cumsum(used)
        self._hashes, self._starts = _longer(self._hashes, count), _longer(self._starts, count)
        self._words = _longer(self._words, int(ends[-1]) + len(self._factors))  # so that any text fits behind any start
        self._hashes[self._count : count], self._starts[self._count : count] = hashes, ends - used
        rows = np.column_stack([sizes, words])
        self._words[self._end : ends[-1]] = rows[np.arange(rows.shape[1]) < used[:, None]]
        self._count, self._end = count, int(ends[-1])

    def _reserve(self, count: int) -> None:
        """Make room for so many texts."""
        if 2 * count <= len(self._slots):
            return
        self._slots = np.full(1 << (2 * count - 1).bit_length(), -1, np.int32)
        slots, left = self._slot(self._hashes[: self._count]), np.arange(self._count)
        while len(left):
            free = left[self._slots[slots[left]] < 0]
            self._slots[slots[free]] = free
            left = left[self._slots[slots[left]] != left]
            slots[left] = (slots[left] + 1) % len(self._slots)


def _sizes(texts: pa.StringArray) -> Words:
    return np.asarray(pc.binary_length(texts)).astype(np.uint64)


def _words(texts: pa.StringArray) -> Words:
    """(N, W) uint64, their bytes, and 0 behind."""
    width = max(1, -(-pc.max(pc.binary_length(texts)).as_py() // 8))
    padded = pc.ascii_rpad(texts, 8 * width, padding="\0").buffers()[2]
    return np.frombuffer(padded or b"", np.uint64, len(texts) * width).reshape(len(texts), width)


def _longer(held: NDArray[Any], size: int) -> NDArray[Any]:
    """An array of at least a size, at least twice as long where it has to grow."""
    more = size - len(held)
    return held if more <= 0 else np.concatenate([held, np.zeros(max(more, len(held)), held.dtype)])
