"""The sdk command's door: usage errors, input errors, and one line for each."""

from __future__ import annotations

import pytest

from sdk.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["train", "--movielens", "{tmp}/nowhere", "--out", "{tmp}/b"], 3, "nowhere"),
        (["train", "--sample", "--tmdb", "{tmp}", "--out", "{tmp}/b"], 2, "--tmdb"),
        (["train", "--sample", "--out", "{tmp}/b", "--models", "svd"], 2, "svd"),
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
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["download", "train", "tune", "evaluate", "similar", "recommend"])
def test_help_has_an_example_and_the_exit_codes(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert f"python -m sdk {command}" in text.split("example:")[1]
    assert "exit codes:" in text
