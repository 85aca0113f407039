"""A whole night at MovieLens 25M's size, end to end: load, train, score everyone, both lists, Parquet, audit.

    python tests/benchmarks/night.py [--users 162541] [--titles 62423] [--model dlrm|ncf] [--keep DIR]

Ratings are generated in MovieLens's CSV form with a Zipf-like popularity and eight planted tastes. One epoch is
trained, without refit: this measures speed and memory, not quality, so the gate on personal taste is skipped. Every
stage runs in a process of its own, as the commands do, so its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

ROOT = Path(__file__).resolve().parents[2]
GENRES = ("Action", "Comedy", "Drama", "Horror", "Romance", "Sci-Fi", "Thriller", "Western")
TRAIN = """
import logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
import sdk
dataset = sdk.load_movielens({data!r})
config = sdk.RunConfig(training=sdk.TrainingConfig(max_epochs=1, refit=False), models=("{model}", "content"))
sdk.train(dataset, config, {bundle!r}, force=True)
from sdk.base.stages import peak_memory_mib
print(f"peak memory of training: {{peak_memory_mib():.0f}} MiB")
"""


def generate(folder: Path, num_users: int, num_titles: int, per_user: int = 154, seed: int = 0) -> int:
    """Write ratings.csv and movies.csv; the number of ratings (a user's repeated draws are dropped)."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    names = pa.array([f"Film {i} ({1930 + i % 90})" for i in range(1, num_titles + 1)])
    genres = pa.array(["|".join(sorted(rng.choice(GENRES, 2, replace=False))) for _ in range(num_titles)])
    movies = pa.table({"movieId": np.arange(1, num_titles + 1), "title": names, "genres": genres})
    pa_csv.write_csv(movies, folder / "movies.csv")
    shares = np.cumsum(1.0 / (np.arange(num_titles) + 50.0))
    taste, quality = rng.normal(0, 0.5, (num_titles, 8)), rng.normal(0, 0.4, num_titles)
    written = 0
    columns = ("userId", "movieId", "rating", "timestamp")
    with pa_csv.CSVWriter(folder / "ratings.csv", pa.schema([(columns[0], pa.int64()), (columns[1], pa.int64()),
                          (columns[2], pa.float32()), (columns[3], pa.int64())])) as writer:  # fmt: skip
        for first in range(0, num_users, 20_000):
            users = np.repeat(np.arange(first, min(first + 20_000, num_users)), per_user)
            items = np.minimum(np.searchsorted(shares / shares[-1], rng.random(len(users))), num_titles - 1)
            key = np.unique(users * num_titles + items)
            users, items = key // num_titles, key % num_titles
            liking = rng.normal(0, 1, (20_000, 8))[users - first]
            stars = 3.5 + (liking * taste[items]).sum(1) + quality[items] + rng.normal(0, 0.6, len(users))
            rating = (np.clip(np.round(stars * 2), 1, 10) / 2).astype(np.float32)
            writer.write_table(
                pa.table([users + 1, items + 1, rating, 1_200_000_000 + key % 300_000_000], names=columns)
            )
            written += len(users)
    return written


def main() -> int:
    """Run the night and print each stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=162_541)
    parser.add_argument("--titles", type=int, default=62_423)
    parser.add_argument("--model", default="dlrm")
    parser.add_argument("--keep", type=Path, help="keep data and bundle here, and use those that are there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(args.keep or Path(folder), args.users, args.titles, args.model)
    return 0


def run(home: Path, num_users: int, num_titles: int, model: str) -> None:
    """Generate, train and score, each timed."""
    data, bundle = home / "ml-generated", home / f"bundle-{model}"
    if not data.exists():
        start = time.perf_counter()
        rows = generate(data, num_users, num_titles)
        print(f"generated {rows:,} ratings in {time.perf_counter() - start:.0f} s", flush=True)
    if not bundle.exists():
        code = TRAIN.format(data=str(data), model=model, bundle=str(bundle))
        start = time.perf_counter()
        subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, check=True)
        print(f"load and train: {time.perf_counter() - start:.0f} s", flush=True)
    start = time.perf_counter()
    command = [sys.executable, "-m", "batch.score", "--bundle", str(bundle), "--out", str(home / "nightly"),
               "--run-date", "2026-11-23", "--json", "--force",
               "--skip-gate", "users.sameness"]  # fmt: skip
    report = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout)
    print(f"night: {time.perf_counter() - start:.0f} s: {json.dumps(report)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
