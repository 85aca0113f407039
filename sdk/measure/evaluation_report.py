"""An evaluation as text for terminals, as Markdown, as JSON and as a chart. The same results give the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdk.base.files import json_text
from sdk.measure.charts import draw_calibration, draw_lists
from sdk.measure.slices import TITLES, USERS
from sdk.measure.text_tables import as_section, display, figure, slice_table, table
from sdk.measure.text_tables import as_text as page_as_text
from sdk.measure.training_report import calibration_values, plain_values, write_files
from sdk.metrics.pointwise import SliceFigures
from sdk.shell.terminal import Page

if TYPE_CHECKING:
    from sdk.measure.bundle_lists import ListEvaluation
    from sdk.measure.evaluation import Evaluation

_POINTWISE = (("AUC", "auc"), ("log loss", "log_loss"), ("calibration error", "calibration_error"))
_FOUND = (
    ("NDCG@10", "ndcg10", 3), ("Recall@20", "recall20", 3), ("MAP@10", "map10", 3), ("hit rate@10", "hit_rate10", 3),
)  # fmt: skip
_VARIETY = (
    ("coverage@10", "coverage", 3), ("titles", "distinct_in_top10", 0), ("Gini", "gini", 3),
    ("novelty, bits", "novelty", 3), ("diversity", "diversity", 3),
)  # fmt: skip
_EXPLAINED = (
    "coverage: share of the catalogue in any top ten; titles: how many those are; Gini: 0 all titles equally often, "
    "1 one title in every place; novelty: mean self-information; diversity: mean cosine distance by content."
)


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write ``evaluation.json``, ``evaluation.md``, ``test_calibration.png`` and ``lists.png``.

    Args:
        folder: made if absent; files of these names are replaced. A chart with nothing to show is not written.
        evaluation: what was measured.

    Raises:
        OutputError: the folder or a file cannot be written.
    """
    content = json_text(as_values(evaluation), allow_nan=False)
    files = {"evaluation.json": content.encode(), "evaluation.md": as_markdown(evaluation).encode()}
    if evaluation.calibrations:
        subtitle = f"test rows; positive: {evaluation.label_rule}"
        files["test_calibration.png"] = draw_calibration(evaluation.calibrations, subtitle)
    if evaluation.lists is not None:
        files["lists.png"] = draw_lists(*_chart_rows(evaluation, evaluation.lists))
    write_files(folder, files)


def as_values(evaluation: Evaluation) -> dict[str, Any]:
    """Everything that was measured, as JSON values; null says that a value was not.

    A slice's rule is how many training ratings its users or titles have.
    """
    lists = evaluation.lists
    return {
        "split": evaluation.split,
        "label_rule": evaluation.label_rule,
        "samples": evaluation.samples,
        "test": plain_values(evaluation.rows),
        "calibration": calibration_values(evaluation.calibrations),
        "slices": [{"name": part.name, "side": part.side, "rule": part.rule} for part in evaluation.slices],
        "by_slice": plain_values(evaluation.slice_rows),
        "lists": None if lists is None else _list_values(lists),
    }


def _list_values(lists: ListEvaluation) -> dict[str, Any]:
    names = ("num_users", "num_eligible", "num_held_out", "catalogue_size", "like_at", "samples")
    return {
        **{name: getattr(lists, name) for name in names},
        "measured_on": lists.describe(),
        "models": plain_values(lists.rows),
        "by_slice": plain_values(lists.slices),
    }


def as_text(evaluation: Evaluation) -> str:
    """What a person reads: every table as plain text."""
    return "\n\n\n".join("\n".join(page_as_text(page)) for page in as_pages(evaluation))


def as_markdown(evaluation: Evaluation) -> str:
    """The same as a page."""
    lines = [line for page in as_pages(evaluation) for line in ("", *as_section(page))]
    return "\n".join(["# Evaluation on the test part", *lines]) + "\n"


def as_pages(evaluation: Evaluation) -> list[Page]:
    """The same as tables for a terminal."""
    found = _rating_pages(evaluation) if evaluation.rows else []
    return found if evaluation.lists is None else [*found, *_list_pages(evaluation, evaluation.lists)]


def _rating_pages(evaluation: Evaluation) -> list[Page]:
    head = (
        f"{evaluation.rows[0].num_rows:,} test ratings. Split: {evaluation.split}. Positive: {evaluation.label_rule}."
    )
    rows = (
        (display(row.model), *(figure(getattr(row, key), row.intervals.get(key)) for _, key in _POINTWISE))
        for row in evaluation.rows
    )
    header = ("model", *(name for name, _ in _POINTWISE))
    return [
        table("Ratings", header, rows, f"{head} {_how_sure(evaluation.samples)}".rstrip()),
        slice_table("AUC per slice", evaluation.slices, evaluation.slice_rows, "auc"),
    ]


def _how_sure(samples: int) -> str:
    if not samples:
        return ""
    return f"±: half the width of the 95 % interval, from {samples:,} resamplings of the users."


def _list_pages(evaluation: Evaluation, lists: ListEvaluation) -> list[Page]:
    measured = lists.describe()
    head = f"{measured[0].upper()}{measured[1:]}. The first line is what batch.score writes by default."
    users, titles = (_of_side(evaluation, lists.slices, side) for side in (USERS, TITLES))
    return [
        _list_page("Lists", lists.rows, _FOUND, f"{head} {_how_sure(lists.samples)}".rstrip()),
        _list_page("Variety of the top tens", lists.rows, _VARIETY, _EXPLAINED),
        slice_table("NDCG@10 per slice of the users", evaluation.slices, users, "ndcg10", 3),
        slice_table(
            "Recall@20 of the held-out titles per slice of the titles", evaluation.slices, titles, "recall20", 3
        ),
    ]


def _of_side(evaluation: Evaluation, rows: Sequence[SliceFigures], side: str) -> list[SliceFigures]:
    names = {part.name for part in evaluation.slices if part.side == side}
    return [row for row in rows if row.part in names]


def _list_page(title: str, rows: Sequence[SliceFigures], columns: Sequence[tuple[str, str, int]], note: str) -> Page:
    lines = (
        (display(row.model), *(figure(row.values.get(key), row.intervals.get(key), n) for _, key, n in columns))
        for row in rows
    )
    return table(title, ("model", *(name for name, _, _ in columns)), lines, note)


def _chart_rows(evaluation: Evaluation, lists: ListEvaluation) -> tuple[list[SliceFigures], list[SliceFigures], str]:
    """NDCG@10 for all users and per slice of them, Recall@20 per slice of the titles, and whom they are of."""
    users = [*lists.rows, *_of_side(evaluation, lists.slices, USERS)]
    return users, _of_side(evaluation, lists.slices, TITLES), f"{lists.num_users:,} users; {evaluation.split}"
