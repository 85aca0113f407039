"""A training run and an evaluation as text, Markdown, JSON and charts. The same results give the same bytes."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdk.base.errors import OutputError
from sdk.base.files import json_text, write_file
from sdk.base.printable import number
from sdk.base.rights import reason
from sdk.measure import text_tables
from sdk.measure.charts import History, best_epoch, can_draw, draw_auc, draw_calibration, draw_lists
from sdk.measure.slices import ITEMS, USERS
from sdk.measure.text_tables import as_section, display, figure, slice_table, table
from sdk.metrics.pointwise import Calibration, EpochRecord, MetricRow, SliceFigures
from sdk.shell.terminal import Page

if TYPE_CHECKING:
    from sdk.measure.evaluation import Evaluation
    from sdk.measure.list_evaluation import ListEvaluation

log = logging.getLogger(__name__)

_AUC, _SAMPLED_AUC = "AUC", "AUC against sampled negatives"
_COLUMNS = ("model", _AUC, "log loss", "ECE", "rows", "note")
_POINTWISE = ((_AUC, "auc", 4), ("log loss", "log_loss", 4), ("calibration error", "calibration_error", 4))
_FOUND = (
    ("NDCG@10", "ndcg10", 3), ("Recall@20", "recall20", 3), ("MAP@10", "map10", 3), ("hit rate@10", "hit_rate10", 3),
)  # fmt: skip
_VARIETY = (
    ("coverage@10", "coverage", 3), ("items", "distinct_in_top10", 0), ("Gini", "gini", 3),
    ("novelty, bits", "novelty", 3), ("diversity", "diversity", 3),
)  # fmt: skip
_EXPLAINED = (
    "coverage: share of the catalogue in any top ten; items: how many those are; Gini: 0 all items equally often, "
    "1 one item in every place; novelty: mean self-information; diversity: mean cosine distance by content."
)


def write_reports(folder: Path, history: History, evaluation: Evaluation) -> None:
    """Write ``auc_per_epoch.png``, ``calibration.png``, ``metrics.json`` and ``metrics.md``.

    Training speed stays out of all four, so two runs that learn the same write the same.

    Args:
        folder: made if absent; files of these names are replaced.
        history: model name to its epochs, in order. A chart with nothing to show is not written, nor
            any without matplotlib.
        evaluation: what the test rows say, without lists.

    Raises:
        OutputError: the folder or a file cannot be written.
    """
    split, rule = evaluation.split, evaluation.label_rule
    content = {
        "split": split,
        "label_rule": rule,
        **_against(evaluation),
        **_learnt(evaluation),
        "models": plain_values(evaluation.rows),
        "history": {model: plain_values(records) for model, records in history.items()},
        "best_epoch": {model: best_epoch(records).epoch for model, records in history.items() if records},
        "calibration": calibration_values(evaluation.calibrations),
        "slices": plain_values(evaluation.slice_rows),
    }
    text = "\n".join(_training_page(history, evaluation)).encode()
    files = {"metrics.json": json_text(content, allow_nan=False).encode(), "metrics.md": text}
    if any(history.values()) and can_draw():
        name = auc_name(evaluation)
        files["auc_per_epoch.png"] = draw_auc(history, f"{split}; positive: {rule}", name)
    if evaluation.calibrations and can_draw():
        files["calibration.png"] = draw_calibration(evaluation.calibrations, f"test rows; positive: {rule}")
    write_files(folder, files)
    log.info("reports: %s", ", ".join(files))  # no folder: a bundle's is a staging one, and soon renamed


def auc_name(evaluation: Evaluation) -> str:
    """What the AUC is called: of implicit feedback, what it is measured against."""
    return _SAMPLED_AUC if evaluation.sampled else _AUC


def _named(columns: Sequence[Any], evaluation: Evaluation) -> tuple[Any, ...]:
    """Columns' names, or such and more of each, with the AUC called by its name."""
    name = auc_name(evaluation)
    return tuple(
        (name if each == _AUC else each) if isinstance(each, str) else (name if each[0] == _AUC else each[0], *each[1:])
        for each in columns
    )


def _positive(evaluation: Evaluation, label: str) -> str:
    rule = f"every pair, measured against {evaluation.sampled}" if evaluation.sampled else evaluation.label_rule
    return f"{label}: {rule}."


def _training_page(history: History, evaluation: Evaluation) -> Iterator[str]:
    about = f"Split: {evaluation.split}. {_positive(evaluation, 'Positive label')}"
    rows = tuple(
        (display(row.model), *map(figure, row.values.values()), number(row.num_rows), row.note)
        for row in evaluation.rows
    )
    columns, auc = _named(_COLUMNS, evaluation), auc_name(evaluation)
    page = Page("", columns, rows, frozenset(columns[1:-1]))
    said = f"{about} ECE: expected calibration error. –: not measured. {evaluation.learnt}".rstrip()
    yield from ("# Results on the test rows", "", said, "")
    yield from (*text_tables.as_markdown(page), "")
    best = [(model, best_epoch(records), len(records)) for model, records in history.items() if records]
    if best:
        words = (f"{display(model)} {epoch.epoch} of {count} ({epoch.auc:.4f})" for model, epoch, count in best)
        yield from (f"Best epochs by validation {auc}: {'; '.join(words)}.", "")
    if evaluation.slice_rows:
        yield from as_section(slice_table(f"{auc} per slice", evaluation.slices, evaluation.slice_rows, "auc"))
        yield from ("", "Intervals and the lists over the full catalogue: `python -m sdk evaluate`.", "")


def _against(evaluation: Evaluation) -> dict[str, str]:
    """What the AUC is measured against, where that is no rating."""
    return {"auc": f"against {evaluation.sampled}"} if evaluation.sampled else {}


def _learnt(evaluation: Evaluation) -> dict[str, str]:
    """What the measured models learnt from, where that is not what the published ones did."""
    return {"learnt": evaluation.learnt} if evaluation.learnt else {}


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files of these names into a folder, made if absent.

    Raises:
        OutputError: the folder or a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_file(folder / name, content, durable=False)
    except OSError as error:
        where = error.filename or folder
        message = f"{where}: cannot write the reports ({reason(error)}). Choose a folder that can be written."
        raise OutputError(message) from error


def plain_values(rows: Sequence[MetricRow | SliceFigures | EpochRecord]) -> list[dict[str, Any]]:
    """A table's lines as JSON values: null says that a value was not measured; no intervals unless asked for, and
    never a speed.
    """
    return [
        {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(row).items()
            if name != "rows_per_s" and (name != "intervals" or value)
        }
        for row in rows
    ]


def calibration_values(calibrations: Mapping[str, Calibration]) -> dict[str, dict[str, list[float]]]:
    """Calibrations as JSON values."""
    return {
        model: {name: values.tolist() for name, values in asdict(found).items()}
        for model, found in calibrations.items()
    }


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write ``evaluation.json``, ``evaluation.md``, ``test_calibration.png`` and ``lists.png``.

    Args:
        folder: made if absent; files of these names are replaced. A chart with nothing to show is not written, nor
            any without matplotlib.
        evaluation: what was measured.

    Raises:
        OutputError: the folder or a file cannot be written.
    """
    content = json_text(as_values(evaluation), allow_nan=False)
    files = {"evaluation.json": content.encode(), "evaluation.md": as_markdown(evaluation).encode()}
    if evaluation.calibrations and can_draw():
        subtitle = f"test rows; positive: {evaluation.label_rule}"
        files["test_calibration.png"] = draw_calibration(evaluation.calibrations, subtitle)
    if evaluation.lists is not None and can_draw():
        files["lists.png"] = draw_lists(*_chart_rows(evaluation, evaluation.lists))
    write_files(folder, files)
    log.info("reports: %s", ", ".join(files))


def as_values(evaluation: Evaluation) -> dict[str, Any]:
    """Everything that was measured, as JSON values; null says that a value was not.

    A slice's rule is how many training ratings its users or items have.
    """
    lists = evaluation.lists
    return {
        "split": evaluation.split,
        "label_rule": evaluation.label_rule,
        **_against(evaluation),
        **_learnt(evaluation),
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
        **{name: True for name in ("later", "include_seen") if getattr(lists, name)},
        "measured_on": lists.describe(),
        "models": plain_values(lists.rows),
        "by_slice": plain_values(lists.slices),
    }


def as_text(evaluation: Evaluation) -> str:
    """What a person reads: every table as plain text."""
    return "\n\n\n".join("\n".join(text_tables.as_text(page)) for page in as_pages(evaluation))


def as_markdown(evaluation: Evaluation) -> str:
    """The same as a page."""
    lines = [line for page in as_pages(evaluation) for line in ("", *as_section(page))]
    is_later = evaluation.lists is not None and evaluation.lists.later
    what = "what came later" if is_later else "the test part"
    return "\n".join([f"# Evaluation on {what}", *lines]) + "\n"


def as_pages(evaluation: Evaluation) -> list[Page]:
    """The same as tables for a terminal."""
    found = _rating_pages(evaluation) if evaluation.rows else []
    return found if evaluation.lists is None else [*found, *_list_pages(evaluation, evaluation.lists)]


def _rating_pages(evaluation: Evaluation) -> list[Page]:
    head = (
        f"{evaluation.rows[0].num_rows:,} {'test pairs' if evaluation.sampled else 'test ratings'}. "
        f"Split: {evaluation.split}. {_positive(evaluation, 'Positive')} {evaluation.learnt}".rstrip()
    )
    title, note = "Pairs" if evaluation.sampled else "Ratings", f"{head} {_how_sure(evaluation.samples)}".rstrip()
    return [
        _figures(title, evaluation.rows, _named(_POINTWISE, evaluation), note),
        slice_table(f"{auc_name(evaluation)} per slice", evaluation.slices, evaluation.slice_rows, "auc"),
    ]


def _how_sure(samples: int) -> str:
    if not samples:
        return ""
    return f"±: half the width of the 95 % interval, from {samples:,} resamplings of the users."


def _list_pages(evaluation: Evaluation, lists: ListEvaluation) -> list[Page]:
    measured = lists.describe()
    head = f"{measured[0].upper()}{measured[1:]}. The first line is what batch.score writes by default."
    if evaluation.learnt and not evaluation.rows:
        head += f" {evaluation.learnt}"
    users, items = (_of_side(evaluation, lists.slices, side) for side in (USERS, ITEMS))
    return [
        _figures("Lists", lists.rows, _FOUND, f"{head} {_how_sure(lists.samples)}".rstrip()),
        _figures("Variety of the top tens", lists.rows, _VARIETY, _EXPLAINED),
        slice_table("NDCG@10 per slice of the users", evaluation.slices, users, "ndcg10", 3),
        slice_table("Recall@20 of the held-out items per slice of the items", evaluation.slices, items, "recall20", 3),
    ]


def _of_side(evaluation: Evaluation, rows: Sequence[SliceFigures], side: str) -> list[SliceFigures]:
    names = {part.name for part in evaluation.slices if part.side == side}
    return [row for row in rows if row.part in names]


def _figures(
    title: str, rows: Sequence[MetricRow | SliceFigures], columns: Sequence[tuple[str, str, int]], note: str
) -> Page:
    lines = (
        (display(row.model), *(figure(row.values.get(key), row.intervals.get(key), n) for _, key, n in columns))
        for row in rows
    )
    return table(title, ("model", *(name for name, _, _ in columns)), lines, note)


def _chart_rows(evaluation: Evaluation, lists: ListEvaluation) -> tuple[list[SliceFigures], list[SliceFigures], str]:
    """NDCG@10 for all users and per slice of them, Recall@20 per slice of the items, and whom they are of."""
    users = [*lists.rows, *_of_side(evaluation, lists.slices, USERS)]
    return users, _of_side(evaluation, lists.slices, ITEMS), f"{lists.num_users:,} users; {evaluation.split}"
