"""Where bundles and nights lie as people lay them out, and what others put there or took away."""

from __future__ import annotations

import shutil

import pytest
from made_up import COLD_USER
from night_files import DATE, job, tree

from batch.run.night import run
from batch.score import main
from sdk.bundles.bundle import load

BEFORE = "2026-11-22"


@pytest.fixture
def out(bundle_path, tmp_path):
    """Two published nights."""
    for date in (BEFORE, DATE):
        run(job(bundle_path, tmp_path / "out", run_date=date))
    return tmp_path / "out"


def score(bundle_path, out, date=DATE):
    return main(["--bundle", str(bundle_path), "--out", str(out), "--run-date", date, "--k", "5"])


def test_a_bundle_below_a_folder_named_like_a_partition_is_the_same_bundle(bundle_path, tmp_path):
    below = tmp_path / "date=2026-11-23" / "item_id=7" / "bundle"
    shutil.copytree(bundle_path, below)
    there, here = load(below), load(bundle_path)
    assert there.encoded_users.ids.tolist() == here.encoded_users.ids.tolist()
    assert there.encoded_items.ids.tolist() == here.encoded_items.ids.tolist()
    lists = [loaded.recommend([1, COLD_USER], k=5).item_id.tolist() for loaded in (there, here)]
    assert lists[0] == lists[1]
    run(job(below, tmp_path / "below"))
    run(job(bundle_path, tmp_path / "elsewhere"))
    assert tree(tmp_path / "below" / f"run_date={DATE}") == tree(tmp_path / "elsewhere" / f"run_date={DATE}")


@pytest.mark.parametrize("option", ["out", "bundle"])
def test_links_that_lead_in_a_circle_are_an_error_like_any_other(bundle_path, tmp_path, option, capsys):
    (tmp_path / "circle").symlink_to("circle")
    places = {"out": tmp_path / "out", "bundle": bundle_path} | {option: tmp_path / "circle"}
    assert score(places["bundle"], places["out"]) == {"out": 5, "bundle": 4}[option]
    assert str(tmp_path / "circle") in capsys.readouterr().err


def test_a_pointer_that_leads_in_a_circle_is_to_be_moved_away(bundle_path, out, capsys):
    (out / "LATEST").unlink()
    (out / "LATEST").symlink_to("LATEST")
    assert score(bundle_path, out, "2026-11-24") == 5
    assert "move it away" in capsys.readouterr().err


@pytest.mark.parametrize("gone", ["manifest.json", "user_items/part-00000.parquet"])
@pytest.mark.parametrize("options", [["--rollback"], ["--rollback", BEFORE], ["--rollback", BEFORE, "--hold"]])
def test_readers_are_not_sent_back_to_a_night_that_lacks_a_part(out, gone, options, capsys):
    (out / f"run_date={BEFORE}" / gone).unlink()
    assert main(["--out", str(out), *options]) == 5
    assert (out / "LATEST").read_text() == f"{DATE}\n"
    assert not (out / "HOLD").exists()
    assert gone in capsys.readouterr().err


def test_somebodys_file_in_a_nights_place_is_not_deleted(bundle_path, out, capsys):
    (out / "run_date=2026-11-24").write_text("mine")
    assert score(bundle_path, out, "2026-11-24") == 5
    assert (out / "run_date=2026-11-24").read_text() == "mine"
    assert "move it away" in capsys.readouterr().err
    assert (out / "LATEST").read_text() == f"{DATE}\n"


def test_a_report_that_has_no_place_is_one_line_without_a_traceback(bundle_path, out, capsys):
    (out / "reports").write_text("a file")
    assert score(bundle_path, out, "2026-11-24") == 0
    said = capsys.readouterr().err
    assert "the report was not written" in said
    assert "Traceback" not in said
