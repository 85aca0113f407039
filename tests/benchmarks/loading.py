"""How fast ratings load: rows per second and peak memory, beside a plain pandas.read_csv of the same file.

    python tests/benchmarks/loading.py [--rows 25000000] [--forms csv dat] [--repeat 1] [--shuffled]

Lines are generated in a temporary folder: users ascending, each user's titles in no order, as MovieLens 1M has them,
or all lines in no order at all (--shuffled); so the loader must sort. Every load runs in a process of its own, so its
peak is its own. The pandas line is read_csv alone: no checks, no titles, no duplicates, no fingerprint.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from sdk.machine.blas import machine

ROOT = Path(__file__).resolve().parents[2]
ITEMS, RATINGS_PER_USER = 62_000, 150
STARS = np.array(["0.5", "1.0", "1.5", "2.0", "2.5", "3.0", "3.5", "4.0", "4.5", "5.0"])
LOADERS = {
    "marquee": "from sdk.data.movielens import load; n = len(load({folder!r}).interactions)",
    "pandas": "import pandas; n = len(pandas.read_csv({file!r}, header={header}, sep={sep!r}, {engine}))",
}


def generate(folder: Path, form: str, rows: int, *, shuffled: bool = False, seed: int = 0) -> Path:
    """Write a ratings file of ``rows`` distinct pairs and its titles; the ratings file is returned."""
    draw = np.random.default_rng(seed)
    titles = [f"{i}{{0}}Film {i} (1999){{0}}Drama" for i in range(1, ITEMS + 1)]
    sep, header = ("::", "") if form == "dat" else (",", "movieId,title,genres\n")
    text = header + "\n".join(titles).format(sep) + "\n"
    (folder / f"movies.{form}").write_text(text)
    path = folder / f"ratings.{form}"
    order = draw.permutation(rows) if shuffled else np.arange(rows)
    with path.open("wb") as file:
        if form == "csv":
            file.write(b"userId,movieId,rating,timestamp\n")
        for start in range(0, rows, 1_000_000):
            file.write(_lines(draw, order[start : start + 1_000_000], sep.encode()))
    return path


def _lines(draw: np.random.Generator, row: np.ndarray, sep: bytes) -> bytes:
    user, nth = row // RATINGS_PER_USER + 1, row % RATINGS_PER_USER
    item = (user * 7919 + nth * 10_007) % ITEMS + 1  # 10,007 and 62,000 share no factor: no pair twice
    stars = pa.array(STARS).take(pa.array(draw.integers(0, 10, len(row))))
    time_ = draw.integers(789_652_009, 1_574_327_703, len(row))
    table = pa.table([user, item, stars, time_], names=["u", "i", "r", "t"])
    sink = pa.BufferOutputStream()
    pa_csv.write_csv(table, sink, pa_csv.WriteOptions(include_header=False, quoting_style="none"))
    return sink.getvalue().to_pybytes().replace(b",", sep)


def measure(code: str) -> tuple[float, float, int]:
    """Seconds, peak MiB and rows of one load in a process of its own (its imports are not counted in the seconds)."""
    imports, _, body = code.partition("; ")
    script = (
        f"import time; {imports}; start = time.perf_counter(); {body}; seconds = time.perf_counter() - start; "
        "from sdk.base.stages import peak_memory_mib; print(seconds, peak_memory_mib(), n)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    seconds, peak, rows = done.stdout.split()
    return float(seconds), float(peak), int(rows)


def code_of(loader: str, file: Path) -> str:
    """The statement that one loader runs on a file."""
    csv = file.suffix == ".csv"
    sep, engine = (",", "engine='c'") if csv else (":", "engine='c', usecols=[0, 2, 4, 6]")
    return LOADERS[loader].format(
        folder=str(file.parent), file=str(file), header=0 if csv else None, sep=sep, engine=engine
    )


def main() -> None:
    """Generate, load, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=25_000_000)
    parser.add_argument("--forms", nargs="+", choices=("csv", "dat"), default=["csv", "dat"])
    parser.add_argument("--repeat", type=int, default=1, help="loads per figure; the median is shown with the range")
    parser.add_argument("--shuffled", action="store_true", help="lines in no order")
    args = parser.parse_args()
    print(f"{machine()}, pyarrow {pa.__version__}")
    for form in args.forms:
        with tempfile.TemporaryDirectory() as folder:
            file = generate(Path(folder), form, args.rows, shuffled=args.shuffled)
            print(f"{form}: {args.rows:,} rows, {file.stat().st_size / 2**20:,.0f} MiB")
            for loader in LOADERS:
                runs = [measure(code_of(loader, file)) for _ in range(args.repeat)]
                show(loader, runs, args.rows)


def show(loader: str, runs: list[tuple[float, float, int]], rows: int) -> None:
    """One line per loader; a loader that lost rows is a failure, not a figure."""
    if {run[2] for run in runs} != {rows}:
        sys.exit(f"{loader} read {sorted({run[2] for run in runs})} rows of {rows}")
    seconds = statistics.median(run[0] for run in runs)
    spread = f" ({min(run[0] for run in runs):.1f} to {max(run[0] for run in runs):.1f})" if len(runs) > 1 else ""
    peak = max(run[1] for run in runs)
    print(f"  {loader:8} {seconds:6.1f} s{spread}  {rows / seconds:12,.0f} rows/s  peak {peak:7,.0f} MiB")


if __name__ == "__main__":
    main()
