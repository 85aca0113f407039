"""Marquee as Dagster assets: retrain where data are new, then a night for each partition, with its figures and gates.

    dagster dev -f examples/schedulers/dagster_assets.py

For Dagster 1.8 and later. The places below are environment variables with defaults. A partition's key is the night's
run date, so a retry or a backfill asks for the same night: a finished one says so, an interrupted one goes on.
"""

import json
import os
import subprocess

import dagster as dg

CODE = os.environ.get("MARQUEE_CODE", "/opt/marquee")
PYTHON = os.environ.get("MARQUEE_PYTHON", f"{CODE}/.venv/bin/python")
HOME = os.environ.get("MARQUEE_HOME", "/srv/marquee")
RATINGS = os.environ.get("MARQUEE_RATINGS", "/srv/ratings")
FINAL_EXIT_CODES = (2, 3, 4, 6)  # usage, input data, bundle, quality gate: no second try mends them
RETRIES = dg.RetryPolicy(max_retries=2, delay=float(os.environ.get("MARQUEE_RETRY_DELAY_S", "600")))
NIGHTS = dg.DailyPartitionsDefinition(start_date="2026-11-01", end_offset=1)  # tonight's is there before the day ends


def run(*arguments: str) -> str:
    """A command of Marquee's; its exit code says whether it is tried again. What it prints is returned."""
    done = subprocess.run([PYTHON, "-m", *arguments], cwd=CODE, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise dg.Failure(
            f"{' '.join(arguments[:2])} ended with exit code {done.returncode}; its log says why",
            metadata={"exit_code": done.returncode},
            allow_retries=done.returncode not in FINAL_EXIT_CODES,
        )
    return done.stdout


@dg.asset(retry_policy=RETRIES)
def bundle() -> dg.MaterializeResult:
    """Everything that was learnt; trained only where data, options or release are new."""
    run("sdk", "train", "--if-new", "--movielens", RATINGS, "--out", f"{HOME}/bundle")
    return dg.MaterializeResult(metadata={"path": f"{HOME}/bundle"})


@dg.asset(
    deps=[bundle], partitions_def=NIGHTS, retry_policy=RETRIES, check_specs=[dg.AssetCheckSpec("gates", asset="night")]
)
def night(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """Everybody's lists of one night, published once they have passed their gates; exit code 6 says they did not."""
    date, run_id = context.partition_key, context.run_id
    where = ("--bundle", f"{HOME}/bundle", "--out", f"{HOME}/nightly", "--run-date", date)
    said = json.loads(run("batch.score", *where, "--json", "--log-format", "json", "--run-id", run_id))
    figures = {name: said[name] for name in ("status", "model", "user_rows", "item_rows", "fallback_users")}
    gates = dg.AssetCheckResult(passed=not said["gate_verdicts"]["failed"], metadata=said["gate_verdicts"])
    return dg.MaterializeResult(metadata=figures, check_results=[gates])


every_night = dg.define_asset_job("marquee_nightly", selection=[bundle, night], partitions_def=NIGHTS)
defs = dg.Definitions(
    assets=[bundle, night],
    jobs=[every_night],
    schedules=[dg.build_schedule_from_partitioned_job(every_night, hour_of_day=2)],
)
