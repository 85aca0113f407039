"""Titles steer neither a terminal nor a pipe, a log or a page, and a line break in one splits no row."""

from __future__ import annotations

import ast
import json
import logging
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import dataset, run_config

from sdk.__main__ import main
from sdk.base.errors import DataError, MissingColumnError, TooManyRejectsError
from sdk.base.logs import JsonLines, TextLines
from sdk.base.printable import number, one_line, printable
from sdk.bundles.bundle import Bundle
from sdk.training.pipeline import train_bundle

ROOT = Path(__file__).resolve().parents[2]
EVIL = "E\x1b[31mv\x9bi\u202el\x00\x07 one\ntwo\r\nthree\tfour\u2028five\x85six\u2066"
SHOWN = "E\ufffd[31mv\ufffdi\ufffdl\ufffd\ufffd one two three four five six\ufffd"
KEPT = "Amélie “Κ” \u200cمی\u200d 映画\u3000名探偵 🎬 ́"


def steers(text: str) -> list[str]:
    hidden = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return [char for char in text if unicodedata.category(char) in hidden and char not in "\n\u200c\u200d"]


@given(st.text())
def test_what_is_shown_has_no_control_and_loses_nothing_else(text):
    shown = one_line(text)
    assert not steers(shown)
    assert "\n" not in shown
    assert one_line(shown) == shown
    assert printable(text).count("\n") == text.count("\n")
    assert [char for char in printable(text) if char != "\ufffd"] == [
        char for char in text.replace("\t", " ") if char == "\n" or (not steers(char) and char != "\ufffd")
    ]


def test_known_answers():
    assert one_line(EVIL) == SHOWN
    assert one_line(KEPT) == printable(KEPT) == KEPT


@pytest.mark.parametrize(
    ("value", "options", "shown"),
    [(1234567, {}, "1,234,567"), (1234567, {"decimals": 2}, "1,234,567"), (0.82234567, {}, "0.8223"),
     (1234.5, {"decimals": 1}, "1234.5"), (0.00001234, {}, "1.234e-05"), (None, {}, "–"), (float("nan"), {}, "–"),
     (float("inf"), {"nothing": "none"}, "none"), (0, {"nothing": "none"}, "0"), (2.0, {"decimals": 0}, "2")],
)  # fmt: skip
def test_numbers_for_people(value, options, shown):
    assert number(value, **options) == shown


def test_errors_and_log_lines_of_hostile_names_are_one_line():
    for error in (DataError(EVIL), MissingColumnError(EVIL, EVIL, [EVIL]), TooManyRejectsError(EVIL, 1, 2, 0.1, EVIL)):
        assert not steers(str(error))
        assert "\n" not in str(error)
    record = logging.LogRecord("sdk", logging.INFO, "x.py", 1, "taken as %s\n  kept %d", (EVIL, 3), None)
    assert TextLines().format(record) == f"taken as {SHOWN}\n  kept 3"
    text = JsonLines("r").format(record)
    assert not steers(text)
    assert json.loads(text)["message"] == f"taken as {EVIL}\n  kept 3"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    data = dataset()
    names = [f"{EVIL} {n}" for n in range(data.items.num_rows)]
    at = data.items.schema.get_field_index("title")
    evil = data.items.set_column(at, data.items.schema.field(at), [names])
    config = run_config(models=("ncf", "history", "content"))
    return train_bundle(replace(data, items=evil), config, tmp_path_factory.mktemp("evil") / "bundle")


@pytest.mark.parametrize("why", [[], ["--why"]])
def test_a_list_in_a_pipe_has_a_row_for_each_title(bundle, capsys, why):
    user = str(bundle.encoded_users.known_ids[0])
    assert main(["recommend", "--user", user, "--k", "3", "--bundle", str(bundle.path), *why]) == 0
    out = capsys.readouterr().out
    assert not steers(out)
    assert sum(SHOWN in line for line in out.splitlines()) >= 3
    if not why:
        assert len(out.splitlines()) == 4


def test_similar_in_a_pipe_has_a_row_for_each_title_and_json_keeps_what_was_given(bundle, capsys):
    first = bundle.titles(bundle.encoded_items.known_ids[:1])[0]
    asked = ["similar", first, "--k", "3", "--bundle", str(bundle.path)]
    assert main(asked) == 0
    out = capsys.readouterr().out
    assert not steers(out)
    assert len(out.splitlines()) == 4
    assert main([*asked, "--json"]) == 0
    text = capsys.readouterr().out
    assert not steers(text)
    assert all(EVIL in item["title"] for item in json.loads(text)["items"])


def test_what_is_typed_comes_back_as_text(bundle, capsys):
    assert main(["similar", EVIL[:20], "--bundle", str(bundle.path)]) == 2
    with pytest.raises(SystemExit):
        main(["similar", "x", "--\x1b[2J\u202e", "y"])
    assert not steers(capsys.readouterr().err)


def test_commands_print_text_in_one_place_only():
    """Everything else that they print is JSON, which escapes what it holds, or a shell's script."""
    files = [*(ROOT / "sdk").rglob("*.py"), *(ROOT / "batch").glob("*.py"), *(ROOT / "export").glob("*.py")]
    for path in files:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in ("print", "sys.stdout.write") and path.name != "terminal.py":
                assert any(word in ast.unparse(node.args[0]) for word in ("json", "completion_script")), (
                    path,
                    node.lineno,
                )
