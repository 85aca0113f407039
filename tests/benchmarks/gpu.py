"""Training and a whole night on a GPU, at MovieLens 25M's size, beside what memory and arithmetic allow.

    python tests/benchmarks/gpu.py [--json docs/gpu.json] [--plots docs]
    python tests/benchmarks/gpu.py --device cpu --small        # the same code at a tiny size, to try it out

Rows are generated as encoded tables and interactions, so neither NVTabular nor a data set is needed. Parts:

- limits: measured memory bandwidth and matrix-product rate of the device;
- training: the DLRM, batch 65,536, in float32 and with bfloat16 products, two seeds each; rows a second, AUC;
- agreement of training: the same smaller rows trained on the CPU and on the device, AUC of both;
- nights: the 100 best unseen titles of every user, for the DLRM (plain torch; fused in float32; fused with selection in
  three products of TF32, and proof), the dot product of width 64 (plain, fused) and one of width 320 (fused);
- with each night, agreement: a sample of users scored by the CPU's engine;
- little memory: some of the night again with most of the GPU's memory out of bounds;
- tiles: the fused kernel's seconds with other tiles than the default.

A part that fails, or for which no time is left, is named with its reason, and the others still run. The JSON is written
after every part.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from gpu_night import DOT_TILES, MLP_TILES, Night, little_memory, wide_form  # noqa: E402
from gpu_run import SMALL, Run, Size  # noqa: E402
from gpu_training import NCF_64, Data, training, training_agreement, training_ncf, training_uncaptured  # noqa: E402

from sdk.base.config import DLRMConfig, TrainingConfig  # noqa: E402
from sdk.base.errors import UsageError  # noqa: E402
from sdk.features.seen import Seen  # noqa: E402
from sdk.features.tables import FIRST_KNOWN  # noqa: E402
from sdk.machine.device import DEVICES, resolve_device  # noqa: E402
from sdk.models.dlrm import DLRM  # noqa: E402
from sdk.models.ncf import NCF  # noqa: E402
from sdk.training.loop import seeded  # noqa: E402

TARGETS = {"training rows/s": 4e6, "epoch s": 5.0, "dlrm plain s": 10.0, "dlrm fused s": 3.0, "ncf s": 2.0}


def measure(run: Run) -> dict[str, Any]:
    """Every part, one after the other: what is asked of first, what explains it last."""
    size, start = run.size, time.perf_counter()
    run.figures["machine"] = run.machine()
    run.figures["targets"] = TARGETS
    run.part("limits", run.limits)
    data = Data.generate(size.users, size.items, size.rows, size.held_out)
    seen = Seen.build(data.rows.user_index, data.rows.item_index, size.users + FIRST_KNOWN)
    run.figures["generated_s"] = time.perf_counter() - start
    run.part("training_float32", lambda: training(run, data, "float32"))
    run.part("training_ncf", lambda: training_ncf(run, data), 60)
    models = {
        "dlrm": run.models.get("dlrm") or seeded(lambda: DLRM(DLRMConfig(), *data.tables), TrainingConfig()),
        "ncf": run.models.get("ncf") or seeded(lambda: NCF(NCF_64, *data.tables), TrainingConfig()),
    }  # untrained where training failed: the nights are measured all the same
    nights = {name: Night(run, model.lower(), seen) for name, model in models.items()}
    measure_nights(run, nights)
    run.part("training_bf16", lambda: training(run, data, "bf16"), 60)
    run.part("training_uncaptured", lambda: training_uncaptured(run, data), 40)
    run.part("training_agreement", lambda: training_agreement(run), 60)
    run.part("little_memory", lambda: little_memory(run, nights["dlrm"].form, seen), 40)
    run.part("night_wide", lambda: wide_night(run, seen), 40)
    for precision in ("tf32x3", "ieee"):
        run.part(f"tiles_{precision}", lambda p=precision: nights["dlrm"].sweep(MLP_TILES, p), 60)
    run.part("tiles_dot", lambda: nights["ncf"].sweep(DOT_TILES, "ieee"), 40)
    run.figures["machine"] = run.machine()  # triton is known by now
    run.figures["seconds"] = time.perf_counter() - start
    return run.figures


def measure_nights(run: Run, nights: dict[str, Night]) -> None:
    """Both models' nights, each way to score."""
    run.part("cpu_lists", lambda: {name: night.on_the_cpu() for name, night in nights.items()})
    run.part("night_dlrm_fused", lambda: nights["dlrm"].score(fused=True), 90)
    run.part("night_dlrm_tf32x3", lambda: nights["dlrm"].score(fused=True, precision="tf32x3"), 60)
    run.part("night_dlrm_plain", lambda: nights["dlrm"].score(fused=False), 60)
    run.part("night_ncf_fused", lambda: nights["ncf"].score(fused=True), 60)
    run.part("night_ncf_plain", lambda: nights["ncf"].score(fused=False), 60)


def wide_night(run: Run, seen: Seen) -> dict[str, Any]:
    """The night of a dot product that is as wide as the history model's and the ranker's together."""
    night = Night(run, wide_form(run), seen)
    night.on_the_cpu()
    return night.score(fused=True)


def draw(figures: dict[str, Any], folder: Path) -> None:
    """Two bar charts: training rows a second and seconds of a night, each beside its target and limits."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, bars, unit, title in (
        (left, training_bars(figures), "rows/s", "Training the DLRM"),
        (right, night_bars(figures), "s", "A night"),
    ):
        axes.barh(list(bars), list(bars.values()))
        axes.set(xlabel=unit, title=title, **({"xscale": "log"} if bars else {}))
        axes.invert_yaxis()
    figure.suptitle(f"{figures['machine']['name']}, torch {figures['machine']['torch']}")
    figure.savefig(folder / "gpu.png", dpi=110)


def training_bars(figures: dict[str, Any]) -> dict[str, float]:
    """Rows a second by label."""
    bars = {}
    for name in ("float32", "bf16", "uncaptured"):
        found = figures.get(f"training_{name}", {})
        if "rows_s" in found:
            bars[name] = found["rows_s"]
        if name == "float32" and "limit" in found:
            bars |= {"target": TARGETS["training rows/s"], "limit: memory": found["limit"]["rows_s_by_memory"],
                     "limit: arithmetic": found["limit"]["rows_s_by_arithmetic"]}  # fmt: skip
    return bars


def night_bars(figures: dict[str, Any]) -> dict[str, float]:
    """Seconds by label, with each model's limits behind its last measurement."""
    bars: dict[str, float] = {}
    for model, ways in (("dlrm", ("plain", "fused", "tf32x3")), ("ncf", ("plain", "fused"))):
        for way in ways:
            found = figures.get(f"night_{model}_{way}", {})
            if "seconds" in found:
                bars[f"{model} {way}"] = found["seconds"]
                limits = found["limit"]
                bars[f"{model} limit: arithmetic"] = limits["arithmetic_s"]
                bars[f"{model} limit: scores through memory"] = limits["scores_through_memory_s"]
        bars |= {f"{label[:-2]} target": value for label, value in TARGETS.items() if label.startswith(model)}
    return bars


def main(argv: list[str] | None = None) -> int:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=DEVICES, default="cuda")
    parser.add_argument("--small", action="store_true", help="a tiny size, to try the code out")
    parser.add_argument("--budget-s", type=float, default=440, help="no part starts or goes on after so many seconds")
    parser.add_argument("--json", type=Path, help="write the figures here, after every part")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="write gpu.png here; needs matplotlib")
    parser.add_argument("--from-json", type=Path, metavar="FILE", help="measure nothing; draw --plots from a file")
    args = parser.parse_args(argv)
    logging.lastResort = None  # the library's warnings go into the figures
    try:
        if args.from_json:
            figures = json.loads(args.from_json.read_text("utf-8"))
        else:
            device = resolve_device(args.device)
            ends = time.perf_counter() + args.budget_s
            run = Run(device, SMALL if args.small else Size(), ends, args.json)
            figures = measure(run)
            run.write()
    except UsageError as error:
        print(f"no GPU: nothing is measured ({error})", file=sys.stderr)
        return error.exit_code
    if args.plots:
        draw(figures, args.plots)
    return int(any("failed" in part for part in figures.values() if isinstance(part, dict)))


if __name__ == "__main__":
    sys.exit(main())
