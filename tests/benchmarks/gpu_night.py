"""The night's parts of the GPU benchmark: everyone's lists, each way to score them, and agreement with the CPU."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gpu_run import OutOfTime, Run

from sdk.base.types import BestRows
from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN
from sdk.models.pair_form import Head, PairForm, Side
from sdk.scoring.engine import Engine
from sdk.scoring.gpu_engine import Tile
from sdk.scoring.torch_engine import TorchEngine

TOLERANCE = 1e-4
"""Of a logit: two titles closer than this are a near-tie."""
WIDE = 320
MLP_TILES = tuple(itertools.starmap(Tile, [(16, 8, 4), (16, 16, 8), (16, 16, 4), (16, 32, 8), (8, 16, 4)]))
DOT_TILES = tuple(itertools.starmap(Tile, [(64, 64, 4), (64, 64, 8), (128, 64, 8), (32, 64, 4), (64, 128, 8)]))


class Night:
    """One model's night: the CPU's lists of a sample are computed once, for every way to score.

    Args:
        run: what the parts share.
        form: the lowered model.
        seen: by user row.
    """

    def __init__(self, run: Run, form: PairForm, seen: Seen) -> None:
        self.run, self.form, self.seen = run, form, seen
        self.users = np.arange(FIRST_KNOWN, len(form.users), dtype=np.int64)
        size = min(run.size.sampled_users, len(self.users))
        self.sample = np.sort(np.random.default_rng(0).choice(len(self.users), size, replace=False))
        self._want: BestRows | None = None

    def on_the_cpu(self) -> float:
        """Have the CPU's engine make the sample's lists, to compare with; seconds, once its kernels are compiled."""
        users = self.users[self.sample]
        engine, own = Engine(self.form), self.seen.take(users)
        engine.top_k(users[:8], self.seen.take(users[:8]), self.run.size.k)
        start = time.perf_counter()
        self._want = engine.top_k(users, own, self.run.size.k)
        return time.perf_counter() - start

    def score(self, **options: Any) -> dict[str, Any]:
        """Everyone's best unseen titles by one way: seconds, the limit, and agreement on the sample."""
        if options.get("fused") and not can_fuse(self.run):
            return {"skipped": "the fused kernel needs a GPU, or TRITON_INTERPRET=1 at a small size"}
        start = time.perf_counter()
        engine = TorchEngine(self.form, device=self.run.device, **options)
        warm = self.users[: self.run.size.swept_users]
        engine.top_k(warm, self.seen.take(warm), self.run.size.k)  # kernels are compiled and buffers made
        prepared = time.perf_counter() - start
        own = self.seen.take(self.users)
        start = time.perf_counter()
        lists = engine.top_k(self.users, own, self.run.size.k)
        seconds = time.perf_counter() - start
        pairs = len(self.users) * len(engine.candidates)
        limit = night_limit(self.run, self.form, pairs)
        return {
            "users": len(self.users), "items": len(engine.candidates), "k": self.run.size.k, "seconds": seconds,
            "prepared_s": prepared, "pairs_s": pairs / seconds, "limit": limit,
            "share_of_arithmetic": limit["arithmetic_s"] / seconds,
            "done_again": engine.fused.num_again if engine.fused else None,
            "agreement": self._agreement(lists),
        }  # fmt: skip

    def _agreement(self, lists: BestRows) -> dict[str, Any]:
        if self._want is None:
            return {"skipped": "the CPU's lists were not made"}
        got = BestRows(lists.item_index[self.sample], lists.scores[self.sample], lists.lengths[self.sample])
        return agreement(self.form, self.users[self.sample], self.seen, got, self._want)

    def sweep(self, tiles: tuple[Tile, ...], precision: str) -> dict[str, Any]:
        """Seconds that each tile takes for some users; a tile that does not fit the chip is named with its reason."""
        if not can_fuse(self.run):
            return {"skipped": "the fused kernel needs a GPU, or TRITON_INTERPRET=1 at a small size"}
        users = self.users[: self.run.size.swept_users]
        own, found = self.seen.take(users), {}
        engine = TorchEngine(self.form, device=self.run.device, fused=True, precision=precision)
        scorer = engine.fused
        assert scorer is not None
        try:
            for tile in tiles:
                scorer.tile = tile
                reason = scorer.try_out()
                work: Callable[[], Any] = lambda: engine.top_k(users, own, self.run.size.k)  # noqa: E731
                found[f"{tile.users}x{tile.items}x{tile.warps}"] = reason or self.run.seconds(work, repeats=2)
        except OutOfTime as error:
            found["the others"] = str(error)
        return {"users": len(users), "precision": precision, "seconds": found}


def can_fuse(run: Run) -> bool:
    """Whether the fused kernel can be tried at all."""
    return run.device == "cuda" or os.environ.get("TRITON_INTERPRET") == "1"


def wide_form(run: Run) -> PairForm:
    """A model of dot products alone, as wide as the history model's and the ranker's together."""
    rng = np.random.default_rng(2)

    def side(size: int) -> Side:
        bias = rng.normal(0, 0.1, size).astype(np.float32)
        dot = rng.normal(0, 0.2, (size, WIDE)).astype(np.float32)
        return Side(bias, dot, np.zeros((size, 0), np.float32), np.zeros((size, 0, 1), np.float32))

    users, items = side(run.size.users + FIRST_KNOWN), side(run.size.items + FIRST_KNOWN)
    return PairForm(users, items, Head(np.zeros((0, 0), np.float32), ()))


def night_limit(run: Run, form: PairForm, pairs: int) -> dict[str, float]:
    """Seconds of arithmetic in float32; of memory, were each score written and read once, and with all on chip."""
    head = form.head
    cross = head.cross.size + form.users.fields.shape[2] * head.cross.shape[1] if head.has_mlp else 0
    flop = 2 * (form.users.dot.shape[1] + cross + sum(weight.size for weight, _ in head.tail))
    rate = run.figures["limits"]
    sides = sum(part.nbytes for side in (form.users, form.items)
                for part in (side.bias, side.dot, side.hidden, side.fields))  # fmt: skip
    return {
        "flop_per_pair": flop, "arithmetic_s": pairs * flop / 1e12 / rate["tflop_s_float32"],
        "scores_through_memory_s": 8 * pairs / 1e9 / rate["gb_s"], "on_chip_s": sides / 1e9 / rate["gb_s"],
    }  # fmt: skip


def agreement(form: PairForm, users: np.ndarray, seen: Seen, got: BestRows, want: BestRows) -> dict[str, Any]:
    """How the device's lists compare with the CPU engine's: users whose lists differ by more than near-ties.

    A list is right up to near-ties if it has the CPU's length, no title twice, none that was seen, and the exact score
    of the title at every rank is within the tolerance of the CPU's at that rank, and of the device's own.
    """
    same, wrong, largest = 0, [], 0.0
    for place, user in enumerate(users):
        length = int(want.lengths[place])
        items = got.item_index[place, : got.lengths[place]]
        ours = want.item_index[place, :length]
        same += bool(np.array_equal(items, ours))
        if len(items) != length or len(set(items.tolist())) != length or np.isin(items, seen.row(int(user))).any():
            wrong.append(int(user))
            continue
        exact = form.score_pairs(np.full(length, user), items.astype(np.int64))
        apart = np.abs(np.stack([want.scores[place, :length], got.scores[place, :length]]) - exact)
        largest = max(largest, float(apart.max(initial=0)))
        if (apart > TOLERANCE * np.maximum(1, np.abs(exact))).any():
            wrong.append(int(user))
    return {"users": len(users), "identical": same, "beyond_near_ties": len(wrong), "first_wrong": wrong[:3],
            "tolerance": TOLERANCE, "largest_difference": largest}  # fmt: skip


def little_memory(run: Run, form: PairForm, seen: Seen) -> dict[str, Any]:
    """The lists of some users with half a GiB to score in, against those with all the memory there is."""
    if run.device != "cuda":
        return {"skipped": "a CPU's memory cannot be bounded so; the tests raise the error by hand"}
    found: dict[str, Any] = {}
    for fused in (False, True):
        engine = TorchEngine(form, device=run.device, fused=fused)
        users = np.arange(FIRST_KNOWN, min(FIRST_KNOWN + 16_384, len(form.users)), dtype=np.int64)
        before, whole = engine._users_per_tile, engine.top_k(users, seen.take(users), run.size.k)
        torch.cuda.empty_cache()
        _, total = torch.cuda.mem_get_info()
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (512 << 20)) / total)
        try:
            bounded = engine.top_k(users, seen.take(users), run.size.k)
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        same = int((whole.item_index == bounded.item_index).all(axis=1).sum())
        found["fused" if fused else "plain"] = {
            "users_per_tile": [before, engine._users_per_tile], "users": len(users), "identical": same,
        }  # fmt: skip
    return found
