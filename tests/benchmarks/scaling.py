"""Cost against the number of users and of titles, and the plot in docs/, with the machine's limit drawn in.

    python tests/benchmarks/scaling.py [--out docs/scaling.png]

The dot product (d = 64) and the DLRM (5 fields, dim 32, top MLP 64-32-1), random weights, top 100. Users grow from
1,000 to 162,541 at 2,000 titles for the DLRM and 59,047 for the dot product; titles from 1,000 to 500,000 at 256
users. The limit is what the same product takes at the fastest rate that a large matrix product reached here.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sdk.features.seen import Seen
from sdk.machine.blas import machine
from sdk.models.pair_form import Head, PairForm, Side
from sdk.scoring.engine import Engine

K, FLOP = 100, {"dot": 128, "dlrm": 5475}
USERS, TITLES = (1_000, 4_000, 16_000, 64_000, 162_541), (1_000, 5_000, 20_000, 100_000, 500_000)


def form(kind: str, num_users: int, num_items: int) -> PairForm:
    """A random model of the wanted kind and size."""
    rng = np.random.default_rng(0)
    dot, hidden, fields = (64, 0, (0, 0)) if kind == "dot" else (0, 64, (2, 3))

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32) * np.float32(0.1)

    def side(rows: int, num_fields: int) -> Side:
        return Side(draw(rows), draw(rows, dot), draw(rows, hidden), draw(rows, num_fields, 32))

    tail = ((draw(32, 64), draw(32)), (draw(1, 32), draw(1))) if kind == "dlrm" else ()
    return PairForm(
        side(num_users + 3, fields[0]), side(num_items + 3, fields[1]), Head(draw(hidden, 6 if hidden else 0), tail)
    )


def seconds(kind: str, num_users: int, num_items: int, repeats: int) -> float:
    """Median seconds to score everyone, without pruning."""
    engine = Engine(form(kind, num_users, num_items), prune=False)
    rows = np.arange(3, num_users + 3)
    engine.top_k(rows[:64], Seen.nothing(64), K)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        for first in range(0, num_users, 8192):
            part = rows[first : first + 8192]
            engine.top_k(part, Seen.nothing(len(part)), K)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def gemm_flops() -> float:
    """The fastest rate of a 2048-cube in float32, FLOP/s."""
    a = np.random.default_rng(0).random((2048, 2048), dtype=np.float32)
    times = []
    for _ in range(7):
        start = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(times)


def main() -> int:
    """Measure and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/scaling.png"))
    args = parser.parse_args()
    print(machine(), flush=True)
    limit = gemm_flops()
    figure = Figure(figsize=(10, 4.2), dpi=120, layout="constrained")
    axes = figure.subplots(1, 2)
    for kind, colour in (("dot", "#0072B2"), ("dlrm", "#D55E00")):
        fixed_titles = 59_047 if kind == "dot" else 2_000
        by_users = [(n, seconds(kind, n, fixed_titles, 3 if n < 20_000 else 1), n * fixed_titles) for n in USERS]
        by_titles = [(n, seconds(kind, 256, n, 3), n * 256) for n in TITLES]
        for axis, points, what in ((axes[0], by_users, f"{fixed_titles:,} titles"), (axes[1], by_titles, "256 users")):
            sizes, times, pairs = zip(*points, strict=True)
            axis.loglog(sizes, times, "o-", color=colour, label=f"{kind}, {what}")
            axis.loglog(
                sizes, [n * FLOP[kind] / limit for n in pairs], ":", color=colour, label=f"{kind}: BLAS's GEMM rate"
            )
            for size, taken, n in points:
                print(f"{kind} {what} {size}: {taken:.3f} s, {n / taken / 1e6:.0f} million pairs/s", flush=True)
    for axis, name in zip(axes, ("users", "titles"), strict=True):
        axis.set(xlabel=name, ylabel="seconds")
        axis.grid(True, which="major", color="#dddddd")
        axis.legend(fontsize=8, frameon=False)
    figure.suptitle("Cost grows linearly in users and in titles (two cores, top 100, every pair scored)")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(str(args.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
