"""What an operator may get wrong at night: one line with a remedy and the right exit code, and nothing harmed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from night_files import DATE, job, tree

from batch.job.id_files import read_ids
from batch.job.inputs import end_of_day
from batch.run.night import run
from batch.score import main
from sdk.base.errors import UnusableFileError
from sdk.scoring import selection


@pytest.fixture
def said(bundle_path, tmp_path, capsys):
    """Run the command with these options; its exit code and the last line on stderr."""

    def ask(*options: str, bundle: Path = bundle_path, out: object = tmp_path / "out") -> tuple[int, str]:
        code = main(["--bundle", str(bundle), "--out", str(out), "--k", "5", *options])
        return code, capsys.readouterr().err.splitlines()[-1]

    return ask


@pytest.mark.parametrize("inside", [".", "nights", "../bundle/deep/down"])
def test_an_output_inside_the_bundle_is_refused_before_anything_is_written(bundle_path, said, tmp_path, inside):
    bundle = Path(shutil.copytree(bundle_path, tmp_path / "bundle"))
    before = tree(bundle)
    code, line = said("--run-date", DATE, bundle=bundle, out=bundle / inside)
    assert code == 2
    assert line.startswith(f"--out: {bundle / inside} lies inside --bundle {bundle}")
    assert tree(bundle) == before


def test_a_bundle_inside_the_output_is_left_alone(bundle_path, tmp_path):
    bundle = Path(shutil.copytree(bundle_path, tmp_path / "bundle"))
    before = tree(bundle)
    for date in ("2026-11-22", DATE):
        run(job(bundle, tmp_path, run_date=date, keep=1))
    assert tree(bundle) == before
    assert not (tmp_path / "run_date=2026-11-22").exists()


@pytest.mark.parametrize(
    ("options", "code", "line"),
    [
        (["--backfill", "2026-02-29", "2026-03-01"], 2, "--backfill: got '2026-02-29', expected a date"),
        (["--run-date", "23.11.2026"], 2, "--run-date: got '23.11.2026', expected a date such as 2026-11-23"),
    ],
)
def test_a_wrong_value_names_its_own_option(said, tmp_path, options, code, line):
    date = [] if options[0] in ("--backfill", "--run-date") else ["--run-date", DATE]
    got, last = said(*date, *options)
    assert got == code
    assert last.startswith(line)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_output_is_refused_and_nothing_is_written_to_the_current_folder(said, tmp_path, monkeypatch, empty):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(SystemExit) as stop:
        said("--run-date", DATE, out=empty)
    assert stop.value.code == 2
    assert not list((tmp_path / "here").iterdir())


def test_a_folder_where_the_pointer_belongs_is_named_with_a_remedy(said, tmp_path):
    (tmp_path / "out" / "LATEST").mkdir(parents=True)
    code, line = said("--run-date", DATE)
    assert code == 5
    assert "LATEST" in line
    assert "move it away" in line
    (tmp_path / "out" / "LATEST").rmdir()
    assert said("--run-date", DATE)[0] == 0
    assert (tmp_path / "out" / "LATEST").read_text() == f"{DATE}\n"


def test_lists_longer_than_the_catalogue_cost_no_memory(bundle_path, tmp_path, monkeypatch):
    asked, real = [], selection.buffer_size
    monkeypatch.setattr(selection, "buffer_size", lambda k, most: asked.append(k) or real(k, most))
    huge = {"k": 10**12, "audience": 10**12}
    run(job(bundle_path, tmp_path / "huge", **huge))
    assert max(asked) <= 64
    run(job(bundle_path, tmp_path / "whole", k=64, audience=44))
    lists = [
        {name: data for name, data in tree(tmp_path / name / f"run_date={DATE}").items() if name.endswith("parquet")}
        for name in ("huge", "whole")
    ]
    assert lists[0] == lists[1]
    assert len(lists[0]) > 20


@pytest.mark.parametrize("text", ["\ufeffuser_id\r\n1\r\n\r\n2\r\n", "\ufeff1\r\n\r\n2\r\n", "\r\n 2\t\n1", "2\r1\r"])
def test_marks_and_line_ends_of_other_systems_change_no_id(tmp_path, text):
    (tmp_path / "ids.csv").write_bytes(text.encode())
    assert read_ids(tmp_path / "ids.csv", "user_id").ids.tolist() == [1, 2]


def test_a_folder_is_no_file_of_ids(tmp_path):
    with pytest.raises(UnusableFileError, match="it is a folder"):
        read_ids(tmp_path, "user_id")


def test_every_day_of_the_calendar_ends(bundle_path):
    assert end_of_day("9999-12-31") - end_of_day("9999-12-30") == 24 * 3600
    assert end_of_day("1970-01-01") == 24 * 3600 - 1


def test_a_range_over_the_end_of_a_leap_february_has_every_night(bundle_path, tmp_path, capsys):
    options = ["--bundle", str(bundle_path), "--out", str(tmp_path), "--k", "5", "--dry-run", "--json"]
    assert main([*options, "--backfill", "2024-02-27", "2024-03-01"]) == 0
    dates = [json.loads(line)["run_date"] for line in capsys.readouterr().out.splitlines()]
    assert dates == ["2024-02-27", "2024-02-28", "2024-02-29", "2024-03-01"]
