"""Training and a whole night on a GPU, at MovieLens 25M's size, beside what memory and arithmetic allow.

    python tests/benchmarks/gpu.py [--json docs/gpu.json] [--plots docs]
    python tests/benchmarks/gpu.py --device cpu --small        # the same code at a tiny size, to try it out

Rows are generated as encoded tables and interactions, so neither NVTabular nor a data set is needed. Parts:

- limits: measured memory bandwidth and matrix-product rate of the device;
- training: the DLRM, batch 65,536, in float32 and with bfloat16 products; rows a second, seconds an epoch, AUC;
- agreement of training: the same smaller rows trained on the CPU and on the device, AUC of both;
- night: the 100 best unseen titles of every user, for the DLRM and for the dot product, through ``TorchEngine``;
- agreement of lists: a sample of users scored by the CPU's engine;
- little memory: some of the night again with most of the GPU's memory out of bounds.

A part that fails, or for which no time is left, is named with its reason, and the others still run.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from training import ITEMS_25M, USERS_25M, flop_per_row, interactions, tables  # noqa: E402

from sdk.config import DLRMConfig, NCFConfig, TrainingConfig  # noqa: E402
from sdk.device import DEVICES, resolve_device  # noqa: E402
from sdk.errors import UsageError  # noqa: E402
from sdk.features.encode import EncodedInteractions  # noqa: E402
from sdk.features.tables import FIRST_KNOWN  # noqa: E402
from sdk.models.dlrm import DLRM  # noqa: E402
from sdk.models.ncf import NCF  # noqa: E402
from sdk.models.pair_model import PairModel  # noqa: E402
from sdk.scoring.engine import Engine, RowTopK  # noqa: E402
from sdk.scoring.pair_form import PairForm  # noqa: E402
from sdk.scoring.seen import Seen  # noqa: E402
from sdk.scoring.torch_engine import TorchEngine  # noqa: E402
from sdk.training.loop import seeded, train  # noqa: E402

TARGETS = {"training rows/s": 4e6, "epoch s": 5.0, "dlrm night s": 10.0, "ncf night s": 2.0}
TOLERANCE = 1e-4
"""Of a logit: two titles closer than this are a near-tie."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is generated and scored."""

    users: int = USERS_25M
    items: int = ITEMS_25M
    rows: int = 20_000_000
    held_out: int = 500_000
    batch: int = 65_536
    epochs: int = 3
    compared_rows: int = 300_000
    sampled_users: int = 1_000
    k: int = 100
    copied_mib: int = 2_048
    product: int = 8_192


SMALL = Size(300, 200, 20_000, 4_000, 1_024, 2, 8_000, 50, 10, 8, 256)


@dataclass(slots=True)
class Run:
    """What the parts share.

    Attributes:
        device: ``cuda`` or ``cpu``.
        size: of everything.
        ends: when no new part is started any more, by the clock of ``time.perf_counter``.
        figures: what has been measured, by part.
    """

    device: str
    size: Size
    ends: float
    figures: dict[str, Any] = field(default_factory=dict)
    models: dict[str, PairModel] = field(default_factory=dict)

    def part(self, name: str, work: Callable[[], Any]) -> None:
        """Do one part, and keep its figures or why there are none."""
        start = time.perf_counter()
        if start > self.ends:
            self.figures[name] = {"skipped": "no time left"}
        else:
            try:
                self.figures[name] = work()
            except Exception as error:  # the others still run
                self.figures[name] = {"failed": f"{type(error).__name__}: {error}"}
        print(f"{name} ({time.perf_counter() - start:.1f} s): {json.dumps(self.figures[name])}", flush=True)

    def wait(self) -> None:
        """Until the device has done all it was asked."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], Any], repeats: int = 5) -> float:
        """The median time of some work; the first time is not counted."""
        taken = []
        for _ in range(repeats + 1):
            self.wait()
            start = time.perf_counter()
            work()
            self.wait()
            taken.append(time.perf_counter() - start)
        return statistics.median(taken[1:])


def machine(run: Run) -> dict[str, Any]:
    """What the figures were measured on."""
    name = torch.cuda.get_device_name() if run.device == "cuda" else platform.processor() or platform.machine()
    return {"device": run.device, "name": name, "torch": torch.__version__, "cuda": torch.version.cuda,
            "numpy": np.__version__, "python": platform.python_version()}  # fmt: skip


def copying(run: Run) -> float:
    """GB/s read and written by a large copy."""
    source = torch.zeros(run.size.copied_mib << 18, device=run.device)
    target = torch.empty_like(source)
    return 2 * 4 * len(source) / 1e9 / run.seconds(lambda: target.copy_(source))


def limits(run: Run) -> dict[str, float]:
    """Measured GB/s of a copy, and TFLOP/s of matrix products in float32 and bfloat16."""
    found = {"gb_s": copying(run)}
    for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        square = torch.rand(run.size.product, run.size.product, device=run.device).to(dtype)
        seconds = run.seconds(lambda x=square: x @ x, repeats=3)
        found[f"tflop_s_{name}"] = 2 * run.size.product**3 / 1e12 / seconds
    return found


# --- training ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """Generated rows, cut in two, and the tables of the first part."""

    rows: EncodedInteractions
    held_out: EncodedInteractions
    tables: tuple[Any, ...]

    @classmethod
    def generate(cls, num_users: int, num_items: int, num_rows: int, num_held_out: int) -> Data:
        whole = interactions(num_users, num_items, num_rows + num_held_out)
        rows = whole.take(np.arange(num_rows))
        held_out = whole.take(np.arange(num_rows, len(whole)))
        return cls(rows, held_out, tables(rows, num_users, num_items, num_numbers=9))


def training(run: Run, data: Data) -> dict[str, Any]:
    """The DLRM in every precision that the device offers: speed of the best epoch but the first, and AUC."""
    config = TrainingConfig(batch_size=run.size.batch)
    found: dict[str, Any] = {"rows": len(data.rows), "batch": run.size.batch}
    for precision in ("float32", "bf16") if run.device == "cuda" else ("float32",):
        model = seeded(lambda: DLRM(DLRMConfig(), *data.tables), config)
        history = train(
            model, data.rows, data.held_out, config, name=precision, num_epochs=run.size.epochs,
            device=run.device, bf16=precision == "bf16",
        ).history  # fmt: skip
        speed = [record.rows_per_s for record in history]
        found[precision] = {
            "rows_s": statistics.median(speed[1:]), "epoch_s": len(data.rows) / statistics.median(speed[1:]),
            "first_epoch_s": len(data.rows) / speed[0], "low": min(speed[1:]), "high": max(speed[1:]),
            "auc": max(record.auc for record in history),
        }  # fmt: skip
        if precision == "float32":
            run.models["dlrm"] = model
            found["limit"] = training_limit(run, model)
    return found


def training_ncf(run: Run, data: Data) -> dict[str, float]:
    """One epoch of the dot-product NCF, so that the night has its scores to tell apart."""
    config = TrainingConfig(batch_size=run.size.batch)
    run.models["ncf"] = seeded(lambda: NCF(NCFConfig(), *data.tables), config)
    result = train(run.models["ncf"], data.rows, data.held_out, config, name="ncf", num_epochs=1, device=run.device)
    return {"rows_s": result.history[0].rows_per_s, "auc": result.history[0].auc}


def training_limit(run: Run, model: DLRM) -> dict[str, float]:
    """Rows a second that arithmetic alone and memory alone would allow.

    Adam reads and writes each weight and both moments, and its gradient is zeroed, added to and read: nine moves of
    four bytes a weight and step. A row moves its looked-up vectors, and their gradients, about four times.
    """
    weights = sum(parameter.numel() for parameter in model.parameters())
    width = sum(module.embedding_dim for module in model.modules() if isinstance(module, torch.nn.Embedding))
    dense = 3 * 4 * (model.users.num_dense + model.items.num_dense)
    step_bytes = 9 * 4 * weights + run.size.batch * (4 * 4 * width + dense + 10)
    flop, rate = flop_per_row(model), run.figures["limits"]
    return {
        "weights": weights, "bytes_per_step": step_bytes, "flop_per_row": flop,
        "rows_s_by_memory": run.size.batch * rate["gb_s"] * 1e9 / step_bytes,
        "rows_s_by_arithmetic": rate["tflop_s_float32"] * 1e12 / flop,
    }  # fmt: skip


def training_agreement(run: Run) -> dict[str, float]:
    """AUC after two epochs over the same rows, trained on the CPU and on the device."""
    data = Data.generate(run.size.users // 20, run.size.items // 20, run.size.compared_rows, run.size.held_out // 5)
    config = TrainingConfig(batch_size=min(run.size.batch, 4_096))
    found = {}
    for device in ("cpu", run.device):
        model = seeded(lambda: DLRM(DLRMConfig(), *data.tables), config)
        result = train(model, data.rows, data.held_out, config, name=device, num_epochs=2, device=device)
        found[f"auc_{device}"] = result.history[-1].auc
    return {**found, "difference": abs(found["auc_cpu"] - found[f"auc_{run.device}"])}


# --- the night -----------------------------------------------------------------------------------------------------


def night(run: Run, name: str, seen: Seen) -> dict[str, Any]:
    """Everyone's best unseen titles: seconds, the limit, and agreement with the CPU's engine on a sample."""
    form = run.models[name].lower()
    engine = TorchEngine(form, device=run.device)
    users = np.arange(FIRST_KNOWN, len(form.users), dtype=np.int64)
    engine.top_k(users[:512], seen.take(users[:512]), run.size.k)  # kernels are loaded and buffers made
    own = seen.take(users)
    start = time.perf_counter()
    lists = engine.top_k(users, own, run.size.k)
    seconds = time.perf_counter() - start
    pairs = len(users) * len(engine.candidates)
    sample = np.sort(
        np.random.default_rng(0).choice(len(users), min(run.size.sampled_users, len(users)), replace=False)
    )
    return {
        "users": len(users), "items": len(engine.candidates), "k": run.size.k, "seconds": seconds,
        "pairs_s": pairs / seconds, "limit": night_limit(run, form, pairs),
        "agreement": agreement(form, users[sample], seen, _rows(lists, sample), run.size.k),
    }  # fmt: skip


def night_limit(run: Run, form: PairForm, pairs: int) -> dict[str, float]:
    """Seconds of arithmetic in float32; of memory, were each score written and read once, and with all on chip."""
    head = form.head
    cross = head.cross.size + form.users.fields.shape[2] * head.cross.shape[1] if head.has_mlp else 0
    flop = 2 * (form.users.dot.shape[1] + cross + sum(weight.size for weight, _ in head.tail))
    rate = run.figures["limits"]
    sides = sum(part.nbytes for side in (form.users, form.items)
                for part in (side.bias, side.dot, side.hidden, side.fields))  # fmt: skip
    return {
        "flop_per_pair": flop, "arithmetic_s": pairs * flop / 1e12 / rate["tflop_s_float32"],
        "scores_through_memory_s": 8 * pairs / 1e9 / rate["gb_s"], "on_chip_s": sides / 1e9 / rate["gb_s"],
    }  # fmt: skip


def _rows(lists: RowTopK, rows: np.ndarray) -> RowTopK:
    return RowTopK(lists.item_index[rows], lists.scores[rows], lists.lengths[rows])


def agreement(form: PairForm, users: np.ndarray, seen: Seen, got: RowTopK, k: int) -> dict[str, Any]:
    """How the device's lists compare with the CPU engine's: users whose lists differ by more than near-ties.

    A list is right up to near-ties if it has the CPU's length, no title twice, none that was seen, and the exact score
    of the title at every rank is within the tolerance of the CPU's at that rank, and of the device's own.
    """
    want = Engine(form).top_k(users, seen.take(users), k)
    same, wrong, largest = 0, [], 0.0
    for place, user in enumerate(users):
        length = int(want.lengths[place])
        items = got.item_index[place, : got.lengths[place]]
        ours = want.item_index[place, :length]
        same += bool(np.array_equal(items, ours))
        if len(items) != length or len(set(items.tolist())) != length or np.isin(items, seen.row(int(user))).any():
            wrong.append(int(user))
            continue
        exact = form.score_pairs(np.full(length, user), items.astype(np.int64))
        apart = np.abs(np.stack([want.scores[place, :length], got.scores[place, :length]]) - exact)
        largest = max(largest, float(apart.max(initial=0)))
        if (apart > TOLERANCE * np.maximum(1, np.abs(exact))).any():
            wrong.append(int(user))
    return {"users": len(users), "identical": same, "beyond_near_ties": len(wrong), "first_wrong": wrong[:3],
            "tolerance": TOLERANCE, "largest_difference": largest}  # fmt: skip


def little_memory(run: Run, seen: Seen) -> dict[str, Any]:
    """The lists of some users with half a GiB to score in, against those with all the memory there is."""
    if run.device != "cuda":
        return {"skipped": "a CPU's memory cannot be bounded so; the tests raise the error by hand"}
    engine = TorchEngine(run.models["dlrm"].lower(), device=run.device)
    users = np.arange(FIRST_KNOWN, FIRST_KNOWN + 2_048, dtype=np.int64)
    before, whole = engine._users_per_tile, engine.top_k(users, seen.take(users), run.size.k)
    torch.cuda.empty_cache()
    _, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (512 << 20)) / total)
    try:
        bounded = engine.top_k(users, seen.take(users), run.size.k)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    same = (whole.item_index == bounded.item_index).all(axis=1)
    return {"users_per_tile": [before, engine._users_per_tile], "users": len(users), "identical": int(same.sum())}


# --- all of it -----------------------------------------------------------------------------------------------------


def measure(run: Run) -> dict[str, Any]:
    """Every part, one after the other."""
    size = run.size
    start = time.perf_counter()
    run.figures["machine"] = machine(run)
    run.part("limits", lambda: limits(run))
    data = Data.generate(size.users, size.items, size.rows, size.held_out)
    seen = Seen.build(data.rows.user_index, data.rows.item_index, size.users + FIRST_KNOWN)
    run.part("training", lambda: training(run, data))
    run.part("training_agreement", lambda: training_agreement(run))
    run.models.setdefault("dlrm", seeded(lambda: DLRM(DLRMConfig(), *data.tables), TrainingConfig()))
    run.part("training_ncf", lambda: training_ncf(run, data))
    run.part("night_dlrm", lambda: night(run, "dlrm", seen))
    run.part("night_ncf", lambda: night(run, "ncf", seen))
    run.part("little_memory", lambda: little_memory(run, seen))
    run.figures["targets"] = TARGETS
    run.figures["seconds"] = time.perf_counter() - start
    return run.figures


def draw(figures: dict[str, Any], folder: Path) -> None:
    """Two bar charts: training rows a second and seconds of a night, each beside its target and limits."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    found = figures["training"]
    if "limit" in found:
        bars = {name: found[name]["rows_s"] for name in ("float32", "bf16") if name in found}
        bars |= {"target": TARGETS["training rows/s"], "limit: memory": found["limit"]["rows_s_by_memory"],
                 "limit: arithmetic": found["limit"]["rows_s_by_arithmetic"]}  # fmt: skip
        left.barh(list(bars), list(bars.values()))
        left.set(xscale="log", xlabel="rows/s", title="Training the DLRM")
    bars = {}
    for name in ("dlrm", "ncf"):
        if "seconds" in (found := figures[f"night_{name}"]):
            bars |= {f"{name}: measured": found["seconds"], f"{name}: target": TARGETS[f"{name} night s"],
                     f"{name}: arithmetic": found["limit"]["arithmetic_s"],
                     f"{name}: scores through memory": found["limit"]["scores_through_memory_s"]}  # fmt: skip
    right.barh(list(bars), list(bars.values()))
    right.set(xscale="log", xlabel="s", title="A night")
    for axes in (left, right):
        axes.invert_yaxis()
    figure.suptitle(f"{figures['machine']['name']}, torch {figures['machine']['torch']}")
    figure.savefig(folder / "gpu.png", dpi=110)


def main(argv: list[str] | None = None) -> int:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=DEVICES, default="cuda")
    parser.add_argument("--small", action="store_true", help="a tiny size, to try the code out")
    parser.add_argument("--budget-s", type=float, default=420, help="no part is started after so many seconds")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="write gpu.png here; needs matplotlib")
    parser.add_argument("--from-json", type=Path, metavar="FILE", help="measure nothing; draw --plots from a file")
    args = parser.parse_args(argv)
    logging.disable(logging.WARNING)
    try:
        if args.from_json:
            figures = json.loads(args.from_json.read_text("utf-8"))
        else:
            device = resolve_device(args.device)
            ends = time.perf_counter() + args.budget_s
            figures = measure(Run(device, SMALL if args.small else Size(), ends))
    except UsageError as error:
        print(f"no GPU: nothing is measured ({error})", file=sys.stderr)
        return error.exit_code
    finally:
        logging.disable(logging.NOTSET)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if args.plots:
        draw(figures, args.plots)
    return int(any("failed" in part for part in figures.values() if isinstance(part, dict)))


if __name__ == "__main__":
    sys.exit(main())
