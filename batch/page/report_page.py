"""A night's report: what its parts, manifest and run record say, on one HTML page that needs no other file."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from batch.checks.audit import parts_of, published_part
from batch.gates.figures import Figures
from batch.page import night_charts as charts
from batch.page.item_names import item_names
from batch.page.night_sample import Sample, churn, coverage_by_rank, coverage_by_users, same_parts, sample_users
from batch.page.sparkline import MOST_NIGHTS
from batch.page.trend import figures_of, headline
from batch.store.layout import ITEM_ITEMS, night_of, refused_report_of, report_of, staging_of
from batch.store.publish import read_manifest
from batch.store.run_record import read_record, records_before
from batch.store.target import Target
from sdk.base.errors import OutputError
from sdk.base.ids import ids_of, plain_id
from sdk.base.logs import details
from sdk.base.printable import filled_in, number
from sdk.base.types import Id
from sdk.bundles.bundle import Bundle
from sdk.bundles.words import words_of
from sdk.measure.charts import can_draw

log = logging.getLogger(__name__)
Taste = tuple[str, str, list[str]]
"""A heading, a note, and a list's first titles."""
_TASTE_USERS, _TASTE_TITLES, _TASTE_DEPTH, _LIKED = 6, 3, 8, 3


@dataclass(frozen=True, slots=True, eq=False)
class NightShown:
    """The night that a report is of.

    Attributes:
        run_date: the night.
        target: where it lies.
        bundle: what it was made from, for the items' names.
        figures: what its audit found.
        inputs: what it was made from, as its manifest says; of a refused one, what its audit noted of that.
        record: seconds per stage and rates, as the run record holds them; may be empty.
        refusal: why it was not published; None where it was.
    """

    run_date: str
    target: Target
    bundle: Bundle
    figures: Figures
    inputs: Mapping[str, Any]
    record: Mapping[str, Any]
    refusal: str | None = None

    @property
    def folder(self) -> str:
        """Where it lies in the target: the published night, or the staged one that was refused."""
        return night_of(self.run_date) if self.refusal is None else staging_of(self.run_date)

    @property
    def place(self) -> str:
        """Where its parts lie: OUT as it was given, or its name alone where that is a path from the root."""
        out = self.target.location
        return f"{Path(out).name if Path(out).is_absolute() else out}/{self.folder}".removeprefix("/")


def page(night: NightShown) -> str:
    """The report as HTML.

    Raises:
        OutputError: a part cannot be read.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    sample = sample_users(night.target, night.folder)
    environment = Environment(
        loader=PackageLoader("batch.page"), autoescape=True, undefined=StrictUndefined, finalize=filled_in
    )
    environment.filters["number"] = number
    before = records_before(night.target, night.run_date, MOST_NIGHTS - 1)
    items = words_of(night.bundle.about).items
    shown = figures_of(night.figures, night.record, before, items)
    lead = headline(night.figures, shown, published=night.refusal is None, items=items)
    return environment.get_template("night.html").render(
        night=night, headline=lead, figures=shown, since=before[-1].get("run_date") if before else None,
        facts=list(_facts(night.inputs)), sample=sample, charts=_charts(night, sample),
        tastes=[*_user_tastes(night.bundle, sample), *_title_tastes(night)],
    )  # fmt: skip


def _facts(inputs: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
    """What the night's content depends on, one by one, under the names of what it is part of; settings left out."""
    for name, value in sorted(inputs.items()):
        said = f"{within}: {name}" if within else name.replace("_", " ")
        if isinstance(value, Mapping):
            yield from () if said == "parameters" else _facts(value, said)
        else:
            yield said, _listed(value)


def _listed(value: Any) -> str:
    """A value; of several one after the other, and pairs as ``brand: group``."""
    if not isinstance(value, list):
        return str(value)
    return ", ".join(": ".join(map(str, one)) if isinstance(one, list) else str(one) for one in value)


def _charts(night: NightShown, sample: Sample) -> list[tuple[str, str, str]]:
    """Titles, captions and SVG; none without matplotlib."""
    if not len(sample.item) or not can_draw():
        return []
    personal, titles, whole = ~sample.fallback, night.bundle.encoded_items, night.figures.users.coverage
    by_rank, by_users = coverage_by_rank(sample, titles), coverage_by_users(sample, titles)
    found = [
        ("Scores", "Lists made by popularity are left out.",
         charts.scores_chart(sample.score[personal], sample.score[personal & (sample.rank == 1)])),
        ("Catalogue shown, by rank", "Titles that stand at this rank or a better one in at least one list.",
         charts.coverage_chart("ranks", by_rank, whole, "ranks")),
        ("Catalogue shown, by users", "Titles that stand in the lists of so many users, in an order drawn by a fixed seed.",  # noqa: E501
         charts.coverage_chart("users", by_users, whole, "users")),
    ]  # fmt: skip
    before = night.figures.previous  # the night that the audit compared with
    parts = () if before is None else same_parts(night.target, night_of(before), sample.parts)
    shares = np.concatenate([np.zeros(0), *(churn(sample, part) for part in parts)])
    if len(shares):
        caption = f"Of {len(shares):,} users with a list on {before}, too."
        found.append(("New titles in the top 10", caption, charts.churn_chart(shares)))
    return found


def _user_tastes(bundle: Bundle, sample: Sample) -> list[Taste]:
    """Lists of a few sampled users, drawn with seed 0, each beside what the user rated highest."""
    count = min(_TASTE_USERS, len(sample.users))
    chosen = np.sort(np.random.default_rng(0).choice(len(sample.users), count, replace=False))
    found = []
    for place in chosen.tolist():
        rows = np.flatnonzero((sample.user == place) & (sample.rank <= _TASTE_DEPTH))
        popular = bool(sample.fallback[rows].any())
        note = "made by popularity" if popular else _liked(bundle, plain_id(sample.users[place]))
        titles = item_names(bundle, sample.item[rows[np.argsort(sample.rank[rows])]])
        found.append((f"User {sample.users[place]}", note, titles))
    return found


def _liked(bundle: Bundle, user_id: Id) -> str:
    row = bundle.encoded_users.index_of([user_id])[0]
    rated = np.flatnonzero(bundle.interactions.rows.user_index == row)
    best = rated[np.argsort(-bundle.interactions.rating[rated], kind="stable")[:_LIKED]]
    names = item_names(bundle, bundle.encoded_items.ids[bundle.interactions.rows.item_index[best]])
    what = "rated highest" if bundle.about.feedback == "explicit" else "weighs most"
    return f"{what}: {'; '.join(names)}" if names else ""


def _title_tastes(night: NightShown) -> list[Taste]:
    """Lists of the most rated titles of the first part."""
    bundle, paths = night.bundle, parts_of(night.target, f"{night.folder}/{ITEM_ITEMS}")
    if not paths:
        return []
    rows = published_part(night.target, paths[0]).to_pandas()
    ids = np.unique(ids_of(rows["item_id"], known=bundle.encoded_items.ids))
    rated = bundle.encoded_items.statistics.count[bundle.encoded_items.index_of(ids)]
    chosen = ids[np.argsort(-rated, kind="stable")[:_TASTE_TITLES]]
    lists = [rows[rows["item_id"] == item].nsmallest(_TASTE_DEPTH, "rank")["similar_item_id"] for item in chosen]
    titles = [item_names(bundle, similar.to_numpy()) for similar in lists]
    return [(f"Like {name}", "", similar) for name, similar in zip(item_names(bundle, chosen), titles, strict=True)]


def published_night(target: Target, run_date: str | None, bundle: Bundle) -> NightShown:
    """A published night with its manifest and run record.

    Raises:
        OutputError: there is none of this date, or its manifest was altered.
    """
    manifest = None if run_date is None else read_manifest(target, run_date)
    if manifest is None or run_date is None:
        raise OutputError(f"{target.location}: no night {run_date or 'named by LATEST'} is published there")
    record = read_record(target, run_date) or {}
    return NightShown(run_date, target, bundle, Figures.read(manifest), manifest["inputs"], record)


def write_report(night: NightShown) -> str:
    """Write a night's report beside the nights; the report of a refusal has a name of its own.

    Returns:
        Where it lies.

    Raises:
        OutputError: a part cannot be read, or the store does not take the report.
        OSError: it cannot be written.
    """
    name = report_of(night.run_date) if night.refusal is None else refused_report_of(night.run_date)
    text = page(night)
    night.target.write(name, text.encode(), durable=False)
    if night.refusal is None:
        night.target.remove(refused_report_of(night.run_date))
    place = night.target.describe(name)
    log.info("report: %s", place, extra=details(stage="reporting", report=place, bytes=len(text.encode())))
    return place
