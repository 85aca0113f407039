"""What the reports say, that it repeats, and that the charts show what was measured."""

from __future__ import annotations

import hashlib
import io
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from sdk.base.errors import OutputError, how_to_get
from sdk.measure.charts import best_epoch, can_draw, draw_auc
from sdk.measure.evaluation import Evaluation
from sdk.measure.evaluation_report import write_reports
from sdk.measure.slices import Slice
from sdk.metrics.pointwise import EpochRecord, MetricRow, SliceFigures, calibration

SPLIT = "random 80%/20%, validation 10% of training, seed 42"
RULE = "rating > 3"


def epochs(*values, speed=1000.0):
    return [EpochRecord(n, 0.7 - n / 100, value, 0.6 - n / 100, speed * n) for n, value in enumerate(values, 1)]


def two_models(speed=1000.0):
    return {"dlrm": epochs(0.75, 0.79, 0.80, 0.79, speed=speed), "ncf": epochs(0.74, 0.785, 0.78, speed=speed)}


def table():
    return [
        MetricRow("dlrm", 0.80123, 0.5301, 0.0123, 20168),
        MetricRow("ncf", 0.79, 0.54, 0.02, 20168, "ids | alone"),
        MetricRow("popular", 0.64, math.nan, math.nan, 20168, "no logits"),
    ]


def calibrations():
    rng = np.random.default_rng(0)
    truth = rng.random(2000)
    labels = rng.random(2000) < truth
    return {"dlrm": calibration(labels, truth), "ncf": calibration(labels, truth**2)}


def write(folder, history=None, **changes):
    parts = {"rows": table(), "calibrations": calibrations(), "split": SPLIT, "label_rule": RULE, **changes}
    write_reports(folder, two_models() if history is None else history, Evaluation(**parts))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def pixels(png):
    from matplotlib.image import imread

    return imread(io.BytesIO(png))


def has_colour(image, colour):
    from matplotlib.colors import to_rgb

    return bool((np.abs(image[..., :3] - to_rgb(colour)).max(axis=-1) < 0.01).sum() > 100)


@pytest.mark.needs("matplotlib")
def test_two_runs_write_the_same_bytes_whatever_their_speed_and_the_users_own_style(tmp_path):
    import matplotlib

    first = write(tmp_path / "a")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "figure.dpi": 50}):
        second = write(tmp_path / "b", history=two_models(speed=7.0))
        assert matplotlib.rcParams["font.size"] == 30  # ours did not leak
    assert sorted(first) == ["auc_per_epoch.png", "calibration.png", "metrics.json", "metrics.md"]
    digests = [{name: hashlib.sha256(content).hexdigest() for name, content in run.items()} for run in (first, second)]
    assert digests[0] == digests[1]


def test_the_json_holds_what_was_measured_and_no_speed(tmp_path):
    text = write(tmp_path)["metrics.json"].decode()
    assert "rows_per_s" not in text
    got = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert (got["split"], got["label_rule"]) == (SPLIT, RULE)
    assert got["models"][0] == {
        "model": "dlrm", "auc": 0.80123, "log_loss": 0.5301, "calibration_error": 0.0123, "num_rows": 20168, "note": "",
    }  # fmt: skip
    assert got["models"][2]["log_loss"] is None
    assert got["history"]["ncf"][1] == {"epoch": 2, "train_loss": 0.7 - 0.02, "auc": 0.785, "log_loss": 0.6 - 0.02}
    assert got["best_epoch"] == {"dlrm": 3, "ncf": 2}
    expected = calibrations()["dlrm"]
    assert got["calibration"]["dlrm"]["counts"] == expected.counts.tolist()
    assert got["calibration"]["dlrm"]["edges"] == expected.edges.tolist()


def test_the_markdown_table_reads_as_expected(tmp_path):
    assert write(tmp_path)["metrics.md"].decode() == (
        "# Results on the test rows\n"
        "\n"
        "Split: random 80%/20%, validation 10% of training, seed 42. Positive label: rating > 3. "
        "ECE: expected calibration error. –: not measured.\n"
        "\n"
        "| model | AUC | log loss | ECE | rows | note |\n"
        "|---|---:|---:|---:|---:|---|\n"
        "| DLRM | 0.8012 | 0.5301 | 0.0123 | 20,168 |  |\n"
        "| NCF | 0.7900 | 0.5400 | 0.0200 | 20,168 | ids \\| alone |\n"
        "| popular | 0.6400 | – | – | 20,168 | no logits |\n"
        "\n"
        "Best epochs by validation AUC: DLRM 3 of 4 (0.8000); NCF 2 of 3 (0.7850).\n"
    )


def test_slices_follow_the_table_and_stand_in_the_json(tmp_path):
    slices = [Slice("light users", "users", "1 to 9", np.ones(3, bool))]
    rows = [SliceFigures("dlrm", "light users", 4, 55, {"auc": 0.75}), SliceFigures("ncf", "light users", 4, 55, {})]
    plain = write(tmp_path / "plain")["metrics.md"].decode()
    write(tmp_path / "sliced", calibrations={}, slices=slices, slice_rows=rows)
    page = (tmp_path / "sliced" / "metrics.md").read_text("utf-8")
    assert page.startswith(plain)
    assert "| light users (1 to 9) | 4 | 55 | 0.7500 | – |" in page.splitlines()
    assert "python -m sdk evaluate" in page
    assert json.loads((tmp_path / "sliced" / "metrics.json").read_text("utf-8"))["slices"][0]["values"] == {"auc": 0.75}


def test_the_best_epoch_is_the_first_of_equals():
    assert best_epoch(epochs(0.7, 0.8, 0.8)).epoch == 2


def test_without_matplotlib_all_but_the_charts_is_written_and_said_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    can_draw.cache_clear()
    try:
        assert sorted(write(tmp_path / "a")) == sorted(write(tmp_path / "b")) == ["metrics.json", "metrics.md"]
    finally:
        can_draw.cache_clear()
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        f"charts are left out, for matplotlib is not installed: {how_to_get('plots')}"
    ]


@pytest.mark.needs("matplotlib")
def test_both_models_are_drawn_on_one_chart_of_a_readable_size():
    both, one = pixels(draw_auc(two_models(), "x")), pixels(draw_auc({"ncf": two_models()["ncf"]}, "x"))
    assert min(both.shape[:2]) >= 600
    assert has_colour(both, "#0072B2")
    assert has_colour(both, "#D55E00")
    assert has_colour(one, "#0072B2")
    assert not has_colour(one, "#D55E00")


@pytest.mark.needs("matplotlib")
def test_a_different_curve_gives_a_different_picture():
    other = {**two_models(), "ncf": epochs(0.74, 0.786, 0.78)}
    assert draw_auc(two_models(), "x") != draw_auc(other, "x")
    assert draw_auc(two_models(), "x") != draw_auc(two_models(), "y")


@pytest.mark.needs("matplotlib")
def test_one_epoch_and_more_models_than_colours_can_be_drawn():
    image = pixels(draw_auc({f"model {n}": epochs(0.5 + n / 100) for n in range(8)}, "x"))
    assert has_colour(image, "#56B4E9")


@pytest.mark.needs("matplotlib")
def test_drawing_leaves_no_global_figure_behind(tmp_path):
    import matplotlib.pyplot

    write(tmp_path)
    assert matplotlib.pyplot.get_fignums() == []


def test_a_chart_with_nothing_to_show_is_not_written(tmp_path):
    assert sorted(write(tmp_path, history={}, calibrations={})) == ["metrics.json", "metrics.md"]
    assert "Best epochs" not in (tmp_path / "metrics.md").read_text(encoding="utf-8")


def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write the reports") as caught:
        write(tmp_path / "file")
    assert caught.value.exit_code == 5
    assert isinstance(caught.value.__cause__, OSError)
    assert Path(tmp_path / "file").read_text() == "in the way"
