"""Two accounts: who may read what is written, who may take a lock, and what is said where a right lacks."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import small
from children import Child

import batch.report
import batch.run.metrics_file
import batch.run.observe
import batch.score
import batch.store.nights
import batch.store.objects
import batch.taste
import export.__main__
import export.server
import export.verify
import sdk.__main__
import sdk.lab.comparison.run
import sdk.lab.tuning.search
import sdk.measure.evaluation_report
from batch.store.places import open_target
from export.options import ExportOptions
from export.repository import export_repository
from sdk.base.errors import LockedError
from sdk.base.files import locked, write_file
from sdk.data.sample.writer import write_sample
from sdk.training.pipeline import train_bundle

NOBODY, GROUP = 65534, 65533
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another account")


def as_nobody(work: Callable[..., int | None], *args: Any, group: int = NOBODY) -> tuple[int, str]:
    """Do something as the account nobody: the exit code, and all that was printed and logged."""
    return Child(_as_nobody, work, args, group).end()


def _as_nobody(work: Callable[..., int | None], args: tuple[Any, ...], group: int) -> int | None:
    os.setgroups([group])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    os.umask(0o022)
    return work(*args)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every account may enter, as pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="marquee-accounts-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "bundle"
    before = os.umask(0o022)
    try:
        train_bundle(small.dataset(), small.run_config(), path)
    finally:
        os.umask(before)
    return path


def modes(folder: Path) -> set[tuple[str, int]]:
    """Every kind of mode among folders and files."""
    every = [folder, *folder.rglob("*")]
    return {("folder" if path.is_dir() else "file", stat.S_IMODE(path.stat().st_mode)) for path in every}


def test_a_bundle_and_an_export_take_the_modes_that_the_umask_leaves(bundle_path: Path, tmp_path: Path) -> None:
    assert modes(bundle_path) == {("folder", 0o755), ("file", 0o644)}
    before = os.umask(0o007)
    try:
        for workflow in ("compiled", "nvtabular"):
            export_repository(bundle_path, tmp_path / workflow, ExportOptions(workflow=workflow))
            assert modes(tmp_path / workflow) == {("folder", 0o770), ("file", 0o660)}
    finally:
        os.umask(before)


def test_a_sample_a_file_and_a_night_take_the_modes_that_the_umask_leaves(bundle_path: Path, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_sample(tmp_path / "sample")
        write_file(tmp_path / "sample" / "x", b"")
        arguments = ["--bundle", str(bundle_path), "--run-date", "2026-11-23", "--k", "3", "--quiet", "--out"]
        assert batch.score.main([*arguments, str(tmp_path / "nights")]) == 0
    finally:
        os.umask(before)
    assert modes(tmp_path / "sample") == modes(tmp_path / "nights") == {("folder", 0o750), ("file", 0o640)}


def take_target(place: Path) -> None:
    with open_target(place).lock():
        pass


def take_lock(place: Path) -> int:
    try:
        with locked(place / ".lock", "busy"):
            return 0
    except LockedError as error:
        return error.exit_code


@as_root
@pytest.mark.parametrize(("mode", "group"), [(0o2775, True), (0o775, True), (0o777, False), (0o1777, False)])
def test_a_lock_that_another_account_made_can_be_taken(place: Path, mode: int, group: bool) -> None:
    if group:
        os.chown(place, 0, GROUP)
    place.chmod(mode)
    take_target(place)
    assert (place / ".lock").stat().st_uid == 0

    assert as_nobody(take_target, place, group=GROUP if group else NOBODY) == (0, "")


@as_root
def test_a_lock_that_another_account_holds_is_held(place: Path) -> None:
    place.chmod(0o777)

    with locked(place / ".lock", "busy"):
        assert as_nobody(take_lock, place)[0] == 7
    assert as_nobody(take_lock, place)[0] == 0
    assert list(place.iterdir()) == []


def num_models(path: Path) -> int:
    return len(sdk.load(path).info.models)


@as_root
def test_a_reader_who_may_not_mend_a_cut_off_replacement_reads_what_was_set_aside(
    bundle_path: Path, place: Path
) -> None:
    shutil.copytree(bundle_path, place / ".bundle.marquee-old")
    assert as_nobody(num_models, place / "bundle") == (3, "")
    assert sdk.load(place / "bundle").path == place / "bundle"  # root may, and did
    assert [path.name for path in place.iterdir()] == ["bundle"]


READ_BUNDLE = {
    "similar": ["sdk", "similar", "--bundle", "BUNDLE", "9"],
    "recommend": ["sdk", "recommend", "--bundle", "BUNDLE", "--user", "1"],
    "evaluate": ["sdk", "evaluate", "--bundle", "BUNDLE"],
    "score": ["score", "--bundle", "BUNDLE", "--out", "OPEN/n", "--run-date", "2026-11-23"],
    "taste": ["taste", "--bundle", "BUNDLE", "--out", "NIGHTS"],
    "export": ["export", "--bundle", "BUNDLE", "--out", "OPEN/r"],
    "verify": ["export", "verify", "REPO", "--bundle", "BUNDLE", "--url", "localhost:1"],
}
MAINS = {
    "sdk": sdk.__main__.main, "score": batch.score.main, "taste": batch.taste.main, "report": batch.report.main,
    "export": export.__main__.main,
}  # fmt: skip


def command(words: list[str], **places: Path) -> tuple[int, str]:
    """A command as nobody."""
    filled = []
    for word in words:
        for name, path in places.items():
            word = word.replace(name, str(path))
        filled.append(word)
    return as_nobody(MAINS[filled[0]], filled[1:])


def assert_named(result: tuple[int, str], code: int, path: Path, right: str) -> None:
    """One line that names the file, the right that lacks and the owner; no traceback."""
    assert "Traceback" not in result[1], result[1]
    assert result[0] == code, result
    last = result[1].splitlines()[-1]
    assert "Permission denied for user nobody" in last, last
    assert f"{right} {path}" in last, last
    assert "of root" in last, last


@pytest.fixture
def open_place(place: Path) -> Path:
    (place / "open").mkdir()
    (place / "open").chmod(0o777)
    return place / "open"


@as_root
@pytest.mark.parametrize("part", ["", "bundle.json", "ncf.safetensors", "reports"])
@pytest.mark.parametrize("name", [name for name in READ_BUNDLE if name != "verify"])
def test_a_bundle_that_may_not_be_read(name: str, part: str, bundle_path: Path, place: Path, open_place: Path) -> None:
    bundle = shutil.copytree(bundle_path, place / "bundle")
    closed = bundle / part if part else bundle
    closed.chmod(0)
    result = command(READ_BUNDLE[name], BUNDLE=bundle, OPEN=open_place, NIGHTS=open_place)
    assert_named(result, 4, closed, "enter" if closed.is_dir() and not part else "read")
    closed.chmod(0o755)


OUTPUTS = {
    "score": ["score", "--bundle", "BUNDLE", "--out", "CLOSED/nights", "--run-date", "2026-11-23"],
    "score into": ["score", "--bundle", "BUNDLE", "--out", "CLOSED", "--run-date", "2026-11-23"],
    "metrics": ["score", "--bundle", "BUNDLE", "--out", "OPEN/n", "--run-date", "2026-11-23",
                "--metrics-file", "CLOSED/x.prom"],
    "export": ["export", "--bundle", "BUNDLE", "--out", "CLOSED/repository"],
    "train": ["sdk", "train", "--sample", "--out", "CLOSED/bundle"],
    "train deep": ["sdk", "train", "--sample", "--out", "CLOSED/a/b/bundle"],
    "download": ["sdk", "download", "ml-latest-small", "--to", "CLOSED/data"],
    "download into": ["sdk", "download", "ml-latest-small", "--to", "CLOSED"],
}  # fmt: skip


@as_root
@pytest.mark.parametrize("name", OUTPUTS)
def test_an_output_that_may_not_be_written(name: str, bundle_path: Path, place: Path, open_place: Path) -> None:
    bundle = shutil.copytree(bundle_path, place / "bundle")
    (place / "closed").mkdir()
    result = command(OUTPUTS[name], BUNDLE=bundle, OPEN=open_place, CLOSED=place / "closed")
    assert_named(result, 5, place / "closed", "write in")
    assert list((place / "closed").iterdir()) == list(open_place.iterdir()) == []


NIGHT = ["score", "--bundle", "BUNDLE", "--out", "OPEN/n", "--run-date", "2026-11-23"]
INPUTS = {
    "config": ["sdk", "train", "--sample", "--out", "OPEN/b", "--config", "CLOSED/file"],
    "movielens": ["sdk", "train", "--movielens", "CLOSED", "--out", "OPEN/b"],
    "movielens in it": ["sdk", "train", "--movielens", "CLOSED/ml", "--out", "OPEN/b"],
    "gates": [*NIGHT, "--gates", "CLOSED/file"],
    "deny": [*NIGHT, "--deny", "CLOSED/file"],
    "users": [*NIGHT, "--users", "CLOSED/file"],
    "ratings": [*NIGHT, "--ratings", "CLOSED/file"],
}


@as_root
@pytest.mark.parametrize("name", INPUTS)
def test_an_input_that_may_not_be_read(name: str, bundle_path: Path, place: Path, open_place: Path) -> None:
    bundle = shutil.copytree(bundle_path, place / "bundle")
    (place / "closed").mkdir(mode=0o700)
    (place / "closed" / "file").write_text("1\n")
    result = command(INPUTS[name], BUNDLE=bundle, OPEN=open_place, CLOSED=place / "closed")
    assert_named(result, 3, place / "closed", "read" if name == "movielens" else "enter")
    assert list(open_place.iterdir()) == []


@as_root
@pytest.mark.parametrize("name", ["config", "gates", "deny", "users", "ratings"])
def test_an_input_file_that_may_not_be_read(name: str, bundle_path: Path, place: Path, open_place: Path) -> None:
    bundle = shutil.copytree(bundle_path, place / "bundle")
    (place / "file").write_text("1\n")
    (place / "file").chmod(0o600)
    result = command(INPUTS[name], BUNDLE=bundle, OPEN=open_place, CLOSED=place)
    if name == "ratings":
        assert (result[0], "Traceback" in result[1]) == (3, False)
    else:
        assert_named(result, 3, place / "file", "read")


@as_root
@pytest.mark.parametrize("words", [["export", "serve", "REPO"], READ_BUNDLE["verify"]])
def test_a_repository_that_may_not_be_read(words: list[str], bundle_path: Path, place: Path) -> None:
    repository = place / "repository"
    export_repository(bundle_path, repository, ExportOptions(workflow="compiled"))
    for closed, right in ((repository / "manifest.json", "read"), (repository / "ranker" / "1", "enter")):
        before = closed.stat().st_mode
        closed.chmod(0)
        assert_named(command(words, REPO=repository, BUNDLE=bundle_path), 4, closed, right)
        closed.chmod(before)
