"""marquee is the commands of all packages, by name; python -m batch those of one."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest

import batch.__main__
import batch.report
import batch.score
import batch.taste
import export.__main__ as export_commands
import sdk.__main__ as sdk_commands
from sdk.base import __version__
from sdk.shell import console


def in_sdk() -> dict[str, argparse.ArgumentParser]:
    (held,) = [a for a in sdk_commands.build_parser()._actions if isinstance(a, argparse._SubParsersAction)]
    return held.choices


MODULES = in_sdk() | {
    "score": batch.score.build_parser(),
    "taste": batch.taste.build_parser(),
    "report": batch.report.build_parser(),
    "export": export_commands.build_parser(),
    "serve": export_commands._serve_parser(),
    "verify": export_commands._verify_parser(),
}
"""Every command as python -m knows it."""


def options(parser: argparse.ArgumentParser) -> list[tuple[object, ...]]:
    return [
        (a.dest, tuple(a.option_strings), a.default, a.help, a.required)
        for a in parser._actions
        if a.dest != "print_completion"
    ]


def ended(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    try:
        code = console.main(argv)
    except SystemExit as left:
        code = int(left.code or 0)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_it_has_every_command_of_every_package():
    assert {entry.name for entry in entry_points(group=console.GROUP)} == set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_a_command_is_the_one_of_python_m_under_another_name(name):
    (entry,) = entry_points(group=console.GROUP, name=name)
    parser = console.parser_of("marquee", "", "", [entry.load()])
    (held,) = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    (found,) = held.choices.values()
    assert options(found) == options(MODULES[name])
    assert found.prog == f"marquee {name}"
    assert f"  marquee {name}" in found.format_help()
    assert "python -m" not in (found.epilog or "")
    assert found.get_default("work") == MODULES[name].get_default("work") is not None


def test_help_lists_each_command_with_a_line(capsys):
    code, out, _ = ended(capsys, "--help")
    assert code == 0
    for name in MODULES:
        assert f"\n    {name} " in out
    assert "write every user's and every title's list" in out


def test_version(capsys):
    assert ended(capsys, "--version") == (0, f"marquee {__version__}\n", "")


def test_an_unknown_command_is_exit_code_2_with_the_nearest_name(capsys):
    code, out, err = ended(capsys, "scroe", "--bundle", "b")
    assert (code, out) == (2, "")
    assert "got 'scroe'" in err
    assert "did you mean score?" in err


@pytest.mark.parametrize("main", [console.main, batch.__main__.main])
def test_without_a_command_it_says_which_there_are(main, capsys):
    assert main([]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    for name in ("score", "taste", "report"):
        assert f"\n    {name} " in said.err


def test_a_usage_error_names_the_command_as_it_was_called(capsys):
    code, _, err = ended(capsys, "score", "--bundel", "b", "--out", "o")
    assert code == 2
    assert err.startswith("marquee score: unknown option --bundel; did you mean --bundle?\n")


@pytest.mark.parametrize("words", [["taste"], ["verify", "nowhere", "--url", "127.0.0.1:1"], ["similar", "Heat"]])
def test_a_commands_own_exit_code_is_returned(words, tmp_path, capsys):
    out = ["--out", str(tmp_path)] if words == ["taste"] else []
    assert ended(capsys, *words, "--bundle", str(tmp_path / "none"), *out)[0] == 4


def test_python_m_batch_runs_a_command(tmp_path):
    assert batch.__main__.main(["taste", "--bundle", str(tmp_path / "none"), "--out", str(tmp_path)]) == 4


def test_only_the_command_that_is_asked_for_is_loaded():
    code = (
        "import sys; from sdk.shell.console import main\n"
        "try: main(['taste', '--help'])\n"
        "finally: print(sorted({'torch', 'export', 'sdk.commands'} & sys.modules.keys()), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert result.stderr == "[]\n"


def lacking(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """As if a command's module needed what is not there."""
    broken = EntryPoint("lacking", f"{module}:add", console.GROUP)
    whole = entry_points(group=console.GROUP)
    monkeypatch.setattr(console, "entry_points", lambda group: [*whole, broken])


def test_a_command_that_lacks_a_package_is_listed_and_says_so(tmp_path, monkeypatch, capsys):
    (tmp_path / "needs_more.py").write_text("import no_such_package_of_that_name")
    monkeypatch.syspath_prepend(tmp_path)
    lacking(monkeypatch, "needs_more")
    code, out, _ = ended(capsys, "--help")
    assert code == 0
    assert "\n    score " in out
    assert "needs the package no_such_package_of_that_name" in " ".join(out.split())
    code, _, err = ended(capsys, "lacking", "--out", "x", "y")
    assert code == 2
    assert err.startswith("marquee lacking: needs the package no_such_package_of_that_name, which is not installed; ")


def test_a_module_of_ours_that_is_not_there_is_a_defect(monkeypatch):
    lacking(monkeypatch, "sdk.no_such_module")
    with pytest.raises(ModuleNotFoundError):
        console.main(["lacking"])


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_its_completion_is_a_script_of_its_own(shell, capsys):
    code, out, _ = ended(capsys, "--print-completion", shell)
    assert code == 0
    assert "_marquee_python" not in out  # python's completion is not touched
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=out, text=True, timeout=60, check=True)


def test_bash_completes_its_commands_and_options(capsys):
    script = ended(capsys, "--print-completion", "bash")[1]
    for words, wanted in ((("marquee", "sc"), "score"), (("marquee", "score", "--rol"), "--rollback")):
        asked = (
            f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}\n"
            "name=$(complete -p marquee | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n"
            '"$name"; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        result = subprocess.run(["bash", "-c", f"{script}\n{asked}"], capture_output=True, text=True, timeout=60)
        assert wanted in result.stdout.split(), result.stderr


def test_the_script_of_this_environment_runs():
    script = Path(sys.executable).with_name("marquee")
    result = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=120, check=True)
    assert result.stdout == f"marquee {__version__}\n"


def test_every_option_of_score_lies_in_a_group_that_says_what_it_is_for():
    titles = {group.title: group for group in batch.score.build_parser()._action_groups}
    assert set(titles) - {"positional arguments", "options"} == {
        "required", "common", "newer ratings and filters", "operations", "advanced",
    }  # fmt: skip
    logging = {"help", "quiet", "verbose", "log_format", "run_id", "print_completion"}
    assert {action.dest for action in titles["options"]._group_actions} == logging
