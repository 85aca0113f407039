"""What operators were promised: nights ahead of time, readers held, what is kept, and what goes with a night."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pandas as pd
import pytest
from night_files import DATE, Crash, fail_at, job, tree

import batch.store.nights
from batch.run.night import dry_run, run
from batch.score import main
from batch.store import clock
from batch.store.nights import release, retain, rollback
from batch.store.places import open_target
from batch.store.publish import point, recover
from sdk.base.errors import OutputError, UsageError
from sdk.shell.parser import HelpFormatter

REAL_TODAY = clock.today
"""As it is before the tests put another in its place."""
DATES = ("2026-11-20", "2026-11-21", "2026-11-22", DATE)
NEXT = "2026-11-24"
FAR = "2062-11-23"


@pytest.fixture(scope="module")
def four_nights(bundle_path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("operators") / "out"
    for date in DATES:
        run(job(bundle_path, out, run_date=date, users_per_part=100))
    return out


@pytest.fixture
def week(four_nights, tmp_path) -> Path:
    return Path(shutil.copytree(four_nights, tmp_path / "week"))


@pytest.fixture(params=["disk", "store"])
def nights_at(request, four_nights, tmp_path) -> Iterator[str]:
    """Four nights on a disk, and in a store that has no rename."""
    if request.param == "disk":
        yield str(shutil.copytree(four_nights, tmp_path / "week"))
        return
    store = fsspec.filesystem("memory")
    store.put(str(four_nights), "/held/nights", recursive=True)
    yield "memory://held/nights"
    store.rm("/held", recursive=True)


@pytest.fixture
def score(bundle_path, capsys):
    """Run the command with --json; its exit code, what it printed line by line, and stderr."""

    def ask(out: Path | str, *options: str) -> tuple[int, list[dict], str]:
        words = ["--out", str(out), "--json", *options]
        if not {"--rollback", "--release", "--verify"} & set(options):
            words += ["--bundle", str(bundle_path), "--k", "5", "--users-per-part", "100", "--threads", "1"]
        code = main(words)
        said = capsys.readouterr()
        return code, [json.loads(line) for line in said.out.splitlines()], said.err

    return ask


def nights(out: Path) -> list[str]:
    return sorted(path.name.partition("=")[2] for path in out.glob("run_date=*"))


def latest(out: Path | str) -> str | None:
    return open_target(out).latest()


# nights ahead of time ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [["--run-date", FAR], ["--run-date", "9999-12-31"], ["--backfill", DATE, FAR], ["--run-date", FAR, "--dry-run"]],
)
def test_a_night_far_ahead_is_refused_before_any_work(score, tmp_path, options):
    code, printed, err = score(tmp_path / "out", *options)
    assert (code, printed) == (2, [])
    assert f"{options[0]}: got " in err
    assert "2026-11-30" in err
    assert "--force" in err
    assert not (tmp_path / "out").exists()


def test_what_runs_a_night_from_python_refuses_it_too(bundle_path, tmp_path):
    for work in (run, dry_run):
        with pytest.raises(UsageError, match="13,142 days after"):
            work(job(bundle_path, tmp_path / "out", run_date=FAR))


@pytest.mark.parametrize(("date", "code"), [("2026-12-01", 0), ("2026-12-03", 0), ("2026-12-04", 2), ("0001-01-01", 0)])
def test_a_few_days_ahead_and_any_day_past_are_in_order(score, tmp_path, date, code):
    assert score(tmp_path / "out", "--run-date", date, "--metrics-file", str(tmp_path / "a.prom"))[0] == code


@pytest.mark.parametrize("date", ["2026-1-05", "20261123", "2026-11-23 ", "٢٠٢٦-١١-٢٣", "2026-W48-1"])
def test_a_date_written_otherwise_is_refused(score, tmp_path, date):
    assert score(tmp_path / "out", "--run-date", date)[0] == 2
    assert not (tmp_path / "out").exists()


def test_a_night_that_readers_do_not_get_is_said_everywhere(score, week, tmp_path, bundle_path, capsys):
    metrics = tmp_path / "marquee.prom"
    code, [forced], _ = score(week, "--run-date", FAR, "--force")
    assert (code, forced["latest"], forced["not_latest"]) == (0, FAR, None)
    code, [printed], err = score(week, "--run-date", NEXT, "--metrics-file", str(metrics))
    assert (code, printed["status"], printed["latest"]) == (0, "published", FAR)
    why = f"readers stay on {FAR}, which lies after this machine's date, 2026-11-30; --rollback {NEXT} sends them here"
    assert printed["not_latest"] == why
    assert f"night {NEXT}: published, but {why}" in err
    figures = dict(line.rsplit(" ", 1) for line in metrics.read_text().splitlines() if not line.startswith("#"))
    readers, night = (float(figures[f"marquee_{name}_date_timestamp_seconds"]) for name in ("latest", "night"))
    assert readers == pd.Timestamp(FAR, tz="UTC").timestamp() > night
    record = json.loads((week / f"runs/run_date={NEXT}.json").read_text())
    assert record["not_latest"] == why
    options = ["--bundle", str(bundle_path), "--out", str(week), "--k", "5", "--users-per-part", "100"]
    assert main([*options, "--run-date", NEXT]) == 0
    assert f"not latest: {why}" in capsys.readouterr().out
    assert score(week, "--rollback", NEXT)[0] == 0  # the remedy helps
    assert score(week, "--run-date", "2026-11-25")[1][0]["not_latest"] is None
    assert latest(week) == "2026-11-25"


def test_a_backfilled_night_says_so_too(score, week, bundle_path, capsys):
    code, [printed], err = score(week, "--backfill", "2026-11-19", "2026-11-19")
    assert (code, printed["not_latest"]) == (0, f"readers stay on the later night {DATE}")
    assert "published, but readers stay on the later night" in err
    shutil.rmtree(week / "run_date=2026-11-19")
    words = ["--bundle", str(bundle_path), "--out", str(week), "--k", "5", "--backfill", "2026-11-19", "2026-11-19"]
    assert main(words) == 0
    assert f"but readers stay on the later night {DATE}" in capsys.readouterr().out


def test_retention_neither_counts_nor_deletes_what_lies_ahead(score, week):
    assert score(week, "--run-date", FAR, "--force")[0] == 0
    code, _, err = score(week, "--run-date", NEXT, "--keep", "2")
    assert code == 0
    assert nights(week) == [DATE, NEXT, FAR]
    assert f"run_date={FAR}: dated after this machine's date" in err


def test_a_clock_that_stands_still_in_the_past_deletes_nothing(week, monkeypatch):
    monkeypatch.setattr(clock, "today", lambda: "1970-01-01")
    assert retain(open_target(week), 1, DATE) == []
    assert nights(week) == list(DATES)


def test_a_missing_pointer_is_not_mended_to_a_night_ahead(score, week, bundle_path):
    assert score(week, "--run-date", FAR, "--force")[0] == 0
    (week / "LATEST").unlink()
    recover(open_target(week))
    assert latest(week) == DATE
    for date in DATES:
        shutil.rmtree(week / f"run_date={date}")
    (week / "LATEST").write_text("lost")
    recover(open_target(week))
    assert latest(week) == FAR  # there is no other


def test_readers_are_sent_far_ahead_by_force_only(score, week):
    assert score(week, "--run-date", FAR, "--force")[0] == 0
    assert score(week, "--rollback")[1] == [{"latest": DATE, "was": FAR}]
    assert score(week, "--rollback", FAR)[0] == 2
    assert latest(week) == DATE
    assert score(week, "--rollback", FAR, "--force")[0] == 0
    assert latest(week) == FAR


def test_the_machines_date_is_the_later_of_here_and_utc(monkeypatch):
    import datetime
    import time

    found = set()
    for zone in ("Pacific/Kiritimati", "Etc/GMT+12"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        now = datetime.datetime.now(datetime.UTC)
        here, utc = now.astimezone().date().isoformat(), now.date().isoformat()
        found.add(REAL_TODAY() == max(here, utc))
    monkeypatch.undo()
    time.tzset()
    assert found == {True}


# readers who are held ----------------------------------------------------------------------------------------------


def test_readers_are_held_until_they_are_released(score, nights_at):
    code, printed, _ = score(nights_at, "--rollback", DATES[1], "--hold")
    assert (code, printed) == (0, [{"latest": DATES[1], "was": DATE, "held": True}])
    why = f"readers are held on {DATES[1]}, until --release"
    for _ in range(2):  # published, and published already
        code, [night], err = score(nights_at, "--run-date", NEXT)
        assert (code, night["latest"], night["not_latest"]) == (0, DATES[1], why)
        assert why in err
    code, [released], err = score(nights_at, "--release")
    assert released == {"latest": DATES[1], "was_held": True, "newest": NEXT}
    assert f"--rollback {NEXT} sends them to the newest now" in err
    assert latest(nights_at) == DATES[1]
    assert score(nights_at, "--run-date", "2026-11-25")[1][0]["not_latest"] is None
    assert latest(nights_at) == "2026-11-25"
    assert score(nights_at, "--release")[1][0]["was_held"] is False


def test_a_night_that_readers_are_held_on_is_never_deleted(score, nights_at):
    assert score(nights_at, "--rollback", DATES[0], "--hold")[0] == 0
    assert score(nights_at, "--run-date", NEXT, "--keep", "1")[0] == 0
    assert open_target(nights_at).nights() == [DATES[0], NEXT]
    assert latest(nights_at) == DATES[0]


def test_a_rollback_while_readers_are_held_holds_them_there(score, week):
    rollback(str(week), DATES[2], hold=True)
    assert score(week, "--rollback")[1] == [{"latest": DATES[1], "was": DATES[2], "held": True}]
    run_one = score(week, "--run-date", NEXT)[1][0]
    assert run_one["latest"] == DATES[1]


def test_a_hold_that_was_killed_half_way_is_finished(week, monkeypatch):
    with monkeypatch.context() as patch:
        fail_at(patch, batch.store.nights, "point", 1, Crash())
        with pytest.raises(Crash):
            rollback(str(week), DATES[0], hold=True)
    assert latest(week) == DATE
    recover(open_target(week))
    assert latest(week) == DATES[0]


@pytest.mark.parametrize("found", [b"", b"\xff", b"2026-01-01\n", b"never"])
def test_a_damaged_note_of_a_hold_still_holds_readers_where_they_are(score, week, found):
    rollback(str(week), DATES[1], hold=True)
    (week / "HOLD").write_bytes(found)
    assert score(week, "--run-date", NEXT)[1][0]["latest"] == DATES[1]
    release(str(week))
    assert not (week / "HOLD").exists()


def test_a_hold_goes_with_a_rollback(score, week):
    code, _, err = score(week, "--run-date", NEXT, "--hold")
    assert (code, nights(week)) == (2, list(DATES))
    assert "--rollback" in err
    with pytest.raises(SystemExit):
        score(week, "--rollback", "--release")
    with pytest.raises(OutputError, match="no night is published there"):
        release(str(week / "nowhere"))


# a range and what is kept ------------------------------------------------------------------------------------------


def test_a_range_leaves_out_the_nights_that_it_would_delete(score, tmp_path, week):
    words = ["--backfill", "2026-11-17", NEXT, "--keep", "2"]
    before = tree(week)
    code, planned, err = score(week, *words, "--dry-run")
    left_out = "left out, as --keep 2 would delete it"
    fates = [left_out] * 3 + ["passed over"] * 4 + ["to be scored"]
    assert (code, [night["status"] for night in planned]) == (0, fates)
    assert "3 of 8 nights are left out" in err
    assert tree(week) == before
    code, done, _ = score(week, *words)
    assert [night["status"] for night in done] == [*fates[:-1], "published"]
    assert nights(week) == [DATE, NEXT]
    assert not list(week.glob("reports/run_date=2026-11-1*"))


def test_a_range_keeps_the_night_that_readers_use(score, week):
    point(open_target(week), DATES[0])
    done = score(week, "--backfill", DATES[0], DATES[1], "--keep", "1", "--force")[1]
    assert [night["status"][:9] for night in done] == ["published", "left out,"]
    assert nights(week) == [DATES[0], DATE]


def test_an_old_night_beside_keep_says_that_it_will_not_last(score, week):
    _, _, err = score(week, "--run-date", "2026-11-01", "--keep", "4")
    assert "run_date=2026-11-01: beyond the last 4 nights; the next night with --keep deletes it" in err
    assert score(week, "--run-date", NEXT, "--keep", "4")[0] == 0
    assert nights(week) == [*DATES[1:], NEXT]


def test_records_and_reports_go_with_their_nights(score, week):
    for date in ("2026-10-01", "2026-10-02"):  # of nights that are gone since
        (week / f"runs/run_date={date}.json").write_text("{}")
        (week / "reports").mkdir(exist_ok=True)
        (week / f"reports/run_date={date}.html").write_text("")
    mine = ("runs/notes.txt", "reports/refused-2026-10-01.html", "runs/run_date=mine.json")
    for name in mine:
        (week / name).write_text("kept")
    assert score(week, "--run-date", NEXT, "--keep", "2")[0] == 0
    names = {f"runs/run_date={date}.json" for date in (DATE, NEXT)} | {f"reports/run_date={NEXT}.html", *mine}
    assert {path.relative_to(week).as_posix() for path in week.glob("r*s/*")} == names


# a refused night is kept for a look --------------------------------------------------------------------------------


def parts(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in tree(folder).items() if name.endswith(".parquet")}


def test_a_refused_night_is_kept_until_its_night_is_published(score, nights_at, tmp_path):
    target = open_target(nights_at)
    (tmp_path / "gates.json").write_text('{"min_coverage": 1.0}')
    refused = ["--run-date", NEXT, "--gates", str(tmp_path / "gates.json")]
    assert score(nights_at, *refused)[0] == 6
    staged = {name: target.read(f".staging-{NEXT}/{name}") for name in target.files(f".staging-{NEXT}")}
    code, _, err = score(nights_at, *refused, "--include-seen")  # of other inputs, and refused as well
    assert code == 6
    [aside] = [name for name in target.folders() if name.startswith(".refused-")]
    assert f"kept until this one is published, as {target.describe(aside)}" in err
    assert {name: target.read(f"{aside}/{name}") for name in target.files(aside)} == staged
    assert score(nights_at, *refused)[0] == 6  # the first again: both are kept
    assert len([name for name in target.folders() if name.startswith(".refused-")]) == 2
    assert score(nights_at, "--run-date", "2026-11-25")[0] == 0  # another night takes nothing away
    assert len([name for name in target.folders() if name.startswith(".refused-")]) == 2
    assert score(nights_at, "--run-date", NEXT)[0] == 0
    assert [name for name in target.folders() if name.startswith((".refused", ".staging", ".journal"))] == []


def test_a_refused_night_is_kept_though_the_same_command_was_killed_since(
    score, week, tmp_path, bundle_path, monkeypatch
):
    (tmp_path / "gates.json").write_text('{"min_coverage": 1.0}')
    assert score(week, "--run-date", NEXT, "--gates", str(tmp_path / "gates.json"))[0] == 6
    with monkeypatch.context() as patch:
        fail_at(patch, batch.run.night, "audit", 1, Crash())
        with pytest.raises(Crash):
            run(job(bundle_path, week, run_date=NEXT, users_per_part=100))
    staged = parts(week / f".staging-{NEXT}")
    run_of_others = ["--run-date", NEXT, "--include-seen", "--gates", str(tmp_path / "gates.json")]
    assert score(week, *run_of_others)[0] == 6
    [aside] = week.glob(".refused-*")
    assert parts(aside) == staged


def test_an_unfinished_night_of_other_inputs_is_not_kept(score, week, bundle_path, monkeypatch):
    with monkeypatch.context() as patch:
        fail_at(patch, batch.run.night, "audit", 1, Crash())
        with pytest.raises(Crash):
            run(job(bundle_path, week, run_date=NEXT))
    assert score(week, "--run-date", NEXT)[0] == 0
    assert not list(week.glob(".refused-*"))


# places that do not last, or are not there -------------------------------------------------------------------------


def test_an_output_in_memory_is_warned_of(score):
    try:
        for extra in ([], ["--dry-run"]):
            code, _, err = score("memory://vanishing/nights", "--run-date", DATE, *extra)
            assert code == 0
            assert "memory://vanishing/nights: in memory, so all that is written there is gone" in err
    finally:
        fsspec.filesystem("memory").rm("/vanishing", recursive=True)


def test_flags_show_no_default_in_any_help():
    from sdk.shell.parser import CommandParser

    parser = CommandParser(prog="p", formatter_class=HelpFormatter)
    parser.add_argument("--no-warm-up", dest="warm_up", action="store_false", help="leave it")
    parser.add_argument("--fast", action="store_true", help="hurry")
    parser.add_argument("--verbose", action="count", default=0, help="say more")
    parser.add_argument("--mode", action="store_const", const=2, default=1, help="another")
    parser.add_argument("--k", type=int, default=0, help="length")
    shown = parser.format_help()
    assert shown.count("default:") == 1
    assert "length (default: 0)" in shown
