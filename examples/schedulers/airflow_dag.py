"""Marquee as an Airflow DAG: retrain where data are new, score, then mark the night for those who wait for it.

For Airflow 3, or 2.8 and later with its `standard` provider. Put it into the DAGs folder; the paths below are Airflow
Variables with defaults. Each task is safe to repeat: a finished step says so and exits with 0, an interrupted night
goes on where it stopped.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow import DAG
from airflow.providers.standard.operators.bash import BashOperator

MARQUEE = "cd {{ var.value.get('marquee_code', '/opt/marquee') }} && .venv/bin/python"
HOME = "{{ var.value.get('marquee_home', '/srv/marquee') }}"
RATINGS = "{{ var.value.get('marquee_ratings', '/srv/ratings') }}"
FINAL_EXIT_CODES = (2, 3, 4, 6)  # usage, input data, bundle, quality gate: no second try mends them


def command(line: str) -> str:
    """A shell line that fails for good, without another try, on exit codes that no second try mends."""
    cases = "|".join(str(code) for code in FINAL_EXIT_CODES)
    return f"{line}; code=$?; case $code in {cases}) echo 'not tried again'; exit 99;; *) exit $code;; esac"


with DAG(
    dag_id="marquee_nightly",
    description="Movie recommendations for every user, every night",
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=10), "execution_timeout": timedelta(hours=6)},
    tags=["recommendations"],
) as dag:
    train = BashOperator(
        task_id="train",
        bash_command=command(f"{MARQUEE} -m sdk train --if-new --movielens {RATINGS} --out {HOME}/bundle"),
    )
    score = BashOperator(
        task_id="score",
        bash_command=command(
            f"{MARQUEE} -m batch.score --bundle {HOME}/bundle --out {HOME}/nightly"
            " --run-date {{ data_interval_end | ds }} --json --log-format json"
            " --run-id {{ run_id | replace(' ', '_') }}"
        ),
        do_xcom_push=True,  # the last line of stdout is the night's summary as JSON
    )
    train >> score
