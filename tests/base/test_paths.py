"""A path or URL of any option means one thing everywhere, or is refused before any work, with what to give instead."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sdk
from batch.job.job import Job
from batch.score import main
from sdk.base.errors import MarqueeError, UsageError
from sdk.base.paths import as_location, as_path
from sdk.shell.cli import location_argument, path_argument, run_command, table_argument, whole_number

ROOT = Path(__file__).resolve().parents[2]
HOME = Path(pwd.getpwuid(os.getuid()).pw_dir)
MEANT = {
    "nights": "nights",
    "a b/c": "a b/c",
    "a~b": "a~b",
    "price$": "price$",
    "run:1/x": "run:1/x",
    "~/nights": f"{HOME}/nights",
    f"~{pwd.getpwuid(os.getuid()).pw_name}/x": f"{HOME}/x",
    "file:///data/a%20b": "/data/a b",
    "FILE:///data": "/data",
    "file://localhost/data": "/data",
    "file:/data": "/data",
}
STORES = {
    "S3://Bucket/Nights/": "s3://Bucket/Nights",
    "gs://bucket": "gs://bucket",
    "memory:///nights": "memory:///nights",
    "hdfs:///nights": "hdfs:///nights",
}
NEVER = (
    "",
    "  ",
    " nights",
    "nights ",
    "nights\n",
    "ni\nghts",
    "a\0b",
    "-",
    "'nights'",
    "~nobody-of-this-name/x",
    "$HOME/x",
    "${HOME}/x",
    "a/$DATE",
    "C:\\nights",
    "C:/nights",
    "\\\\server\\share",
    "file://host/path",
    "file:relative",
    "file://",
    "file:///a%0Ab",
    "s3:/one/slash",
    "s3:key",
    "gs:/x",
    "other:/x",
    "/data/s3://bucket",
    "cache::s3://bucket/x",
    "http://host/x",
    "https://host/x",
)
NO_STORE = (
    "s3://",
    "s3:///key",
    "gs://my bucket/x",
    "memory://",
    "s3://user:secret@bucket/x",
    "s3://bucket/x?key=secret",
)


@pytest.mark.parametrize("text", MEANT)
def test_a_path_means_the_same_for_paths_and_places(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(HOME))
    assert as_path(text) == Path(MEANT[text])
    assert as_location(text) == MEANT[text]


@pytest.mark.parametrize("text", STORES)
def test_a_store_is_a_place_and_no_path(text: str) -> None:
    assert as_location(text) == STORES[text]
    with pytest.raises(UsageError, match="expected a path on this machine"):
        as_path(text)


@pytest.mark.parametrize("text", [*NEVER, *NO_STORE])
def test_what_cannot_be_meant_is_refused_with_what_to_give(text: str) -> None:
    for read, argument in ((as_path, path_argument), (as_location, location_argument)):
        with pytest.raises(UsageError, match=r"expected|credentials") as caught:
            read(text)
        assert "secret" not in str(caught.value)
        with pytest.raises(argparse.ArgumentTypeError):
            argument(text)


@given(st.text(max_size=20) | st.sampled_from(["~", "./", "s3:", "file:", "//", "$A", "-"]).flatmap(
    lambda start: st.text(max_size=8).map(lambda rest: start + rest)))  # fmt: skip
def test_what_is_meant_keeps_its_meaning_however_often_it_is_asked_for(text: str) -> None:
    for read in (as_path, as_location):
        try:
            meant = read(text)
        except UsageError:
            continue
        assert read(meant) == meant


@pytest.mark.parametrize("text", ["./~", "./-", "./~/x", "./'", "./ 'a'", './"a"', "./C:/x"])
def test_a_dot_in_front_takes_a_name_as_it_is(text: str) -> None:
    assert as_path(text) == Path.cwd() / text[2:]


PARSERS = (
    "sdk.__main__", "batch.score", "batch.report", "batch.taste", "export.__main__", "sdk.commands.distributed",
    "app", "examples.daily_loop",
)  # fmt: skip


def actions(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.Action]]:
    for action in parser._actions:
        yield parser.prog, action
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from actions(each)


def every_action() -> list[tuple[str, argparse.Action]]:
    modules = (importlib.import_module(name) for name in PARSERS)
    return [found for module in modules for found in actions(module.build_parser())]


PATHS = {
    "bundle",
    "out",
    "to",
    "study",
    "reports",
    "into",
    "movielens",
    "tmdb",
    "config",
    "gates",
    "metrics_file",
    "home",
    "ratings",
    "users",
    "items",
    "allow",
    "deny",
    "block",
    "repository",
    "nightly",
    "interactions",
    "dataset",
}


@pytest.mark.needs("waitress")
def test_every_option_that_names_a_path_reads_it_in_the_one_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "web_app"))
    found = every_action()
    assert len(found) > 100
    assert [(prog, a.dest) for prog, a in found if a.type in (Path, os.path.abspath)] == []
    named = [(prog, a) for prog, a in found if a.dest in PATHS and a.type not in (int, whole_number)]
    assert len(named) > 25
    assert [
        (prog, a.dest) for prog, a in named if a.type not in (path_argument, location_argument, table_argument)
    ] == []


@pytest.mark.parametrize("text", ["", "s3:/x", "file://host/x", "$HOME/x", "http://host/x", "a\nb"])
def test_a_night_is_refused_before_anything_is_read_or_made(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["--bundle", "bundle", f"--out={text}", "--run-date", "2026-11-23"])
    assert caught.value.code == 2
    assert "--out: got" in capsys.readouterr().err
    with pytest.raises(UsageError, match="--out: got"):
        Job(bundle=Path("bundle"), out=text, run_date="2026-11-23")
    assert list(tmp_path.iterdir()) == []


def test_home_is_home_for_a_night_and_for_the_sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    job = Job(bundle=Path("~/bundle"), out="~/nights", run_date="2026-11-23", deny=Path("~/deny.txt"))
    assert (job.bundle, job.out, job.deny) == (tmp_path / "bundle", f"{tmp_path}/nights", tmp_path / "deny.txt")
    assert sdk.write_sample("~/sample")[0].parent == tmp_path / "sample"
    with pytest.raises(MarqueeError, match=f"{tmp_path}/bundle: no bundle.json"):
        sdk.load("~/bundle")


@pytest.mark.parametrize("text", ["n" * 256, f"a/{'é' * 128}/b", f"file:///{'n' * 256}", "~/" + "n" * 256, "a/" * 2048])
def test_a_name_longer_than_file_systems_have_is_refused_before_any_work(text: str) -> None:
    with pytest.raises(UsageError, match="expected a path of at most 4095 bytes, with names of at most 255"):
        as_path(text)


def test_a_name_of_just_the_length_that_file_systems_have_is_taken(tmp_path: Path) -> None:
    as_path(f"{tmp_path}/{'n' * 255}").touch()
    with pytest.raises(OSError, match="too long"):
        (tmp_path / ("n" * 256)).touch()


@pytest.mark.parametrize("code", [errno.ENAMETOOLONG, errno.ELOOP, errno.ENOSPC])
def test_a_file_beside_the_one_named_ends_no_command_in_a_traceback(code: int, tmp_path: Path) -> None:
    def work(args: argparse.Namespace) -> int:
        raise OSError(code, os.strerror(code), str(tmp_path / "beside"))

    args = argparse.Namespace(quiet=False, verbose=False, log_format="text", run_id=None, out=tmp_path / "named")
    assert run_command(work, args) == 5
