"""What the commands teach a shell is what their parsers understand, asked of a real bash and a real zsh."""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import re
import select
import shlex
import shutil
import struct
import subprocess
import sys
import termios
import time
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import batch.score
import export.__main__
from sdk.__main__ import COMMANDS, build_parser, main
from sdk.shell.completion import SHELLS, completion_script
from sdk.shell.console import GROUP, parser_of

PARSERS = {
    "sdk": build_parser(),
    "batch.score": batch.score.build_parser(),
    "export": export.__main__.build_parser(),
    "export serve": export.__main__._serve_parser(),
    "export verify": export.__main__._verify_parser(),
}
ASK = """
COMP_WORDS=({words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_marquee_python
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file with every command's script, as a person's bash would load them."""
    path = tmp_path_factory.mktemp("completion") / "all.bash"
    path.write_text("".join(completion_script(parser, "bash") for parser in PARSERS.values()))
    return path


def bash(*arguments: str, cwd: Path | None = None) -> str:
    done = subprocess.run(["bash", "--norc", *arguments], capture_output=True, text=True, timeout=60, cwd=cwd)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def completions(scripts: Path, *words: str, cwd: Path | None = None) -> set[str]:
    """What bash offers for the last word."""
    ask = ASK.format(words=shlex.join(words))
    return set(bash("-c", f"source {scripts}\n{ask}", cwd=cwd).split())


def options(parser: argparse.ArgumentParser) -> set[str]:
    return {option for action in parser._actions for option in action.option_strings if option.startswith("--")}


def test_the_command_prints_it_and_bash_reads_it(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--print-completion", "bash"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "recommend" in text
    assert "--include-seen" in text
    (tmp_path / "sdk.bash").write_text(text)
    bash("-n", str(tmp_path / "sdk.bash"))


def test_it_needs_no_other_option(capsys):
    with pytest.raises(SystemExit) as stop:
        export.__main__.main(["--print-completion", "bash"])
    assert stop.value.code == 0
    assert "--backend" in capsys.readouterr().out


def test_bash_offers_the_commands(scripts):
    names = {module.__name__.rpartition(".")[2] for module in COMMANDS}
    assert completions(scripts, "python", "-m", "sdk", "") == names
    assert completions(scripts, "python", "-m", "sdk", "re") == {"recommend"}


def test_bash_offers_every_option_of_a_command(scripts):
    (subcommands,) = [a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction)]
    for name, parser in subcommands.choices.items():
        assert completions(scripts, "python", "-m", "sdk", name, "--") == options(parser), name
    for name in ("batch.score", "export", "export serve", "export verify"):
        assert completions(scripts, "python3", "-m", *name.split(), "--") == options(PARSERS[name]), name


def test_bash_offers_choices_and_files(scripts, tmp_path):
    assert completions(scripts, "python", "-m", "sdk", "similar", "--kind", "") == {"content", "hybrid"}
    (tmp_path / "bundle").mkdir()
    for words in (["batch.score", "--bundle"], ["sdk", "recommend", "--user", "1", "--bundle"]):
        assert completions(scripts, "python", "-m", *words, "bun", cwd=tmp_path) == {"bundle"}


def test_bash_offers_the_second_words_that_have_a_script(scripts):
    assert completions(scripts, "python", "-m", "export", "") >= {"serve", "verify"}
    assert completions(scripts, "python", "-m", "export", "ve") == {"verify"}
    assert completions(scripts, "python", "-m", "export", "verify", "ve") == set()


@pytest.mark.parametrize("words", [["-m", "json.tool", "--"], ["-m", "sdk"], ["train.py", "--"], ["-m", ""], [""]])
def test_other_uses_of_python_are_left_to_bash(scripts, words):
    assert completions(scripts, "python", *words) == set()


def test_subcommands_have_no_script_of_their_own(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["doctor", "--print-completion", "bash"])
    assert stop.value.code == 2


def test_a_shell_that_is_not_known_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--print-completion", "fish"])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert all(shell in said for shell in SHELLS)


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh to ask")
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("python -m sdk rec", "python -m sdk recommend "),
        ("python -m sdk recommend --incl", "python -m sdk recommend --include-seen "),
        ("python3 -m export serve --grp", "python3 -m export serve --grpc-port "),
        ("python -m export verify --proto", "python -m export verify --protocol "),
        ("python -m export verify --protocol gr", "python -m export verify --protocol grpc "),
        ("python -m export ve", "python -m export verify "),
        ("python -m batch.score --bundle only", "python -m batch.score --bundle only-one/"),
        ("marquee sim", "marquee similar "),
        ("marquee score --rollb", "marquee score --rollback "),
        ("marquee similar --kind hyb", "marquee similar --kind hybrid "),
        ("marquee export --bundle only", "marquee export --bundle only-one/"),
    ],
)
def test_a_real_zsh_completes(typed, completed, zsh):
    assert zsh(typed) == completed


@pytest.fixture(scope="module")
def zsh(tmp_path_factory):
    """``zsh(typed)`` is the line after a tab in an interactive zsh on a terminal of its own."""
    home = tmp_path_factory.mktemp("zsh")
    (home / "only-one").mkdir()
    whole = parser_of("marquee", "", "", [entry.load() for entry in entry_points(group=GROUP)])
    (home / "marquee.zsh").write_text(completion_script(whole, "zsh"))
    scripts = "".join(completion_script(parser, "zsh") for parser in PARSERS.values())
    scripts += f'eval "$(<{home}/marquee.zsh)"\n'
    show = "show() { print -r -- \"LINE<$BUFFER>\" }; zle -N show; bindkey '^X' show"
    (home / ".zshrc").write_text(f"autoload -Uz compinit; compinit -u -D\n{scripts}\n{show}\ncd {home}; print READY\n")
    terminal = Terminal(
        ["zsh", "-i"], {"ZDOTDIR": str(home), "HOME": str(home), "TERM": "dumb", "PATH": os.environ["PATH"]}
    )
    terminal.read_until(r"READY\r")

    def ask(typed):
        terminal.write(f"{typed}\t\x18")
        line = terminal.read_until(r"LINE<(.*?)>")
        terminal.write("\x15")
        return line

    yield ask
    terminal.close()


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, command, environment):
        self.leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
        self.process = subprocess.Popen(
            command, stdin=follower, stdout=follower, stderr=follower, env=environment, start_new_session=True
        )
        os.close(follower)
        self.seen = ""

    def write(self, text):
        os.write(self.leader, text.encode())

    def read_until(self, pattern):
        """The first group of what the pattern finds, or all of it; what was read so far is forgotten."""
        deadline = time.monotonic() + 60
        while not (found := re.search(pattern, self.seen)):
            ready, _, _ = select.select([self.leader], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"not seen within a minute: {pattern} in {self.seen!r}"
            self.seen += os.read(self.leader, 1 << 16).decode("utf-8", "replace")
        self.seen = self.seen[found.end() :]
        return found[found.lastindex or 0]

    def close(self):
        self.process.kill()
        self.process.wait(timeout=30)
        os.close(self.leader)


def test_a_help_text_does_not_load_shtab():
    code = "import sys, sdk.__main__ as m; m.build_parser().format_help(); sys.exit('shtab' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
