"""Standard streams in every state that a scheduler or a pipe leaves them in: the work is done, the code is true."""

from __future__ import annotations

import argparse
import functools
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from small import dataset, run_config

import batch.score
import sdk
from sdk.shell.cli import run_command

ROOT = Path(__file__).resolve().parents[2]
STATES = {
    "stdin closed": "0<&-",
    "stdout closed": ">&-",
    "stdout full": ">/dev/full",
    "stdout left by its reader": "> >(exec true)",
    "stderr closed": "2>&-",
    "stderr full": "2>/dev/full",
    "stderr left by its reader": "2> >(exec true)",
    "all closed": "0<&- >&- 2>&-",
    "all full": "</dev/full >/dev/full 2>/dev/full",
}
LOST = {"stdout closed", "stdout full", "all closed", "all full"}
PRINT = {
    "help": "sdk --help",
    "a command's help": "batch.score --help",
    "version": "sdk --version",
    "completion": "sdk --print-completion bash",
}
ASK = {
    "recommend": "sdk recommend --user 1 --bundle {bundle}",
    "as JSON": "sdk recommend --user 1 --bundle {bundle} --json",
    "similar": "sdk similar 'Film B1' --bundle {bundle}",
    "doctor": "sdk doctor",
    "plan": "batch.score --bundle {bundle} --out {out} --run-date 2026-11-23 --dry-run",
}
SCORE = "batch.score --bundle {bundle} --out {out} --run-date 2026-11-23 --k 3 "


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("streams") / "bundle"
    sdk.train(dataset(), run_config(), path)
    return path


def run(command: str, redirections: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """A command as a shell starts it."""
    script = f"{shlex.quote(sys.executable)} -m {command} {redirections}"
    variables = {**os.environ, **env}
    return subprocess.run(["bash", "-c", script], cwd=ROOT, env=variables, capture_output=True, text=True, check=False)


@functools.cache
def printed(command: str) -> str:
    """What it prints where nothing is amiss."""
    return run(command).stdout


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("command", PRINT)
def test_what_only_prints_says_when_it_could_not(command: str, state: str) -> None:
    done = run(PRINT[command], STATES[state])
    assert done.returncode == (5 if state in LOST else 0), done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert ("stdout: " in done.stderr) == (state in {"stdout closed", "stdout full"})
    if not state.startswith(("stdout", "all")):
        assert done.stdout == printed(PRINT[command]) != ""


@pytest.mark.parametrize("state", ["stdout full", "stdout left by its reader", "all closed"])
@pytest.mark.parametrize("command", ASK)
def test_an_answer_that_nobody_gets_is_exit_code_5(bundle: Path, tmp_path: Path, command: str, state: str) -> None:
    done = run(ASK[command].format(bundle=bundle, out=tmp_path / "out"), STATES[state])
    assert done.returncode == (5 if state in LOST else 0), done.stderr
    assert "Traceback" not in done.stderr
    assert ("stdout: " in done.stderr) == (state == "stdout full")


@pytest.mark.parametrize("state", STATES)
def test_a_night_is_published_whatever_the_streams_are(bundle: Path, tmp_path: Path, state: str) -> None:
    done = run(SCORE.format(bundle=bundle, out=tmp_path) + "--json", STATES[state])
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run_date=2026-11-23" / "_SUCCESS").exists()
    assert (tmp_path / "LATEST").exists()
    assert "Traceback" not in done.stderr
    assert ("its results are not printed" in done.stderr) == (state in {"stdout closed", "stdout full"})
    assert batch.score.main(["--out", str(tmp_path), "--verify"]) == 0, "no log line went into a file of the night"


def test_a_usage_error_keeps_its_code_without_streams() -> None:
    for redirections in ("2>&-", "2>/dev/full", ">&- 2>&-"):
        assert run("sdk recommend --nonsense", redirections).returncode == 2


@pytest.mark.parametrize("encoding", ["ascii", "ascii:strict", "latin-1", "cp1252:strict"])
def test_titles_reach_a_narrow_encoding(tmp_path: Path, bundle: Path, encoding: str) -> None:
    script = """
import argparse, sys
from sdk.shell.cli import run_command
from sdk.shell.terminal import show
def work(args):
    show(["Am\\u00e9lie \\u5343\\u3068"], lambda: [])
    return 0
sys.exit(run_command(work, argparse.Namespace(quiet=False, verbose=False, run_id=None, log_format="text")))
"""
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    name = encoding.split(":")[0]
    assert done.stdout == "Amélie 千と\n".encode(name, "backslashreplace")


def test_a_broken_pipe_that_is_not_stdout_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    def work(args: argparse.Namespace) -> int:
        raise BrokenPipeError

    args = argparse.Namespace(quiet=False, verbose=False, run_id=None, log_format="text")
    with pytest.raises(BrokenPipeError):
        run_command(work, args)


def test_the_library_trains_without_any_stream(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    sdk.train(dataset(), run_config(), tmp_path / "bundle")
    assert (tmp_path / "bundle" / "bundle.json").exists()
