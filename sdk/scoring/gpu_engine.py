"""The fused scorer: launches ``gpu_kernels.score_and_filter`` over growing ranges of items, and merges what is left.

A first range fills each user's list; each later one only has to beat the worst entry, so few items leave the chip. A
range of which more items beat it than a buffer holds is done again in halves, and one no longer than a buffer always
fits: the lists are exact whatever the order of the items.

With a lower ``precision`` the kernel selects more candidates than the list is long, and these are scored again in
float32. A user's list then stands only if no item left out can belong to it: its score was at most the worst
candidate's, so in float32 at most that plus the proven ``ErrorBound``. Other users are done again in float32.
"""

from __future__ import annotations

import importlib.util
import itertools
import logging
from copy import copy
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdk.base.types import BestRows, Float32s, Int64s
from sdk.features.seen import Seen
from sdk.models.pair_form import Head, PairForm
from sdk.models.torch_form import TorchHead, TorchSide, side_on, taken
from sdk.scoring.engine import may_overflow
from sdk.scoring.gpu_bounds import ErrorBound
from sdk.scoring.packed import mean_norm, promising_first

log = logging.getLogger(__name__)

_WIDEST_LAYER, _MOST_CROSSES, _WIDEST_FIELD, _MOST_LAYERS = 128, 16, 128, 3
_LARGEST_OFFSET = 2**31 - 1  # the kernel's addresses are 32-bit numbers
_SLACK = 28  # at least so many candidates beyond the list's length where they are scored again, else as many again
_RESCORED_BYTES = 256 << 20
NOTHING = -(2**63)
"""The least key, which stands for no item."""
LOW = 2**32 - 1
"""The bits of a key that hold the complement of a place."""


class Tile(NamedTuple):
    """How much a program scores at once.

    Attributes:
        users: of a program, a power of two.
        items: of a step, a power of two.
        warps: that share the work.
    """

    users: int
    items: int
    warps: int


MLP_TILE, DOT_TILE = Tile(16, 8, 4), Tile(64, 64, 8)


def _has_triton() -> bool:
    """Whether the Triton language is there: its own package, not some folder of that name."""
    try:
        return importlib.util.find_spec("triton.language") is not None
    except ModuleNotFoundError:
        return False


def why_not(form: PairForm, num_candidates: int) -> str | None:
    """What keeps the kernel from scoring a model; None where nothing does."""
    if not _has_triton():
        return "triton is not installed"
    head = form.head
    layers = [head.cross.shape[0], *(len(bias) for _, bias in head.tail)] if head.has_mlp else []
    shapes = (form.users.dot.shape[1], form.users.hidden.shape[1], int(np.prod(form.items.fields.shape[1:])), 1)
    if num_candidates == 0:
        return "there is no candidate"
    if len(head.tail) > _MOST_LAYERS or max(layers, default=0) > _WIDEST_LAYER:
        return f"the top MLP has a layer wider than {_WIDEST_LAYER} or more than {_MOST_LAYERS} after the first"
    if head.has_mlp and (head.cross.shape[1] > _MOST_CROSSES or form.users.fields.shape[2] > _WIDEST_FIELD):
        return f"more than {_MOST_CROSSES} field products, or fields wider than {_WIDEST_FIELD}"
    if num_candidates * max(shapes) > _LARGEST_OFFSET:
        return "the items do not fit 32-bit addresses"
    return "scores might overflow, which the plain path checks" if may_overflow(form) else None


def keys_of(scores: Tensor, places: Tensor) -> Tensor:
    """int64 keys whose order is that of (score, smaller place first)."""
    bits = (scores + 0.0).view(torch.int32)  # -0.0 becomes 0.0
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(torch.int64)
    return (ordered << 32) | (LOW - places)


def scores_of(keys: Tensor) -> Tensor:
    """The float32 scores in keys."""
    upper = (keys >> 32).to(torch.int32)
    return torch.where(upper < 0, upper ^ 0x7FFFFFFF, upper).view(torch.float32)


def lists_of(keys: Int64s, candidates: Int64s) -> BestRows:
    """The lists that (B, k) int64 keys of places among the candidates stand for."""
    real = keys != NOTHING
    scores = np.where(real, scores_of(torch.from_numpy(keys)).numpy(), np.float32(-np.inf))
    rows = np.where(real, np.append(candidates, 0)[np.where(real, LOW - (keys & LOW), -1)], -1)
    return BestRows(rows, scores, real.sum(axis=1).astype(np.int32))


def places_of(rows: Int64s, num_items: int, device: torch.device) -> Tensor:
    """(num_items,) int64: where each item row stands among the given ones; -1 where it does not."""
    place = np.full(num_items, -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    return torch.from_numpy(place).to(device)


def seen_places(seen: Seen, first: int, num_rows: int, place: Tensor) -> tuple[Tensor, Tensor]:
    """Users, counted from ``first``, and the places of what they must not be given."""
    indptr = torch.from_numpy(seen.indptr[first : first + num_rows + 1]).to(place.device)
    pairs = torch.from_numpy(seen.items[seen.indptr[first] : seen.indptr[first + num_rows]]).to(place.device)
    who = torch.repeat_interleave(torch.arange(num_rows, device=place.device), indptr.diff(), output_size=len(pairs))
    what = place[pairs.long()]
    return who[what >= 0], what[what >= 0]


def _weights(head: Head, device: torch.device) -> tuple[Tensor, ...]:
    """The head as the kernel reads it, from ``cross`` to ``last_bias``: transposed, and padded to powers of two."""
    nothing = torch.zeros(1)
    parts = [torch.from_numpy(np.ascontiguousarray(head.cross)) if head.cross.size else nothing]
    for weight, bias in head.tail[:-1]:
        width = _padded(len(bias))
        parts += [_zero_padded(weight.T, _padded(weight.shape[1]), width), _zero_padded(bias[None], 1, width)]
    parts += [nothing] * (2 * _MOST_LAYERS - 1 - len(parts))
    for weight, bias in head.tail[-1:]:
        parts += [_zero_padded(weight, 1, _padded(weight.shape[1])), torch.from_numpy(bias)]
    parts += [nothing] * (2 * _MOST_LAYERS + 1 - len(parts))
    return tuple(part.contiguous().to(device) for part in parts)


class FusedScorer:
    """A model's items and head on a device, ready for the kernel. ``why_not`` must have found nothing.

    Args:
        form: a lowered model.
        candidates: (C,) int64 item rows, ascending; at least one.
        device: where the kernel runs.
        precision: of the inner products of the tail: ``ieee`` (float32), ``tf32x3`` or ``tf32``; see ``ErrorBound``.
    """

    def __init__(self, form: PairForm, candidates: Int64s, device: torch.device, *, precision: str = "ieee") -> None:
        self.form, self.device = form, device
        self.precision = precision if len(form.head.tail) > 1 else "ieee"  # else no product is in lower precision
        self.tile = MLP_TILE if form.head.has_mlp else DOT_TILE
        self.num_again = 0
        order = promising_first(form.items, candidates, mean_norm(form.users))
        self._items = side_on(form.items, candidates[order], device)
        self._item_row = torch.from_numpy(order.astype(np.int32)).to(device)
        self._place = places_of(candidates[order], len(form.items), device)
        self._place_of_row = torch.from_numpy(np.argsort(order)).to(device)
        self._head, self._weights = TorchHead(form.head).to(device), _weights(form.head, device)
        self._bound = None
        if self.precision != "ieee":
            self._bound = ErrorBound(form.items.take(candidates), form.head, self.precision, device)

    def for_users(self, form: PairForm) -> FusedScorer:
        """The same items for the users of another form with the same items and head."""
        other = copy(self)
        other.form = form
        return other

    def try_out(self) -> str | None:
        """Compile the kernel and score one user; why that is impossible here, or None."""
        from triton.errors import TritonError

        try:
            self.best(np.zeros(1, dtype=np.int64), Seen.nothing(1), 0, 1)
        except torch.cuda.OutOfMemoryError:
            raise
        except (TritonError, RuntimeError) as error:  # triton reports a missing compiler as a RuntimeError
            return f"its kernel does not run here ({type(error).__name__}: {str(error).splitlines()[0]})"
        return None

    def best(self, rows: Int64s, seen: Seen, first: int, width: int) -> Tensor:
        """(B, width) int64 keys of each user's best by places among the candidates, best first, then ``NOTHING``.

        Args:
            rows: (B,) int64 user rows.
            seen: of all queries; user b's row there is ``first + b``.
            first: see ``seen``.
            width: list length, at most the number of candidates.
        """
        users, watched = side_on(self.form.users, rows, self.device), self._watched(seen, first, len(rows))
        if self._bound is None:
            return self._select(users, watched, width, "ieee")
        num_kept = min(width + max(_SLACK, width), len(self._item_row))
        kept = self._select(users, watched, num_kept, self.precision)
        exact = self._rescored(users, kept)
        best = exact.topk(width, dim=1).values
        again = (~_certain(kept, best, self._bound(users))).nonzero()[:, 0]
        self.num_again += len(again)
        if len(again):
            best[again] = self._select(taken(users, again), watched[again], width, "ieee")
        return best

    def _rescored(self, users: TorchSide, kept: Tensor) -> Tensor:
        """The keys with scores in float32, by the plain formula."""
        hidden = max([1, *self._head.cross.shape, users.dot.shape[1]])
        step = max(1, _RESCORED_BYTES // (4 * kept.shape[1] * hidden))
        rows = torch.where(kept == NOTHING, 0, LOW - (kept & LOW))
        parts = []
        for start in range(0, len(kept), step):
            part = slice(start, start + step)
            items = taken(self._items, self._place_of_row[rows[part]])
            scores = self._head(TorchSide(*(values[part, None] for values in users)), items)
            parts.append(keys_of(scores, rows[part]))
        return torch.where(kept == NOTHING, NOTHING, torch.cat(parts))

    def _watched(self, seen: Seen, first: int, num_rows: int) -> Tensor:
        """(B, words) int32 bitmap of what each user must not be given, by places in the kernel's order of items."""
        who, what = seen_places(seen, first, num_rows, self._place)
        words = -(-len(self._item_row) // 32)
        watched = torch.zeros(num_rows * words, dtype=torch.int32, device=self.device)
        bits = torch.ones_like(what, dtype=torch.int32) << (what % 32).to(torch.int32)
        watched.scatter_add_(0, who * words + what // 32, bits)  # no pair comes twice, so adding sets bits
        return watched.view(num_rows, words)

    def _select(self, users: TorchSide, watched: Tensor, width: int, precision: str) -> Tensor:
        """(B, width) keys of the best by the kernel's scores."""
        num_items, capacity = len(self._item_row), _capacity(width)
        best = torch.full((len(watched), width), NOTHING, dtype=torch.int64, device=self.device)
        todo = list(reversed(_ranges(num_items, width, capacity)))
        while todo:
            first, last = todo.pop()
            merged = self._filtered(users, watched, best, (first, last), capacity, precision)
            if merged is not None:
                best = merged
                continue
            middle = first + (last - first) // 2
            todo += [(middle, last), (first, middle)]
        return best

    def _filtered(
        self, users: TorchSide, watched: Tensor, best: Tensor, cut: tuple[int, int], capacity: int, precision: str
    ) -> Tensor | None:
        """The lists with a range's items taken in; None where more of them beat a list than a buffer holds."""
        from sdk.scoring.gpu_kernels import score_and_filter  # which needs triton

        worst = best[:, -1]
        nothing = worst == NOTHING
        least = torch.where(nothing, -torch.inf, scores_of(worst))
        least_row = torch.where(nothing, _LARGEST_OFFSET, LOW - (worst & LOW)).to(torch.int32)
        scores = torch.empty((len(watched), capacity), dtype=torch.float32, device=self.device)
        rows = torch.empty_like(scores, dtype=torch.int32)
        counts = torch.zeros(len(watched), dtype=torch.int32, device=self.device)
        score_and_filter[-(-len(watched) // self.tile.users),](
            *(part if part.numel() else part.new_zeros(1) for part in (*users, *self._items)), *self._weights,
            self._item_row, watched, least, least_row, scores, rows, counts,
            len(watched), *cut, watched.shape[1], capacity,
            **self._shapes(), PRECISION=precision, USERS=self.tile.users, ITEMS=self.tile.items,
            num_warps=self.tile.warps,
        )  # fmt: skip
        longest = int(counts.max())
        if longest > capacity:
            return None
        if longest == 0:
            return best
        real = torch.arange(longest, device=self.device) < counts[:, None]
        keys = torch.where(real, keys_of(scores[:, :longest], rows[:, :longest].long()), NOTHING)
        return torch.cat([best, keys], dim=1).topk(best.shape[1], dim=1).values

    def _shapes(self) -> dict[str, Any]:
        """The kernel's constants."""
        head, users, items = self.form.head, self.form.users, self.form.items
        widths = [head.cross.shape[0], *(len(bias) for _, bias in head.tail[:-1])] if head.has_mlp else []
        padded = [_padded(width) for width in widths] + [16] * _MOST_LAYERS
        num_fields = users.fields.shape[1] * items.fields.shape[1]
        return {
            "DOT": users.dot.shape[1], "DOT_STEP": min(32, _padded(users.dot.shape[1])), "LAYERS": len(head.tail),
            "HIDDEN": users.hidden.shape[1], "WIDTH_0": padded[0], "WIDTH_1": padded[1], "WIDTH_2": padded[2],
            "USER_FIELDS": users.fields.shape[1] if num_fields else 0,
            "ITEM_FIELDS": items.fields.shape[1] if num_fields else 0,
            "FIELD": users.fields.shape[2], "FIELD_PAD": _padded(users.fields.shape[2]),
        }  # fmt: skip


def _certain(kept: Tensor, best: Tensor, bound: Tensor) -> Tensor:
    """(B,) bool: whether no item that was not kept can belong to the list."""
    everything = kept[:, -1] == NOTHING  # fewer than could be kept: nothing was left out
    most = scores_of(kept[:, -1]).double() + bound
    return everything | (scores_of(best[:, -1]).double() > most)


def _ranges(num_items: int, width: int, capacity: int) -> list[tuple[int, int]]:
    """Ranges of items: the first fits a buffer; in items of no order, each later one sends half a buffer's worth."""
    edges = [0, min(capacity, num_items)]
    while edges[-1] < num_items:
        edges.append(min(num_items, edges[-1] + max(1, edges[-1] * capacity // (2 * width))))
    return list(itertools.pairwise(edges))


def _capacity(width: int) -> int:
    return 1 << max(8, (4 * width - 1).bit_length())


def _padded(width: int) -> int:
    """The next power of two, at least the 16 that a tensor core's product takes."""
    return 1 << max(4, (width - 1).bit_length())


def _zero_padded(matrix: Float32s, num_rows: int, num_columns: int) -> Tensor:
    padded = torch.zeros(num_rows, num_columns)
    padded[: matrix.shape[0], : matrix.shape[1]] = torch.from_numpy(np.ascontiguousarray(matrix))
    return padded
