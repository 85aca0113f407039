"""``train --print-config``: what it prints, ``--config`` reads, and what follows the data stays open."""

from __future__ import annotations

import json

import pytest

from sdk.__main__ import main
from sdk.base.config import FromData, RunConfig, from_json


def printed(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["train", "--sample", "--out", "bundle", *options, "--print-config"]) == 0
    return capsys.readouterr().out


def test_what_is_printed_is_read_as_the_same_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = printed(capsys, "--seed", "3", "--models", "history,content")
    assert list(tmp_path.iterdir()) == []
    found = from_json(RunConfig, json.loads(text))
    assert (found.training.seed, found.models) == (3, ("history", "content"))
    (tmp_path / "settings.json").write_text(text)
    assert printed(capsys, "--config", "settings.json") == text
    assert json.loads(printed(capsys, "--config", "settings.json", "--seed", "4"))["training"]["seed"] == 4


def test_what_follows_the_data_is_left_open_unless_it_was_fixed(capsys):
    found = json.loads(printed(capsys))
    assert "like_above" not in found["features"]
    assert isinstance(from_json(RunConfig, found).features.like_above, FromData)
    assert json.loads(printed(capsys, "--like-above", "3.5"))["features"]["like_above"] == 3.5
