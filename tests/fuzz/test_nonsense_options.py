"""Every option of every command, given nonsense: a documented exit code, no traceback, nothing half-written.

The options are read off the parsers, so a new one is tried as soon as it is there.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import batch.report
import batch.score
import batch.taste
import export.__main__
import sdk
from sdk.__main__ import build_parser
from sdk.__main__ import main as sdk_main
from sdk.training.pipeline import train_bundle

CODES = {0, 2, 3, 4, 5, 6, 7}
HUGE = "9" * 40
LEFT_OUT = ("--help", "--version", "--print-completion")  # they stop before anything is done


@dataclass(frozen=True)
class Command:
    """A command with arguments that work, to which one nonsense argument at a time is added.

    Attributes:
        parser: where its options are read off.
        main: what runs it.
        words: the arguments; ``{name}`` stands for a path of the fixture ``places``.
        replaced: options of ``words``, with their value, that give way when they are tried themselves.
    """

    parser: argparse.ArgumentParser
    main: Callable[[list[str]], int]
    words: tuple[str, ...]

    def arguments(self, option: argparse.Action, value: str) -> list[str]:
        kept, skip = [], False
        for word in self.words:
            skip = skip or word in option.option_strings
            if not skip:
                kept.append(word)
            skip = skip and word.startswith("--")
        return [*kept, f"{option.option_strings[-1]}={value}"]


def _of_sdk(name: str, *words: str) -> Command:
    parsers = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
    return Command(parsers[name], lambda argv: sdk_main([name, *argv]), words)


_EXPORT = export.__main__
_DATA = ("--movielens", "{movielens}", "--config", "{config}")
_COMPARED = ("--protocols", "B", "--seeds", "1", "--budget", "1", "--quick", "--out", "{out}")
# download: of a data set that it knows only to explain, so that nobody is asked
COMMANDS = {
    "batch.score": Command(
        batch.score.build_parser(), batch.score.main,
        ("--bundle", "{bundle}", "--out", "{out}", "--run-date", "{today}", "--k", "3", "--device", "cpu"),
    ),
    "batch.taste": Command(batch.taste.build_parser(), batch.taste.main, ("--bundle", "{bundle}", "--out", "{night}")),
    "batch.report": Command(
        batch.report.build_parser(), batch.report.main, ("--bundle", "{bundle}", "--out", "{night}")
    ),
    "sdk train": _of_sdk("train", *_DATA, "--out", "{out}"),
    "sdk tune": _of_sdk("tune", *_DATA, "--model", "history", "--trials", "1", "--study", "{out}", "--out", "{out2}"),
    "sdk compare": _of_sdk("compare", *_DATA[:2], *_COMPARED),
    "sdk download": _of_sdk("download", "tmdb-5000", "--to", "{out}"),
    "sdk evaluate": _of_sdk("evaluate", "--bundle", "{bundle}", "--samples", "2", "--max-list-users", "5"),
    "sdk similar": _of_sdk("similar", "1", "--bundle", "{bundle}"),
    "sdk recommend": _of_sdk("recommend", "--user", "1", "--bundle", "{bundle}"),
    "sdk doctor": _of_sdk("doctor"),
    "export": Command(_EXPORT.build_parser(), _EXPORT.main, ("--bundle", "{bundle}", "--out", "{out}")),
    "export serve": Command(
        _EXPORT._serve_parser(), lambda argv: _EXPORT.main(["serve", *argv]), ("{nowhere}",)
    ),
    "export verify": Command(
        _EXPORT._verify_parser(), lambda argv: _EXPORT.main(["verify", *argv]),
        ("{nowhere}", "--bundle", "{bundle}", "--url", "127.0.0.1:9"),
    ),
}  # fmt: skip


LONG = ("sdk train", "sdk tune", "sdk compare")


@dataclass(frozen=True)
class Places:
    """A folder for one command: what it reads, and ``work`` with all that it may write to."""

    known: dict[str, Path]
    work: Path

    def nonsense(self) -> dict[str, str]:
        """What is tried for every option, by a name for the message."""
        return {
            "nothing": "",
            "blanks": "  ",
            "a huge number": HUGE,
            "a huge exponent": "1e999",
            "below nought": "-1",
            "no number": "nan",
            "a folder": str(self.known["folder"]),
            "a broken link": str(self.known["link"]),
            "an empty file": str(self.known["empty"]),
            "below a file": str(self.known["empty"] / "below"),
            "a control character": "\x1b[31mred\x07",
            "a long name": "x" * 5000,
        }


@pytest.fixture(scope="session")
def night(bundle_path: Path) -> Path:
    """A published night of the bundle."""
    out, today = bundle_path.parent / "published", datetime.date.today().isoformat()
    assert batch.score.main(["--bundle", str(bundle_path), "--out", str(out), "--run-date", today, "--k", "3"]) == 0
    return out


@pytest.fixture(scope="session")
def config(bundle_path: Path) -> Path:
    """Settings as --config takes them, by which a training takes no longer than it must."""
    path = bundle_path.parent / "config.json"
    given = json.loads((bundle_path / "bundle.json").read_text())["config"]
    path.write_text(
        json.dumps(
            {**given, "models": ["ncf", "content"], "training": {"max_epochs": 1}, "features": {"engine": "builtin"}}
        )
    )
    return path


@pytest.fixture
def places(movielens: Path, bundle_path: Path, night: Path, config: Path, tmp_path: Path) -> Places:
    """What every command reads, and nonsense beside it."""
    (work := tmp_path / "work").mkdir()
    known = {
        "movielens": movielens, "bundle": bundle_path, "night": work / "night", "config": config,
        "out": work / "out", "out2": work / "out2", "nowhere": work / "nowhere",
        "today": Path(datetime.date.today().isoformat()),
        "folder": work / "folder", "link": work / "link", "empty": work / "empty",
    }  # fmt: skip
    shutil.copytree(night, known["night"])
    known["folder"].mkdir()
    (known["folder"] / "kept.txt").write_text("somebody's own")
    known["link"].symlink_to(work / "gone" / "away")
    known["empty"].touch()
    return Places(known, work)


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder but locks: name to a hash; links to where they point."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(folder))] = f"-> {path.readlink()}"
        elif path.is_file() and not path.name.endswith(".lock"):
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def tried(command: Command, places: Places) -> Iterator[tuple[str, list[str]]]:
    for option in command.parser._actions:
        if not option.option_strings or option.option_strings[-1] in LEFT_OUT:
            continue
        for name, value in places.nonsense().items():
            words = [word.format(**places.known) for word in command.arguments(option, value)]
            yield f"{option.option_strings[-1]} = {name}", words


def run(command: Command, words: list[str]) -> int | str:
    """The exit code, or the traceback that a person would see."""
    try:
        return command.main(words)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else repr(stop)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"


def training_once(folder: Path) -> Callable[..., sdk.Bundle]:
    """``train_bundle``, of which the same data and settings, and so the same bundle, are a copy from the second on."""
    made: dict[str, Path] = {}

    def train(dataset: sdk.Dataset, config: sdk.RunConfig, out: Path, **options: bool) -> sdk.Bundle:
        key = f"{dataset.fingerprint} {config} {options}"
        if key not in made:
            made[key] = folder / f"trained-{len(made)}"
            train_bundle(dataset, config, made[key], **options)
        return sdk.load(shutil.copytree(made[key], out))

    return train


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in LONG else ()) for n in COMMANDS])
def test_nonsense_for_any_option_is_an_exit_code_and_leaves_nothing_half_written(
    name: str, places: Places, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pristine = Path(shutil.copytree(places.work, places.work.with_name("pristine"), symlinks=True))
    command, faults, counts = COMMANDS[name], [], dict.fromkeys(sorted(CODES), 0)
    if name == "sdk compare":  # which trains what no option of its own is about
        monkeypatch.setattr("sdk.training.pipeline.train_bundle", training_once(places.work.parent))
    before, given = contents(places.work), contents(places.known["bundle"])
    for what, words in tried(command, places):
        monkeypatch.chdir(places.work)
        code = run(command, words)
        said = capsys.readouterr()
        if code not in CODES:
            faults.append(f"{what}: {code}")
            continue
        counts[code] += 1
        if "Traceback" in said.err:
            faults.append(f"{what}: a traceback, exit code {code}")
        if code != 0 and not said.err.strip():
            faults.append(f"{what}: exit code {code} without a word")
        if any(ord(sign) < 32 and sign not in "\n\t" for sign in said.err + said.out):
            faults.append(f"{what}: control characters reach the terminal: {said.err[-200:]!r}")
        if code != 0 and (changed := differences(before, contents(places.work))):
            faults.append(f"{what}: exit code {code}, but left {changed[:4]}: {said.err[-300:]}")
        if contents(places.work) != before:
            restore(places, pristine)
    assert contents(places.known["bundle"]) == given, "the bundle was changed"
    print(name, sum(counts.values()), "cases, by exit code:", counts)
    assert not faults, "\n".join(faults)


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Files that came, went or changed; records of refused runs do not count."""
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    return sorted(name for name in changed if "/runs/" not in name and "/reports/" not in name)


def restore(places: Places, pristine: Path) -> None:
    """Undo what a command did, so that the next begins as the first."""
    shutil.rmtree(places.work)
    shutil.copytree(pristine, places.work, symlinks=True)
