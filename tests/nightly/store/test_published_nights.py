"""Going back, keeping the last nights, checking one again, and what a dry run foretells."""

from __future__ import annotations

import json
import os

import pytest
from night_files import DATE, Crash, debris, fail_at, job, tree
from outside import contents_of, failing

from batch.run.night import run
from batch.score import main
from batch.store.places import open_target

DATES = ("2026-11-20", "2026-11-21", "2026-11-22", DATE)


@pytest.fixture
def week(bundle_path, tmp_path):
    """Four nights."""
    for date in DATES:
        run(job(bundle_path, tmp_path, run_date=date, users_per_part=100))
    return tmp_path


def latest(out):
    return (out / "LATEST").read_text().strip()


def nights(out):
    return sorted(p.name.partition("=")[2] for p in out.glob("run_date=*"))


def test_rollback_goes_to_the_night_before_and_needs_no_bundle(week, capsys):
    before = {date: tree(week / f"run_date={date}") for date in DATES}
    assert main(["--out", str(week), "--rollback", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"latest": DATES[2], "was": DATES[3]}
    assert latest(week) == DATES[2]
    assert main(["--out", str(week), "--rollback"]) == 0
    assert latest(week) == DATES[1]
    assert main(["--out", str(week), "--rollback", DATE]) == 0
    assert latest(week) == DATE
    assert {date: tree(week / f"run_date={date}") for date in DATES} == before


def test_rollback_never_names_a_night_that_is_incomplete_or_not_there(week, capsys):
    (week / f"run_date={DATES[2]}" / "_SUCCESS").unlink()
    assert main(["--out", str(week), "--rollback", DATES[2]]) == 5
    assert main(["--out", str(week), "--rollback", "2026-01-01"]) == 5
    assert latest(week) == DATE
    assert main(["--out", str(week), "--rollback"]) == 0
    assert latest(week) == DATES[1]
    for _ in range(2):
        main(["--out", str(week), "--rollback"])
    assert latest(week) == DATES[0]
    assert main(["--out", str(week), "--rollback"]) == 5
    assert "no complete night before" in capsys.readouterr().err


def test_rollback_is_refused_where_there_is_nothing_where_a_run_is_at_work_and_for_what_is_no_date(week, tmp_path):
    assert main(["--out", str(tmp_path / "nowhere"), "--rollback"]) == 5
    assert not (tmp_path / "nowhere").exists()
    assert main(["--out", str(week), "--rollback", "yesterday"]) == 2
    with open_target(week).lock():
        assert main(["--out", str(week), "--rollback"]) == 7
    assert latest(week) == DATE


def test_running_a_rolled_back_night_again_does_not_undo_the_rollback_but_the_next_night_does(week, bundle_path):
    assert main(["--out", str(week), "--rollback"]) == 0
    assert run(job(bundle_path, week, users_per_part=100)).status == "already published"
    assert latest(week) == DATES[2]
    run(job(bundle_path, week, run_date="2026-11-24", users_per_part=100))
    assert latest(week) == "2026-11-24"


@pytest.mark.parametrize("found", [None, b"", b"2026-11", b"\xff\x00", b"2026-11-30\n", b"2026-11-19\n"])
def test_a_pointer_that_names_no_night_is_mended_by_a_night_that_is_published_already(week, bundle_path, found, caplog):
    (week / "LATEST").unlink()
    if found is not None:
        (week / "LATEST").write_bytes(found)
    before = {date: tree(week / f"run_date={date}") for date in DATES}
    with contents_of(week / "LATEST") as contents:
        assert run(job(bundle_path, week, run_date=DATES[1], users_per_part=100)).status == "already published"
    assert contents == [found, f"{DATE}\n".encode()]  # in one step
    assert {date: tree(week / f"run_date={date}") for date in DATES} == before
    [said] = [record.message for record in caplog.records if "readers now get" in record.message]
    assert DATE in said
    assert ("missing" in said) is (found is None)
    assert debris(week) == []


def test_a_pointer_is_mended_where_a_range_is_passed_over_and_before_a_rollback(week, bundle_path, capsys):
    (week / "LATEST").write_text("2026-13-77\n")
    options = ["--bundle", str(bundle_path), "--out", str(week), "--users-per-part", "100", "--k", "5"]
    assert main([*options, "--backfill", DATES[0], DATES[1]]) == 0
    assert latest(week) == DATE
    (week / "LATEST").unlink()
    assert main(["--out", str(week), "--rollback"]) == 0
    assert latest(week) == DATES[2]


def test_an_older_night_that_is_finished_beside_a_damaged_pointer_does_not_send_readers_back(week, bundle_path):
    with failing("shutil.rmtree", Crash(), at=f".replaced-{DATES[0]}"), pytest.raises(Crash):
        run(job(bundle_path, week, run_date=DATES[0], users_per_part=50, force=True))
    assert debris(week) != []
    (week / "LATEST").write_text("damaged")
    run(job(bundle_path, week, users_per_part=100))
    assert latest(week) == DATE
    assert debris(week) == []


def test_a_second_run_ends_before_it_reads_the_bundle(week, tmp_path, capsys):
    options = ["--out", str(week), "--run-date", DATE, "--bundle", str(tmp_path / "there-is-none")]
    with open_target(week).lock():
        assert main(options) == 7
    assert main(options) == 4


def test_an_older_night_written_again_does_not_send_readers_back(week, bundle_path):
    run(job(bundle_path, week, run_date=DATES[0], users_per_part=100, force=True))
    assert latest(week) == DATE


def test_the_last_nights_are_kept(week, bundle_path):
    kept = {date: tree(week / f"run_date={date}") for date in DATES[2:]}
    run(job(bundle_path, week, run_date="2026-11-24", users_per_part=100, keep=3))
    assert nights(week) == [*DATES[2:], "2026-11-24"]
    assert {date: tree(week / f"run_date={date}") for date in DATES[2:]} == kept
    assert debris(week) == []


def test_the_night_that_readers_use_is_never_deleted(week, bundle_path):
    assert main(["--out", str(week), "--rollback", DATES[0]]) == 0
    assert run(job(bundle_path, week, users_per_part=100, keep=1)).status == "already published"
    assert nights(week) == [DATES[0], DATE]
    assert latest(week) == DATES[0]


def test_a_folder_that_is_no_complete_night_is_not_deleted(week, bundle_path):
    (week / f"run_date={DATES[0]}" / "_SUCCESS").unlink()
    (week / "run_date=my-notes").mkdir()
    run(job(bundle_path, week, users_per_part=100, keep=1))
    assert nights(week) == [DATES[0], DATE, "my-notes"]


def test_a_deletion_that_is_killed_is_finished_by_the_next_run(week, bundle_path, monkeypatch):
    with monkeypatch.context() as patch:
        fail_at(patch, os, "unlink", 2, Crash())
        with pytest.raises(Crash):
            run(job(bundle_path, week, users_per_part=100, keep=3))
    assert (week / f".removed-{DATES[0]}").exists()
    assert nights(week) == list(DATES[1:])
    run(job(bundle_path, week, users_per_part=100))
    assert debris(week) == []


def test_verify_finds_one_flipped_bit(week, capsys):
    assert main(["--out", str(week), "--verify", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    parts = list((week / f"run_date={DATE}").rglob("*.parquet"))
    assert (found["parts"], found["bytes"]) == (len(parts), sum(p.stat().st_size for p in parts))
    part = week / f"run_date={DATES[1]}" / "user_items" / "part-00000.parquet"
    data = bytearray(part.read_bytes())
    data[100] ^= 1
    part.write_bytes(data)
    assert main(["--out", str(week), "--verify"]) == 0
    assert main(["--out", str(week), "--verify", "--run-date", DATES[1]]) == 5
    assert "part-00000" in capsys.readouterr().err
    assert main(["--out", str(week), "--verify", "--run-date", "2026-01-01"]) == 5


def test_bundle_and_date_are_asked_for_where_they_are_needed(tmp_path, capsys):
    assert main(["--out", str(tmp_path), "--run-date", DATE]) == 2
    assert "--bundle" in capsys.readouterr().err
    assert main(["--out", str(tmp_path), "--bundle", str(tmp_path)]) == 2
    assert "--run-date" in capsys.readouterr().err
    assert main(["--out", str(tmp_path), "--bundle", str(tmp_path), "--run-date", DATE, "--keep", "0"]) == 2


@pytest.mark.parametrize("recorded", [False, True])
def test_a_dry_run_foretells_bytes_and_seconds(bundle_path, tmp_path, capsys, recorded):
    if recorded:
        run(job(bundle_path, tmp_path, run_date=DATES[0], k=50))
    files = tree(tmp_path)
    arguments = [
        "--bundle",
        str(bundle_path),
        "--out",
        str(tmp_path),
        "--run-date",
        DATE,
        "--k",
        "50",
        "--threads",
        "1",
    ]
    assert main([*arguments, "--dry-run", "--json"]) == 0
    foretold = json.loads(capsys.readouterr().out)
    assert tree(tmp_path) == files
    assert ("the run of 2026-11-20" if recorded else "scored for the purpose") in foretold["basis"]
    assert main(arguments) == 0
    written = sum(p.stat().st_size for p in (tmp_path / f"run_date={DATE}").rglob("*.parquet"))
    assert written / 3 < foretold["estimated_bytes"] < written * 4
    assert 0 < foretold["estimated_s"] < 600
    assert foretold["free_bytes"] > 0
