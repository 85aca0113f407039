"""Bundles, nights and repositories that hold nearly all that docs/format.md speaks of, and ways to damage them."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import small
from made_up import tiny_config, write_movielens

import sdk
from batch.gates.thresholds import GateConfig
from batch.job.job import Job
from batch.run.night import run
from batch.store.nights import rollback
from export.options import ExportOptions
from export.repository import export_repository
from sdk.base.config import FeatureConfig, HistoryConfig, NCFConfig, RunConfig, SplitConfig, TrainingConfig
from sdk.base.files import digest_of, sha256_of
from sdk.base.types import Repeats
from sdk.bundles.info import sealed

DATE = "2026-11-26"


def make(folder: Path) -> Mapping[str, list[Path]]:
    """Some of each kind, from tiny made-up data."""
    ratings = write_movielens(folder / "ml-made-up")
    bundle = folder / "bundle"
    sdk.train(sdk.load_movielens(ratings), tiny_config(), bundle)
    sdk.train(by_time(), other_config(), folder / "other")
    export_repository(bundle, folder / "python")
    rules = '{"at_most": {"genres": 2}, "diversity": 0.4}'
    export_repository(bundle, folder / "compiled", ExportOptions(workflow="compiled", backend="pytorch", rules=rules))
    same = GateConfig(max_sameness=1.0)  # of lists from pairs that weigh alike
    run(Job(bundle=folder / "other", out=folder / "others", run_date=DATE, k=5, gates=same))
    return {
        "bundle": [bundle, bundle / "measured", folder / "other", folder / "other" / "measured"],
        "night": [nights(bundle, folder, ratings), folder / "others"],
        "repository": [folder / "python", folder / "compiled"],
    }


def by_time() -> sdk.Dataset:
    """A data set with attributes of users, enough ratings that age may be chosen, and pairs that came twice."""
    made = small.dataset(3, num_users=60, num_items=40)
    pairs = made.interactions
    twice = np.arange(len(pairs)) % 3 == 0
    when = np.repeat(pairs.timestamp[twice], 2) - np.tile([86_400, 0], twice.sum())
    indptr = np.concatenate([[0], np.cumsum(2 * twice)])
    repeats = Repeats(indptr, np.repeat(pairs.rating[twice] / 2, 2), when)
    users = [{"gender": "FM"[n % 2], "age": 20 + n % 9} for n in range(len(made.users))]
    columns = {name: [user[name] for user in users] for name in ("gender", "age")}
    table = small.user_table(made.users["user_id"].to_pylist(), **columns)
    rejects = pa.table({"file": ["ratings.csv"], "line": [7], "reason": ["no number"], "text": ["x"]})
    pairs = dataclasses.replace(pairs, repeats=repeats)
    return dataclasses.replace(made, interactions=pairs, users=table, rejects=rejects.cast(made.rejects.schema))


def other_config() -> RunConfig:
    """What ``tiny_config`` leaves out: the split by time, the built-in engine, NeuMF, a chosen penalty, new fields."""
    return RunConfig(
        features=FeatureConfig(engine="builtin"),
        split=SplitConfig(kind="time"),
        ncf=NCFConfig(variant="neumf", embedding_dim=4, mlp_layers=(8,), num_members=1, l2_factors=(1.0,)),
        training=TrainingConfig(max_epochs=2, batch_size=64),
        history=HistoryConfig(weighting="alike"),
        models=("ncf", "history"),
    )


def nights(bundle: Path, folder: Path, ratings: Path) -> Path:
    """An output of three nights, the last with all that can be asked for, and readers who are held."""
    out = folder / "nightly"
    for name, ids in (("users", "1\n2\n5\n"), ("allow", "\n".join(map(str, range(3, 50)))), ("block", "1,3\n")):
        (folder / name).write_text(ids)
    files = {name: folder / name for name in ("users", "allow", "block")}
    (folder / "rules.json").write_text('{"at_most": {"genres": 2}}')
    ways: dict[str, Any] = {
        "2026-11-21": {"explore": 0.3}, "2026-11-22": {"explore": 0.3, "judged": folder / "clicks.parquet"},
        "2026-11-23": {"rules": folder / "rules.json"}, "2026-11-24": {},
        "2026-11-25": {},
    }  # fmt: skip
    for date, way in ways.items():
        run(Job(bundle=bundle, out=out, run_date=date, k=5, **way))
        if date == "2026-11-21":
            shown = pq.read_table(out / f"run_date={date}" / "user_items", partitioning=None)
            pq.write_table(shown.append_column("clicked", pc.equal(shown["rank"], 1)), folder / "clicks.parquet")
    asked: dict[str, Any] = {"users_per_part": 30, "audience": 3, "ratings": ratings, **files}
    loose = GateConfig(max_title_fallback=0.0, min_coverage=1.0)
    skipped = ("titles.fallback", "users.coverage", "titles.coverage")
    run(Job(bundle=bundle, out=out, run_date=DATE, k=5, gates=loose, skip_gate=skipped, **asked))
    rollback(str(out), DATE, hold=True)
    return out


# damage ------------------------------------------------------------------------------------------------------------


def rewritten(path: Path, **changes: Any) -> None:
    """A JSON file with other values."""
    values = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**values, **changes}), "utf-8")


def resealed(bundle: Path, **changes: Any) -> None:
    """``bundle.json`` with other values, its files hashed again, and a checksum that fits."""
    info = json.loads((bundle / "bundle.json").read_text("utf-8"))
    info["files"] = {name: sha256_of(bundle / name) for name in info["files"]}
    (bundle / "bundle.json").write_text(json.dumps(sealed({**info, **changes})), "utf-8")


def resealed_night(night: Path, **changes: Any) -> None:
    """A night's manifest with other values and a checksum that fits."""
    values = json.loads((night / "manifest.json").read_text("utf-8"))
    body = {name: value for name, value in {**values, **changes}.items() if name != "checksum"}
    (night / "manifest.json").write_text(json.dumps({**body, "checksum": digest_of(body)}), "utf-8")


def flipped(path: Path) -> None:
    """A file with one bit flipped near its end."""
    data = path.read_bytes()
    path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])


def _with_column(bundle: Path, file: str, name: str, change: Callable[[pa.ChunkedArray], Any]) -> None:
    table = pq.read_table(bundle / file)
    place, field = table.column_names.index(name), table.schema.field(name)
    pq.write_table(table.set_column(place, field, pa.array(change(table[name]), field.type)), bundle / file)
    resealed(bundle)


def _with_other_arrays(bundle: Path) -> None:
    with np.load(bundle / "history.npz") as arrays:
        changed = {name: arrays[name].astype(np.float64) for name in arrays.files}
    np.savez(bundle / "history.npz", **changed)
    resealed(bundle)


def _of_another_version(bundle: Path) -> None:
    rewritten(bundle / "history.json", version=99)
    resealed(bundle)


Damage = Mapping[str, Callable[[Path], object]]
OF_BUNDLES: Damage = {
    "a folder without `bundle.json`": lambda b: (b / "bundle.json").unlink(),
    "a `bundle.json` that cannot be read": lambda b: (b / "bundle.json").write_text("[]"),
    "another `format_version`": lambda b: resealed(b, format_version=99),
    "a `checksum` that is not that of the other keys": lambda b: rewritten(b / "bundle.json", created="yesterday"),
    "a `bundle.json` of another form": lambda b: resealed(b, extra=1),
    "a name in `files` that leads out of the folder": lambda b: resealed(b, files={"../other": "0" * 64}),
    "a file that is listed and absent": lambda b: (b / "seen.parquet").unlink(),
    "a file whose hash differs": lambda b: flipped(b / "seen.parquet"),
    "a file that is not listed": lambda b: (b / "notes.txt").write_text("mine"),
    "a symbolic link": lambda b: (b / "link").symlink_to(b / "seen.parquet"),
    "another `version` of the history or content model": _of_another_version,
    "a table of another form": lambda b: _with_column(b, "users.parquet", "user_id", lambda ids: ids.to_pylist()[::-1]),
    "a rating whose row, label or part does not exist": lambda b: _with_column(
        b, "seen.parquet", "part", lambda parts: [7] * len(parts)
    ),
    "weights or arrays of another form": _with_other_arrays,
}
OF_NIGHTS: Damage = {
    "a night that is not there": shutil.rmtree,
    "a night without `_SUCCESS`": lambda n: (n / "_SUCCESS").unlink(),
    "a `manifest.json` that cannot be read": lambda n: (n / "manifest.json").unlink(),
    "a `checksum` that is not that of the other keys": lambda n: rewritten(n / "manifest.json", run_record="mine"),
    "a `run_date` that is not its folder's": lambda n: resealed_night(n, run_date="2026-11-23"),
    "a `manifest.json` of another form": lambda n: resealed_night(n, counts=[]),
    "a part that is absent or of another size": lambda n: (n / "user_items" / "part-00000.parquet").unlink(),
    "a part whose hash differs": lambda n: flipped(n / "user_items" / "part-00000.parquet"),
}
OF_REPOSITORIES: Damage = {
    "a folder without `manifest.json`": lambda r: (r / "manifest.json").unlink(),
    "a `manifest.json` that cannot be read": lambda r: (r / "manifest.json").write_text("{}"),
    "another `format_version`": lambda r: rewritten(r / "rank" / "1" / "manifest.json", format_version=99),
    "a model without `config.pbtxt`": lambda r: (r / "rank" / "config.pbtxt").unlink(),
    "a file that is listed and absent": lambda r: (r / "ranker" / "1" / "model.py").unlink(),
    "a file whose hash differs": lambda r: flipped(r / "recommend" / "1" / "arrays" / "item_ids.npy"),
    "a version without `manifest.json`": lambda r: (r / "ranker" / "1" / "manifest.json").unlink(),
}
DAMAGE: Mapping[str, Damage] = {"bundle": OF_BUNDLES, "night": OF_NIGHTS, "repository": OF_REPOSITORIES}
"""Kind -> what the page says that a reader refuses -> how a whole artefact (of a night, its folder) becomes that."""
