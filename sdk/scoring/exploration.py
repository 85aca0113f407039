"""Randomised lists and the exact probability of each of their places.

To every score ``tau`` times Gumbel noise is added. The best k then are a draw without replacement from the softmax of
score / tau over all that may be listed, a Plackett-Luce ranking (Kool, van Hoof and Welling 2019, "Stochastic Beams
and Where to Find Them", section 2.3). The noise is a hash of a key, such as a seed and a date, the user's id and the
item's: a draw comes out the same on every run. The engine meets every score, so beside the draw it sums
exp(score / tau) over all items that were not drawn; with that the probability of each place, given those above, is
known.

Logarithm and exponential are computed by elementary operations in one order, so noise has the same bits everywhere.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdk.base.types import BestRows, Bools, Float32s, Float64s, IdArray, Int32s, Int64s
from sdk.machine.compiled import compiled, compiled_within
from sdk.scoring.kernels import LANES, address_of, bits_of, bits_of_double, double_of, lanes_at_least, lowest_bit
from sdk.scoring.selection import LOWEST, keep_largest, key_of, row_of, score_of, sort_falling

Codes: TypeAlias = NDArray[np.uint64]
DrawingTile: TypeAlias = tuple[Codes, Codes, Codes, float, Float64s, Float64s]
"""Of a tile: user codes by slot, item codes by place and by row, tau, and the running sums: see ``draw_strip``."""
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFT = (np.uint64(30), np.uint64(27), np.uint64(31))
_UNIT = 2.0**-53
_LOG2, _LOG2_HIGH, _LOG2_LOW = 0.6931471805599453, 0.6931471803691238, 1.9082149292705877e-10
_LOG2_E, _ROOT_HALF = 1.4426950408889634, 0.7071067811865476
_INTEGER = 1.5 * 2.0**52
"""A number to which others are added to round them: the sum's lower bits are the integer."""
_C = tuple(1.0 / math.factorial(i) for i in range(1, 11))
_D = tuple(1.0 / i for i in range(1, 24, 2))
"""Coefficients of the exponential's series and of atanh's, written out in loops of lanes, which fill vectors."""
_NEGLIGIBLE = 60.0
"""A term so far below the largest one in the logarithm changes no float64 sum, of a billion of them either."""
_GRID = 2.0**30
"""Log-probabilities are rounded to the 2**-30th: the order of a sum follows the processor's vector width."""


def codes_of(ids: IdArray, key: str) -> Codes:
    """(N,) uint64, of each id a hash of a key and the id."""
    start = np.frombuffer(hashlib.sha256(key.encode()).digest()[:8], np.uint64)
    if ids.dtype == object:
        digests = b"".join(hashlib.blake2b(each.encode(), digest_size=8).digest() for each in ids.tolist())
        return _mixed(np.frombuffer(digests, np.uint64) ^ start)
    return _mixed(_mixed(ids.astype(np.int64).view(np.uint64)) ^ start)


def _mixed(values: Codes) -> Codes:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014, section 3)."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> _SHIFT[0])) * _MIX[0]
        values = (values ^ (values >> _SHIFT[1])) * _MIX[1]
    return values ^ (values >> _SHIFT[2])


@dataclass(frozen=True, slots=True, eq=False)
class Noise:
    """The noise of one draw for every user and item.

    Attributes:
        tau: what it is multiplied by, above 0.
        users: (R_user,) uint64 codes by row of the users' table.
        items: (R_item,) uint64 codes by row of the items' table.
    """

    tau: float
    users: Codes
    items: Codes

    @classmethod
    def of(cls, tau: float, key: str, user_ids: IdArray, item_ids: IdArray) -> Noise:
        """Of the ids of all rows, and a key: the same key gives the same draw."""
        return cls(tau, codes_of(user_ids, f"user of {key}"), codes_of(item_ids, f"item of {key}"))

    def tile(self, rows: Int64s, item_row: Int32s) -> DrawingTile:
        """For some users, and the items laid out in places; a place of nobody has some code."""
        largest, sums = np.full(len(rows), -np.inf), np.zeros((len(rows), LANES))
        return self.users[rows], self.items[item_row], self.items, float(self.tau), largest, sums


@dataclass(frozen=True, slots=True, eq=False)
class Exploration:
    """Whose lists are drawn, and by what noise.

    Attributes:
        noise: the noise.
        chosen: (R_user,) bool, the users.
    """

    noise: Noise
    chosen: Bools

    @classmethod
    def of(cls, tau: float, share: float, seed: int, date: str, user_ids: IdArray, item_ids: IdArray) -> Exploration:
        """Of one night: other noise on another date, but the same share of the users.

        Args:
            tau: of the noise, above 0.
            share: of the users, from 0 to 1.
            seed: of all nights.
            date: of this one.
            user_ids: (R_user,) ids of all rows.
            item_ids: (R_item,) ids of all rows.
        """
        place = codes_of(user_ids, f"share of {seed}") >> np.uint64(11)
        return cls(Noise.of(tau, f"{seed} {date}", user_ids, item_ids), place * _UNIT < share)


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Lists that were drawn.

    Attributes:
        lists: the draws, best first; their scores are with the noise.
        plain: (B, k) float32, the scores without it.
        log_rest: (B,) float64, the logarithm of the sum of exp(score / tau) over all that was not drawn; -inf of none.
    """

    lists: BestRows
    plain: Float32s
    log_rest: Float64s

    @classmethod
    def empty(cls, num_users: int, k: int) -> Drawn:
        """Of nobody yet, to be filled in place."""
        lists = BestRows.empty(num_users, k)
        return cls(lists, np.full((num_users, k), -np.inf, np.float32), np.full(num_users, -np.inf))

    @property
    def arrays(self) -> tuple[Int64s, Float32s, Int32s, Float32s, Float64s]:
        """What is filled in place."""
        return self.lists.row, self.lists.scores, self.lists.lengths, self.plain, self.log_rest

    def log_propensity(self, tau: float) -> Float64s:
        """(B, k) float64: the log-probability of each place given those above; 0 past the end of a list.

        Denominators are summed from below, so none is a difference of large numbers.
        """
        terms = self.plain.astype(np.float64) / tau
        found, below = np.zeros(terms.shape), self.log_rest
        for place in range(terms.shape[1] - 1, -1, -1):
            real = place < self.lists.lengths
            below = np.where(real, np.logaddexp(below, terms[:, place]), below)
            found[real, place] = (terms[:, place] - below)[real]
        return np.minimum(np.round(found * _GRID) / _GRID, 0.0) + 0.0


def no_noise() -> DrawingTile:
    """What a tile takes where nothing is drawn."""
    none = np.zeros(0, np.uint64)
    return none, none, none, 0.0, np.zeros(0), np.zeros((0, LANES))


@compiled_within
def _exp(value: float) -> float:
    """The exponential of a number from -700 to 700, to a part in 10**12: 2**n times a series."""
    shifted = value * _LOG2_E + _INTEGER
    n = shifted - _INTEGER
    rest = (value - n * _LOG2_HIGH) - n * _LOG2_LOW
    total = ((_C[9] * rest + _C[8]) * rest + _C[7]) * rest + _C[6]
    total = ((total * rest + _C[5]) * rest + _C[4]) * rest + _C[3]
    total = ((total * rest + _C[2]) * rest + _C[1]) * rest + _C[0]
    return (total * rest + 1.0) * double_of((bits_of_double(shifted) + np.int64(1023)) << np.int64(52))


@compiled
def _log(value: float) -> float:
    """The logarithm of a positive number that is not denormal, by the series of atanh."""
    bits = bits_of_double(value) - bits_of_double(_ROOT_HALF)
    n = bits >> np.int64(52)
    part = double_of(bits_of_double(value) - (n << np.int64(52)))
    ratio = (part - 1) / (part + 1)
    square = ratio * ratio
    total = ((_D[11] * square + _D[10]) * square + _D[9]) * square + _D[8]
    total = (((total * square + _D[7]) * square + _D[6]) * square + _D[5]) * square + _D[4]
    total = (((total * square + _D[3]) * square + _D[2]) * square + _D[1]) * square + _D[0]
    return np.float64(n) * _LOG2 + 2 * ratio * total


@compiled_within
def hashed(user: Any, item: Any) -> Any:
    """uint64 hash of a user's and an item's code."""
    value = np.uint64(user) + np.uint64(item)
    value = (value ^ (value >> _SHIFT[0])) * _MIX[0]
    value = (value ^ (value >> _SHIFT[1])) * _MIX[1]
    return value ^ (value >> _SHIFT[2])


@compiled
def gumbel(code: Any) -> float:
    """-log(-log(1 - v)), v being the hash's upper 53 bits as a number between 0 and 1."""
    small = (np.float64(code >> np.uint64(11)) + 0.5) * _UNIT
    other = 1.0 - small
    exponential = small if other == 1.0 else -_log(other) * small / (1.0 - other)
    return -_log(exponential)


@compiled
def _noised(score: Any, user: Any, item: Any, tau: float) -> Any:
    return np.float32(np.float64(score) + tau * gumbel(hashed(user, item)))


@compiled_within
def draw_strip(
    scores: Any, strip: int, slot: int, k: int, item_row: Any, lists: Any, seen: Any, drawing: Any, scratch: Any
) -> None:
    """Offer a strip row of scores with their noise to a slot's buffer; sum those that do not get in.

    Buffers hold the scores without noise, thresholds are with it. ``drawing`` is a ``DrawingTile``: its last two
    are (T,) the size, as a logarithm, that a slot's sums are relative to, and (T, LANES) the sums, a lane each.
    ``scratch`` is (LANES,) float32, and (size,) uint64 as long as a buffer.
    """
    kept_scores, kept_rows, counts, thresholds, _ = lists
    users, places, _, tau, _, _ = drawing
    most, again = scratch
    first, user, threshold = strip * LANES, users[slot], thresholds[slot]
    _bounds(scores, user, places[first : first + LANES], np.float32(tau * _LOG2), most)
    margin = np.float32(4e-7) * (abs(threshold) + np.float32(80 * tau))  # of the bounds' rounding
    mask = lanes_at_least(address_of(most), max(threshold - margin, LOWEST)) & ~seen[slot, strip]
    rest = lanes_at_least(address_of(scores), LOWEST) & ~seen[slot, strip]
    while mask != 0:
        lane = lowest_bit(mask)
        mask &= mask - np.uint64(1)
        if _noised(scores[lane], user, places[first + lane], tau) >= thresholds[slot] and item_row[first + lane] >= 0:
            rest &= ~(np.uint64(1) << np.uint64(lane))
            count = counts[slot]
            kept_scores[slot, count], kept_rows[slot, count] = scores[lane], item_row[first + lane]
            counts[slot] = count + 1
            if count + 1 > kept_scores.shape[1] - LANES:
                _clean(slot, k, lists, drawing, again)
    _sum_up(scores, rest, slot, drawing)


@compiled
def _bounds(scores: Any, user: Any, places: Any, tau: Any, most: Any) -> None:
    """Of each lane a score that it cannot exceed with its noise, but for rounding.

    A Gumbel of the hash v is at most -log v, and log2(1 + f) at least f: so a float32's bits tell how large it is.
    """
    for lane in range(LANES):
        upper = bits_of(np.float32(np.int32(hashed(user, places[lane]) >> np.uint64(40))))
        most[lane] = scores[lane] + tau * (np.float32(151.0001) - np.float32(np.int32(upper)) * np.float32(2.0**-23))


@compiled_within
def _sum_up(scores: Any, rest: Any, slot: int, drawing: Any) -> None:
    """Add exp(score / tau) of the lanes whose bits are set to the slot's sums."""
    _, _, _, tau, largest, sums = drawing
    at_scores, per_tau = address_of(scores), 1.0 / tau if tau > 0 else 0.0
    if rest & lanes_at_least(at_scores, np.float32((largest[slot] - _NEGLIGIBLE) * tau)) == 0:
        return
    high = rest & lanes_at_least(at_scores, np.float32(largest[slot] * tau))
    while high != 0:
        _raise_to(np.float64(scores[lowest_bit(high)]) * per_tau, slot, largest, sums)
        high &= high - np.uint64(1)
    _add_lanes(scores, rest, per_tau, largest[slot], sums[slot])


@compiled
def _add_lanes(scores: Any, rest: Any, per_tau: float, top: float, sums: Any) -> None:
    for lane in range(LANES):
        term = np.float64(scores[lane]) * per_tau - top
        is_in = (rest >> np.uint64(lane)) & np.uint64(1)
        found = _exp(term if term > -700.0 else -700.0)
        sums[lane] += found if is_in != 0 else 0.0


@compiled
def _raise_to(top: float, slot: int, largest: Any, sums: Any) -> None:
    """See to it that a slot's sums are relative to a size that is not below ``top``."""
    if top > largest[slot]:
        factor = _exp(largest[slot] - top) if largest[slot] - top > -700.0 else 0.0
        for lane in range(LANES):
            sums[slot, lane] *= factor
        largest[slot] = top


@compiled
def _add(score: Any, slot: int, drawing: Any) -> None:
    """Add one score's term to the slot's sums."""
    _, _, _, tau, largest, sums = drawing
    term = np.float64(score) * (1.0 / tau)
    _raise_to(term, slot, largest, sums)
    if term - largest[slot] > -700.0:
        sums[slot, 0] += _exp(term - largest[slot])


@compiled
def _clean(slot: int, k: int, lists: Any, drawing: Any, again: Any) -> None:
    """Keep a slot's k best with their noise, raise its threshold, and sum what is thrown out.

    Their keys, with the noise, stand first in ``again``.
    """
    kept_scores, kept_rows, counts, thresholds, keys = lists
    users, _, by_row, tau, _, _ = drawing
    count, kept = counts[slot], 0
    for i in range(count):
        row = kept_rows[slot, i]
        keys[i] = again[i] = key_of(_noised(kept_scores[slot, i], users[slot], by_row[row], tau), row)
    if count <= k:
        return
    keep_largest(keys, count, k)
    worst = keys[0]
    for i in range(k):
        worst = min(worst, keys[i])
    for i in range(count):
        if again[i] >= worst:
            kept_scores[slot, kept], kept_rows[slot, kept], again[kept] = (
                kept_scores[slot, i],
                kept_rows[slot, i],
                again[i],
            )
            kept += 1
        else:
            _add(kept_scores[slot, i], slot, drawing)
    counts[slot] = kept
    thresholds[slot] = score_of(worst)


@compiled
def finish_drawn(k: int, lists: Any, drawing: Any, out: Any, first: int) -> None:
    """Write each slot's k best, best first, into rows ``first`` onwards of ``Drawn``'s arrays."""
    best_rows, best_scores, lengths, plain, log_rest = out
    kept_scores, _, counts, _, keys = lists
    _, _, _, _, largest, sums = drawing
    again = np.empty(len(keys), dtype=np.uint64)
    for slot in range(len(counts)):
        at = first + slot
        _clean(slot, k, lists, drawing, again)
        count = counts[slot]
        keys[:count] = again[:count]
        sort_falling(keys, count)
        for rank in range(count):
            best_rows[at, rank], best_scores[at, rank] = row_of(keys[rank]), score_of(keys[rank])
            for i in range(count):
                if again[i] == keys[rank]:
                    plain[at, rank] = kept_scores[slot, i]
        lengths[at] = count
        total = sums[slot].sum()
        log_rest[at] = largest[slot] + _log(total) if total > 0 else -np.inf
