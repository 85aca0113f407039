"""How fast the exact engine scores a catalogue of MovieLens 25M's size, beside what people use today, in one run.

    python tests/benchmarks/scoring.py [--full] [--json FILE]
    python tests/benchmarks/scoring.py --bundle BUNDLE

162,541 users and 59,047 titles with random and with trained weights; each path scores a slice of users against every
title and keeps the best 100 unseen ones. Peers are run where they are installed: pip install implicit faiss-cpu.
Reported: the median of the repeats with the spread, in million user-title pairs a second, and the ratio to the plain
path of the same model. ``--full`` scores all 9.6 billion pairs of both models once, in a process of its own each.
``--bundle`` measures what a trained bundle serves instead, for all its users: its lists, and each ranker's by itself,
the mean of all its members; beside the clock's rate that of a processor's second, which other load hardly moves.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import sdk
from sdk.base.config import RANKERS, DLRMConfig, NCFConfig, TrainingConfig
from sdk.base.stages import peak_memory_mib
from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN, UNKNOWN, EncodedInteractions, EncodedTable, Statistics
from sdk.machine.blas import machine
from sdk.models.dlrm import DLRM
from sdk.models.ncf import NCF
from sdk.models.pair_form import Head, PairForm, Side
from sdk.scoring.engine import Engine

ROOT = Path(__file__).resolve().parents[2]
USERS, ITEMS, K, DIM = 162_541, 59_047, 100, 64
RATINGS_PER_USER, GENRES = 154, 20


def table(num_rows: int, *, genres: bool, seed: int) -> EncodedTable:
    """An encoded table with an id, two statistics and, for items, genres: five fields on both sides together."""
    rng = np.random.default_rng(seed)
    rows = num_rows + FIRST_KNOWN
    codes = np.concatenate([np.full(FIRST_KNOWN, UNKNOWN), np.arange(FIRST_KNOWN, rows)])
    shares = rng.random((rows, GENRES)) < 0.1
    shares = shares / np.maximum(shares.sum(1, keepdims=True), 1)
    count = rng.integers(1, 500, rows).astype(np.float64)
    statistics_ = Statistics(count, count / 2, 0.5, 5.0, np.zeros(2), np.ones(2))
    return EncodedTable(
        ids=np.concatenate([np.full(FIRST_KNOWN, -1), np.arange(num_rows)]),
        codes={"id": codes},
        cardinalities={"id": rows, "genres": GENRES},
        multi_hot={"genres": shares.astype(np.float32)} if genres else {},
        dense=rng.normal(0, 1, (rows, 3)).astype(np.float32),
        dense_names=("log_count", "like_rate", "year"),
        statistics=statistics_,
    )


def bare_dlrm() -> DLRM:
    """5 fields, dim 32, top MLP 64-32-1, and nothing beside it, so that Merlin's DLRM computes the same."""
    torch.manual_seed(0)
    config = DLRMConfig(embedding_dim=32, bottom_mlp=(64,), top_mlp=(64, 32), dot_dim=0, biases=False)
    return DLRM(config, table(USERS, genres=False, seed=1), table(ITEMS, genres=True, seed=2)).eval()


def random_factors() -> PairForm:
    """Dot-product NCF with random factors, d = 64."""
    rng = np.random.default_rng(3)

    def side(rows: int) -> Side:
        none = np.zeros((rows, 0), np.float32)
        dot = rng.normal(0, 0.1, (rows, DIM)).astype(np.float32)
        return Side(np.zeros(rows, np.float32), dot, none, none[:, :, None])

    return PairForm(side(USERS + FIRST_KNOWN), side(ITEMS + FIRST_KNOWN), Head(np.zeros((0, 0), np.float32), ()))


def interactions(num_users: int, per_user: int, seed: int = 4) -> EncodedInteractions:
    """Ratings with MovieLens's kind of skew (Zipf-like titles) and eight tastes that decide what is liked."""
    rng = np.random.default_rng(seed)
    popularity = 1.0 / (np.arange(ITEMS) + 50.0)
    rank_to_item = rng.permutation(ITEMS)
    users = np.repeat(np.arange(num_users), per_user)
    ranks = np.searchsorted(np.cumsum(popularity) / popularity.sum(), rng.random(len(users)))
    items = rank_to_item[np.minimum(ranks, ITEMS - 1)]
    taste_u, taste_i = rng.normal(0, 1, (num_users, 8)), rng.normal(0, 1, (ITEMS, 8))
    quality = rng.normal(0.3, 0.7, ITEMS)
    logit = (taste_u[users] * taste_i[items]).sum(1) * 0.6 + quality[items]
    liked = rng.random(len(users)) < 1 / (1 + np.exp(-logit))
    return EncodedInteractions(
        (users + FIRST_KNOWN).astype(np.int32), (items + FIRST_KNOWN).astype(np.int32), liked.astype(np.int8)
    )


def trained_factors(num_users: int) -> PairForm:
    """Dot-product NCF, d = 64, trained for three epochs on generated ratings of ``num_users`` users."""
    from sdk.training.loop import seeded, train

    rows = interactions(num_users, RATINGS_PER_USER)
    users, items = table(num_users, genres=False, seed=5), table(ITEMS, genres=True, seed=6)
    config = TrainingConfig(batch_size=8192, learning_rate=0.01)
    model = seeded(lambda: NCF(NCFConfig(), users, items), config)
    train(model, rows, None, config, name="trained factors", num_epochs=3)
    return model.lower()


def ials_factors(num_users: int) -> PairForm | None:
    """Factors of implicit's own iALS (Hu et al. 2008), d = 64, eight iterations on the same ratings."""
    try:
        from implicit.als import AlternatingLeastSquares
    except ImportError:
        return None
    from scipy.sparse import csr_matrix

    rows = interactions(num_users, RATINGS_PER_USER)
    pairs = (rows.user_index - FIRST_KNOWN, rows.item_index - FIRST_KNOWN)
    watched = csr_matrix((np.ones(len(rows), np.float32), pairs), shape=(num_users, ITEMS))
    watched.data[:] = 1
    model = AlternatingLeastSquares(factors=DIM, iterations=8, use_gpu=False, random_state=0)
    model.fit(watched, show_progress=False)

    def side(factors: np.ndarray) -> Side:
        dot = np.vstack([np.zeros((FIRST_KNOWN, DIM), np.float32), factors])
        none = np.zeros((len(dot), 0), np.float32)
        return Side(np.zeros(len(dot), np.float32), dot, none, none[:, :, None])

    return PairForm(side(model.user_factors), side(model.item_factors), Head(np.zeros((0, 0), np.float32), ()))


def seen_by(num_users: int) -> Seen:
    """What each user has rated: 154 titles, the popular ones more often."""
    rows = interactions(num_users, RATINGS_PER_USER, seed=7)
    return Seen.build(rows.user_index, rows.item_index, num_users + FIRST_KNOWN)


def timed(work: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of each repeat, after one warm-up."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return seconds


class Report:
    """Collects the lines of one run."""

    def __init__(self, repeats: int) -> None:
        self.repeats, self.rows = repeats, []  # type: ignore[var-annotated]

    def add(self, group: str, path: str, num_users: int, work: Callable[[], Any], baseline: str | None = None) -> float:
        """Time one path over ``num_users`` users and every title; million pairs a second."""
        seconds = timed(work, self.repeats)
        rates = sorted(num_users * ITEMS / s / 1e6 for s in seconds)
        rate = statistics.median(rates)
        base = next((r["mpairs_s"] for r in self.rows if r["path"] == baseline), None)
        self.rows.append({"group": group, "path": path, "users": num_users, "mpairs_s": rate, "low": rates[0],
                          "high": rates[-1], "ratio": None if base is None else rate / base})  # fmt: skip
        ratio = "" if base is None else f"   {rate / base:7.1f} x {baseline}"
        print(f"{path:58s} {rate:9.2f}  ({rates[0]:.2f} to {rates[-1]:.2f}; {num_users} users){ratio}", flush=True)
        return rate


def gemm_rates() -> dict[str, float]:
    """Float32 GFLOP/s of a 2048-cube in NumPy's BLAS and torch's, and of the engine's own kernel."""
    a = np.random.default_rng(0).random((2048, 2048), dtype=np.float32)
    t = torch.from_numpy(a)
    flop = 2 * 2048**3 / 1e9
    return {
        "numpy": flop / statistics.median(timed(lambda: a @ a, 5)),
        "torch": flop / statistics.median(timed(lambda: t @ t, 5)),
    }


def dlrm_flop(form: PairForm) -> int:
    """Floating-point operations per pair that the factored form needs (an add and a multiply count as two)."""
    fu, fi, d = form.users.fields.shape[1], form.items.fields.shape[1], form.users.fields.shape[2]
    hidden = form.users.hidden.shape[1]
    flop = 2 * fu * fi * d + 2 * hidden * fu * fi + 2 * hidden + 2 * form.users.dot.shape[1] + 2
    return flop + sum(2 * weight.size + weight.shape[0] for weight, _ in form.head.tail)


def run_dlrm(report: Report, rates: dict[str, float]) -> None:
    """The DLRM: a plain torch loop, Merlin's eager forward, and the engine."""
    model = bare_dlrm()
    form = model.lower()
    items = torch.arange(FIRST_KNOWN, ITEMS + FIRST_KNOWN)
    seen = seen_by(4096)

    @torch.no_grad()
    def plain(users: int) -> None:
        for user in range(FIRST_KNOWN, FIRST_KNOWN + users):
            scores = model(torch.full_like(items, user), items)
            scores[torch.from_numpy(seen.row(user).astype(np.int64)) - FIRST_KNOWN] = -torch.inf
            scores.topk(K)

    report.add("dlrm", "DLRM: plain torch, one user x all titles", 4, lambda: plain(4))
    _merlin_dlrm(report, model, items)
    engine = Engine(form)
    rows = np.arange(FIRST_KNOWN, FIRST_KNOWN + 1024)
    sliced = seen.take(rows)
    rate = report.add("dlrm", "DLRM: engine, top 100, seen filter", len(rows), lambda: engine.top_k(rows, sliced, K),
                      "DLRM: plain torch, one user x all titles")  # fmt: skip
    gflops = rate * dlrm_flop(form) / 1000
    merlin = next((r["mpairs_s"] for r in report.rows if "Merlin" in r["path"]), None)
    if merlin:
        print(f"  that is {rate / merlin:.0f} x Merlin's eager forward")
    print(f"  {dlrm_flop(form)} FLOP a pair in factored form: {gflops:.0f} GFLOP/s, "
          f"{gflops / max(rates.values()):.0%} of the fastest measured GEMM rate")  # fmt: skip


def _merlin_dlrm(report: Report, model: DLRM, items: torch.Tensor) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from sdk.models.merlin import merlin_dlrm, merlin_inputs

            network = merlin_dlrm(model).eval()
            part = items[:16_384]
            inputs = merlin_inputs(model, torch.full_like(part, 5), part)
    except ImportError as error:
        print(f"Merlin Models is not installed ({error}); skipped")
        return

    @torch.no_grad()
    def eager() -> None:
        network(inputs)

    seconds = statistics.median(timed(eager, report.repeats))
    rate = len(part) / seconds / 1e6
    report.rows.append({"group": "dlrm", "path": "DLRM: Merlin Models, eager forward", "users": 1, "mpairs_s": rate,
                        "low": rate, "high": rate, "ratio": None})  # fmt: skip
    print(f"{'DLRM: Merlin Models, eager forward (inputs ready)':58s} {rate:9.2f}")


def run_dot(report: Report, name: str, form: PairForm) -> None:
    """The dot product: implicit, faiss, torch, and the engine with and without pruning."""
    num_users = min(4096, len(form.users) - FIRST_KNOWN)
    rows = np.arange(FIRST_KNOWN, FIRST_KNOWN + num_users)
    seen = seen_by(num_users).take(rows)
    users, items = _augmented(form, rows)
    implicit = _implicit(report, name, users, items, seen)
    faiss = _faiss(report, name, users, items)
    report.add("dot", f"{name}: torch with seen filter", 1024, lambda: _torch_top_k(users[:1024], items, seen))
    for prune in (False, True):
        engine = Engine(form, prune=prune)
        path = f"{name}: engine, seen filter, {'with' if prune else 'without'} pruning"
        report.add("dot", path, num_users, lambda engine=engine: engine.top_k(rows, seen, K), implicit or None)
        if faiss:
            base = next(r["mpairs_s"] for r in report.rows if r["path"] == faiss)
            print(f"  that is {report.rows[-1]['mpairs_s'] / base:.1f} x faiss's IndexFlatIP, which filters nothing")


def _augmented(form: PairForm, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Users and items for the peers: the item's bias as one more dimension where there is one."""
    users, items = form.users.dot[rows], form.items.dot[FIRST_KNOWN:]
    if form.items.bias.any():
        users = np.hstack([users, np.ones((len(users), 1), np.float32)])
        items = np.hstack([items, form.items.bias[FIRST_KNOWN:, None]])
    return np.ascontiguousarray(users), np.ascontiguousarray(items)


def _implicit(report: Report, name: str, users: np.ndarray, items: np.ndarray, seen: Seen) -> str:
    try:
        from implicit.cpu.topk import topk
    except ImportError:
        print("implicit is not installed; skipped")
        return ""
    from scipy.sparse import csr_matrix

    columns = seen.items.astype(np.int32) - FIRST_KNOWN
    filter_ = csr_matrix((np.ones(len(columns), np.float32), columns, seen.indptr), shape=(len(users), ITEMS))
    path = f"{name}: implicit topk with the same filter"
    report.add("dot", path, len(users), lambda: topk(items, users, K, filter_query_items=filter_))
    return path


def _faiss(report: Report, name: str, users: np.ndarray, items: np.ndarray) -> str:
    try:
        import faiss
    except ImportError:
        print("faiss is not installed; skipped")
        return ""
    index = faiss.IndexFlatIP(items.shape[1])
    index.add(items)
    path = f"{name}: faiss IndexFlatIP, no filter"
    report.add("dot", path, len(users), lambda: index.search(users, K))
    return path


def _torch_top_k(users: np.ndarray, items: np.ndarray, seen: Seen) -> None:
    queries, catalogue = torch.from_numpy(users), torch.from_numpy(items)
    for start in range(0, len(users), 128):
        scores = queries[start : start + 128] @ catalogue.T
        for b in range(len(scores)):
            scores[b, torch.from_numpy(seen.row(start + b).astype(np.int64)) - FIRST_KNOWN] = -torch.inf
        scores.topk(K, dim=1)


def run_full(kind: str) -> dict[str, float]:
    """All users against all titles, in blocks of 8,192 users as the nightly job does."""
    form = bare_dlrm().lower() if kind == "dlrm" else random_factors()
    seen = seen_by(USERS)
    engine = Engine(form)
    engine.top_k(np.arange(3, 67), seen.take(np.arange(3, 67)), K)
    before = peak_memory_mib()
    start = time.perf_counter()
    for first in range(FIRST_KNOWN, USERS + FIRST_KNOWN, 8192):
        rows = np.arange(first, min(first + 8192, USERS + FIRST_KNOWN))
        engine.top_k(rows, seen.take(rows), K)
    seconds = time.perf_counter() - start
    peak = peak_memory_mib()
    return {"seconds": seconds, "mpairs_s": USERS * ITEMS / seconds / 1e6, "extra_mib": peak - before,
            "peak_mib": peak}  # fmt: skip


def run_bundle(path: str, repeats: int) -> None:
    """Every user of a bundle against every item, by what it serves."""
    bundle = sdk.load(path)
    rankers = [name for name in bundle.info.models if name in RANKERS]
    forms = {"lists": bundle.list_form(), **{name: bundle.model(name).lower() for name in rankers}}
    users = np.arange(FIRST_KNOWN, len(bundle.encoded_users))
    seen = bundle.interactions.seen(len(bundle.encoded_users)).take(users)
    pairs = len(users) * (len(bundle.encoded_items) - FIRST_KNOWN) / 1e6
    print(
        f"{bundle.info.data['name']}: {len(users):,} users, {pairs:.1f} million pairs, k = {K}; million pairs a second"
    )
    for name, form in forms.items():
        if form is not None:
            engine = Engine(form)
            engine.top_k(users, seen, K)
            start, clock = time.process_time(), timed(lambda engine=engine: engine.top_k(users, seen, K), repeats - 1)
            spent = (time.process_time() - start) / repeats
            widths = f"dot {form.users.dot.shape[1]}, MLP {form.users.hidden.shape[1]}"
            rate = f"{pairs / statistics.median(clock):8.1f} ({pairs / max(clock):.1f} to {pairs / min(clock):.1f})"
            print(f"{name:8s} {widths:20s} {rate}; {pairs / spent:8.1f} per processor", flush=True)


def main() -> int:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="also score all 9.6 billion pairs of both models")
    parser.add_argument("--one-full", choices=("dlrm", "dot"), help=argparse.SUPPRESS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--bundle", help="measure what a trained bundle serves instead")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    args = parser.parse_args()
    if args.one_full:
        print(json.dumps(run_full(args.one_full)))
        return 0
    about, rates = machine(), gemm_rates()
    print(f"{about}; load {os.getloadavg()[0]:.1f}", {name: f"{rate:.0f} GFLOP/s" for name, rate in rates.items()})
    if args.bundle:
        run_bundle(args.bundle, args.repeats)
        return 0
    report = Report(args.repeats)
    print(f"million pairs/s, {USERS} users x {ITEMS} titles, k = {K}, median of {args.repeats} (low to high)")
    run_dlrm(report, rates)
    run_dot(report, "random factors", random_factors())
    run_dot(report, "NCF's trained factors", trained_factors(8192))
    ials = ials_factors(8192)
    if ials is not None:
        run_dot(report, "iALS's trained factors", ials)
    full = {}
    for kind in ("dot", "dlrm") if args.full else ():
        done = subprocess.run(
            [sys.executable, __file__, "--one-full", kind], stdout=subprocess.PIPE, text=True, check=True
        )
        full[kind] = json.loads(done.stdout)
        print(f"all {USERS * ITEMS / 1e9:.1f} billion pairs, {kind}: {full[kind]}", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"machine": about, "gemm": rates, "rows": report.rows, "full": full}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
