"""The exact engine's sibling in torch, for a GPU: the same lists up to near-ties, by tiles of users and items.

Scores stay on the device; what comes back is each user's k best. Ties go to the smaller item row here too: candidates
are compared by 64-bit keys that hold the score above the complement of the row. On a GPU with triton, and for a model
whose shapes fit, one fused kernel scores and selects (``sdk.scoring.gpu_engine``); else plain torch does it.
"""

from __future__ import annotations

import logging
from copy import copy

import numpy as np
import torch
from torch import Tensor

from sdk.base.errors import ScoreError, UsageError
from sdk.base.types import BestRows, Bools, Int64s
from sdk.features.seen import Seen
from sdk.models.pair_form import PairForm
from sdk.models.torch_form import TorchHead, TorchSide, side_on, taken
from sdk.scoring.engine import candidate_rows, check_length, may_overflow
from sdk.scoring.gpu_engine import NOTHING, FusedScorer, keys_of, lists_of, places_of, seen_places, why_not

log = logging.getLogger(__name__)

_ITEMS_PER_TILE = 8192
_USERS_PER_FUSED_TILE = 16_384
_TILE_BYTES = 256 << 20  # of the widest activation of one tile, on the CPU and at least
_LARGEST_TILE_BYTES = 2 << 30
_TILES_IN_MEMORY = 16  # a tile's own activations and what the selection copies, with room to spare


class TorchEngine:
    """A model ready to score on a torch device.

    Args:
        form: a lowered model.
        allowed: (R_item,) bool, the rows that may be recommended; None allows all. The reserved rows never are.
        device: ``cuda`` or ``cpu``.
        fused: whether to use the fused kernel; None does so on a GPU where that is possible.
        precision: in which the fused kernel selects, see ``FusedScorer``; the lists' scores are in float32 in any case.

    Raises:
        ScoreError: the model holds a NaN or an infinity; names the side and the first bad row.
        UsageError: ``fused`` is True and the kernel cannot score this model here; says why.
    """

    def __init__(
        self,
        form: PairForm,
        allowed: Bools | None = None,
        *,
        device: str = "cuda",
        fused: bool | None = None,
        precision: str = "ieee",
    ) -> None:
        self.candidates = candidate_rows(form, allowed)
        self.form, self.device = form, torch.device(device)
        self.fused = self._fused_scorer(fused, precision)
        self._items = side_on(form.items, self.candidates, self.device)
        self._head = TorchHead(form.head).to(self.device)
        self._place = places_of(self.candidates, len(form.items), self.device)
        widest = max([1, *form.head.cross.shape, *(len(bias) for _, bias in form.head.tail)])
        self._users_per_tile = max(1, _tile_bytes(self.device) // (4 * _ITEMS_PER_TILE * widest))
        if self.fused is not None:
            self._users_per_tile = _USERS_PER_FUSED_TILE

    def for_users(self, form: PairForm) -> TorchEngine:
        """The same items, as they lie on the device, for the users of another form; see ``Engine.for_users``.

        Raises:
            ScoreError: a user's row holds a NaN or an infinity.
        """
        form.users.check("user")
        other = copy(self)
        other.form = form
        if self.fused is not None:
            other.fused = None if may_overflow(form) else self.fused.for_users(form)
        return other

    def _fused_scorer(self, fused: bool | None, precision: str) -> FusedScorer | None:
        """The fused scorer where it is wanted and possible; one line says which way is taken."""
        wanted = self.device.type == "cuda" if fused is None else fused
        reason = why_not(self.form, len(self.candidates)) if wanted else "the fused kernel is not asked for"
        if reason is None:
            scorer = FusedScorer(self.form, self.candidates, self.device, precision=precision)
            reason = scorer.try_out() if self.device.type == "cuda" else None
        if reason is None:
            log.info("scoring on %s with the fused kernel (%s)", self.device, scorer.precision)
            return scorer
        if fused:
            message = f"the fused kernel cannot score this model here: {reason}; leave fused out for plain torch"
            raise UsageError(message)
        log.info("scoring on %s with plain torch: %s", self.device, reason)
        return None

    @torch.no_grad()
    def top_k(self, user_index: Int64s, seen: Seen, k: int) -> BestRows:
        """Each user row's k best candidates that the user has not seen; arguments and errors as ``Engine.top_k``.

        Raises:
            ScoreError: the GPU's memory does not hold one user's scores; or as ``Engine.top_k`` raises it.
        """
        check_length(k)
        width = min(k, len(self.candidates))
        parts = []
        first = 0
        while first < len(user_index):
            last = min(first + self._users_per_tile, len(user_index))
            try:
                parts.append(self._tile(user_index[first:last], seen, first, width).cpu())
                first = last
                continue
            except torch.cuda.OutOfMemoryError as error:
                if self._users_per_tile == 1:
                    message = (
                        "the GPU's memory does not hold one user's scores beside this model; score with --device cpu"
                    )
                    raise ScoreError(message) from error
            self._users_per_tile //= 2
            torch.cuda.empty_cache()  # the failed tile's tensors are gone by now; the same users again
        keys = torch.cat(parts).numpy() if parts else np.zeros((0, width), dtype=np.int64)
        return lists_of(keys, self.candidates)

    def _tile(self, rows: Int64s, seen: Seen, first: int, width: int) -> Tensor:
        """(B, width) int64 keys of a tile's best, best first; the least key stands for nothing."""
        if self.fused is not None:
            return self.fused.best(rows, seen, first, width)
        users = TorchSide(*(part[:, None] for part in side_on(self.form.users, rows, self.device)))
        best = torch.full((len(rows), width), NOTHING, dtype=torch.int64, device=self.device)
        who, what = seen_places(seen, first, len(rows), self._place)
        for start in range(0, len(self.candidates), _ITEMS_PER_TILE):
            cut = slice(start, min(start + _ITEMS_PER_TILE, len(self.candidates)))
            scores = self._head(users, taken(self._items, cut))
            if not bool(torch.isfinite(scores).all()):
                bad = int(rows[int((~torch.isfinite(scores)).any(1).nonzero()[0])])
                raise ScoreError(f"user row {bad}: a score is NaN or infinite; the model is not usable, train it again")
            keys = keys_of(scores, torch.arange(cut.start, cut.stop, device=self.device))
            inside = (what >= cut.start) & (what < cut.stop)
            keys[who[inside], what[inside] - cut.start] = NOTHING
            best = torch.cat([best, keys], dim=1).topk(width, dim=1).values
        return best


def _tile_bytes(device: torch.device) -> int:
    """A tile's size: the more users it holds, the fewer kernels are started; on a GPU as its free memory allows."""
    if device.type != "cuda":
        return _TILE_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    return max(_TILE_BYTES, min(_LARGEST_TILE_BYTES, free // _TILES_IN_MEMORY))
