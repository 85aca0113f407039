"""Lists over a catalogue of which only a tile is laid out at a time: peak memory, and the same bits.

    python tests/benchmarks/item_tiles.py [--items 1000000] [--width 128] [--users 512] [--tiles 0 250000 50000]

A form of lists is written as bundles store it, drawn at random: a dot product and a bias. Each row is a process of its
own with one thread, which maps it and makes the users' lists of 100 with so many items per tile, 0 for all at once.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from sdk.base.stages import peak_memory_mib
from sdk.base.stored_arrays import write_arrays
from sdk.features.seen import Seen
from sdk.features.tables import FIRST_KNOWN
from sdk.machine.blas import machine
from sdk.models.form_files import form_arrays, read_form
from sdk.models.pair_form import NO_MLP, PairForm, Side
from sdk.scoring.engine import Engine
from sdk.scoring.tiled import TiledEngine

K = 100


def main() -> int:
    """Write the form, score it in every way, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--users", type=int, default=512)
    parser.add_argument("--tiles", type=int, nargs="+", default=[0, 250_000, 50_000])
    parser.add_argument("--score", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.score is not None:
        print(score(args.score, args.users, args.items, args.tiles[0]))
        return 0
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lists.npz"
        write(path, args.users, args.items, args.width)
        size = path.stat().st_size / 2**20
        print(f"{args.items:,} items of width {args.width}, {size:,.0f} MiB; {args.users:,} users, lists of {K}")
        sizes = ["--items", str(args.items), "--users", str(args.users), "--score", str(path)]
        rows = [[sys.executable, __file__, *sizes, "--tiles", str(tile)] for tile in args.tiles]
        found = [subprocess.run(row, check=True, stdout=subprocess.PIPE, text=True).stdout.split() for row in rows]
    print("\n| items per tile | s | peak MiB | the same bits |\n|---:|---:|---:|---|")
    for tile, (seconds, peak, digest) in zip(args.tiles, found, strict=True):
        same = "yes" if digest == found[0][2] else "no"
        print(f"| {f'{tile:,}' if tile else 'all'} | {float(seconds):.1f} | {float(peak):,.0f} | {same} |")
    return int(len({digest for _, _, digest in found}) > 1)


def write(path: Path, num_users: int, num_items: int, width: int) -> None:
    """A form of random numbers."""
    rng = np.random.default_rng(0)
    sides = []
    for size in (num_users + FIRST_KNOWN, num_items + FIRST_KNOWN):
        dot = rng.standard_normal((size, width), np.float32)
        sides.append(Side.plain(rng.standard_normal(size, np.float32), dot))
    write_arrays(path, form_arrays(PairForm(*sides, NO_MLP)))


def score(path: Path, num_users: int, num_items: int, tile: int) -> str:
    """Seconds, peak MiB and a hash of the lists."""
    form = read_form(path, num_users + FIRST_KNOWN, num_items + FIRST_KNOWN)
    rows, nothing = FIRST_KNOWN + np.arange(num_users), Seen.nothing(num_users)
    start = time.perf_counter()
    engine = TiledEngine(form, items_per_tile=tile, threads=1) if tile else Engine(form, threads=1)
    found = engine.top_k(rows, nothing, K)
    seconds = time.perf_counter() - start
    digest = hashlib.sha256(found.row.tobytes() + found.scores.tobytes() + found.lengths.tobytes()).hexdigest()
    return f"{seconds} {peak_memory_mib()} {digest}"


if __name__ == "__main__":
    sys.exit(main())
