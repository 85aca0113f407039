"""A night's report: what its parts, manifest and run record say, on one HTML page that needs no other file."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batch.checks.side_audit import Lookup
from batch.gates.config import GateResult
from batch.page import night_charts as charts
from batch.page.night_sample import Sample, churn, coverage_by_rank, coverage_by_users, same_parts, sample_users
from batch.store.layout import ITEM_ITEMS, USER_ITEMS, night_of, refused_report_of, report_of, staging_of
from batch.store.publish import read_manifest
from batch.store.run_record import read_record
from batch.store.target import Target
from sdk.base.arrow_memory import reader_of
from sdk.base.errors import OutputError
from sdk.base.logs import facts
from sdk.base.printable import filled_in
from sdk.base.types import Float64s
from sdk.bundles.bundle import Bundle

log = logging.getLogger(__name__)
_TASTE_USERS, _TASTE_TITLES, _TASTE_DEPTH, _LIKED = 6, 3, 8, 3


@dataclass(frozen=True, slots=True, eq=False)
class NightShown:
    """The night that a report is of.

    Attributes:
        run_date: the night.
        target: where it lies.
        folder: in it: the published night, or the staged one that was refused.
        checks: figures and gates, as a manifest holds them.
        inputs: what it was made from; empty where there is no manifest.
        record: seconds per stage and rates, as the run record holds them; may be empty.
        refusal: why it was not published; None where it was.
    """

    run_date: str
    target: Target
    folder: str
    checks: Mapping[str, Any]
    inputs: Mapping[str, Any]
    record: Mapping[str, Any]
    refusal: str | None = None

    @property
    def status(self) -> str:
        """In a word."""
        return "published" if self.refusal is None else "refused"

    @property
    def place(self) -> str:
        """Where its parts lie: OUT as it was given, or its name alone where that is a path from the root."""
        out = self.target.location
        return f"{Path(out).name if Path(out).is_absolute() else out}/{self.folder}".removeprefix("/")


def page(night: NightShown, bundle: Bundle) -> str:
    """The report as HTML.

    Args:
        night: the night.
        bundle: what it was made from, for titles and years.

    Raises:
        OutputError: a part cannot be read.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    sample = sample_users(night.target, night.folder)
    gates = [_gate(gate) for gate in night.checks.get("gates", ())]
    environment = Environment(
        loader=PackageLoader("batch.page"), autoescape=True, undefined=StrictUndefined, finalize=filled_in
    )
    return environment.get_template("night.html").render(
        night=night,
        figures=_figures(night),
        gates=[(True, _saying(gates, "failed", "skipped", "not compared")), (False, _saying(gates, "passed"))],
        gate_summary=", ".join(f"{n} {name}" for name, n in Counter(gate["verdict"] for gate in gates).items()),
        sampled=f"Drawn from the lists of {len(sample.users):,} users, {len(sample.item):,} rows.",
        charts=_charts(night, bundle, sample),
        tastes=[*_user_tastes(bundle, sample), *_title_tastes(night, bundle)],
        stages=_stages(night.record.get("seconds") or {}),
        facts=_facts(night),
    )


def _gate(values: Mapping[str, Any]) -> dict[str, str]:
    gate = GateResult.read(values)
    said = gate.verdict
    note = gate.note or (f"It may mean: {gate.meaning}" if said in ("failed", "skipped") else "")
    limit = f"{'≤' if gate.at_most else '≥'} {_number(gate.threshold)}"
    return {"name": gate.name, "verdict": said, "got": _number(gate.got), "threshold": limit, "note": note}


def _saying(gates: Sequence[dict[str, str]], *verdicts: str) -> list[dict[str, str]]:
    """The gates with these verdicts, in their order."""
    return [gate for said in verdicts for gate in gates if gate["verdict"] == said]


def _number(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _figures(night: NightShown) -> list[tuple[str, str]]:
    """The figures on top of the page; those that are not known are left out."""
    users, titles = (night.checks.get(side) or {} for side in (USER_ITEMS, ITEM_ITEMS))
    seconds = sum((night.record.get("seconds") or {}).values())
    found = {
        "users": users.get("queries"),
        "titles": titles.get("queries"),
        "rows": (users.get("rows") or 0) + (titles.get("rows") or 0) or None,
        "fallback users": _percent(users.get("fallback")),
        "catalogue coverage": _percent(users.get("coverage")),
        "Gini index": users.get("gini"),
        "overlap with the night before": users.get("overlap"),
        "validation AUC": (night.checks.get("bundle") or {}).get("validation_auc"),
        "users per second": night.record.get("users_per_s") and round(night.record["users_per_s"]),
        "seconds": round(seconds, 1) or None,
        "peak memory, MiB": night.record.get("peak_memory_mib") and round(night.record["peak_memory_mib"]),
    }
    return [(name, _number(value)) for name, value in found.items() if value is not None]


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.1f} %"


def _charts(night: NightShown, bundle: Bundle, sample: Sample) -> list[dict[str, Any]]:
    from markupsafe import Markup

    if not len(sample.item):
        return []
    personal, titles = ~sample.fallback, Lookup(bundle.encoded_items.known_ids)
    whole = (night.checks.get(USER_ITEMS) or {}).get("coverage")
    by_rank, by_users = coverage_by_rank(sample, titles), coverage_by_users(sample, titles)
    found = [
        ("Scores", "Lists made by popularity are left out.",
         charts.scores_chart(sample.score[personal], sample.score[personal & (sample.rank == 1)])),
        ("Catalogue shown, by rank", "Titles that stand at this rank or a better one in at least one list.",
         charts.coverage_chart("ranks", by_rank, whole, "ranks")),
        ("Catalogue shown, by users", "Titles that stand in the lists of so many users, in an order drawn by a fixed seed.",  # noqa: E501
         charts.coverage_chart("users", by_users, whole, "users")),
    ]  # fmt: skip
    shares, date = _churn(night, sample), night.checks.get("previous")
    if len(shares):
        caption = f"Of {len(shares):,} users with a list on {date}, too."
        found.append(("New titles in the top 10", caption, charts.churn_chart(shares)))
    return [{"title": title, "caption": caption, "svg": Markup(svg)} for title, caption, svg in found]


def _churn(night: NightShown, sample: Sample) -> Float64s:
    """Against the night that the audit compared with; empty where there is none."""
    date = night.checks.get("previous")
    if not isinstance(date, str):
        return np.zeros(0)
    before = same_parts(night.target, night_of(date), sample.parts)
    return np.concatenate([np.zeros(0), *(churn(sample, part) for part in before)])


def _user_tastes(bundle: Bundle, sample: Sample) -> list[dict[str, Any]]:
    """Lists of a few sampled users, drawn with seed 0, each beside what the user rated highest."""
    count = min(_TASTE_USERS, len(sample.users))
    chosen = np.sort(np.random.default_rng(0).choice(len(sample.users), count, replace=False))
    found = []
    for place in chosen.tolist():
        rows = np.flatnonzero((sample.user == place) & (sample.rank <= _TASTE_DEPTH))
        popular = bool(sample.fallback[rows].any())
        found.append({
            "heading": f"User {sample.users[place]}",
            "note": "made by popularity" if popular else _liked(bundle, int(sample.users[place])),
            "titles": bundle.titles(sample.item[rows[np.argsort(sample.rank[rows])]]),
        })  # fmt: skip
    return found


def _liked(bundle: Bundle, user_id: int) -> str:
    row = bundle.encoded_users.index_of(np.array([user_id]))[0]
    rated = np.flatnonzero(bundle.interactions.rows.user_index == row)
    best = rated[np.argsort(-bundle.interactions.rating[rated], kind="stable")[:_LIKED]]
    names = bundle.titles(bundle.encoded_items.ids[bundle.interactions.rows.item_index[best]])
    return f"rated highest: {'; '.join(names)}" if names else ""


def _title_tastes(night: NightShown, bundle: Bundle) -> list[dict[str, Any]]:
    """Lists of the most rated titles of the first part."""
    names = sorted(name for name in night.target.files(f"{night.folder}/{ITEM_ITEMS}") if name.startswith("part-"))
    if not names:
        return []
    table = _table(night, f"{night.folder}/{ITEM_ITEMS}/{names[0]}")
    ids = np.unique(table.column("item_id").to_numpy())
    rated = bundle.encoded_items.statistics.count[bundle.encoded_items.index_of(ids)]
    chosen = ids[np.argsort(-rated, kind="stable")[:_TASTE_TITLES]]
    return [
        {"heading": f"Like {name}", "note": "", "titles": bundle.titles(_similar(table, item))}
        for name, item in zip(bundle.titles(chosen), chosen.tolist(), strict=True)
    ]


def _table(night: NightShown, path: str) -> Any:
    import pyarrow as pa

    try:
        return pq.read_table(reader_of(night.target.read(path) or b""))
    except (pa.ArrowException, OSError) as error:
        message = f"{night.target.describe(path)}: not readable as Parquet ({error}); the report is left out"
        raise OutputError(message) from error


def _similar(table: Any, item: int) -> Any:
    wanted = pc.and_(pc.equal(table.column("item_id"), item), pc.less_equal(table.column("rank"), _TASTE_DEPTH))
    return table.filter(wanted).sort_by("rank").column("similar_item_id").to_numpy()


def _stages(seconds: Mapping[str, float]) -> list[dict[str, Any]]:
    """Slowest first, with the share of all."""
    whole = sum(seconds.values()) or 1.0
    ordered = sorted(seconds.items(), key=lambda pair: -pair[1])
    return [{"name": name, "seconds": f"{took:.2f}", "share": f"{100 * took / whole:.1f}"} for name, took in ordered]


def _facts(night: NightShown) -> list[tuple[str, str]]:
    """The manifest's inputs, or what the audit noted of the bundle, one level of names deep."""
    found: list[tuple[str, str]] = [("run id", str(night.record.get("run_id", "–")))]
    for name, value in (night.inputs or night.checks.get("bundle") or {}).items():
        if name != "parameters":
            found += _flat(name.replace("_", " "), value)
    return found


def _flat(name: str, value: Any) -> Sequence[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [(f"{name}: {key}", str(each)) for key, each in value.items()]
    return [(name, str(value))]


def published_night(target: Target, run_date: str | None) -> NightShown:
    """A published night with its manifest and run record.

    Raises:
        OutputError: there is none of this date, or its manifest was altered.
    """
    manifest = None if run_date is None else read_manifest(target, run_date)
    if manifest is None or run_date is None:
        message = f"{target.location}: no night {run_date or 'named by LATEST'} is published there"
        raise OutputError(message)
    record = read_record(target, run_date) or {}
    return NightShown(run_date, target, night_of(run_date), manifest["checks"], manifest["inputs"], record)


def refused_night(
    target: Target, run_date: str, checks: Mapping[str, Any], record: Mapping[str, Any], refusal: str
) -> NightShown:
    """A staged night that failed its gates.

    Args:
        target: where it lies.
        run_date: the night.
        checks: its figures and gates.
        record: what is known of the run: ``run_id`` and ``seconds``.
        refusal: the failures in words.
    """
    staging = staging_of(run_date)
    said = refusal.removeprefix(f"{target.describe(staging)}: ")
    return NightShown(run_date, target, staging, checks, {}, record, said)


def write_report(night: NightShown, bundle: Bundle) -> str:
    """Write a night's report beside the nights; the report of a refusal has a name of its own.

    Returns:
        Where it lies.

    Raises:
        OutputError: a part cannot be read, or the store does not take the report.
        OSError: it cannot be written.
    """
    name = report_of(night.run_date) if night.refusal is None else refused_report_of(night.run_date)
    text = page(night, bundle)
    night.target.write(name, text.encode(), durable=False)
    if night.refusal is None:
        night.target.remove(refused_report_of(night.run_date))
    place = night.target.describe(name)
    log.info("report: %s", place, extra=facts(stage="reporting", report=place, bytes=len(text.encode())))
    return place
