"""Marquee as a Prefect flow: retrain where data are new, then score and publish the night of the scheduled day.

    python examples/schedulers/prefect_flow.py                                  # serves it, every night at two
    prefect deployment run marquee-nightly/two-o-clock -p run_date=2026-11-23   # that night, now

For Prefect 3. The places below are environment variables with defaults. A retry asks for the same run date: a finished
step says so, an interrupted night goes on where it stopped.
"""

import json
import os
import subprocess
from datetime import date
from typing import Any

from prefect import flow, runtime, task

CODE = os.environ.get("MARQUEE_CODE", "/opt/marquee")
PYTHON = os.environ.get("MARQUEE_PYTHON", f"{CODE}/.venv/bin/python")
HOME = os.environ.get("MARQUEE_HOME", "/srv/marquee")
RATINGS = os.environ.get("MARQUEE_RATINGS", "/srv/ratings")
FINAL_EXIT_CODES = (2, 3, 4, 6)  # usage, input data, bundle, quality gate: no second try mends them
RETRY_DELAY_S = float(os.environ.get("MARQUEE_RETRY_DELAY_S", "600"))


def may_mend(_task: Any, _run: Any, state: Any) -> bool:
    """Whether a second try can help; a command's exit code says so."""
    error = state.result(raise_on_failure=False)
    return getattr(error, "returncode", None) not in FINAL_EXIT_CODES


@task(retries=2, retry_delay_seconds=RETRY_DELAY_S, retry_condition_fn=may_mend)
def marquee(*arguments: str) -> str:
    """A command of Marquee's; what it prints. An exit code other than 0 is a CalledProcessError."""
    command = [PYTHON, "-m", *arguments]
    return subprocess.run(command, cwd=CODE, stdout=subprocess.PIPE, text=True, check=True).stdout


@flow(name="marquee-nightly", log_prints=True)
def nightly(run_date: date | None = None) -> dict[str, Any]:
    """One night; of the day for which the run was scheduled unless a date is given."""
    night = str(run_date or runtime.flow_run.scheduled_start_time.date())
    marquee.with_options(name="train")(
        "sdk", "train", "--if-new", "--movielens", RATINGS, "--out", f"{HOME}/bundle"
    )  # fmt: skip
    said = marquee.with_options(name="score")(
        "batch.score", "--bundle", f"{HOME}/bundle", "--out", f"{HOME}/nightly", "--run-date", night,
        "--json", "--log-format", "json", "--run-id", str(runtime.flow_run.id),
    )  # fmt: skip
    summary = json.loads(said)
    print(f"{summary['night']}: {summary['status']}, gates {summary['gate_verdicts']}")
    return summary


if __name__ == "__main__":
    nightly.serve(name="two-o-clock", cron="0 2 * * *", limit=1)
