"""What ids of text cost beside whole numbers: seconds, rows per second and peak memory of loading interactions.

    python tests/benchmarks/text_ids.py [--rows 25000000] [--forms parquet csv] [--repeat 1]

The same interactions are written twice in a temporary folder, rows in no order: with users and items numbered, and with
users called by UUIDs and items by codes such as SKU-0004711-B. Each load (``read_interactions``: read, check, index,
merge pairs) runs in a process of its own.
Seconds of processors tell what a busy machine hides.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from sdk.machine.blas import machine

ROOT = Path(__file__).resolve().parents[2]
ITEMS, PER_USER = 62_000, 150
STEP = 1_000_000
_LOAD = """
import time
import pyarrow.compute, pyarrow.csv, pyarrow.parquet
from sdk.data.events import read_interactions
from sdk.base.stages import peak_memory_mib
before = peak_memory_mib()
start, spent = time.perf_counter(), time.process_time()
loaded = read_interactions({path!r})
seconds, spent = time.perf_counter() - start, time.process_time() - spent
print(seconds, spent, before, peak_memory_mib(), len(loaded.interactions), len(loaded.user_id), len(loaded.item_id))
"""


def generate(folder: Path, rows: int, form: str, *, text: bool, seed: int = 0) -> Path:
    """Write ``rows`` distinct pairs with a weight and a time, in no order."""
    draw = np.random.default_rng(seed)
    order = draw.permutation(rows)
    users = pa.array(
        [str(uuid.UUID(int=n * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)) for n in range(rows // PER_USER + 1)]
    )
    items = pa.array([f"SKU-{n:07}-{'ABC'[n % 3]}" for n in range(ITEMS)])
    path, writer = folder / f"{'text' if text else 'number'}.{form}", None
    for start in range(0, rows, STEP):
        row = order[start : start + STEP]
        user, nth = row // PER_USER, row % PER_USER
        item = (user * 7919 + nth * 10_007) % ITEMS  # 10,007 and 62,000 share no factor: no pair twice
        ids = (users.take(pa.array(user)), items.take(pa.array(item))) if text else (pa.array(user), pa.array(item))
        columns = {
            "user_id": ids[0], "item_id": ids[1], "weight": draw.integers(1, 6, len(row)),
            "timestamp": draw.integers(1_500_000_000, 1_700_000_000, len(row)),
        }  # fmt: skip
        table = pa.table(columns)
        if writer is None:
            writer = _writer(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()
    return path


def _writer(path: Path, layout: pa.Schema) -> pq.ParquetWriter | pa_csv.CSVWriter:
    if path.suffix == ".parquet":
        return pq.ParquetWriter(path, layout)
    return pa_csv.CSVWriter(path, layout, write_options=pa_csv.WriteOptions(quoting_style="none"))


def load(path: Path) -> list[float]:
    """Seconds, those of processors, MiB before and at the peak, pairs, users, items."""
    code = _LOAD.format(path=str(path))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return [float(value) for value in done.stdout.split()]


def main() -> None:
    """Generate, load, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=25_000_000)
    parser.add_argument("--forms", nargs="+", choices=("parquet", "csv"), default=["parquet"])
    parser.add_argument("--repeat", type=int, default=1, help="loads per figure; the median is shown")
    args = parser.parse_args()
    print(f"{machine()}, pyarrow {pa.__version__}")
    for form in args.forms:
        medians, spent = {}, {}
        for kind in ("number", "text"):
            with tempfile.TemporaryDirectory() as folder:
                path = generate(Path(folder), args.rows, form, text=kind == "text")
                runs = [load(path) for _ in range(args.repeat)]
                size = path.stat().st_size / 2**20
            if {run[4] for run in runs} != {args.rows}:
                sys.exit(f"{kind}: {sorted({run[4] for run in runs})} pairs of {args.rows} rows")
            seconds = medians[kind] = statistics.median(run[0] for run in runs)
            spent[kind] = statistics.median(run[1] for run in runs)
            _, _, before, _, _, users, items = runs[0]
            peak = max(run[3] for run in runs)
            print(
                f"  {form} {kind:6} {size:7,.0f} MiB  {seconds:6.1f} s ({spent[kind]:.1f} of processors)  "
                f"{args.rows / seconds:12,.0f} rows/s  "
                f"peak {peak:7,.0f} MiB ({before:,.0f} before)  {users:,.0f} users, {items:,.0f} items"
            )
        wall, work = (each["text"] / each["number"] for each in (medians, spent))
        print(f"  {form}: text takes {wall:.2f} times as long, {work:.2f} times the processors' seconds")


if __name__ == "__main__":
    main()
