"""Speed of the served models on a real tritonserver, beside what Merlin Systems exports.

    python tests/benchmarks/serving.py --out docs

The peer is Merlin Systems 23.8's workflow model, as it exports it, in an ensemble before the same ranker: its whole
export wants libtorch, which the bundled server does not have. Client and server share the machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import small  # noqa: E402

from export.client import AsyncClient, Client, ClientOptions  # noqa: E402
from export.configs import config_text, read_config  # noqa: E402
from export.options import ExportOptions  # noqa: E402
from export.repository import export_repository  # noqa: E402
from export.server import ServerOptions, TritonServer  # noqa: E402
from sdk.base.config import ContentConfig, RunConfig, TrainingConfig  # noqa: E402
from sdk.base.types import Dataset  # noqa: E402
from sdk.bundles.bundle import Bundle  # noqa: E402
from sdk.features.builtin import Encoding  # noqa: E402
from sdk.machine.blas import machine  # noqa: E402
from sdk.training.pipeline import train_bundle  # noqa: E402

CLIENTS = (1, 8, 32)
ROUNDS = 5
OURS = "compiled"
ENGLISH = ("night", "river", "stone", "garden", "winter", "letter", "island", "silver", "house", "road", "star", "sea")


@dataclass(frozen=True)
class Row:
    """One measurement: median over rounds, and their spread."""

    form: str
    model: str
    clients: int
    median_ms: float
    least_ms: float
    most_ms: float
    p99_ms: float
    per_second: float


def made_up(num_users: int, num_titles: int, num_ratings: int) -> Dataset:
    """Ratings with a popularity curve and titles with words and genres to resemble each other by."""
    rng = np.random.default_rng(0)
    users, items = np.arange(1, num_users + 1), np.arange(1, num_titles + 1)
    people = small.user_table(users.tolist())
    popular = (rng.zipf(1.3, 4 * num_ratings) - 1) % num_titles
    pairs = np.unique(rng.integers(num_users, size=4 * num_ratings) * num_titles + popular)
    pairs = rng.permutation(pairs)[:num_ratings]
    stars = rng.choice([1.0, 2.5, 3.5, 4.0, 5.0], len(pairs))
    interactions = small.ratings(users[pairs // num_titles], items[pairs % num_titles], stars, np.arange(len(pairs)))
    titles = [" ".join(rng.choice(ENGLISH, 3)) for _ in items]
    table = small.item_table(items.tolist(), rng, title=titles)
    return replace(small.dataset(0), name="made up", interactions=interactions, items=table, users=people)


def trained(folder: Path, sizes: Sequence[int]) -> Bundle:
    """A DLRM of the default widths; how well it ranks does not matter here."""
    training = TrainingConfig(max_epochs=1, refit=False)
    config = RunConfig(
        training=training, models=("dlrm", "content"), content=ContentConfig(weights={"genres": 1, "title": 1})
    )
    return train_bundle(made_up(*sizes), config, folder)


def write_peer(bundle: Bundle, ours: Path, target: Path) -> None:
    """Merlin Systems' own export of the workflow, unchanged but for its batch dimension, before our ranker."""
    from merlin.systems.dag.ops.workflow import TransformWorkflow
    from merlin.systems.dag.runtimes.triton.ops.workflow import TransformWorkflowTriton

    from sdk.features.workflows import workflow_of

    for model in ("rank", "ranker"):
        shutil.copytree(ours / model, target / model)
    tables = {"user_id": bundle.encoded_users, "item_id": bundle.encoded_items}
    ids = Encoding({name: pa.array(table.known_ids) for name, table in tables.items()}, {})
    operator = TransformWorkflowTriton(TransformWorkflow(workflow_of(ids, (), target / "fitted")))
    operator.export(str(target), operator.input_schema, operator.output_schema)
    (target / "transformworkflowtriton").rename(target / "nvt_workflow")
    config = read_config(target / "nvt_workflow" / "config.pbtxt")
    config.name = "nvt_workflow"
    (group,) = config.instance_group
    group.kind = group.KIND_CPU
    for tensor in (*config.input, *config.output):
        del tensor.dims[:]
        tensor.dims.extend([-1, 1])
        tensor.reshape.shape.append(-1)
    (target / "nvt_workflow" / "config.pbtxt").write_text(config_text(config), "utf-8")
    rank = read_config(target / "rank" / "config.pbtxt")
    step = rank.ensemble_scheduling.step[0]
    for ours_name, theirs in (("user_index", "user_id"), ("item_index", "item_id")):
        step.output_map[theirs] = step.output_map.pop(ours_name)
    (target / "rank" / "config.pbtxt").write_text(config_text(rank), "utf-8")


Ask = Callable[[AsyncClient, np.random.Generator], object]


def questions(bundle: Bundle) -> dict[str, Ask]:
    """One request of each model."""
    users, items = bundle.encoded_users.known_ids, bundle.encoded_items.known_ids
    return {
        "rank": lambda client, rng: client.rank(int(rng.choice(users)), items[rng.integers(len(items), size=100)]),
        "recommend": lambda client, rng: client.recommend([int(rng.choice(users))], 100),
        "similar_items": lambda client, rng: client.similar_items([int(rng.choice(items))], 100),
    }


async def measure(url: str, ask: Ask, clients: int, seconds: float) -> list[float]:
    """Latencies in seconds of as many requests as ``clients`` tasks get answered."""
    taken: list[float] = []
    async with AsyncClient(url, ClientOptions(protocol="grpc", retries=0)) as client:
        end = time.perf_counter() + seconds

        async def one(seed: int) -> None:
            rng = np.random.default_rng(seed)
            while time.perf_counter() < end:
                started = time.perf_counter()
                await ask(client, rng)  # type: ignore[misc]
                taken.append(time.perf_counter() - started)

        await asyncio.gather(*(one(seed) for seed in range(clients)))
    return taken


def row_of(series: tuple[str, str, int], rounds: Sequence[Sequence[float]], seconds: float) -> Row:
    """What the rounds of one series come to: medians over the rounds."""
    in_ms = [np.array(taken) * 1000 for taken in rounds]
    medians = [float(np.median(taken)) for taken in in_ms]
    p99 = statistics.median(float(np.percentile(taken, 99)) for taken in in_ms)
    rate = statistics.median(len(taken) / seconds for taken in in_ms)
    return Row(*series, statistics.median(medians), min(medians), max(medians), p99, rate)


def rows_of(urls: dict[str, str], asks: dict[str, Ask], seconds: float) -> list[Row]:
    """Every model at every number of clients; the forms take turns in every round, so a busy moment hits all."""
    series = [(form, model, n) for form in urls for model in asks for n in CLIENTS if form == OURS or model == "rank"]
    for form, model, clients in series:
        asyncio.run(measure(urls[form], asks[model], clients, seconds / 4))  # warm-up
    rounds: dict[tuple[str, str, int], list[list[float]]] = {key: [] for key in series}
    for number in range(ROUNDS):
        for form, model, clients in series:
            taken = asyncio.run(measure(urls[form], asks[model], clients, seconds))
            rounds[form, model, clients].append(taken)
        print(f"round {number + 1} of {ROUNDS}", file=sys.stderr)
    return [row_of(key, rounds[key], seconds) for key in series]


def check_same(bundle: Bundle, ours: str, theirs: str) -> None:
    """The peer must give the same scores, or its time means nothing."""
    items = bundle.encoded_items.known_ids[::97]
    options = ClientOptions(protocol="grpc")
    with Client(ours, options) as first, Client(theirs, options) as second:
        np.testing.assert_allclose(first.rank(1, items), second.rank(1, items), rtol=0, atol=1e-5)


def run(sizes: Sequence[int], seconds: float) -> dict[str, object]:
    """Train, export in three forms, measure each on a server of its own; all stand, one is asked at a time."""
    quiet = ServerOptions(poll_s=0)
    with tempfile.TemporaryDirectory(prefix="marquee-serving-") as work:
        bundle = trained(Path(work) / "bundle", sizes)
        asks = questions(bundle)
        repositories = {form: Path(work) / form for form in (OURS, "nvtabular", "peer")}
        for form in (OURS, "nvtabular"):
            export_repository(bundle.path, repositories[form], ExportOptions(workflow=form))
        write_peer(bundle, repositories[OURS], repositories["peer"])
        with ExitStack() as stack:
            servers = {form: stack.enter_context(TritonServer(path, quiet)) for form, path in repositories.items()}
            check_same(bundle, servers[OURS].grpc_url, servers["peer"].grpc_url)
            rows = rows_of({form: server.grpc_url for form, server in servers.items()}, asks, seconds)
    return {"machine": machine(), "sizes": list(sizes), "rounds": ROUNDS, "rows": [asdict(row) for row in rows]}


def table(result: dict[str, object]) -> str:
    """The rows in Markdown."""
    head = ("form", "model", "clients", "median ms (spread over rounds)", "p99 ms", "requests/s")
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in (Row(**values) for values in result["rows"]):  # type: ignore[attr-defined]
        spread = f"{row.median_ms:.2f} ({row.least_ms:.2f} to {row.most_ms:.2f})"
        rest = f"{row.p99_ms:.2f} | {row.per_second:,.0f}"
        lines.append(f"| {row.form} | `{row.model}` | {row.clients} | {spread} | {rest} |")
    return "\n".join(lines)


def plot(result: dict[str, object], path: Path) -> None:
    """Median and 99th percentile against the number of clients."""
    import matplotlib.pyplot as plt

    rows = [Row(**values) for values in result["rows"]]  # type: ignore[attr-defined]
    figure, axes = plt.subplots(figsize=(7, 4.2), constrained_layout=True)
    for series in dict.fromkeys((row.form, row.model) for row in rows):
        of = [row for row in rows if (row.form, row.model) == series]
        clients = [row.clients for row in of]
        (line,) = axes.plot(clients, [row.median_ms for row in of], marker="o", label=f"{series[1]} ({series[0]})")
        axes.plot(clients, [row.p99_ms for row in of], linestyle=":", color=line.get_color())
    axes.set(xscale="log", yscale="log", xlabel="clients at once", ylabel="milliseconds per request", xticks=CLIENTS)
    axes.set_xticklabels(CLIENTS)
    axes.set_title("Served models: median (solid) and 99th percentile (dotted)")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Measure, print the table, and write it with a plot if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--titles", type=int, default=59_047, help="as many as MovieLens 25M has with a rating")
    parser.add_argument("--ratings", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one round")
    parser.add_argument("--out", type=Path, help="folder for serving_speed.json and serving_speed.png")
    args = parser.parse_args()
    print(machine(), flush=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = run((args.users, args.titles, args.ratings), args.seconds)
    print(table(result))
    if args.out is not None:
        (args.out / "serving_speed.json").write_text(json.dumps(result, indent=2) + "\n", "utf-8")
        plot(result, args.out / "serving_speed.png")


if __name__ == "__main__":
    main()
