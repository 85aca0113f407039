"""How fast a DLRM trains, beside Merlin Models' own Lightning and Loader route, in one run on the same rows.

    python tests/benchmarks/training.py [--batch-sizes 1024,4096,16384,65536] [--json FILE]
    python tests/benchmarks/training.py --full [--rows 25000000]

Both train the same network from the same initial weights: the DLRM that Merlin can express (five fields, width 32,
bottom MLPs 64-32, top MLP 64-32-1, a genre list; no dot path, no biases), on ratings with the shape of MovieLens 1M
(6,040 users, 3,706 titles). Merlin's route is ``merlin.dataloader.torch.Loader`` over rows with all features joined,
and ``DLRMModel`` under Lightning's ``Trainer``, denormals flushed, with its metrics as shipped, on all cores and on one
thread (the better counts: on a busy machine that is one); beside it the same without Lightning, metrics and logging,
which is the best that its model and loader give. Each repeat is an epoch of
each route, one after the other, so that a busy moment meets them all; the first is a warm-up. Reported: the median of
the repeats with the spread, in rows a second, and its ratio to Merlin's route at the same batch size; and rows per
second of processor time, which says more where other work shares the cores.

``--full`` trains our full DLRM and NCF for one epoch on generated ratings of MovieLens 25M's shape and skew, batch size
by the default rule, in a process of its own each: rows a second, seconds and peak memory.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sdk.base.config import DLRMConfig, NCFConfig, TrainingConfig
from sdk.base.stages import peak_memory_mib
from sdk.features.tables import FIRST_KNOWN, UNKNOWN, EncodedInteractions, EncodedTable, Statistics, raw_statistics
from sdk.machine.blas import machine
from sdk.machine.cluster import dask_for_merlin
from sdk.machine.device import usable_cores
from sdk.models.dlrm import DLRM
from sdk.models.ncf import NCF
from sdk.models.pair_model import PairModel
from sdk.training.loop import batch_size_for, seeded, train

USERS_1M, ITEMS_1M = 6_040, 3_706
USERS_25M, ITEMS_25M = 162_541, 59_047
GENRES = 20
LIGHTNING, PLAIN, OURS = "Merlin, Lightning and Loader", "Merlin, plain loop and Loader", "ours"
BARE = DLRMConfig(embedding_dim=32, bottom_mlp=(64,), top_mlp=(64, 32), dot_dim=0, biases=False, id_dropout=0.0)


def interactions(num_users: int, num_items: int, num_rows: int, seed: int = 0) -> EncodedInteractions:
    """Ratings with MovieLens's kind of skew, in no order: Zipf-like titles, log-normal users, liked by quality."""
    rng = np.random.default_rng(seed)
    popularity = rng.permutation(1.0 / (np.arange(num_items) + 50.0))
    activity = rng.lognormal(0, 1, num_users)
    users, items = (_drawn(rng, weights, num_rows) for weights in (activity, popularity))
    quality = rng.normal(0.3, 1, num_items).astype(np.float32)
    liked = rng.random(num_rows, dtype=np.float32) < 1 / (1 + np.exp(-quality[items]))
    return EncodedInteractions(users + np.int32(FIRST_KNOWN), items + np.int32(FIRST_KNOWN), liked.astype(np.int8))


def _drawn(rng: np.random.Generator, weights: np.ndarray, size: int) -> np.ndarray:
    edges = np.cumsum(weights) / weights.sum()
    drawn = np.searchsorted(edges, rng.random(size))
    return np.minimum(drawn, len(weights) - 1).astype(np.int32)


def table(rows: EncodedInteractions, index: np.ndarray, num_known: int, num_numbers: int, *, genres: bool):
    """One side's encoded table: id, two statistics of the rows, other numbers and, for items, genres."""
    rng = np.random.default_rng(num_known)
    size = num_known + FIRST_KNOWN
    count = np.bincount(index, minlength=size).astype(np.float64)
    likes = np.bincount(index, weights=rows.label, minlength=size)
    rate = float(likes.sum() / max(count.sum(), 1))
    raw = raw_statistics(count, likes, rate, 5.0)
    mean, std = raw.mean(0), raw.std(0)
    dense = np.hstack([(raw - mean) / std, rng.normal(size=(size, num_numbers))]).astype(np.float32)
    shares = rng.random((size, GENRES)) < 0.1
    shares[np.arange(size), rng.integers(1, GENRES, size)] = True
    return EncodedTable(
        ids=np.concatenate([np.full(FIRST_KNOWN, -1), np.arange(num_known)]),
        codes={"id": np.concatenate([np.full(FIRST_KNOWN, UNKNOWN), np.arange(FIRST_KNOWN, size)])},
        cardinalities={"id": size, **({"genres": GENRES} if genres else {})},
        multi_hot={"genres": (shares / shares.sum(1, keepdims=True)).astype(np.float32)} if genres else {},
        dense=dense,
        dense_names=("log_count", "like_rate", *(f"number_{n}" for n in range(num_numbers))),
        statistics=Statistics(count, likes, rate, 5.0, mean, std),
    )


def tables(rows: EncodedInteractions, num_users: int, num_items: int, num_numbers: int = 1) -> tuple[EncodedTable, ...]:
    """Both sides' tables; the items have ``num_numbers`` numbers beside their statistics."""
    return (
        table(rows, rows.user_index, num_users, 0, genres=False),
        table(rows, rows.item_index, num_items, num_numbers, genres=True),
    )


# --- the routes: each trains one epoch when called, and returns its rows a second ----------------------------------


def our_route(model: PairModel, rows: EncodedInteractions, batch_size: int) -> Callable[[], float]:
    """``sdk.training.loop.train``."""
    config = TrainingConfig(batch_size=batch_size)
    return lambda: train(model, rows, None, config, name="ours", num_epochs=1).history[0].rows_per_s


def joined_rows(model: DLRM, rows: EncodedInteractions) -> Any:
    """The rows as Merlin's loader reads them: every feature of the user and the item joined to each rating."""
    import pandas as pd

    frame: dict[str, Any] = {}
    for side, buffers, index in (("user", model.users, rows.user_index), ("item", model.items, rows.item_index)):
        at = torch.from_numpy(index.astype(np.int64))
        frame |= {f"{side}_{name}": buffers.codes_of(name, at).numpy() for name in buffers.code_names}
        dense = buffers.dense_of(at, None).numpy()
        frame |= {f"{side}_{name}": dense[:, n] for n, name in enumerate(buffers.dense_names)}
    lists = [np.flatnonzero(shares).astype(np.int64) for shares in model.items.multi_genres.numpy()]
    frame["item_genres"] = [lists[item] for item in rows.item_index]
    return pd.DataFrame({**frame, "label": rows.label.astype(np.float32)})


def merlin_loader(network: Any, frame: Any, batch_size: int) -> Any:
    """Merlin's own loader over the joined rows, shuffled."""
    from merlin.dataloader.torch import Loader
    from merlin.io import Dataset
    from merlin.schema import Tags

    with dask_for_merlin():
        dataset = Dataset(frame)
    schema = dataset.schema
    schema["label"] = schema["label"].with_tags([Tags.TARGET, Tags.BINARY_CLASSIFICATION])
    dataset.schema = schema
    return Loader(dataset, batch_size=batch_size, shuffle=True)


def lightning_route(model: DLRM, frame: Any, batch_size: int) -> Callable[[], float]:
    """Merlin's DLRM under Lightning, as its documentation trains it, at its Adam's own learning rate."""
    import pytorch_lightning as pl

    network = merlin_network(model)
    network.teardown = lambda stage: None  # Merlin's own formats an enum, which fails on Python 3.11
    network.setup = lambda stage: None
    loader = merlin_loader(network, frame, batch_size)

    def epoch() -> float:
        trainer = pl.Trainer(
            max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        clock = epoch_clock()
        trainer.callbacks.append(clock)
        trainer.fit(network, loader)
        return len(frame) / clock.seconds

    return epoch


def epoch_clock() -> Any:
    import pytorch_lightning as pl

    class Clock(pl.Callback):
        """Seconds of the training epoch alone, without Lightning's start and end."""

        seconds = 0.0

        def on_train_epoch_start(self, *_: object) -> None:
            self.start = time.perf_counter()

        def on_train_epoch_end(self, *_: object) -> None:
            self.seconds = time.perf_counter() - self.start

    return Clock()


def plain_merlin_route(model: DLRM, frame: Any, batch_size: int) -> Callable[[], float]:
    """Merlin's DLRM and loader in a bare loop: no Lightning, no metrics, no logging."""
    network = merlin_network(model)
    loader = merlin_loader(network, frame, batch_size)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, foreach=True)
    loss_of = torch.nn.BCELoss()

    def epoch() -> float:
        start = time.perf_counter()
        for features, label in loader:
            optimiser.zero_grad(set_to_none=True)
            loss_of(network(features), label.view(-1, 1)).backward()
            optimiser.step()
        return len(frame) / (time.perf_counter() - start)

    return epoch


def merlin_network(model: DLRM) -> Any:
    """Merlin's DLRM with the weights of ours, ready to train."""
    from sdk.models.merlin import merlin_dlrm

    return merlin_dlrm(model).train()


# --- comparing -----------------------------------------------------------------------------------------------------


def compare(batch_size: int, num_rows: int, repeats: int) -> list[dict[str, Any]]:
    """Every route at one batch size, interleaved."""
    rows = interactions(USERS_1M, ITEMS_1M, num_rows)
    users, items = tables(rows, USERS_1M, ITEMS_1M)
    model = seeded(lambda: DLRM(BARE, users, items), TrainingConfig())
    frame = joined_rows(model, rows)
    lightning, plain = lightning_route(model, frame, batch_size), plain_merlin_route(model, frame, batch_size)
    cores = usable_cores()
    routes = {
        f"{LIGHTNING}, {cores} threads": threaded(cores, lightning),
        f"{LIGHTNING}, 1 thread": threaded(1, lightning),
        f"{PLAIN}, {cores} threads": threaded(cores, plain),
        f"{PLAIN}, 1 thread": threaded(1, plain),
        OURS: our_route(model, rows, batch_size),
    }
    rates: dict[str, list[float]] = {name: [] for name in routes}
    per_core: dict[str, list[float]] = {name: [] for name in routes}
    for _ in range(repeats + 1):
        for name, epoch in routes.items():
            torch.set_flush_denormal(True)
            start = processor_s()
            rates[name].append(epoch())
            per_core[name].append(num_rows / (processor_s() - start))
    torch.set_flush_denormal(False)
    base = max(statistics.median(measured[1:]) for name, measured in rates.items() if name.startswith(LIGHTNING))
    base_core = max(statistics.median(spent[1:]) for name, spent in per_core.items() if name.startswith(LIGHTNING))
    return [
        _summary(name, batch_size, measured[1:], base, statistics.median(per_core[name][1:]), base_core)
        for name, measured in rates.items()
    ]


def processor_s() -> float:
    """Processor time of this process so far, all threads."""
    spent = os.times()
    return spent.user + spent.system


def threaded(num_threads: int, epoch: Callable[[], float]) -> Callable[[], float]:
    """An epoch with torch on so many threads."""

    def run() -> float:
        before = torch.get_num_threads()
        torch.set_num_threads(num_threads)
        try:
            return epoch()
        finally:
            torch.set_num_threads(before)

    return run


def _summary(
    name: str, batch_size: int, rates: list[float], base: float, per_core: float, base_core: float
) -> dict[str, Any]:
    median = statistics.median(rates)
    row = {"route": name, "batch_size": batch_size, "rows_s": median, "low": min(rates), "high": max(rates),
           "ratio": median / base, "rows_core_s": per_core, "ratio_core": per_core / base_core}  # fmt: skip
    print(f"{name:42s} batch {batch_size:6,d} {median:10,.0f} rows/s ({min(rates):,.0f} to {max(rates):,.0f})"
          f"   {row['ratio']:5.2f} x Merlin's better"
          f"   {per_core:9,.0f} rows/core-s   {per_core / base_core:5.2f} x", flush=True)  # fmt: skip
    return row


def flop_per_row(model: DLRM) -> int:
    """Floating-point operations of one row forward and backward: matrix products count twice more backward."""
    mlps = (model.user_arch.bottom_mlp, model.item_arch.bottom_mlp, model.top_mlp)
    weights = sum(layer.weight.numel() for mlp in mlps for layer in mlp if isinstance(layer, torch.nn.Linear))
    fields = model.user_arch.num_fields + model.item_arch.num_fields
    lists = sum(embedding.weight.numel() for embedding in model.item_arch.lists.values())
    pairs = fields * (fields - 1) // 2 * model.config.embedding_dim + model.config.dot_dim
    return 3 * 2 * (weights + lists + pairs)


def gemm_gflops() -> float:
    """Float32 GFLOP/s of a 2048-cube in torch on all cores."""
    a = torch.rand(2048, 2048)
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - start)
    return 2 * 2048**3 / 1e9 / statistics.median(seconds[1:])


def run_comparison(batch_sizes: list[int], num_rows: int, repeats: int) -> dict[str, Any]:
    """All batch sizes, the best of Merlin's, and how far ours is from what the cores' arithmetic allows."""
    rate = gemm_gflops()
    measured = [row for size in batch_sizes for row in compare(size, num_rows, repeats)]
    rows = interactions(USERS_1M, ITEMS_1M, 1000)
    flop = flop_per_row(DLRM(BARE, *tables(rows, USERS_1M, ITEMS_1M)))
    best = {kind: max((r for r in measured if r["route"].startswith(kind)), key=lambda r: r["rows_s"])
            for kind in (LIGHTNING, PLAIN, OURS)}  # fmt: skip
    for row in best.values():
        print(f"best of all batch sizes: {row['route']}: {row['rows_s']:,.0f} rows/s at batch {row['batch_size']:,}, "
              f"{row['rows_s'] / best[LIGHTNING]['rows_s']:.2f} x Merlin's best")  # fmt: skip
    share = best[OURS]["rows_s"] * flop / 1e9 / rate
    print(
        f"{flop:,} FLOP a row, {rate:.0f} GFLOP/s measured: at most {rate * 1e9 / flop:,.0f} rows/s; ours {share:.0%}"
    )
    return {"gemm_gflops": rate, "flop_per_row": flop, "routes": measured, "best": best, "share_of_roofline": share}


# --- MovieLens 25M's size ------------------------------------------------------------------------------------------


def run_full(kind: str, num_rows: int) -> dict[str, Any]:
    """One epoch of a full model at MovieLens 25M's size; generating the rows is not timed."""
    rows = interactions(USERS_25M, ITEMS_25M, num_rows)
    users, items = tables(rows, USERS_25M, ITEMS_25M, num_numbers=9)
    data = peak_memory_mib()
    config = TrainingConfig()
    build = (lambda: DLRM(DLRMConfig(), users, items)) if kind == "dlrm" else (lambda: NCF(NCFConfig(), users, items))
    model = seeded(build, config)
    start, spent = time.perf_counter(), processor_s()
    record = train(model, rows, None, config, name=kind, num_epochs=1).history[0]
    return {
        "model": kind, "rows": num_rows, "batch_size": batch_size_for(num_rows), "rows_s": record.rows_per_s,
        "seconds": time.perf_counter() - start, "rows_core_s": num_rows / (processor_s() - spent),
        "weights": sum(p.numel() for p in model.parameters()), "peak_mib_before": data, "peak_mib": peak_memory_mib(),
    }  # fmt: skip


def full(num_rows: int) -> Iterator[dict[str, Any]]:
    """Each model in a process of its own."""
    for kind in ("dlrm", "ncf"):
        command = [sys.executable, "-W", "ignore", __file__, "--one-full", kind, "--rows", str(num_rows)]
        done = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        print(f"{kind}: {done['rows_s']:,.0f} rows/s, {done['rows_core_s']:,.0f} rows/core-s over {num_rows:,} rows, "
              f"batch {done['batch_size']:,}, {done['seconds']:.0f} s, peak {done['peak_mib']:,.0f} MiB",
              flush=True)  # fmt: skip
        yield done


def main() -> int:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-sizes", default="1024,4096,16384,65536")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, help="default: 200,000; 25,000,000 with --full")
    parser.add_argument("--full", action="store_true", help="one epoch at MovieLens 25M's size instead")
    parser.add_argument("--one-full", choices=("dlrm", "ncf"), help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    args = parser.parse_args()
    if args.one_full:
        print(json.dumps(run_full(args.one_full, args.rows or 25_000_000)))
        return 0
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    figures: dict[str, Any] = {"machine": machine()}
    print(figures["machine"], flush=True)
    if args.full:
        figures["full"] = list(full(args.rows or 25_000_000))
    else:
        sizes = [int(size) for size in args.batch_sizes.split(",")]
        figures["comparison"] = run_comparison(sizes, args.rows or 200_000, args.repeats)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
