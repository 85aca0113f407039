"""A whole night at MovieLens 25M's size, end to end: load, train, score everyone, both lists, Parquet, audit.

    python tests/benchmarks/night.py [--users 162541] [--titles 62423] [--model dlrm|ncf|history] [--keep DIR]
    python tests/benchmarks/night.py --model history --changed 0.02

With ``--changed`` that share of the users rate five titles more on the next day, and that day's night is written twice:
whole, and taking over from the night before the lists that stand. Both must have the same parts.

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

from sdk.machine.blas import machine

ROOT = Path(__file__).resolve().parents[2]
GENRES = ("Action", "Comedy", "Drama", "Horror", "Romance", "Sci-Fi", "Thriller", "Western")
TRAIN = """
import logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
import sdk
dataset = sdk.load_movielens({data!r})
from sdk.base.config import HistoryConfig
history = HistoryConfig(
    rank=256, penalty=500.0, item_exponent=0.3, content_weight=0.5, popularity_weight=0.1, half_life_days=0.0,
    max_titles=4000, weighting="stars",
)
training = sdk.TrainingConfig(max_epochs=1, refit=False)
config = sdk.RunConfig(training=training, history=history, models=("{model}", "content"), final_fit=False)
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


def newer(path: Path, num_users: int, num_titles: int, share: float, seed: int = 1) -> None:
    """Write five more ratings of each of a share of the users, drawn at random."""
    rng = np.random.default_rng(seed)
    users = np.repeat(rng.choice(num_users, round(num_users * share), replace=False) + 1, 5)
    columns = [users, rng.integers(1, num_titles + 1, len(users)), rng.integers(1, 11, len(users)) / 2]
    times = np.full(len(users), 1_800_000_000)
    pa_csv.write_csv(pa.table([*columns, times], names=["userId", "movieId", "rating", "timestamp"]), path)


def main() -> int:
    """Run the night and print each stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=162_541)
    parser.add_argument("--titles", type=int, default=62_423)
    parser.add_argument("--model", default="dlrm")
    parser.add_argument("--changed", type=float, metavar="SHARE", help="and the next night, with and without --full")
    parser.add_argument("--keep", type=Path, help="keep data and bundle here, and use those that are there")
    args = parser.parse_args()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        home = args.keep or Path(folder)
        bundle = prepared(home, args.users, args.titles, args.model)
        night(home, bundle, "2026-11-23")
        if args.changed is not None:
            newer(home / "newer.csv", args.users, args.titles, args.changed)
            compare(home, bundle, "--ratings", str(home / "newer.csv"))
    return 0


def prepared(home: Path, num_users: int, num_titles: int, model: str) -> Path:
    """A trained bundle, timed where it is not there yet."""
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
    return bundle


def night(home: Path, bundle: Path, date: str, *options: str) -> tuple[float, float, dict[str, str]]:
    """One night: seconds of its command, of scoring in it, and the hashes of its files."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "batch.score", "--bundle", str(bundle), "--out", str(home / "nightly"),
               "--run-date", date, "--json", "--force", "--skip-gate", "users.sameness", "--no-report",
               *options]  # fmt: skip
    report = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout)
    seconds = time.perf_counter() - start
    print(f"night: {seconds:.1f} s: {json.dumps(report)}", flush=True)
    files = json.loads((home / "nightly" / f"run_date={date}" / "manifest.json").read_text())["files"]
    return seconds, sum(took for stage, took in report["seconds"].items() if stage.startswith("scoring ")), files


def compare(home: Path, bundle: Path, *options: str) -> None:
    """The next night, whole and by what changed."""
    full, changed = (night(home, bundle, "2026-11-24", *options, *more) for more in (["--full"], []))
    print(f"the same parts: {full[2] == changed[2]}; whole night {full[0] / changed[0]:.1f} times less time, "
          f"scoring {full[1] / max(changed[1], 1e-9):.1f} times less")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
