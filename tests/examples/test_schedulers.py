"""The schedulers' files are read by the schedulers' own rules, and call commands that exist."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
import types
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

import batch.score
from sdk.__main__ import build_parser as sdk_parser

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "schedulers"
sys.path.insert(0, str(ROOT / "examples"))
import daily_loop  # noqa: E402


def parse(arguments: list[str]) -> None:
    """The command's own parser reads the arguments: SystemExit where it does not."""
    kind, rest = arguments[0], arguments[1:]
    if kind == "examples/daily_loop.py":
        daily_loop.build_parser().parse_args(rest)
    elif rest[0] == "sdk":
        sdk_parser().parse_args(rest[1:])
    else:
        batch.score.build_parser().parse_args(rest[1:])


def arguments_of(line: str) -> list[str]:
    """What follows the interpreter in a shell line, up to the end of that command."""
    words = shlex.split(line.replace("$(date +%F)", "2026-11-23").replace("$(date -u +%F)", "2026-11-23"))
    start = next(place for place, word in enumerate(words) if word.endswith("python")) + 1
    end = next((place for place, word in enumerate(words) if word.endswith(";") and place > start), len(words))
    return [*words[start:end], *([words[end].rstrip(";")] if end < len(words) else [])]


def check_shell(line: str) -> None:
    done = subprocess.run(["sh", "-n", "-c", line], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# cron --------------------------------------------------------------------------------------------------------------


@pytest.mark.needs("croniter")
def test_the_crontab_runs_the_loop_every_night_at_two():
    from croniter import croniter

    lines = [line for line in (FOLDER / "crontab").read_text("utf-8").splitlines() if line[:1] not in ("#", "")]
    jobs = [line for line in lines if not re.match(r"[A-Z]+=", line)]
    (job,) = jobs
    *when, line = job.split(maxsplit=5)
    start = datetime(2026, 11, 23, 12, tzinfo=UTC)
    runs = croniter(" ".join(when), start)
    assert [runs.get_next(datetime) for _ in range(2)] == [datetime(2026, 11, day, 2, tzinfo=UTC) for day in (24, 25)]
    assert not re.search(r"(?<!\\)%", line), "a bare % ends the line in a crontab"
    line = line.replace(r"\%", "%")
    check_shell(line)
    parse(arguments_of(line))


# systemd -----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here: install systemd")
def test_systemd_accepts_service_and_timer(tmp_path):
    for name in ("marquee.service", "marquee.timer"):
        text = (FOLDER / name).read_text("utf-8").replace("/opt/marquee", str(tmp_path))
        (tmp_path / name).write_text(text, "utf-8")
    (tmp_path / "README.md").touch()
    command = [
        "systemd-analyze",
        "verify",
        "--man=no",
        *(str(tmp_path / f"marquee.{kind}") for kind in ("service", "timer")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    ours = [line for line in done.stderr.splitlines() if "marquee." in line]
    assert ours == []


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here: install systemd")
def test_the_timer_fires_every_night_at_two():
    (when,) = re.findall(r"^OnCalendar=(.*)$", (FOLDER / "marquee.timer").read_text("utf-8"), re.M)
    command = ["systemd-analyze", "calendar", "--iterations=2", "--base-time=2026-11-23 12:00:00", when]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert [line for line in done.stdout.splitlines() if "2026-11-24 02:00:00" in line]
    assert [line for line in done.stdout.splitlines() if "2026-11-25 02:00:00" in line]


def test_the_service_runs_the_loop():
    (line,) = re.findall(r"^ExecStart=/bin/sh -c '(.*)'$", (FOLDER / "marquee.service").read_text("utf-8"), re.M)
    line = line.replace("$$", "$").replace("%%", "%").removeprefix("exec ")
    check_shell(line)
    parse(arguments_of(line))


# Kubernetes --------------------------------------------------------------------------------------------------------


@pytest.mark.needs("kubernetes_validate")
def test_kubernetes_accepts_the_cron_job_and_it_runs_the_loop():
    import kubernetes_validate

    job = yaml.safe_load((FOLDER / "cronjob.yaml").read_text("utf-8"))
    kubernetes_validate.validate(job, "1.31", strict=True)
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    (line,) = container["args"]
    check_shell(line)
    parse(arguments_of(line.removeprefix("exec ")))
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {"/marquee", "/ratings"} <= mounted


@pytest.mark.needs("kubernetes_validate")
def test_kubernetes_refuses_a_misspelt_key():
    import kubernetes_validate

    job = yaml.safe_load((FOLDER / "cronjob.yaml").read_text("utf-8"))
    job["spec"]["concurencyPolicy"] = job["spec"].pop("concurrencyPolicy")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, "1.31", strict=True)


# Airflow -----------------------------------------------------------------------------------------------------------


class Recorded:
    """Stands for Airflow where it is not installed: notes what a DAG file says, and refuses what Airflow refuses."""

    tasks: dict[str, Recorded]

    def __init__(self, **given: Any) -> None:
        self.given, self.after = given, []

    def __enter__(self) -> Recorded:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __rshift__(self, other: Recorded) -> Recorded:
        other.after.append(self.given["task_id"])
        return other


@pytest.fixture
def dag_file(monkeypatch):
    """The DAG file's names, with recorders in Airflow's place."""
    operators: list[Recorded] = []

    def bash(*, task_id: str, bash_command: str, do_xcom_push: bool = True) -> Recorded:
        operators.append(Recorded(task_id=task_id, bash_command=bash_command))
        return operators[-1]

    for name, content in (
        ("airflow", {"DAG": Recorded}),
        ("airflow.providers", {}),
        ("airflow.providers.standard", {}),
        ("airflow.providers.standard.operators", {}),
        ("airflow.providers.standard.operators.bash", {"BashOperator": bash}),
    ):
        module = types.ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    names: dict[str, Any] = {}
    exec(compile((FOLDER / "airflow_dag.py").read_text("utf-8"), "airflow_dag.py", "exec"), names)
    return names["dag"], operators


def test_the_dag_scores_after_training_and_one_run_at_a_time(dag_file):
    dag, operators = dag_file
    assert [(task.given["task_id"], task.after) for task in operators] == [("train", []), ("score", ["train"])]
    assert (dag.given["max_active_runs"], dag.given["catchup"]) == (1, False)
    assert dag.given["default_args"]["execution_timeout"] > timedelta(hours=1)


def test_the_dags_commands_are_rendered_and_parsed(dag_file):
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined)
    environment.filters["ds"] = lambda moment: moment.strftime("%Y-%m-%d")
    variables = types.SimpleNamespace(value={"marquee_home": "/srv/elsewhere"})
    for task in dag_file[1]:
        line = environment.from_string(task.given["bash_command"]).render(
            var=variables, data_interval_end=datetime(2026, 11, 23), run_id="scheduled 2026"
        )
        check_shell(line)
        assert "/srv/elsewhere" in line
        parse(arguments_of(line.split("&&", 1)[1]))


@pytest.mark.parametrize(("code", "seen"), [(0, 0), (1, 1), (2, 99), (6, 99), (5, 5), (7, 7), (143, 143)])
def test_only_codes_that_no_second_try_mends_become_airflows_99(dag_file, code, seen):
    line = dag_file[1][0].given["bash_command"]
    tail = line[line.index("; code=$?") :]
    done = subprocess.run(["sh", "-c", f"(exit {code}){tail}"], capture_output=True, check=False)
    assert done.returncode == seen


# Dagster and Prefect -----------------------------------------------------------------------------------------------

SUMMARY = {"night": "n", "status": "published", "model": "dlrm", "user_rows": 1, "item_rows": 2, "fallback_users": 0,
           "gate_verdicts": {"passed": 3, "failed": 0, "skipped": 0, "not compared": 1}}  # fmt: skip
DATE = "2026-11-23"


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A folder with a program in Python's place, which notes its arguments and ends with the code in a file."""
    (tmp_path / "summary").write_text(json.dumps(SUMMARY))
    (tmp_path / "python").write_text(
        f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\ncat {tmp_path}/summary\nexit $(cat {tmp_path}/code)\n'
    )
    (tmp_path / "python").chmod(0o755)
    for name, value in {"CODE": tmp_path, "PYTHON": tmp_path / "python", "HOME": "/srv/x", "RETRY_DELAY_S": 0}.items():
        monkeypatch.setenv(f"MARQUEE_{name}", str(value))
    return tmp_path


def calls(home: Path) -> list[list[str]]:
    return [line.split() for line in (home / "calls").read_text().splitlines()]


def loaded(name: str) -> dict[str, Any]:
    """The file's names, with whatever stands for its library."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)  # the libraries look a function's module up
    spec.loader.exec_module(module)
    return vars(module)


def check_calls(found: list[list[str]]) -> None:
    train, score = found
    assert (train[1:3], score[1:2]) == (["sdk", "train"], ["batch.score"])
    assert score[score.index("--run-date") + 1] == DATE
    for each in found:
        parse(each)


class AnyNamed:
    """Stands for Dagster where it is not installed: decorators leave functions alone, everything else is noted."""

    class Failure(Exception):
        def __init__(self, text: str, *, metadata: dict[str, int], allow_retries: bool) -> None:
            super().__init__(text)
            self.allow_retries = allow_retries

    def __getattr__(self, name: str) -> Any:
        if name == "asset":
            return lambda **given: lambda function: function
        return lambda *values, **given: Recorded(**given)


@pytest.mark.parametrize(("code", "again"), [(0, None), (1, True), (2, False), (6, False), (5, True), (7, True)])
def test_the_assets_commands_are_parsed_and_only_codes_that_may_mend_are_tried_again(home, monkeypatch, code, again):
    monkeypatch.setitem(sys.modules, "dagster", AnyNamed())
    (home / "code").write_text(str(code))
    names = loaded("dagster_assets")
    if code:
        with pytest.raises(AnyNamed.Failure) as failed:
            names["bundle"]()
        assert failed.value.allow_retries is again
        return
    names["bundle"]()
    result = names["night"](types.SimpleNamespace(partition_key=DATE, run_id="r1"))
    assert result.given["metadata"]["user_rows"] == 1
    check_calls(calls(home))


def test_dagster_materialises_a_night_by_its_partition_and_obeys_exit_codes(home):
    dagster = pytest.importorskip("dagster", reason="no Dagster here: pip install dagster")
    names = loaded("dagster_assets")
    (job,) = [job for job in names["defs"].resolve_all_job_defs() if job.name == "marquee_nightly"]
    assert DATE in job.partitions_def.get_partition_keys(current_time=datetime(2026, 11, 24, tzinfo=UTC))
    assets = [names["bundle"], names["night"]]
    for code, tries in ((0, 2), (6, 1), (5, 3)):
        (home / "code").write_text(str(code))
        (home / "calls").write_text("")
        with dagster.DagsterInstance.ephemeral() as instance:
            done = dagster.materialize(assets, partition_key=DATE, instance=instance, raise_on_error=False)
        assert (done.success, len(calls(home))) == (code == 0, tries), code
        if code == 0:
            check_calls(calls(home))
            (gates,) = done.get_asset_check_evaluations()
            assert gates.passed
            assert done.asset_materializations_for_node("night")[0].metadata["user_rows"].value == 1


class Task:
    """Stands for a task of Prefect's where it is not installed."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def with_options(self, name: str) -> Any:
        return self.function


def test_the_flows_commands_are_parsed_and_only_codes_that_may_mend_are_tried_again(home, monkeypatch):
    flow_run = types.SimpleNamespace(id="r1", scheduled_start_time=datetime.fromisoformat(f"{DATE}T02:00:00+00:00"))
    prefect = types.ModuleType("prefect")
    prefect.__dict__.update(
        flow=lambda **given: lambda function: function, task=lambda **given: Task,
        runtime=types.SimpleNamespace(flow_run=flow_run),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "prefect", prefect)
    (home / "code").write_text("0")
    names = loaded("prefect_flow")
    assert names["nightly"]() == SUMMARY
    check_calls(calls(home))
    for code in (1, 2, 3, 4, 5, 6, 7, 143):
        error = subprocess.CalledProcessError(code, [])
        state = types.SimpleNamespace(result=lambda raise_on_failure, error=error: error)
        assert names["may_mend"](None, None, state) == (code not in (2, 3, 4, 6))


def test_prefect_runs_the_flow_for_a_date_and_obeys_exit_codes(home, monkeypatch):
    testing = pytest.importorskip("prefect.testing.utilities", reason="no Prefect here: pip install prefect")
    monkeypatch.setenv("DO_NOT_TRACK", "1")
    names = loaded("prefect_flow")
    with testing.prefect_test_harness(server_startup_timeout=120):
        for code, tries in ((0, 2), (6, 1), (5, 3)):
            (home / "code").write_text(str(code))
            (home / "calls").write_text("")
            state = names["nightly"](run_date=DATE, return_state=True)
            assert (state.is_completed(), len(calls(home))) == (code == 0, tries), code
            if code == 0:
                assert state.result() == SUMMARY
                check_calls(calls(home))
