"""The sdk command's door: usage errors, input errors, and one line for each."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from batch.score import main as score_main
from export.__main__ import main as export_main
from sdk.__main__ import main
from sdk.shell.cli import Terminated, add_fields, made_of, new_parser, run_command, seconds
from sdk.shell.parser import CommandParser


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["train", "--movielens", "{tmp}/nowhere", "--out", "{tmp}/b"], 3, "nowhere"),
        (["train", "--sample", "--tmdb", "{tmp}", "--out", "{tmp}/b"], 2, "--tmdb"),
        (
            ["train", "--sample", "--out", "{tmp}/b", "--config", "{tmp}/c"],
            2,
            "(No such file or directory). Give a file",
        ),
        (["train", "--sample", "--out", "{tmp}/b", "--seed", "-1"], 2, "seed"),
        (["train", "--sample", "--out", "{tmp}"], 5, "--force"),
        (["evaluate", "--bundle", "{tmp}"], 4, "bundle.json"),
        (["similar", "Heat", "--bundle", "{tmp}/none"], 4, "bundle.json"),
        (["recommend", "--user", "1", "--bundle", "{tmp}/none"], 4, "Train a bundle first"),
        (["download", "ml-77m", "--to", "{tmp}"], 2, "ml-77m"),
    ],
)
def test_what_is_wrong_is_one_line_and_an_exit_code(tmp_path, capsys, arguments, code, says):
    assert main([argument.format(tmp=tmp_path) for argument in arguments]) == code
    err = capsys.readouterr().err.strip().splitlines()
    assert len(err) == 1
    assert says in err[0]


@pytest.mark.parametrize("arguments", [[], ["train"], ["train", "--sample"], ["similar"], ["nonsense"]])
def test_usage_errors_are_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "help: python -m sdk" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said", "help_of"),
    [
        (["simlar", "Heat"], "got 'simlar', expected one of", ""),
        (["simlar", "Heat"], "did you mean similar?", ""),
        (
            ["recommend", "--user", "--B2h"],
            "expected one argument; a value that begins with a dash is joined to it: --user=-VALUE\n",
            " recommend",
        ),
        (["similar", "Heat", "--bundel", "b"], "unknown option --bundel; did you mean --bundle?", " similar"),
        (["similar", "Heat", "--bundel=b"], "unknown option --bundel; did you mean --bundle?", " similar"),
        (["train", "--smaple", "--out", "b"], "unknown option --smaple; did you mean --sample?", " train"),
        (["train", "--movielens=x", "--ot=b"], "unknown option --ot; did you mean --out?", " train"),
        (["train", "--movielens", "x", "-o", "b"], "unknown option -o\n", " train"),
        (["train", "--movielens", "x"], "the following arguments are required: --out", " train"),
        (["similar", "Heat", "--zzz"], "unknown option --zzz\n", " similar"),
        (["similar", "The", "Dark", "Knight"], "'Dark'; put a title of several words in quotes\n", " similar"),
        (["recommend", "--liked", "The", "Dark"], "'Dark'; put a title of several words in quotes\n", " recommend"),
        (["doctor", "more"], "unexpected argument 'more'\n", " doctor"),
        (
            ["train", "--sample", "--out", "b", "--models", "dlrm,svd"],
            "got 'svd', expected some of dlrm, ncf,",
            " train",
        ),
        (["train", "--sample", "--out", "b", "--models", "dlmr"], "did you mean dlrm?", " train"),
        (["recommend", "--k", "abc"], "--k: got 'abc', expected a whole number", " recommend"),
        (["tune", "--model", "x"], "--model: got 'x', expected one of dlrm, ncf", " tune"),
        (["train", "--sample", "--out", "b", "--like-above", "x"], "expected a number", " train"),
    ],
)
def test_a_usage_error_says_what_is_wrong_and_where_the_help_is(arguments, said, help_of, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.splitlines()[-1] == f"help: python -m sdk{help_of} --help"
    assert len(err.splitlines()) == 2


@pytest.mark.parametrize(
    ("given", "said"), [("vrify", "did you mean verify?"), ("x", "expected serve, verify or the export's options\n")]
)
def test_an_unknown_word_after_export_is_no_missing_option(given, said, capsys):
    with pytest.raises(SystemExit) as stop:
        export_main([given])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


def test_what_to_compare_is_checked_before_any_data_is_read(tmp_path, capsys):
    for option, wrong, expected in (
        ("--protocols", "A,X", "one or more of A, B, C"), ("--protocols", ",", "one or more of A, B, C"),
        ("--seeds", "1,-1", "seeds from 0 to 4294967295"), ("--budget", "0", "a whole number from 1 to 1000000"),
    ):  # fmt: skip
        with pytest.raises(SystemExit) as stop:
            main(["compare", "--movielens", str(tmp_path / "none"), option, wrong])
        assert stop.value.code == 2
        assert f"{option}: got {wrong!r}, expected {expected}" in capsys.readouterr().err


@dataclass(frozen=True)
class Asked:
    """What is asked for.

    Attributes:
        out: where it goes, a path
            or a URL.
        kind: ``near`` or ``far``: 5 % apart.
        most: how many. None is all.
        weight: of each.
        quick: whether it is a trial.
        unsaid: has no option.
    """

    out: str | Path
    kind: Literal["near", "far"] = "near"
    most: int | None = None
    weight: float = 0.5
    quick: bool = False
    unsaid: int = 3


def test_options_are_what_the_dataclass_says_of_its_fields(capsys):
    parser = new_parser(CommandParser, "asked", "ask for something", "asked --out here", only_prints=True)
    add_fields(parser, Asked, "kind", "most", "quick")
    add_fields(parser, Asked, "out", metavar="PLACE")
    add_fields(parser, Asked, "weight", flag="--heavy", type=seconds)
    asked = parser.parse_args(["--out", "s3://nights/", "--kind", "far", "--heavy", "2", "--quick"])
    assert made_of(Asked, asked, unsaid=4) == Asked("s3://nights", "far", None, 2.0, quick=True, unsaid=4)
    assert made_of(Asked, parser.parse_args(["--out", "x", "--most", "7"])) == Asked("x", most=7)
    assert asked.only_prints
    for wrong in (["--out", "x", "--kind", "by"], ["--out", "x", "--most", "1.5"], ["--heavy=-1", "--out=x"], []):
        with pytest.raises(SystemExit) as stop:
            parser.parse_args(wrong)
        assert stop.value.code == 2
    text = " ".join(parser.format_help().split())
    for said in ("--out PLACE where it goes, a path or a URL", "--kind {near,far} near or far: 5 % apart (default: ",
                 "--most N how many. None is all -", "--quick it is a trial", "example: asked --out here"):  # fmt: skip
        assert said in text
    assert "unsaid" not in text


@pytest.mark.parametrize("command", ["download", "train", "tune", "evaluate", "similar", "recommend"])
def test_help_has_an_example_and_the_exit_codes(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert f"python -m sdk {command}" in text.split("example:")[1]
    assert "exit codes:" in text


@pytest.mark.parametrize("port", ["99999", "-1", "http", "8000.5", ""])
def test_a_port_that_is_none_is_refused(port, capsys):
    with pytest.raises(SystemExit) as stop:
        export_main(["serve", "repository", f"--http-port={port}"])
    assert stop.value.code == 2
    assert f"--http-port: got {port!r}, expected a port from 0 to 65535" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stop", "code", "said"), [(KeyboardInterrupt, 130, "interrupted; it is over"), (Terminated, 143, "terminated; it")]
)
def test_a_command_may_say_what_a_stop_means(stop, code, said, capsys):
    def work(args):
        raise stop

    args = argparse.Namespace(quiet=False, verbose=False, run_id=None, log_format="text", after_a_stop="it is over")
    assert run_command(work, args) == code
    assert said in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_refused_before_data_are_read(tmp_path, capsys):
    assert main(["train", "--movielens", str(tmp_path / "none"), "--out", "/proc/b"]) == 5  # nor can root write there
    assert "/proc: cannot be made or written to" in capsys.readouterr().err


def test_what_a_night_lacks_is_said_at_once_with_an_example(tmp_path, capsys):
    assert score_main(["--out", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("--bundle, --run-date: missing, ")
    assert "--bundle bundle --run-date 2026-11-23" in err
    assert score_main(["--out", str(tmp_path), "--bundle", "b"]) == 2
    assert capsys.readouterr().err.startswith("--run-date: missing, ")


def test_a_bundle_that_is_not_there_is_told_from_a_file(tmp_path, capsys):
    (tmp_path / "file").touch()
    for name, found in (("none", "nothing is there"), ("file", "it is no folder")):
        assert main(["similar", "Heat", "--bundle", str(tmp_path / name)]) == 4
        assert f"no bundle.json ({found})" in capsys.readouterr().err


@pytest.mark.parametrize("inside", ["", "deep/er"])
def test_a_file_in_the_way_of_a_folder_is_called_one(inside, tmp_path, capsys):
    (tmp_path / "file").touch()
    out = str(tmp_path / "file" / inside / "bundle")
    assert main(["train", "--movielens", str(tmp_path / "none"), "--out", out]) == 5
    err = capsys.readouterr().err
    assert "a file is there, where a folder was expected" in err
    assert len(err.splitlines()) == 1
