"""What goes wrong on a night ends in one line and an exit code, and nothing that was published is lost."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from night_files import DATE, debris, fail_at, job, tree

import batch.lists.shards
from batch.job.inputs import open_bundle, open_job
from batch.run.night import run
from batch.score import main
from batch.store.local import LocalTarget
from sdk.base.errors import BundleError, MarqueeError, OutputError, ScoreError

NIGHT, BEFORE = f"run_date={DATE}", "2026-11-22"


def arguments(bundle_path: Path, out: Path, *extra: str) -> list[str]:
    return ["--bundle", str(bundle_path), "--out", str(out), "--run-date", DATE, "--k", "5",
            "--users-per-part", "7", "--threads", "1", *extra]  # fmt: skip


@pytest.fixture
def published(bundle_path, tmp_path):
    """An output with last night in it, and that night's bytes."""
    run(job(bundle_path, tmp_path / "out", run_date=BEFORE))
    return tmp_path / "out", tree(tmp_path / "out" / f"run_date={BEFORE}")


def check_untouched(out: Path, before: dict[str, bytes]) -> None:
    assert tree(out / f"run_date={BEFORE}") == before
    assert (out / "LATEST").read_text() == f"{BEFORE}\n"
    assert not (out / NIGHT).exists()


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 300 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a tmpfs cannot be mounted by this account")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 10))


def test_a_full_disk_says_so_and_a_freed_one_goes_on(bundle_path, small_disk, capsys, monkeypatch):
    out = small_disk / "out"
    run(job(bundle_path, out, run_date=BEFORE))
    before = tree(out / f"run_date={BEFORE}")
    ballast = small_disk / "ballast"
    monkeypatch.setattr(LocalTarget, "free_bytes", lambda self: None)  # so that the check beforehand lets it start
    fill(ballast)
    os.truncate(ballast, max(ballast.stat().st_size - (24 << 10), 0))
    assert main(arguments(bundle_path, out)) == 5
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "No space left" in said
    assert "finished parts are kept" in said
    check_untouched(out, before)
    ballast.unlink()
    report = run(job(bundle_path, out))
    assert report.resumed_parts > 0
    assert debris(out) == []


def test_a_night_that_will_not_fit_is_not_started(bundle_path, published, capsys, monkeypatch):
    monkeypatch.setattr(LocalTarget, "free_bytes", lambda self: 4096)
    assert main(arguments(bundle_path, published[0], "--k", "50")) == 5
    said = capsys.readouterr().err
    assert "MiB are needed" in said
    assert "Nothing was started" in said
    check_untouched(*published)
    assert not (published[0] / f".staging-{DATE}").exists()


def test_a_read_only_target_is_exit_code_5(bundle_path, published, tmp_path, capsys):
    readonly = tmp_path / "readonly"
    readonly.mkdir()
    bind = ["mount", "--bind", str(published[0]), str(readonly)]
    if subprocess.run(bind, capture_output=True).returncode:
        pytest.skip("this account cannot mount")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(readonly)], check=True)
        assert main(arguments(bundle_path, readonly)) == 5
    finally:
        subprocess.run(["umount", "-l", str(readonly)], check=True)
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "ead-only" in said
    assert "writable" in said
    check_untouched(*published)


def test_a_file_size_limit_is_met_like_a_full_disk(bundle_path, published, capsys):
    """A process that may write no byte more (ulimit -f) gets EFBIG from the system."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700, hard))
    try:
        code = main(arguments(bundle_path, published[0]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 5
    assert "Free some room" in capsys.readouterr().err
    check_untouched(*published)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_whatever_the_system_says_while_flushing_is_exit_code_5(
    bundle_path, published, tmp_path, monkeypatch, number, capsys
):
    with monkeypatch.context() as patch:
        fail_at(patch, os, "fsync", 5, OSError(number, os.strerror(number)))
        assert main(arguments(bundle_path, published[0])) == 5
    assert os.strerror(number) in capsys.readouterr().err
    check_untouched(*published)
    assert run(job(bundle_path, published[0])).resumed_parts > 0
    assert debris(published[0]) == []


@pytest.fixture
def own_bundle(bundle_path, tmp_path):
    return Path(shutil.copytree(bundle_path, tmp_path / "own-bundle"))


def after_opening(monkeypatch: pytest.MonkeyPatch, change: object) -> None:
    """Do something to a bundle right after it was opened and checked."""
    real = open_bundle

    def opened_then_changed(path):
        opened = real(path)
        change(path)
        return opened

    monkeypatch.setattr("batch.job.inputs.open_bundle", opened_then_changed)


@pytest.mark.parametrize(
    "change",
    [
        shutil.rmtree,
        lambda path: (path / "seen.parquet").unlink(),
        lambda path: (path / "seen.parquet").write_bytes(b"PAR1 and no more"),
        lambda path: (path / "lists.npz").unlink(),
        lambda path: (path / "lists.npz").write_bytes(b"x" * 100),
        lambda path: (path / "bundle.json").write_text((path / "bundle.json").read_text() + " "),
        lambda path: (path / "bundle.json").unlink(),
    ],
)
def test_a_bundle_that_vanishes_or_changes_while_it_is_read_is_exit_code_4(own_bundle, published, monkeypatch, change):
    after_opening(monkeypatch, change)
    with pytest.raises(MarqueeError) as caught:
        run(job(own_bundle, published[0]))
    assert caught.value.exit_code == 4, caught.value
    assert str(own_bundle) in str(caught.value)
    check_untouched(*published)


def test_a_bundle_replaced_between_two_reads_is_not_mixed_with_the_old_one(own_bundle, bundle_path, published):
    scorer_of = batch.lists.shards.Scorer
    work = job(own_bundle, published[0])
    opened = open_job(work)
    info = json.loads((own_bundle / "bundle.json").read_text())
    (own_bundle / "bundle.json").write_text(json.dumps({**info, "created": "2030-01-01T00:00:00+00:00"}))
    with pytest.raises(BundleError, match="was replaced"):
        scorer_of(work, opened)


def test_memory_that_runs_out_is_exit_code_4_and_says_what_to_lower(bundle_path, published, monkeypatch, capsys):
    real, calls = batch.lists.shards.Scorer.score, [0]

    def greedy(self, shard):
        calls[0] += 1
        if calls[0] == 4:
            np.empty(1 << 60, dtype=np.uint8)
        return real(self, shard)

    with monkeypatch.context() as patch:
        patch.setattr(batch.lists.shards.Scorer, "score", greedy)
        assert main(arguments(bundle_path, published[0])) == 4
    said = capsys.readouterr().err
    assert "memory ran out" in said
    assert "--users-per-part" in said
    check_untouched(*published)
    fewer = run(job(bundle_path, published[0].parent / "fewer", users_per_part=6))
    assert fewer.status == "published"
    assert run(job(bundle_path, published[0], memory_mib=64)).resumed_parts == 3  # kept, as the message says


def test_memory_that_runs_out_in_the_writing_thread_is_the_same(bundle_path, published, monkeypatch):
    def greedy(table):
        raise MemoryError("made up")

    monkeypatch.setattr("batch.lists.shards.part_bytes", greedy)
    with pytest.raises(ScoreError, match="memory ran out"):
        run(job(bundle_path, published[0], full=True))
    check_untouched(*published)


def test_a_part_that_changes_after_it_was_written_is_not_published(bundle_path, published, monkeypatch):
    real = LocalTarget.write

    def on_a_bad_disk(self, name, data, **options):
        bad = data[:50] + bytes([data[50] ^ 4]) + data[51:] if name.endswith("part-00002.parquet") else data
        real(self, name, bad, **options)

    with monkeypatch.context() as patch:
        patch.setattr(LocalTarget, "write", on_a_bad_disk)
        with pytest.raises(OutputError, match=r"part-00002.*changed since it was written"):
            run(job(bundle_path, published[0]))
    check_untouched(*published)
    report = run(job(bundle_path, published[0]))
    assert report.parts - report.resumed_parts == 2  # one of either side


MANIFEST_DAMAGE = {
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "a list": lambda text: "[1, 2]",
    "a number": lambda text: "3",
    "another k": lambda text: text.replace('"k": 5', '"k": 6'),
    "another count": lambda text: text.replace('"user_rows": 2', '"user_rows": 3'),
    "no checksum": lambda text: text.replace('"checksum"', '"checksun"'),
    "deep": lambda text: "[" * 100_000,
    "not text": lambda text: "\udcff",
}


@pytest.mark.parametrize("damage", MANIFEST_DAMAGE)
def test_an_altered_manifest_is_exit_code_5_and_force_mends_it(bundle_path, tmp_path, capsys, damage):
    run(job(bundle_path, tmp_path))
    whole = tree(tmp_path / NIGHT)
    path = tmp_path / NIGHT / "manifest.json"
    text = MANIFEST_DAMAGE[damage](path.read_text())
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert main(arguments(bundle_path, tmp_path)) == 5
    said = capsys.readouterr().err
    assert "--force" in said
    assert "manifest.json" in said
    assert main(arguments(bundle_path, tmp_path, "--force")) == 0
    assert tree(tmp_path / NIGHT) == whole


@pytest.mark.parametrize("damage", ["cut", "missing", "marker"])
def test_a_published_night_that_lost_a_part_or_its_marker_is_noticed(bundle_path, tmp_path, capsys, damage):
    run(job(bundle_path, tmp_path))
    whole = tree(tmp_path / NIGHT)
    part = tmp_path / NIGHT / "item_items" / "part-00001.parquet"
    if damage == "cut":
        part.write_bytes(part.read_bytes()[:-1])
    else:
        (part if damage == "missing" else tmp_path / NIGHT / "_SUCCESS").unlink()
    assert main(arguments(bundle_path, tmp_path)) == 5
    assert "--force" in capsys.readouterr().err
    assert main(arguments(bundle_path, tmp_path, "--force")) == 0
    assert tree(tmp_path / NIGHT) == whole


def test_a_foreign_folder_in_the_nights_place_is_left_alone(bundle_path, tmp_path, capsys):
    (tmp_path / NIGHT).mkdir()
    (tmp_path / NIGHT / "thesis.txt").write_text("years of work")
    assert main(arguments(bundle_path, tmp_path)) == 5
    assert (tmp_path / NIGHT / "thesis.txt").read_text() == "years of work"
    assert "Move it away" in capsys.readouterr().err


def test_a_failed_audit_keeps_the_staged_parts_and_the_next_run_does_not_score_again(
    bundle_path, published, monkeypatch
):
    from sdk.base.errors import QualityGateError

    def strict(*args, **kwargs):
        message = "made up"
        raise QualityGateError(message)

    with monkeypatch.context() as patch:
        patch.setattr("batch.run.night.audit", strict)
        with pytest.raises(QualityGateError):
            run(job(bundle_path, published[0]))
    check_untouched(*published)
    assert len(list((published[0] / f".staging-{DATE}").rglob("*.parquet"))) == 15
    report = run(job(bundle_path, published[0]))
    assert report.resumed_parts == report.parts == 15
    assert debris(published[0]) == []
