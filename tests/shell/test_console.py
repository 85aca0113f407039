"""marquee is the commands of all packages, by name; python -m batch those of one."""

from __future__ import annotations

import argparse
import platform
import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path

import pytest

import batch.__main__
import batch.report
import batch.score
import batch.taste
import export.__main__ as export_commands
import sdk.__main__ as sdk_commands
from sdk.base import __version__
from sdk.commands import distributed
from sdk.shell import console
from sdk.shell.parser import GROUPS


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
        if a.dest not in ("print_completion", "version")
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


WAY = [
    *("inspect", "train", "score", "similar", "recommend", "evaluate", "judge", "report", "taste"),
    *("export", "serve", "verify", "compare", "tune", "download", "doctor"),
]


def test_help_lists_the_commands_in_the_order_of_a_persons_way_each_with_one_line(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = ended(capsys, "--help")
    assert code == 0
    listed = out.split("commands:\n")[1].split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in listed] == WAY
    assert all(re.fullmatch(r"    [a-z]+ {2,}\S.*", line) for line in listed)
    assert out.index("commands:") < out.index("general:")


PROGRAMS = {
    "marquee": console.main,
    "python -m sdk": sdk_commands.main,
    "python -m batch": batch.__main__.main,
    "python -m batch.score": batch.score.main,
    "python -m batch.taste": batch.taste.main,
    "python -m batch.report": batch.report.main,
    "python -m export": export_commands.main,
    "python -m export serve": lambda argv: export_commands.main(["serve", *argv]),
    "python -m export verify": lambda argv: export_commands.main(["verify", *argv]),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_version_of_every_form_is_one_line_with_what_it_runs_on(program, capsys):
    with pytest.raises(SystemExit) as stop:
        PROGRAMS[program](["--version"])
    beside = f"Python {platform.python_version()}, NumPy {version('numpy')}, torch {version('torch')}"
    assert (stop.value.code, *capsys.readouterr()) == (0, f"marquee {__version__} ({beside})\n", "")


def test_an_unknown_command_is_exit_code_2_with_the_nearest_name(capsys):
    code, out, err = ended(capsys, "scroe", "--bundle", "b")
    assert (code, out) == (2, "")
    assert "got 'scroe'" in err
    assert "did you mean score?" in err


@pytest.mark.parametrize(("words", "same"), [(["help"], ["--help"]), (["help", "taste"], ["taste", "--help"])])
def test_help_may_be_asked_for_as_a_command(words, same, capsys):
    assert ended(capsys, *words) == ended(capsys, *same) != (0, "", "")


def test_version_may_be_asked_for_as_a_command(capsys):
    assert ended(capsys, "version") == ended(capsys, "--version")


def test_a_stop_before_the_command_began_is_one_line(monkeypatch, capsys):
    def stopped(entry: EntryPoint) -> None:
        raise KeyboardInterrupt

    for kind in {type(entry) for entry in entry_points(group=console.GROUP)}:  # a backport's, once it is imported
        monkeypatch.setattr(kind, "load", stopped)
    assert ended(capsys, "taste", "--out", "o", "--bundle", "b") == (130, "", "interrupted\n")


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


def loaded_for_help(*command: str) -> set[str]:
    """The modules that a page of help takes."""
    code = (
        "import sys; from sdk.shell.console import main\n"
        f"try: main([*{command!r}, '--help'])\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    return set(result.stderr.split())


HEAVY = {"torch", "nvtabular", "merlin", "pandas", "pyarrow", "scipy", "numba", "dask", "matplotlib", "tritonclient"}
HEAVY |= {"rich", "shtab", "tqdm"}


@pytest.mark.parametrize("command", [(), *((name,) for name in WAY)], ids=" ".join)
def test_help_is_quick_since_it_loads_no_heavy_package(command):
    loaded = loaded_for_help(*command)
    assert not loaded & HEAVY
    assert ("numpy" in loaded) == (command in ((), ("verify",))), "the client's options lie beside its arrays"


def test_only_the_command_that_is_asked_for_is_loaded():
    assert not loaded_for_help("taste") & {"export", "sdk.commands"}


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
    assert "\n    doctor " in out.split("\n    lacking ")[0], "what we do not know comes last"
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
    assert completed(script, "marquee", "") >= set(WAY)
    assert completed(script, "marquee", "sc") == {"score"}
    assert completed(script, "marquee", "score", "--rol") == {"--rollback"}
    assert completed(script, "marquee", "similar", "--kind", "") == {"content", "hybrid"}
    for name, parser in MODULES.items():
        wanted = {option for action in parser._actions for option in action.option_strings if option[:2] == "--"}
        assert completed(script, "marquee", name, "--") == wanted - {"--print-completion", "--version"}, name


def test_bash_completes_files_where_a_path_is_asked_for(capsys, tmp_path):
    script = ended(capsys, "--print-completion", "bash")[1]
    (tmp_path / "only-one").mkdir()
    for words in (["score", "--out"], ["train", "--movielens"], ["serve"]):
        assert completed(script, "marquee", *words, "only", cwd=tmp_path) == {"only-one"}, words


def completed(script: str, *words: str, cwd: Path | None = None) -> set[str]:
    """What a bash that has read the script offers for the last word."""
    asked = (
        f"COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}\n"
        "name=$(complete -p marquee | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n"
        '"$name"; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    command = ["bash", "--norc", "-c", f"{script}\n{asked}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd)
    assert (result.returncode, result.stderr) == (0, "")
    return set(result.stdout.split())


def test_the_script_of_this_environment_runs():
    script = Path(sys.executable).with_name("marquee")
    result = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=120, check=True)
    assert result.stdout.startswith(f"marquee {__version__} (Python ")


PARSERS = MODULES | {"distributed": distributed.build_parser()}


@pytest.mark.parametrize("name", PARSERS)
def test_every_option_lies_in_a_named_group_and_required_ones_come_first(name):
    groups = [group for group in PARSERS[name]._action_groups if group._group_actions]
    titles = [group.title for group in groups]
    assert titles == [title for title in GROUPS if title in titles], "in this order, and no other"
    for group in groups:
        for action in group._group_actions:
            needed = action.required or any(
                action in each._group_actions for each in PARSERS[name]._mutually_exclusive_groups if each.required
            )
            assert not needed or group.title == "required", action.dest
            assert action.help, action.dest
    if name not in ("evaluate", "doctor"):  # they need nothing
        assert titles[0] == "required"
    logging = {"help", "quiet", "verbose", "log_format", "run_id", "version", "print_completion"}
    assert titles[-1] == "general"
    assert {action.dest for action in groups[-1]._group_actions} <= logging


@pytest.mark.parametrize("columns", [80, 120, 300])
@pytest.mark.parametrize("name", ["", *PARSERS])
def test_help_fits_the_terminal_and_is_no_wider_than_is_read_well(name, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    parser = (
        PARSERS[name]
        if name
        else console.parser_of("marquee", "", "", [e.load() for e in entry_points(group=console.GROUP)])
    )
    page = parser.format_help()
    assert max(map(len, page.splitlines())) <= min(columns, 100)
    assert not re.search(r"[a-z]-$", page, re.M), "a name is broken at its hyphen"
    most = 5 if name == "distributed" else 4  # whose name is long; data come in one of four ways
    assert len(page.split("\n\n")[0].splitlines()) <= most, "the usage says what must be given, not all that may be"


def test_usage_says_what_must_be_given(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    said = {name: " ".join(parser.format_usage().split()) for name, parser in PARSERS.items()}
    assert said["train"].endswith(" --dataset FILE.toml | --sample) --out BUNDLE [options]")
    assert said["score"].endswith(".score [--bundle BUNDLE] --out OUT [--run-date YYYY-MM-DD] [options]")
    assert said["similar"].endswith(" similar [options] TITLE")
    assert said["doctor"].endswith(" doctor [options]")
