"""An evaluation told in a terminal, as a page, as JSON and as a chart: the same figures, the same bytes."""

from __future__ import annotations

import io
import json
import math

import numpy as np
import pytest

from sdk.base.errors import OutputError
from sdk.measure import text_tables
from sdk.measure.evaluation import Evaluation
from sdk.measure.evaluation_report import as_markdown, as_text, as_values, write_evaluation
from sdk.measure.list_evaluation import ListEvaluation
from sdk.measure.slices import Slice
from sdk.measure.text_tables import figure, slice_table, table
from sdk.metrics.pointwise import MetricRow, SliceFigures, calibration

NOBODY = np.zeros(1, bool)
LIGHT, TAIL = Slice("light users", "users", "1 to 9", NOBODY), Slice("tail items", "items", "1 to 3", NOBODY)


def lists(**changes):
    ours = {"ndcg10": 0.35, "coverage": 0.25, "distinct_in_top10": 5}
    popular = {"ndcg10": 0.15, "coverage": 0.1, "distinct_in_top10": 2}
    rows = (
        SliceFigures("dlrm + history", "all", 6, 40, ours, {"ndcg10": (0.31, 0.38)}),
        SliceFigures("popularity", "all", 6, 40, popular, {"ndcg10": (0.1, 0.2)}),
    )
    slices = (
        SliceFigures("dlrm + history", "light users", 2, 5, {"ndcg10": 0.2}, {"ndcg10": (0.1, 0.3)}),
        SliceFigures("popularity", "light users", 2, 5, {"ndcg10": 0.1}),
        SliceFigures("dlrm + history", "tail items", 3, 7, {"recall20": 0.02}),
        SliceFigures("popularity", "tail items", 3, 7, {"recall20": 0.0}),
    )
    values = {
        "num_users": 6,
        "num_eligible": 9,
        "num_held_out": 40,
        "catalogue_size": 20,
        "like_at": 4.0,
        "samples": 50,
    }
    return ListEvaluation(rows, slices, **{**values, **changes})


def evaluation(**changes):
    rng = np.random.default_rng(0)
    truth = rng.random(500)
    parts = {
        "rows": (
            MetricRow("dlrm", 0.8223, 0.5, 0.01, 1234, "", {"auc": (0.81, 0.83)}),
            MetricRow("popularity", 0.64, math.nan, math.nan, 1234, "no logits", {"auc": (0.62, 0.66)}),
        ),
        "calibrations": {"dlrm": calibration(rng.random(500) < truth, truth)},
        "split": "random 80%/20%",
        "label_rule": "rating > 3",
        "slices": (LIGHT, TAIL),
        "slice_rows": (
            SliceFigures("dlrm", "light users", 11, 222, {"auc": 0.7}, {"auc": (0.6, 0.8)}),
            SliceFigures("popularity", "light users", 11, 222, {}),
        ),
        "samples": 50,
        "lists": lists(),
    }
    return Evaluation(**{**parts, **changes})


def test_the_terminal_shows_every_table_with_half_widths():
    text = as_text(evaluation())
    assert "1,234 test ratings. Split: random 80%/20%. Positive: rating > 3." in text
    assert "from 50 resamplings of the users" in text
    assert "6 users, drawn from 9 with seed 0, with 40 test ratings of at least 4 stars" in " ".join(text.split("\n"))
    lines = [line.split() for line in text.splitlines()]
    assert ["DLRM", "0.8223", "±0.0100", "0.5000", "0.0100"] in lines
    assert ["popularity", "0.6400", "±0.0200", "–", "–"] in lines
    assert ["light", "users", "(1", "to", "9)", "11", "222", "0.7000", "±0.1000", "–"] in lines
    assert ["DLRM", "+", "history", "0.350", "±0.035", "–", "–", "–"] in lines
    assert ["DLRM", "+", "history", "0.250", "5", "–", "–", "–"] in lines
    assert ["light", "users", "(1", "to", "9)", "2", "5", "0.200", "±0.100", "0.100"] in lines
    assert ["tail", "items", "(1", "to", "3)", "3", "7", "0.020", "0.000"] in lines


def test_what_was_not_measured_is_not_shown():
    assert "Lists" not in as_text(evaluation(lists=None))
    assert as_text(evaluation(rows=(), calibrations={}, slice_rows=())).startswith("Lists\n")
    assert "±" not in as_text(
        evaluation(rows=(MetricRow("dlrm", 0.8, 0.5, 0.1, 9),), slice_rows=(), samples=0, lists=None)
    )
    assert "drawn from" not in as_text(evaluation(lists=lists(num_eligible=6)))


def test_the_json_holds_every_figure_and_knows_no_nan():
    got = json.loads(json.dumps(as_values(evaluation()), allow_nan=False))
    assert got["test"][0]["intervals"] == {"auc": [0.81, 0.83]}
    assert got["test"][1]["log_loss"] is None
    assert got["slices"][1] == {"name": "tail items", "side": "items", "rule": "1 to 3"}
    assert got["by_slice"][0]["values"] == {"auc": 0.7}
    assert got["lists"]["models"][0]["intervals"] == {"ndcg10": [0.31, 0.38]}
    assert got["lists"]["by_slice"][2]["values"] == {"recall20": 0.02}
    assert got["lists"]["num_eligible"] == 9
    assert sum(got["calibration"]["dlrm"]["counts"]) == 500
    assert as_values(evaluation(lists=None))["lists"] is None


def test_the_page_is_markdown_of_the_same_tables():
    lines = as_markdown(evaluation()).splitlines()
    assert lines[0] == "# Evaluation on the test part"
    assert "| DLRM | 0.8223 ±0.0100 | 0.5000 | 0.0100 |" in lines
    assert "|---|---:|---:|---:|" in lines


@pytest.mark.needs("matplotlib")
def test_the_same_evaluation_writes_the_same_bytes_and_another_a_different_chart(tmp_path):
    def written(folder, changed):
        write_evaluation(tmp_path / folder, changed)
        return {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}

    first, again = written("a", evaluation()), written("b", evaluation())
    assert sorted(first) == ["evaluation.json", "evaluation.md", "lists.png", "test_calibration.png"]
    assert first == again
    better = lists()
    better.slices[2].values["recall20"] = 0.5
    assert written("c", evaluation(lists=better))["lists.png"] != first["lists.png"]
    assert sorted(written("d", evaluation(calibrations={}, lists=None))) == ["evaluation.json", "evaluation.md"]


@pytest.mark.needs("matplotlib")
def test_the_chart_shows_every_model_and_its_interval(tmp_path):
    from matplotlib.colors import to_rgb
    from matplotlib.image import imread

    write_evaluation(tmp_path, evaluation())
    image = imread(io.BytesIO((tmp_path / "lists.png").read_bytes()))
    for colour in ("#0072B2", "#D55E00"):
        spots = np.abs(image[..., :3] - to_rgb(colour)).max(axis=-1) < 0.01
        assert spots[:, : image.shape[1] // 2].sum() > 100, f"{colour} is not on the left"
        assert spots[:, image.shape[1] // 2 :].sum() > 50, f"{colour} is not on the right"


def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"):
        write_evaluation(tmp_path / "file", evaluation())


def test_figures_say_what_they_know():
    assert figure(0.82234, (0.8, 0.85), 3) == "0.822 ±0.025"
    assert figure(0.5) == "0.5000"
    assert figure(0.5, (math.nan, math.nan)) == "0.5000"
    assert figure(None) == figure(math.nan) == "–"


def test_tables_line_up_and_escape_bars():
    page = table("figures", ("model", "AUC"), (("a", "0.5"), ("long | name", "–")), "a note")
    assert text_tables.as_text(page)[:2] == ["figures", "a note"]
    assert text_tables.as_text(page)[3:] == ["model        AUC", "a            0.5", "long | name    –"]
    assert text_tables.as_markdown(page)[1:] == ["|---|---:|", "| a | 0.5 |", "| long \\| name | – |"]
    assert text_tables.as_markdown(page, spaced_rule=True)[1] == "| --- | ---: |"


def test_a_slice_that_no_model_was_measured_on_is_left_out():
    page = slice_table("AUC", (LIGHT, TAIL), [SliceFigures("ncf", "tail items", 3, 7, {"auc": 0.6})], "auc")
    assert page.header == ("slice", "users", "rows", "NCF")
    assert page.rows == (("tail items (1 to 3)", "3", "7", "0.6000"),)
