"""Runs told to MLflow: what a bundle or a night was made with, its figures, and a bundle's files. Only if asked for."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sdk.base.config import to_json
from sdk.base.errors import UsageError, how_to_get
from sdk.base.files import sha256_of
from sdk.bundles.bundle import INFO, Bundle

log = logging.getLogger(__name__)
_AT_A_TIME = 100
_NOT_IN_NAMES = re.compile(r"[^\w.\- /]")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")


@contextlib.contextmanager
def _without_its_log() -> Iterator[None]:
    """MLflow logs a traceback of an error that it raises, too; what is raised is told here, in one line."""
    its = logging.getLogger("mlflow")
    before = its.level
    its.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        its.setLevel(before)


class MLflow:
    """Where runs are told to MLflow; what is missing is known when it is made, before any work.

    A server that does not answer, or refuses, is one warning: no bundle and no night is lost for it.

    Args:
        experiment: its name, made where there is none; None is ``MLFLOW_EXPERIMENT_NAME``, else ``marquee``.
        tracking_uri: the server or store; None is ``MLFLOW_TRACKING_URI``, else MLflow's own default.

    Raises:
        UsageError: MLflow is not installed, or can do nothing with the URI.
    """

    def __init__(self, experiment: str | None = None, tracking_uri: str | None = None) -> None:
        if tracking_uri and _CREDENTIALS.search(tracking_uri):
            message = "mlflow: a URI with a user or a password; give them as MLFLOW_TRACKING_USERNAME and _PASSWORD"
            raise UsageError(message)
        try:
            from mlflow import MlflowClient
            from mlflow.environment_variables import MLFLOW_EXPERIMENT_NAME

            self._client = MlflowClient(tracking_uri)
        except ImportError as error:
            raise UsageError(f"mlflow: the package {error.name} is not installed; {how_to_get('mlflow')}") from error
        except Exception as error:
            raise UsageError(f"mlflow: {_plain(error)}; see MLFLOW_TRACKING_URI") from error
        self.experiment: str = experiment or MLFLOW_EXPERIMENT_NAME.get() or "marquee"

    @classmethod
    def of(cls, given: str | None) -> MLflow | None:
        """What an option ``--mlflow`` means: an experiment, a URI (with ``://``), or "" for neither; None for None.

        Raises:
            UsageError: as the class.
        """
        if given is None:
            return None
        return cls(tracking_uri=given) if "://" in given else cls(given)

    def log_bundle(self, bundle: Bundle, started: float | None = None) -> None:
        """One run of a bundle: settings as parameters, test metrics and seconds as metrics, its files as ``bundle``.

        Args:
            bundle: any bundle.
            started: when its training began, Unix time; None is now.
        """
        info = bundle.info
        stages = json.loads((bundle.path / "reports" / "stages.json").read_text("utf-8"))
        figures = {**info.metrics, "test": {row["model"]: row for row in info.metrics["test"]}, "data": info.data}
        settings = {**to_json(info.config), "chosen_model": info.chosen_model, "dataset": info.data["fingerprint"]}
        tags = {"bundle": sha256_of(bundle.path / INFO)}
        self.log_run(f"train {info.created}", settings, {**figures, **stages}, tags, bundle.path, started=started)

    @_without_its_log()
    def log_run(
        self, name: str, params: Mapping[str, Any], metrics: Mapping[str, Any], tags: Mapping[str, str],
        folder: Path | None = None, *, started: float | None = None, failed: bool = False,
    ) -> None:  # fmt: skip
        """One run that is over.

        Args:
            name: of the run.
            params: nested; each value is logged as its text under its path, such as ``training.seed``.
            metrics: nested; the finite numbers are logged under their path, such as ``seconds/writing``.
            tags: what to find it by.
            folder: kept with the run as the artefact ``bundle``.
            started: when it began, Unix time; None is now.
            failed: whether its status is FAILED.
        """
        run_id = None
        try:
            client, begun = self._client, None if started is None else int(started * 1000)
            found = client.get_experiment_by_name(self.experiment)
            experiment_id = client.create_experiment(self.experiment) if found is None else found.experiment_id
            run_id = client.create_run(experiment_id, begun, dict(tags), name).info.run_id
            self._log_values(run_id, params, metrics)
            if folder is not None:
                client.log_artifacts(run_id, str(folder), "bundle")
            client.set_terminated(run_id, "FAILED" if failed else "FINISHED")
            log.info("MLflow: %s: run %s of experiment %s", name, run_id, self.experiment)
        except Exception as error:
            log.warning("MLflow: %s: not logged, or not whole (%s)", name, _plain(error))
            if run_id is not None:
                with contextlib.suppress(Exception):
                    self._client.set_terminated(run_id, "FAILED")

    def _log_values(self, run_id: str, params: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        texts = [Param(name, str(value)) for name, value in _flat(params, ".")]
        numbers = [Metric(name, value, now, 0) for name, value in _flat(metrics, "/") if _is_number(value)]
        for start in range(0, max(len(texts), len(numbers)), _AT_A_TIME):
            part = slice(start, start + _AT_A_TIME)
            self._client.log_batch(run_id, metrics=numbers[part], params=texts[part])


def _flat(values: Mapping[str, Any], joint: str, above: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is no mapping, under its path, in letters that MLflow takes."""
    for name, value in values.items():
        path = f"{above}{_NOT_IN_NAMES.sub('', str(name))}"
        if isinstance(value, Mapping):
            yield from _flat(value, joint, f"{path}{joint}")
        else:
            yield path, value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _plain(error: Exception) -> str:
    """What MLflow says, without the user and the password of a URI."""
    return _CREDENTIALS.sub("", str(error))
