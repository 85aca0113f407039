"""What a night tells its operators: log lines, Prometheus' file and the HTML report, each held to the night's parts."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from made_up import NUM_ITEMS, NUM_USERS
from night_files import Crash, fail_at, tree
from prometheus_client.parser import text_string_to_metric_families

import sdk
from batch import report
from batch.page import night_sample as report_sample
from batch.page import report_page
from batch.score import main
from batch.store.journal import Journal
from batch.store.places import open_target
from sdk.base.progress import Progress

FIRST, SECOND = "2026-11-22", "2026-11-23"
METRICS = "metrics.prom"


def score(bundle_path: Path, out: Path, date: str, *options: str) -> tuple[int, str, list[dict]]:
    """Run the command; its exit code, its stdout, and its log lines."""
    arguments = ["--bundle", str(bundle_path), "--out", str(out), "--run-date", date, "--k", "10", "--threads", "1"]
    arguments += ["--users-per-part", "7", "--json", "--log-format", "json", "--run-id", f"run-{date}"]
    arguments += ["--metrics-file", str(out / METRICS), "--skip-gate", "overlap", "--skip-gate", "auc", *options]
    out.mkdir(exist_ok=True)
    with contextlib.redirect_stdout(io.StringIO()) as stdout, contextlib.redirect_stderr(io.StringIO()) as stderr:
        code = main(arguments)
    return code, stdout.getvalue(), [json.loads(line) for line in stderr.getvalue().splitlines()]


@pytest.fixture(scope="module")
def two_nights(bundle_path, tmp_path_factory):
    """Nights of two models, and what the second said."""
    out = tmp_path_factory.mktemp("observed")
    assert score(bundle_path, out, FIRST, "--model", "ncf")[0] == 0
    code, stdout, lines = score(bundle_path, out, SECOND, "--model", "dlrm")
    assert code == 0, lines[-1]["message"]
    return out, json.loads(stdout), lines


@pytest.fixture
def own(two_nights, tmp_path) -> Path:
    return Path(shutil.copytree(two_nights[0], tmp_path / "own"))


def manifest(out: Path, date: str = SECOND) -> dict:
    return json.loads((out / f"run_date={date}" / "manifest.json").read_text())


def rows_of(out: Path, side: str, date: str = SECOND) -> pd.DataFrame:
    return pd.concat(pd.read_parquet(p) for p in sorted((out / f"run_date={date}" / side).glob("*.parquet")))


# ---------------------------------------------------------------------------------------------- log lines


def test_every_line_and_the_run_record_carry_the_run_id_that_was_given(two_nights):
    out, printed, lines = two_nights
    assert {line["run_id"] for line in lines} == {f"run-{SECOND}"} == {printed["run_id"]}
    assert json.loads((out / f"runs/run_date={SECOND}.json").read_text())["run_id"] == f"run-{SECOND}"
    for line in lines:
        assert line.keys() >= {"time", "level", "logger", "message"}
        assert "stage" in line or "event" in line, line


def test_the_parts_lines_add_up_to_the_night(two_nights):
    out, printed, lines = two_nights
    for side, stage, unit, total in (
        ("user_items", "scoring users", "users", NUM_USERS + 1),
        ("item_items", "scoring titles", "titles", NUM_ITEMS + 1),
    ):
        mine = [line for line in lines if line.get("side") == side and line["stage"] == stage]
        files = sorted((out / f"run_date={SECOND}" / side).glob("*.parquet"))
        assert [line["part"] for line in mine] == list(range(1, len(files) + 1))
        assert [line["shard_number"] for line in mine] == list(range(len(files)))
        assert {line["parts"] for line in mine} == {len(files)}
        assert (mine[-1]["done"], mine[-1]["total"], mine[-1]["seconds_left"]) == (total, total, 0)
        assert all(line[f"{unit}_per_s"] > 0 and line["seconds_left"] >= 0 for line in mine)
        assert sum(line["bytes"] for line in mine) == sum(path.stat().st_size for path in files)
        rows = {"user_items": "user_rows", "item_items": "item_rows"}[side]
        assert sum(line["rows"] for line in mine) == len(rows_of(out, side)) == printed[rows]
        checked = [line["rows"] for line in lines if line.get("stage") == f"checking {side}"]
        assert sum(checked) == printed[rows]


def test_one_line_holds_the_gates_and_one_the_whole_night(two_nights):
    out, printed, lines = two_nights
    (gates,) = [line for line in lines if "gates" in line]
    found = {gate["name"]: gate for gate in manifest(out)["checks"]["gates"]}
    assert gates["gates"].keys() == found.keys()
    assert sum(gates[f"gates_{said}"] for said in ("passed", "failed", "skipped", "not_compared")) == len(found)
    assert all(gates["gates"][name]["got"] == gate["got"] for name, gate in found.items())
    (night,) = [line for line in lines if line.get("event") == "night"]
    assert {name: night[name] for name in printed} == printed
    staged = {line["stage"]: line["seconds"] for line in lines if line["logger"] == "sdk.base.stages"}
    assert {name: staged[name] for name in night["seconds"]} == night["seconds"]


def test_resuming_and_retention_are_told_in_numbers(bundle_path, own, monkeypatch):
    fail_at(monkeypatch, Journal, "add", 4, Crash())
    with pytest.raises(Crash):
        score(bundle_path, own, "2026-11-24", "--model", "dlrm")
    monkeypatch.undo()
    code, stdout, lines = score(bundle_path, own, "2026-11-24", "--model", "dlrm", "--keep", "2")
    assert code == 0
    (resumed,) = [line for line in lines if "resumed_parts" in line and line.get("event") != "night"]
    assert (resumed["resumed_parts"], resumed["parts"]) == (3, 15)
    assert json.loads(stdout)["resumed_parts"] == 3
    assert [line["deleted"] for line in lines if line.get("stage") == "retention"] == [FIRST]
    assert sorted(p.name for p in (own / "reports").iterdir()) == [
        f"run_date={SECOND}.html",
        "run_date=2026-11-24.html",
    ]


def test_a_failure_is_one_error_line_with_the_exit_code(own, tmp_path):
    code, stdout, lines = score(tmp_path / "no-bundle", own, "2026-11-24")
    assert (code, stdout) == (4, "")
    assert [(line["level"], line["exit_code"]) for line in lines if line["level"] == "error"] == [("error", 4)]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_a_bar_with_the_time_left_and_no_line_a_part(monkeypatch, caplog):
    caplog.set_level("INFO", "batch")
    monkeypatch.setattr(sys, "stderr", Terminal())
    with Progress("scoring users", "users", parts=2, total=20) as progress:
        progress.bar.mininterval = 0
        progress.step(10)
        progress.bar.refresh()
        assert re.search(r"scoring users: +50%.* 10/20 \[\d\d:\d\d<\d\d:\d\d", sys.stderr.getvalue())
    assert caplog.records == []


# ---------------------------------------------------------------------------------------------- Prometheus


def metrics(out: Path) -> dict[str, dict[str, float]]:
    """Metric -> label value, empty where there is none -> value; read back by the client library's own parser."""
    families = list(text_string_to_metric_families((out / METRICS).read_text()))
    assert all(family.documentation and family.type == "gauge" for family in families)
    return {
        family.name.removeprefix("marquee_"): {"".join(s.labels.values()): s.value for s in family.samples}
        for family in families
    }


def test_the_metrics_say_what_the_parts_and_the_manifest_say(two_nights):
    out, printed, _ = two_nights
    found = metrics(out)
    users, titles = rows_of(out, "user_items"), rows_of(out, "item_items")
    assert found["night_rows"] == {"users": len(users), "titles": len(titles)}
    popular = users.groupby("user_id")["source"].first().eq("popular").mean()
    assert found["night_fallback_ratio"]["users"] == pytest.approx(popular)
    assert found["night_coverage_ratio"]["users"] == pytest.approx(users["item_id"].nunique() / (NUM_ITEMS + 1))
    checks = manifest(out)["checks"]
    assert found["night_gini_ratio"]["titles"] == checks["item_items"]["gini"]
    assert found["night_overlap_ratio"]["users"] == checks["user_items"]["overlap"]
    assert found["run_last_exit_code"] == {"": 0}
    assert found["night_date_timestamp_seconds"][""] == pd.Timestamp(SECOND, tz="UTC").timestamp()
    assert found["run_users_per_second"][""] == printed["users_per_s"]
    took = {name: pytest.approx(seconds, abs=1e-3) for name, seconds in printed["seconds"].items()}
    assert found["run_stage_duration_seconds"].items() >= took.items()
    passed = {gate["name"]: float(gate["passed"]) for gate in checks["gates"] if gate["got"] is not None}
    assert found["gate_passed"] == passed
    assert sum(found["gates"].values()) == len(checks["gates"])
    assert all(
        re.search(r"(_seconds|_bytes|_ratio|_code|_rows|_second|_drift|_parts|gates|_passed)$", n) for n in found
    )


def test_a_failure_leaves_the_last_nights_figures_and_its_own_exit_code(own, tmp_path):
    before = metrics(own)
    assert score(tmp_path / "no-bundle", own, "2026-11-24")[0] == 4
    after = metrics(own)
    assert after["run_last_exit_code"] == {"": 4}
    assert after["run_last_timestamp_seconds"][""] > before["run_last_success_timestamp_seconds"][""]
    kept = [name for name in before if name.startswith(("night_", "gate", "run_last_success"))]
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}


def test_a_file_that_is_no_metrics_is_written_anew_and_a_place_that_is_none_is_refused_at_once(bundle_path, own):
    (own / METRICS).write_text("not { a metric\n")
    assert score(bundle_path, own, SECOND, "--model", "dlrm")[0] == 0
    assert metrics(own)["run_last_exit_code"] == {"": 0}
    code, _, lines = score(bundle_path, own, "2026-11-24", "--metrics-file", str(own / "no" / "m.prom"))
    assert code == 2
    assert not any("part" in line for line in lines)


def test_the_documented_alerts_and_metrics_are_of_metrics_that_are_written(two_nights):
    text = (Path(__file__).resolve().parents[3] / "docs/operations.md").read_text()
    (group,) = yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.S)[1])["groups"]
    assert all(rule.keys() >= {"alert", "expr", "labels", "annotations"} for rule in group["rules"])
    written = {f"marquee_{name}" for name in metrics(two_nights[0])}
    assert set(re.findall(r"marquee_\w+", " ".join(rule["expr"] for rule in group["rules"]))) <= written
    assert set(re.findall(r"`(marquee_\w+)`", text)) == written


def test_a_dry_run_foretells_the_whole_run_by_the_last_record(two_nights, bundle_path):
    out = two_nights[0]
    code, stdout, _ = score(bundle_path, out, "2026-11-24", "--model", "dlrm", "--dry-run")
    foretold, record = json.loads(stdout), json.loads((out / f"runs/run_date={SECOND}.json").read_text())
    rest = sum(seconds for stage, seconds in record["seconds"].items() if not stage.startswith("scoring"))
    assert code == 0
    assert foretold["estimated_total_s"] - foretold["estimated_s"] == pytest.approx(rest, abs=0.01)
    scoring = record["seconds"]["scoring users"] + record["seconds"]["scoring titles"]
    assert foretold["estimated_s"] == pytest.approx(scoring, rel=0.2)
    size = sum(manifest(out)["bytes"].values())
    assert foretold["estimated_bytes"] == pytest.approx(size, rel=0.05)


# ---------------------------------------------------------------------------------------------- report


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def test_the_report_needs_no_other_file_and_names_its_parts_for_everyone(two_nights):
    text = (two_nights[0] / f"reports/run_date={SECOND}.html").read_text()
    page = Page(text)
    names = [tag for tag, _ in page.tags]
    assert not {"script", "link", "img", "iframe", "object"} & set(names)
    links = [value for _, attrs in page.tags for name, value in attrs.items() if name in ("href", "xlink:href", "src")]
    assert links
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert {name.removeprefix("#") for name in re.findall(r"url\(([^)]*)\)", text)} <= set(ids)
    assert dict(page.tags)["html"]["lang"] == "en"
    assert [name for name in names if name in ("h1", "h2")] == ["h1"] + 5 * ["h2"]
    charts = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert sum(attrs.get("class") != "spark" for attrs in charts) == 4
    assert all(attrs["role"] == "img" and len(attrs["aria-label"]) > 20 for attrs in charts)
    assert all("scope" in attrs for tag, attrs in page.tags if tag == "th")
    assert len(text) < 300_000


def test_the_report_shows_every_gate_and_titles_that_stand_in_the_lists(two_nights, bundle):
    out = two_nights[0]
    page = Page((out / f"reports/run_date={SECOND}.html").read_text())
    words = [text.strip() for text in page.text]
    assert {gate["name"] for gate in manifest(out)["checks"]["gates"]} <= set(words)
    shown = [int(text.removeprefix("User ")) for text in words if text.startswith("User ")]
    assert len(shown) == 6
    users = rows_of(out, "user_items")
    start = words.index(f"User {shown[0]}")
    listed = users[users["user_id"] == shown[0]].sort_values("rank")["item_id"].tolist()[:8]
    following = [text for text in words[start + 1 :] if text]
    assert following[1 : len(listed) + 1] == bundle.titles(listed)


def test_the_curves_equal_the_slow_way(two_nights, bundle):
    out = two_nights[0]
    sample = report_sample.sample_users(open_target(out), f"run_date={SECOND}")
    users, before = rows_of(out, "user_items"), rows_of(out, "user_items", FIRST)
    assert sorted(sample.users) == sorted(set(users["user_id"]))
    titles = bundle.encoded_items
    by_rank = [users[users["rank"] <= rank]["item_id"].nunique() / 61 for rank in range(1, 11)]
    np.testing.assert_allclose(report_sample.coverage_by_rank(sample, titles), by_rank)
    by_users = report_sample.coverage_by_users(sample, titles)
    assert (np.diff(by_users) >= 0).all()
    assert by_users[0] == pytest.approx(10 / 61)
    assert by_users[-1] == pytest.approx(by_rank[-1])
    tops = [rows[rows["rank"] <= 10].groupby("user_id")["item_id"].agg(set) for rows in (users, before)]
    slow = {user: len(top - tops[1][user]) / len(top) for user, top in tops[0].items()}
    assert 0 < np.mean(list(slow.values())) < 1
    parts = report_sample.same_parts(open_target(out), f"run_date={FIRST}", sample.parts)
    got = np.concatenate([report_sample.churn(sample, part) for part in parts])
    np.testing.assert_allclose(got, [slow[user] for user in sorted(slow)])


def test_a_large_night_is_sampled_by_rule_from_parts_far_apart(two_nights, monkeypatch):
    monkeypatch.setattr(report_sample, "MAX_USERS", 9)
    monkeypatch.setattr(report_sample, "LEAST_PARTS", 3)
    target = open_target(two_nights[0])
    first, again = (report_sample.sample_users(target, f"run_date={SECOND}") for _ in range(2))
    assert len(first.users) == 9
    assert first.parts == ("part-00000.parquet", "part-00002.parquet", "part-00004.parquet")
    np.testing.assert_array_equal(first.users, again.users)
    users = rows_of(two_nights[0], "user_items")
    expected = users[users["user_id"].isin(first.users)]
    assert list(zip(first.users[first.user], first.rank, first.item, strict=True)) == list(
        zip(expected["user_id"], expected["rank"], expected["item_id"], strict=True)
    )


def test_a_title_is_shown_as_text_whatever_it_holds(two_nights, bundle_path, own, monkeypatch):
    attack = "<script>alert('x')</script><img src=x onerror=alert(1)> & \"Sons\" (1999)"
    monkeypatch.setattr(sdk.Bundle, "titles", lambda self, ids: [attack] * len(ids))
    page = Page(Path(report.rebuild(bundle_path, own, SECOND)).read_text())
    assert not {"script", "img"} & {tag for tag, _ in page.tags}
    assert page.text.count(attack) > 30


def test_the_report_begins_with_what_was_published_and_shows_each_figure_beside_the_night_before(two_nights):
    out, printed, _ = two_nights
    assert json.loads((out / f"runs/run_date={SECOND}.json").read_text())["figures"] == printed["figures"]
    checks = manifest(out)["checks"]
    assert printed["figures"]["overlap"] == checks["user_items"]["overlap"]
    text = (out / f"reports/run_date={SECOND}.html").read_text()
    overlap = f"{100 * checks['user_items']['overlap']:.1f} %"
    said = re.search(r'class="lead">([^<]+)<', text)[1].replace("&#39;", "'")
    asked = checks["user_items"]["queries"], checks["item_items"]["queries"]
    done = "Published: lists for {:,} users and {:,} titles; ".format(*asked)
    assert said.startswith(f"{done}users' top tens overlap by {overlap} with those of {FIRST}; ")
    lines = re.findall(r'<svg class="spark"[^>]* aria-label="([^"]+)"', text)
    assert any(line.startswith("catalogue coverage: from ") and "over 2 nights" in line for line in lines)
    assert f"Changes are against {FIRST}" in text


def test_the_command_writes_the_same_report_again(two_nights, bundle_path, own, capsys):
    place = own / f"reports/run_date={SECOND}.html"
    place.unlink()
    assert report.main(["--bundle", str(bundle_path), "--out", str(own)]) == 0
    assert capsys.readouterr().out.strip() == str(place)
    written = (two_nights[0] / f"reports/run_date={SECOND}.html").read_text()
    assert place.read_text() == written.replace(f"{two_nights[0].name}/run_date", f"{own.name}/run_date")
    assert report.main(["--bundle", str(bundle_path), "--out", str(own), "--run-date", "2026-11-01"]) == 5


def test_the_report_says_where_the_night_lies_as_it_was_given_and_no_path_from_the_root(bundle_path, own, monkeypatch):
    monkeypatch.chdir(own.parent)
    for out, shown in ((own, "own"), (Path("own"), "own"), (Path("../") / own.parent.name / "own", None)):
        text = Path(report.rebuild(bundle_path, out, SECOND)).read_text()
        assert f">{shown or out}/run_date={SECOND}<" in text
        assert str(own) not in text
    monkeypatch.chdir(own)
    assert f">./run_date={SECOND}<" in Path(report.rebuild(bundle_path, Path(), SECOND)).read_text()


def test_a_refused_night_has_a_report_that_the_error_names_until_it_is_published(bundle_path, own, tmp_path):
    (tmp_path / "gates.json").write_text(json.dumps({"min_coverage": 1.0}))
    code, _, lines = score(bundle_path, own, "2026-11-24", "--gates", str(tmp_path / "gates.json"), "--model", "dlrm")
    refused = own / "reports/refused-2026-11-24.html"
    assert code == 6
    assert str(refused) in next(line["message"] for line in lines if line["level"] == "error")
    assert str(own) not in refused.read_text()
    words = Page(refused.read_text()).text
    assert words.count("refused") == 1
    assert any("users.coverage" in text and "expected at least 1" in text for text in words)
    for stage in ("loading the bundle", "checking"):
        assert re.fullmatch(r"\d+\.\d\d", words[words.index(stage) + 1])  # seconds
    found = metrics(own)
    assert (found["run_last_exit_code"][""], found["gate_passed"]["users.coverage"]) == (6, 0)
    assert found["night_date_timestamp_seconds"][""] == pd.Timestamp(SECOND, tz="UTC").timestamp()
    assert score(bundle_path, own, "2026-11-24", "--model", "dlrm")[0] == 0
    assert not refused.exists()
    assert (own / "reports/run_date=2026-11-24.html").exists()


def test_neither_the_absence_nor_the_failure_of_a_report_changes_a_byte_of_the_night(
    two_nights, bundle_path, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    shutil.copytree(two_nights[0] / f"run_date={FIRST}", out / f"run_date={FIRST}")
    (out / "LATEST").write_text(f"{FIRST}\n")
    assert score(bundle_path, out, SECOND, "--model", "dlrm", "--no-report")[0] == 0
    assert not (out / "reports").exists()
    assert tree(out / f"run_date={SECOND}") == tree(two_nights[0] / f"run_date={SECOND}")

    def broken(*_):
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(report_page, "page", broken)
    code, stdout, lines = score(bundle_path, out, SECOND, "--model", "dlrm", "--force")
    assert (code, json.loads(stdout)["status"]) == (0, "published")
    assert [line["level"] for line in lines if "a defect" in line["message"]] == ["warning"]
    assert tree(out / f"run_date={SECOND}") == tree(two_nights[0] / f"run_date={SECOND}")
