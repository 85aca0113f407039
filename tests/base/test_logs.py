"""JSON log lines: what a machine reads on stderr."""

from __future__ import annotations

import json
import logging
import math
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdk.__main__ import main
from sdk.base.logs import JsonLines, facts


def line_of(text: str, *args: object, **values: object) -> dict:
    record = logging.LogRecord("batch.run.night", logging.INFO, "run.py", 1, text, args, None)
    for name, value in facts(**values).items():
        setattr(record, name, value)
    return json.loads(JsonLines("run7").format(record))


def test_a_line_holds_time_level_logger_run_message_and_facts():
    line = line_of("part %d of %d", 1, 3, stage="scoring users", rate=np.float32(2.5), rows=np.int64(7))
    assert abs((datetime.now(UTC) - datetime.fromisoformat(line.pop("time"))).total_seconds()) < 60
    assert line == {
        "level": "info", "logger": "batch.run.night", "run_id": "run7", "message": "part 1 of 3",
        "stage": "scoring users", "rate": 2.5, "rows": 7,
    }  # fmt: skip


def test_facts_never_hide_what_every_line_has():
    assert line_of("kept", message="lost", level="lost")["message"] == "kept"


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates(),
    lambda inner: st.lists(inner) | st.dictionaries(st.integers() | st.text(), inner),
)


@given(st.text(), anything)
def test_any_value_makes_one_line_of_strict_json(message, value):
    record = logging.LogRecord("sdk", logging.WARNING, "x.py", 1, message, (), None)
    record.facts = {"value": value}
    text = JsonLines("r").format(record)
    assert "\n" not in text
    assert json.loads(text, parse_constant=pytest.fail)["message"] == message


def test_a_number_that_json_lacks_is_named():
    assert line_of("x", a=math.nan, b=-math.inf) | {"time": 0} == line_of("x") | {"a": "nan", "b": "-inf", "time": 0}


def test_a_command_logs_json_with_the_run_id_and_the_exit_code(tmp_path, capsys):
    arguments = ["evaluate", "--bundle", str(tmp_path), "--log-format", "json", "--run-id", "night-1"]
    assert main(arguments) == 4
    (line,) = capsys.readouterr().err.splitlines()
    values = json.loads(line)
    assert (values["run_id"], values["level"], values["exit_code"]) == ("night-1", "error", 4)
    assert "bundle.json" in values["message"]


def test_a_traceback_is_a_key_of_the_same_line(tmp_path, capsys):
    assert main(["evaluate", "--bundle", str(tmp_path), "--log-format", "json", "--verbose"]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert "BundleError" in json.loads(line)["traceback"]
