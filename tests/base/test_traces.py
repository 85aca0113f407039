"""Spans go to whoever collects them, hold nothing that is secret, and cost nothing where nobody does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sdk.base.errors import DataError
from sdk.base.stages import Stages
from sdk.base.traces import collected, note, span

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
SECRET = "canary-4f1d8c20b7"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What a program's own provider has collected so far, in the order of its end."""
    trace = pytest.importorskip("opentelemetry.trace", reason="no opentelemetry-sdk here: pip install '.[otel]'")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    yield exporter.get_finished_spans
    provider.shutdown()


def test_stages_are_spans_of_the_run_around_them(spans):
    stages = Stages()
    with span("night", run_date="2026-11-23", k=10, model=None):
        with stages.time("checking"):
            pass
        note(rows=7)
    checking, night = spans()
    assert (checking.name, night.name) == ("checking", "night")
    assert checking.parent.span_id == night.context.span_id
    assert dict(night.attributes) == {"marquee.run_date": "2026-11-23", "marquee.k": 10, "marquee.rows": 7}
    assert (checking.end_time - checking.start_time) / 1e9 == pytest.approx(stages.seconds["checking"], abs=0.05)


@pytest.mark.parametrize(
    ("error", "said"),
    [(DataError("ratings.csv: empty"), "ratings.csv: empty"), (OSError(SECRET), "OSError"),
     (KeyboardInterrupt(SECRET), "KeyboardInterrupt")],
)  # fmt: skip
def test_an_error_ends_its_span_with_its_status_and_without_its_traceback(spans, error, said):
    with pytest.raises(type(error)), Stages().time("writing"):
        raise error
    (writing,) = spans()
    assert (writing.status.status_code.name, writing.status.description) == ("ERROR", said)
    assert writing.attributes["error.type"] == type(error).__name__
    assert writing.events == ()
    assert SECRET not in writing.to_json()


def test_a_schedulers_trace_goes_on(spans):
    with collected({"TRACEPARENT": TRACEPARENT}), span("score"):
        pass
    with collected({}), span("alone"):
        pass
    score, alone = spans()
    assert f"{score.context.trace_id:032x}" == TRACE
    assert f"{score.parent.span_id:016x}" == PARENT
    assert alone.parent is None
    with span("program"), collected({"TRACEPARENT": TRACEPARENT}), span("inside"):
        pass
    inside, program = spans()[2:]
    assert inside.parent.span_id == program.context.span_id


def command(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    known = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return subprocess.run(
        [sys.executable, *arguments], env={**known, **environ}, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("module", ["sdk.base.stages", "sdk.shell.cli"])
def test_nothing_is_loaded_where_nobody_collects(module):
    code = f"import sys, {module}, sdk.base.traces as t\nwith t.collected(dict(TRACEPARENT='x')), t.span('a'):"
    code += " t.note(b=1)\nprint([name for name in sys.modules if name.startswith('opentelemetry')])"
    assert command("-c", code).stdout == "[]\n"


def test_a_missing_package_is_one_line_and_no_reason_to_fail(tmp_path: Path):
    code = "import sys; sys.modules['opentelemetry'] = None; from batch.score import main; sys.exit(main())"
    options = ("--bundle", str(tmp_path / "bundle"), "--out", str(tmp_path / "out"), "--run-date", "2026-11-23")
    asked = command("-c", code, *options, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    without = command("-c", code, *options)
    assert asked.returncode == without.returncode == 4
    told, *rest = asked.stderr.splitlines()
    assert "opentelemetry not installed; pip install '.[otel]'" in told
    assert rest == without.stderr.splitlines()


def test_a_command_sends_its_spans_where_the_environment_says(tmp_path: Path):
    pytest.importorskip("opentelemetry.sdk", reason="no opentelemetry-sdk here: pip install '.[otel]'")
    options = (
        "--bundle",
        str(tmp_path / "bundle"),
        "--out",
        str(tmp_path / "out"),
        "--run-date",
        "2026-11-23",
        "--k",
        "3",
    )
    done = command("-m", "batch.score", *options, OTEL_TRACES_EXPORTER="console", TRACEPARENT=TRACEPARENT)
    assert done.returncode == 4
    assert re.findall(r'^    "name": "(.*)",$', done.stdout, re.M) == [
        "loading the bundle", "night", "python -m batch.score",
    ]  # fmt: skip
    assert len(re.findall(f'"trace_id": "0x{TRACE}"', done.stdout)) == 3
    assert f'"parent_id": "0x{PARENT}"' in done.stdout
    assert len(re.findall(r'"description": ".*bundle\.json.*Train a bundle first', done.stdout)) == 3
    assert '"marquee.k": 3' in done.stdout


def test_a_collector_that_is_not_there_is_one_line(tmp_path: Path):
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="no OTLP exporter here: .[otel]")
    silent = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    done = command(
        "-m",
        "batch.score",
        "--bundle",
        str(tmp_path / "bundle"),
        "--out",
        str(tmp_path / "o"),
        "--run-date",
        "2026-11-23",
        **silent,
    )
    assert done.returncode == 4
    assert [line for line in done.stderr.splitlines() if "bundle.json" not in line] == [
        "Failed to export spans batch due to timeout, max retries or shutdown."
    ]
