"""A night beside the nights before it: figures, changes, lines, and the sentence that a report begins with."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from batch.gates.figures import BundleFacts, Figures, GateResult, SideFigures
from batch.page.sparkline import sparkline
from batch.page.trend import figures_of, headline, is_far
from batch.store.places import open_target
from batch.store.run_record import last_record, records_before

TONIGHT = Figures(
    users=SideFigures(queries=1_200, rows=12_000, fallback=0.0125, coverage=0.5, gini=0.7, overlap=0.875),
    titles=SideFigures(queries=900, rows=9_000), bundle=BundleFacts(validation_auc=0.81), previous="2026-11-22",
)  # fmt: skip
RUN = {"users_per_s": 812.4, "seconds": {"scoring users": 2.0, "checking": 0.5}, "peak_memory_mib": 300.2}


def record(**figures: float) -> dict[str, object]:
    return {"run_date": "2026-11-22", "figures": figures, **RUN}


def gate(name: str, **said: object) -> GateResult:
    return GateResult(name, **{"passed": True, "got": 1, "threshold": 1, "at_most": True, "meaning": "", **said})


def test_each_figure_stands_beside_that_of_the_night_before():
    before = [record(users=1_100, coverage=0.25, gini=0.5), record(users=1_190, coverage=0.4, gini=0.75, overlap=0.9)]
    found = {one.name: (one.shown, one.change) for one in figures_of(TONIGHT, RUN, before, "products")}
    assert found == {
        "users": ("1,200", "+10"), "products": ("900", ""), "rows": ("21,000", ""), "popular lists": ("1.2 %", ""),
        "catalogue coverage": ("50.0 %", "+10.0 points"), "Gini index": ("0.7", "-0.05"),
        "overlap with the night before": ("87.5 %", "-2.5 points"), "validation AUC": ("0.81", ""),
        "users per second": ("812", "as before"), "seconds": ("2.5", "as before"),
        "peak memory, MiB": ("300", "as before"),
    }  # fmt: skip
    lines = {one.name for one in figures_of(TONIGHT, RUN, before) if one.line}
    assert lines >= {"users", "catalogue coverage", "Gini index", "seconds"}
    assert "titles" not in lines


@pytest.mark.parametrize(
    "broken", [{}, {"figures": [1]}, {"figures": {"users": "many", "coverage": True}, "seconds": 3}]
)
def test_records_of_older_releases_and_odd_ones_are_left_out(broken):
    for one in figures_of(TONIGHT, {}, [broken]):
        assert (one.change, one.line) == ("", "")


def test_the_sentence_says_what_was_published_what_changed_and_what_to_look_at():
    said = headline(TONIGHT, [], published=True)
    assert said == (
        "Published: lists for 1,200 users and 900 titles; users' top tens overlap by 87.5 % with those of 2026-11-22; "
        "nothing asks for a look."
    )
    gates = (gate("users.flat", passed=False, skipped=True), gate("users.gini"), gate("titles.rows", passed=False))
    refused = Figures(users=SideFigures(queries=3), gates=gates)
    assert headline(refused, [], published=False, items="books") == (
        "Not published: lists for 3 users and 0 books; there is no night before to compare with; "
        "look at users.flat (skipped), titles.rows (failed)."
    )
    nights = [record(coverage=0.2 + 0.001 * n) for n in range(9)]
    assert "look at catalogue coverage, far from what it was." in headline(
        TONIGHT, figures_of(TONIGHT, RUN, nights), published=True
    )


def test_far_is_beyond_the_outer_fences_of_seven_nights_or_more():
    nights = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]  # quartiles 2.5 and 5.5, so the fences are -6.5 and 14.5
    assert [is_far(value, nights) for value in (-6.6, -6.4, 4.0, 14.4, 14.6)] == [True, False, False, False, True]
    assert not is_far(99.0, nights[:6])
    assert not is_far(99.0, [3.0] * 9)


def test_a_line_goes_from_the_lowest_to_the_highest_and_breaks_where_nothing_is_known():
    drawn = sparkline([1, 3, None, 2, 2], "<coverage>")
    runs = [
        [tuple(map(float, point.split(","))) for point in points.split()]
        for points in re.findall(r'points="([^"]+)"', drawn)
    ]
    assert runs == [[(3, 25), (31.5, 3)], [(88.5, 14), (117, 14)]]
    assert "&lt;coverage&gt;: from 1 to 3 over 4 nights, 2 in the last" in drawn
    assert 'cx="117.0" cy="14.0"' in drawn
    assert [sparkline(values, "x") for values in ([], [1.0], [None, 2.0])] == [""] * 3
    assert set(re.findall(r",([\d.]+)", sparkline([5, 5, 5], "x").partition('points="')[2])) == {"14.0"}


def test_the_last_nights_before_one_are_read_oldest_first(tmp_path):
    (tmp_path / "runs").mkdir()
    for day in range(1, 10):
        text = json.dumps({"run_date": f"2026-11-0{day}"}) if day != 6 else "no JSON"
        (tmp_path / "runs" / f"run_date=2026-11-0{day}.json").write_text(text)
    target = open_target(tmp_path)
    found = [one["run_date"][-1] for one in records_before(target, "2026-11-08", 4)]
    assert found == ["4", "5", "7"]
    assert last_record(target)["run_date"] == "2026-11-09"
    assert records_before(target, "2026-11-01", 30) == []
    assert np.all(np.diff([int(one) for one in found]) > 0)
