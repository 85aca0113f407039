"""A night killed at any step is taken up by the same command, to the same bytes, with nothing left lying about."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from night_files import DATE, PARTS, Crash, debris, job, tree
from outside import failing

from batch.lists.shards import Shard, write_shard
from batch.run.night import run
from batch.store.journal import Journal
from batch.store.places import open_target
from sdk.base.errors import OutputError

ROOT = Path(__file__).resolve().parents[3]
STAGING, JOURNAL = f".staging-{DATE}", f".journal-{DATE}"


@pytest.fixture(scope="module")
def undisturbed(bundle_path, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    run(job(bundle_path, out))
    return tree(out / f"run_date={DATE}")


@pytest.fixture
def crashed(bundle_path, tmp_path):
    """An output whose run was killed after six parts and their records were written."""
    with failing("os.rename", Crash(), at=f"{STAGING}/item_items/"), pytest.raises(Crash):
        run(job(bundle_path, tmp_path))
    assert len(list((tmp_path / JOURNAL).rglob("*.json"))) == 6
    return tmp_path


def ends_well(bundle_path, out, when, error, **options):
    """Run a night of which the ``when``-th rename raises: whether it has so many, and whether it ended well."""
    with failing("os.rename", error, at=str(out), when=when) as seen, contextlib.suppress(Crash, OutputError):
        run(job(bundle_path, out, **options))
        return len(seen) >= when, True
    return True, False


def test_finished_parts_are_not_made_again(crashed, bundle_path, undisturbed, caplog):
    parts = {p.relative_to(crashed / STAGING): p.stat() for p in (crashed / STAGING).rglob("*.parquet")}
    finished = {p.relative_to(crashed / JOURNAL).with_suffix("") for p in (crashed / JOURNAL).rglob("*.json")}
    with caplog.at_level("INFO", "batch"):
        report = run(job(bundle_path, crashed))
    assert f"resuming: 6 of {PARTS} parts are done" in caplog.text
    assert (report.parts, report.resumed_parts) == (PARTS, 6)
    night = crashed / f"run_date={DATE}"
    for name in finished:
        after = (night / name).stat()
        assert (after.st_ino, after.st_mtime_ns) == (parts[name].st_ino, parts[name].st_mtime_ns), name
    assert tree(night) == undisturbed
    assert debris(crashed) == []


FEW = {"users_per_part": 31}
FEW_PARTS = 2 + 2


def test_a_crash_at_any_rename_is_taken_up(bundle_path, tmp_path):
    run(job(bundle_path, tmp_path / "undisturbed", **FEW))
    undisturbed = tree(tmp_path / "undisturbed" / f"run_date={DATE}")
    for when in itertools.count(1):
        out = tmp_path / str(when)
        reached, well = ends_well(bundle_path, out, when, Crash(), **FEW)
        assert reached != well
        run(job(bundle_path, out, **FEW))
        assert tree(out / f"run_date={DATE}") == undisturbed, f"rename {when}"
        assert (out / "LATEST").read_text() == f"{DATE}\n", f"rename {when}"
        assert debris(out) == [], f"rename {when}"
        assert (out / "runs" / f"run_date={DATE}.json").exists(), f"rename {when}"
        if not reached:
            break
    assert when > 2 * FEW_PARTS


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Crash, OSError])
@pytest.mark.parametrize("exchanging", [True, False])
def test_a_crash_at_any_rename_of_a_replacement_loses_nothing(bundle_path, tmp_path, monkeypatch, kind, exchanging):
    if not exchanging:  # as on a file system where two folders cannot change places
        monkeypatch.setattr("sdk.base.files.exchange", lambda first, second: False)
    forced = {"force": True, "k": 6, **FEW}
    run(job(bundle_path, tmp_path / "old", **FEW))
    run(job(bundle_path, tmp_path / "new", k=6, **FEW))
    old, new = (tree(tmp_path / name / f"run_date={DATE}") for name in ("old", "new"))
    shown = []
    for when in itertools.count(1):
        out = tmp_path / f"{when}"
        shutil.copytree(tmp_path / "old", out)
        reached, well = ends_well(bundle_path, out, when, kind(5, "made up"), **forced)
        assert reached != well
        if not reached:
            break
        found = tree(out / f"run_date={DATE}")
        shown.append(found == new)
        expected, k = (new, 6) if shown[-1] else (old, 5)
        if kind is OSError or exchanging:
            assert found == expected, f"rename {when}: readers have no night"
        assert run(job(bundle_path, out, k=k, **FEW)).status == "already published", f"rename {when}"
        assert tree(out / f"run_date={DATE}") == expected, f"rename {when}"
        run(job(bundle_path, out, **forced))
        assert tree(out / f"run_date={DATE}") == new, f"rename {when}"
        assert debris(out) == [], f"rename {when}"
    assert shown == sorted(shown), "first the old night, then the new one"
    assert shown.count(False) > 2 * FEW_PARTS
    assert any(shown)


def test_a_night_published_but_not_named_is_named_by_the_next_run_of_any_night(bundle_path, tmp_path):
    run(job(bundle_path, tmp_path, run_date="2026-11-22"))
    with failing("os.rename", Crash(), at=f"{tmp_path}/LATEST"), pytest.raises(Crash):
        run(job(bundle_path, tmp_path))
    assert (tmp_path / "LATEST").read_text() == "2026-11-22\n"
    assert (tmp_path / f"run_date={DATE}" / "_SUCCESS").exists()
    run(job(bundle_path, tmp_path, run_date="2026-11-22"))
    assert (tmp_path / "LATEST").read_text() == f"{DATE}\n"
    assert debris(tmp_path) == []


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda out: flip(next((out / STAGING).rglob("*.parquet"))),
        lambda out: next((out / STAGING).rglob("*.parquet")).write_bytes(b""),
        lambda out: next((out / STAGING).rglob("*.parquet")).unlink(),
        lambda out: flip(next((out / JOURNAL).rglob("*.json"))),
        lambda out: next((out / JOURNAL).rglob("*.json")).write_bytes(b"[]"),
        lambda out: next((out / JOURNAL).rglob("*.json")).unlink(),
        lambda out: (out / STAGING / "user_items" / "part-00099.parquet").write_bytes(b"not ours"),
        lambda out: (out / STAGING / "user_items" / ".part-00003.parquet.tmp").write_bytes(b"half"),
        lambda out: (out / JOURNAL / "user_items" / ".part-00003.parquet.json.tmp").write_bytes(b"half"),
        lambda out: shutil.rmtree(out / STAGING),
        lambda out: shutil.rmtree(out / JOURNAL),
    ],
)
def test_damaged_or_stray_staged_files_are_made_again(crashed, bundle_path, undisturbed, damage):
    damage(crashed)
    report = run(job(bundle_path, crashed))
    assert report.resumed_parts <= 6
    assert tree(crashed / f"run_date={DATE}") == undisturbed
    assert debris(crashed) == []


def test_parts_of_other_inputs_are_not_taken_over(crashed, bundle_path, tmp_path_factory, caplog):
    with caplog.at_level("INFO", "batch"):
        report = run(job(bundle_path, crashed, k=4))
    assert report.resumed_parts == 0
    assert "other inputs" in caplog.text
    fresh = tmp_path_factory.mktemp("fresh")
    run(job(bundle_path, fresh, k=4))
    assert tree(crashed / f"run_date={DATE}") == tree(fresh / f"run_date={DATE}")


def test_options_that_change_no_byte_keep_finished_parts(crashed, bundle_path, undisturbed):
    assert run(job(bundle_path, crashed, threads=2, memory_mib=1.0, keep=3)).resumed_parts == 6
    assert tree(crashed / f"run_date={DATE}") == undisturbed


def test_shards_written_by_workers_make_the_same_night(bundle_path, tmp_path, undisturbed):
    """As on a cluster: each shard on its own, in any order, one of them twice; then the night is put together."""
    from batch.job.inputs import open_job
    from batch.plan.night_plan import job_shards

    work = job(bundle_path, tmp_path)
    shards = job_shards(work, open_job(work).asked)
    for shard in [*reversed(shards), shards[3]]:
        write_shard(work, shard)
    report = run(work)
    assert report.resumed_parts == len(shards) == PARTS
    assert tree(tmp_path / f"run_date={DATE}") == undisturbed


@pytest.mark.parametrize("damaged", [False, True])
def test_a_task_that_is_given_twice_writes_its_part_once_unless_it_is_damaged(bundle_path, tmp_path, damaged):
    work, shard = job(bundle_path, tmp_path), Shard("user_items", 0, 0, 7)
    part = tmp_path / f".staging-{DATE}" / shard.name
    record = write_shard(work, shard)
    whole, inode = part.read_bytes(), part.stat().st_ino
    if damaged:
        part.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert write_shard(work, shard) == record
    assert part.read_bytes() == whole
    assert (part.stat().st_ino == inode) is not damaged


def test_a_record_of_a_worker_with_another_bundle_does_not_count(bundle_path, tmp_path):
    work = job(bundle_path, tmp_path)
    journal = Journal(open_target(tmp_path), DATE, "another digest")
    from batch.job.inputs import open_job
    from batch.lists.shards import Scorer, store
    from batch.plan.night_plan import job_shards

    opened = open_job(work)
    shards = job_shards(work, opened.asked)
    store(journal, Scorer(work, opened).score(shards[0]))
    assert run(work).resumed_parts == 0


def test_the_run_record_holds_what_differs_and_the_manifest_names_it(bundle_path, tmp_path):
    report = run(job(bundle_path, tmp_path))
    night = tmp_path / f"run_date={DATE}"
    manifest = json.loads((night / "manifest.json").read_text())
    record = json.loads((night / manifest["run_record"]).read_text())
    assert record == json.loads(json.dumps(dataclasses.asdict(report)))
    assert record["users_per_s"] > 0
    assert not {"seconds", "peak_memory_mib", "run_id"} & set(manifest)


def test_a_shard_and_a_job_can_be_sent_to_another_process(bundle_path, tmp_path):
    work, shard = job(bundle_path, tmp_path), Shard("user_items", 3, 21, 28)
    assert pickle.loads(pickle.dumps((work, shard))) == (work, shard)
    assert (shard.name, shard.size) == ("user_items/part-00003.parquet", 7)


def test_the_command_itself_killed_with_sigkill_goes_on(bundle_path, tmp_path, undisturbed):
    command = [sys.executable, "-m", "batch.score", "--bundle", str(bundle_path), "--out", str(tmp_path),
               "--run-date", DATE, "--k", "5", "--users-per-part", "7", "-v"]  # fmt: skip
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        assert any("part 3/" in line for line in process.stderr)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "LATEST").exists()
    assert run(job(bundle_path, tmp_path)).resumed_parts >= 3
    assert tree(tmp_path / f"run_date={DATE}") == undisturbed
    assert debris(tmp_path) == []
