"""A whole training run at MovieLens 25M's size, on generated ratings: does it work, how long, how much memory.

    python tests/benchmarks/full_size.py [--users 162541] [--titles 59047] [--ratings 25000000] [--max-epochs 2]

Ratings are drawn with the real set's skew: few users rate much, few titles are rated much, and each user's stars follow
a bias, the title's bias and a few latent tastes. They are written as MovieLens writes them, then `python -m sdk train`
runs on them in a process of its own. AUC figures say that learning works at this size, not how good it is on real data.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from sdk.machine.blas import machine

ROOT = Path(__file__).resolve().parents[2]
GENRES = ("Action", "Comedy", "Drama", "Horror", "Romance", "Sci-Fi", "Thriller", "Documentary")
TASTES, USERS_AT_ONCE = 8, 4096


def generate(folder: Path, num_users: int, num_titles: int, num_ratings: int, seed: int = 0) -> int:
    """Write ratings.csv and movies.csv; the number of ratings is returned (pairs drawn twice are dropped)."""
    draw = np.random.default_rng(seed)
    genre = draw.integers(0, len(GENRES), num_titles)
    titles = [f"{i + 1},Film {i + 1} ({1950 + i % 70}),{GENRES[g]}" for i, g in enumerate(genre)]
    (folder / "movies.csv").write_text("movieId,title,genres\n" + "\n".join(titles) + "\n")
    share = 1 / (np.arange(num_titles) + 30.0)
    cumulative = np.cumsum(draw.permutation(share / share.sum()))
    length = np.clip(draw.lognormal(4.2, 1.15, num_users), 20, num_titles / 8)
    length = np.maximum(20, length * num_ratings / length.sum()).astype(np.int64)
    item_bias, item_taste = draw.normal(0, 0.5, num_titles), draw.normal(0, 0.35, (num_titles, TASTES))
    item_taste += draw.normal(0, 0.3, (len(GENRES), TASTES))[genre]
    written = 0
    with pa_csv.CSVWriter(
        folder / "ratings.csv", _SCHEMA, write_options=pa_csv.WriteOptions(quoting_style="none")
    ) as file:
        for start in range(0, num_users, USERS_AT_ONCE):
            counts = length[start : start + USERS_AT_ONCE]
            user = np.repeat(np.arange(len(counts)), counts)
            item = np.minimum(np.searchsorted(cumulative, draw.random(len(user))), num_titles - 1)
            pair = np.unique(user * num_titles + item)
            user, item = pair // num_titles, pair % num_titles
            taste, bias = draw.normal(0, 1, (len(counts), TASTES)), draw.normal(0, 0.4, len(counts))
            stars = 3.6 + bias[user] + item_bias[item] + np.einsum("nd,nd->n", taste[user], item_taste[item])
            stars = np.clip(np.round(2 * (stars + draw.normal(0, 0.7, len(pair)))) / 2, 0.5, 5)
            moment = draw.integers(789_652_009, 1_574_327_703, len(pair))
            columns = [user + start + 1, item + 1, stars, moment]
            file.write_table(pa.table(dict(zip(_SCHEMA.names, columns, strict=True)), schema=_SCHEMA))
            written += len(pair)
    return written


_SCHEMA = pa.schema(
    {"userId": pa.int64(), "movieId": pa.int64(), "rating": pa.float64(), "timestamp": pa.int64()}.items()
)


def train(folder: Path, out: Path, *options: str) -> tuple[float, float]:
    """Seconds and peak GiB of one `python -m sdk train`; its log goes to stderr."""
    command = [sys.executable, "-m", "sdk", "train", "--movielens", str(folder), "--out", str(out), *options]
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    return time.perf_counter() - start, peak


def show(bundle: Path, rows: int, seconds: float, peak: float) -> None:
    """One line per stage, then the metrics."""
    stages = json.loads((bundle / "reports" / "stages.json").read_text())["seconds"]
    for name, each in stages.items():
        print(f"  {name:24s} {each:8.1f} s")
    print(f"  {'reading and the rest':24s} {seconds - sum(stages.values()):8.1f} s")
    print(f"{rows:,} ratings: {seconds:.0f} s in all, peak {peak:.1f} GiB")
    for row in json.loads((bundle / "bundle.json").read_text())["metrics"]["test"]:
        print(f"  {row['model']:24s} test AUC {row['auc']:.4f}")


def main() -> None:
    """Generate, train, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=162_541)
    parser.add_argument("--titles", type=int, default=59_047)
    parser.add_argument("--ratings", type=int, default=25_000_000)
    parser.add_argument("--max-epochs", type=int, default=2, help="per model, to bound the time")
    parser.add_argument("--models", default="dlrm,ncf,history,content")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the bundle here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "ml-generated"
        folder.mkdir()
        rows = generate(folder, args.users, args.titles, args.ratings)
        print(f"{machine()}, load {os.getloadavg()[0]:.1f}, {rows:,} ratings generated", flush=True)
        bundle = args.keep or Path(scratch) / "bundle"
        seconds, peak = train(folder, bundle, "--models", args.models, "--max-epochs", str(args.max_epochs))
        show(bundle, rows, seconds, peak)


if __name__ == "__main__":
    main()
