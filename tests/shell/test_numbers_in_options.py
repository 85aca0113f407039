"""Every option that takes a number, given what is none or fits nowhere: two lines and exit code 2, or a number."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator

import pytest
from small import dataset, run_config

import batch.score
import batch.taste
import export.__main__
import sdk.__main__
from sdk.bundles.bundle import Bundle
from sdk.shell.cli import location_argument, path_argument, table_argument
from sdk.shell.parser import what_helps
from sdk.training.pipeline import train_bundle

NONSENSE = [
    "",
    " ",
    "x",
    "1.5.5",
    "0x1F",
    "1_000",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "9" * 24,
    "-" + "9" * 24,
    "9" * 5000,
    "٣",
]


def parsers() -> Iterator[argparse.ArgumentParser]:
    whole = sdk.__main__.build_parser()
    for action in whole._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()
    yield from (batch.score.build_parser(), batch.taste.build_parser(), export.__main__.build_parser())
    yield from (export.__main__._serve_parser(), export.__main__._verify_parser())


NO_NUMBERS = (path_argument, location_argument, table_argument)
NUMBERS = [
    pytest.param(parser, action, id=f"{parser.prog} {action.option_strings[0]}")
    for parser in parsers()
    for action in parser._actions
    if callable(action.type) and action.option_strings and action.type not in NO_NUMBERS
    if action.dest not in ("models", "columns", "events", "seen")  # names, and pairs of a name and a value
]


def test_no_option_takes_a_number_in_a_way_of_its_own():
    types = {param.values[1].type for param in NUMBERS}
    assert not types & {int, float}
    assert len(NUMBERS) > 30


@pytest.mark.parametrize(("parser", "action"), NUMBERS)
def test_what_is_no_number_is_a_usage_error(parser, action, capsys):
    for text in NONSENSE:
        with pytest.raises(SystemExit) as stop:
            parser.parse_args([f"{action.option_strings[0]}={text}"])
        assert stop.value.code == 2
        head, tail = capsys.readouterr().err.splitlines()
        assert f"{action.option_strings[0]}" in head
        assert "expected" in head
        assert len(head) < 250
        assert tail == f"help: {parser.prog} --help"


@pytest.mark.parametrize(("parser", "action"), NUMBERS)
def test_what_is_taken_is_a_finite_number(parser, action):
    for text in ("0", "1", "7", str(2**62), "99999999999", "1e6", "-1"):
        try:
            value = action.type(text)
        except argparse.ArgumentTypeError:
            continue
        if action.dest in ("models", "protocols", "seeds"):  # one or more, joined by commas
            (value,) = value
        assert action.dest == "models" or math.isfinite(value)
        assert action.dest == "models" or value == float(text) or value == int(text)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    config = run_config(models=("ncf", "history", "content"))
    return train_bundle(dataset(), config, tmp_path_factory.mktemp("numbers") / "bundle")


@pytest.mark.parametrize("k", [99_999_999_999, 2**63 - 1])
@pytest.mark.parametrize("command", [["recommend", "--user", "21"], ["recommend", "--liked"], ["similar"]])
def test_a_list_of_any_length_ends_with_the_catalogue(bundle, capsys, command, k):
    named = bundle.titles(bundle.encoded_items.known_ids[:1]) if command[-1] in ("--liked", "similar") else []
    shown = []
    for length in (k, 1000):
        assert sdk.__main__.main([*command, *named, "--k", str(length), "--bundle", str(bundle.path)]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert 3 < len(shown[0].splitlines()) < 40


@pytest.mark.parametrize("least", [0, -1, -(2**63)])
@pytest.mark.parametrize("command", [["recommend", "--user", "21"], ["recommend", "--liked"], ["similar"]])
def test_a_length_below_1_is_a_usage_error(bundle, capsys, command, least):
    named = bundle.titles(bundle.encoded_items.known_ids[:1]) if command[-1] in ("--liked", "similar") else []
    assert sdk.__main__.main([*command, *named, "--k", str(least), "--bundle", str(bundle.path)]) == 2
    assert capsys.readouterr().err == f"k: got {least}, expected at least 1. {what_helps(2)}\n"


@pytest.mark.parametrize("option", ["--k", "--users-per-part", "--keep", "--audience", "--threads", "--workers"])
def test_a_night_of_numbers_that_fit_nowhere_is_published_or_refused(bundle, tmp_path, capsys, option):
    asked = ["--bundle", str(bundle.path), "--out", str(tmp_path), "--run-date", "2026-11-23", "--no-report"]
    gates = [word for name in ("bundle.auc",) for word in ("--skip-gate", name)]
    code = batch.score.main([*asked, *gates, option, "99999999999"])
    assert code == (2 if option in ("--threads", "--workers") else 0), capsys.readouterr().err
    assert "Traceback" not in capsys.readouterr().err
    assert (tmp_path / "LATEST").exists() == (code == 0)


@pytest.mark.parametrize("seed", [-1, 2**32, 2**62])
@pytest.mark.parametrize("option", ["--seed", "--split-seed"])
def test_a_seed_that_no_generator_takes_is_refused_before_any_work(tmp_path, capsys, option, seed):
    assert sdk.__main__.main(["train", "--sample", "--out", str(tmp_path / "b"), option, str(seed)]) == 2
    assert f"got {seed}, expected a whole number from 0 to 4294967295" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
