"""Writing a bundle: aside, hashed, then renamed into place."""

from __future__ import annotations

import datetime
import json
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from sdk.base.config import RANKERS, RunConfig, to_json
from sdk.base.description import Description
from sdk.base.files import json_text, new_folder, put_in_place, sha256_of
from sdk.base.stages import Stages
from sdk.base.stored_arrays import write_arrays
from sdk.base.types import Dataset
from sdk.bundles.bundle import Bundle
from sdk.bundles.info import FORMAT_VERSION, IN_MEASURED, INFO, LISTS, MEASURED, is_measured, read_info, sealed
from sdk.features.encode import Features
from sdk.features.interactions import StoredInteractions
from sdk.features.table_files import write_table
from sdk.machine.device import versions_of
from sdk.measure.evaluation import Evaluation, label_rule, learnt_parts, sampled_negatives
from sdk.measure.evaluation_report import plain_values, write_reports
from sdk.metrics.pointwise import EpochRecord
from sdk.models.content.model import ContentModel
from sdk.models.form_files import form_arrays
from sdk.models.history.model import HistoryModel
from sdk.models.pair_model import PairModel
from sdk.models.ranker import save_ranker
from sdk.training.ranker_share import ShareChoice

_PACKAGES = ("marquee", "nvtabular", "merlin-models", "torch", "numpy", "pandas", "pyarrow", "scikit-learn")


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """Everything that a bundle is made of.

    Attributes:
        dataset: validated ratings and titles.
        config: what was trained, and how.
        features: encoded tables and what they were made by.
        interactions: every rating with its part.
        models: trained rankers by name.
        histories: validation records per epoch, by ranker; of its first member where it has several.
        validation_auc: of each whole ranker.
        content: the content model, if it was trained.
        history: the history model, if it was trained.
        evaluation: the test metrics, if there was a test part and a ranker: of what was measured.
        stages: how long each stage took.
        shares: of each ranker's logit in a list, where they were chosen.
    """

    dataset: Dataset
    config: RunConfig
    features: Features
    interactions: StoredInteractions
    models: Mapping[str, PairModel]
    histories: Mapping[str, tuple[EpochRecord, ...]]
    validation_auc: Mapping[str, float]
    content: ContentModel | None
    history: HistoryModel | None
    evaluation: Evaluation | None
    stages: Stages
    shares: Mapping[str, ShareChoice] = field(default_factory=dict)

    @property
    def num_learnt(self) -> int:
        """Ratings that its models learnt from."""
        return len(self.interactions.of(*learnt_parts(self.config)))


def write_bundle(trained: Trained, measured: Trained | None, target: Path) -> None:
    """Write ``target`` whole or not at all; a bundle that stands there is replaced. The caller holds its lock.

    Args:
        trained: what is published.
        measured: what the figures are of, where that learnt from fewer ratings; it is a bundle within the bundle.
        target: the folder.

    Raises:
        OSError: the folder cannot be written; a bundle that stood there does so still.
    """
    with new_folder(target) as staging:
        with trained.stages.time("writing"):
            tables = _write_files(trained, staging)
            _write_reports(trained, staging / "reports")
            if measured is not None:
                _write_measured(measured, staging / MEASURED)
            _write_lists(_info(trained, measured, tables, staging), staging)
        put_in_place(staging, target)


def _write_measured(measured: Trained, folder: Path) -> None:
    folder.mkdir()
    _write_lists(_info(measured, None, _write_files(measured, folder), folder), folder)


def _write_lists(info: dict[str, Any], folder: Path) -> None:
    """``bundle.json`` with these values, and what lists are ranked by, as the bundle makes it from its other files."""
    _write_info(info, folder)
    if (form := Bundle(folder, read_info(folder)).list_form()) is not None:
        write_arrays(folder / LISTS, form_arrays(form))
        info["files"][LISTS] = sha256_of(folder / LISTS)
        _write_info(info, folder)


def _write_info(values: Mapping[str, Any], folder: Path) -> None:
    (folder / INFO).write_text(json_text(sealed(values)), "utf-8")


def write_with_ranker(
    bundle: Bundle, ranker: PairModel, config: RunConfig, validation_auc: Mapping[str, float],
    evaluation: Evaluation | None, target: Path,
) -> None:  # fmt: skip
    """Write ``target`` as a bundle like the given one, with other weights, configuration and metrics of its ``dlrm``.

    Raises:
        OSError: the folder cannot be written; a bundle that stood there does so still.
    """
    left_out = {"reports", MEASURED, LISTS, *(f"{name}.safetensors" for name in RANKERS)}
    kept = [name for name in bundle.info.files if name.partition("/")[0] not in left_out]
    info = json.loads((bundle.path / INFO).read_text("utf-8"))
    with new_folder(target) as staging:
        for name in kept:
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.path / name, staging / name)
        save_ranker(ranker, staging / "dlrm.safetensors")
        if evaluation is not None:
            write_reports(staging / "reports", {}, evaluation)
        rows = evaluation.rows if evaluation is not None else ()
        info |= {
            "created": _now(), "config": to_json(config), "models": list(config.models), "chosen_model": "dlrm",
            "metrics": info["metrics"]
            | {"validation_auc": dict(validation_auc), "test": plain_values(rows), "ranker_share": {}},
            "packages": _packages(), "files": _hashes(staging),
        }  # fmt: skip
        _write_info(info, staging)
        put_in_place(staging, target)


def _write_files(trained: Trained, folder: Path) -> dict[str, Any]:
    dataset, features = trained.dataset, trained.features
    tables = {
        "users": write_table(dataset.users, features.users, folder / "users.parquet"),
        "items": write_table(dataset.items, features.items, folder / "items.parquet"),
    }
    trained.interactions.write(folder / "seen.parquet")
    pq.write_table(dataset.rejects, folder / "rejects.parquet", compression="zstd")
    for name, encoding in features.encodings.items():
        encoding.save(str(folder / "workflow" / name))
    for name, ranker in trained.models.items():
        save_ranker(ranker, folder / f"{name}.safetensors")
    for model in (trained.content, trained.history):
        if model is not None:
            model.save(folder)
    return tables


def _write_reports(trained: Trained, folder: Path) -> None:
    folder.mkdir()
    if (evaluation := trained.evaluation) is not None:
        write_reports(folder, trained.histories, evaluation)
    stages = {"seconds": {name: round(s, 2) for name, s in trained.stages.seconds.items()}}
    (folder / "stages.json").write_text(json.dumps(stages, indent=2) + "\n", "utf-8")


def _info(trained: Trained, measured: Trained | None, tables: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    dataset, config, validation = trained.dataset, trained.config, trained.validation_auc
    figures = measured or trained
    rows = trained.evaluation.rows if trained.evaluation is not None else ()
    return {
        "format_version": FORMAT_VERSION,
        "created": _now(),
        "data": {
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "num_ratings": len(dataset.interactions),
            "num_users": dataset.users.num_rows,
            "num_items": dataset.items.num_rows,
            "num_rejects": dataset.rejects.num_rows,
            **({"rows": dict(dataset.counts)} if dataset.counts else {}),
            **({} if dataset.about == Description() else {"description": dataset.about.as_json()}),
        },
        "config": to_json(config),
        "tables": dict(tables),
        "models": list(config.models),
        "chosen_model": max(config.rankers, key=lambda name: validation[name], default=None),
        "metrics": {
            "split": config.split.describe(),
            "label_rule": label_rule(config, dataset.about.feedback),
            **({"auc": f"against {sampled_negatives(config)}"} if dataset.about.feedback == "implicit" else {}),
            "validation_auc": dict(validation),
            "history": _history_metrics(figures.history),
            "num_learnt": {"published": trained.num_learnt, "measured": figures.num_learnt},
            "ranker_share": {name: choice.to_json() for name, choice in trained.shares.items()},
            "test": plain_values(rows),
            **_content_metrics(trained.content),
        },
        "packages": _packages(),
        "files": _hashes(folder),
    }


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _packages() -> dict[str, str]:
    return {**versions_of(_PACKAGES), "python": platform.python_version()}


def _hashes(folder: Path) -> dict[str, str]:
    """Every file's sha256; of a bundle within it that of its ``bundle.json``, which names its own files."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: sha256_of(path) for name, path in files.items() if name == IN_MEASURED or not is_measured(name)}


def _content_metrics(content: ContentModel | None) -> dict[str, Any]:
    """What liking together counts in look-alikes; and the weights, where they were chosen: never MovieLens's."""
    if content is None or content.liked is None:
        return {}
    chosen = content.choice and {"weights": dict(content.config.weights), "choice": content.choice.to_json()}
    return {"content": {**(chosen or {}), "liked": content.liked.to_json()}}


def _history_metrics(history: HistoryModel | None) -> dict[str, Any] | None:
    """The penalty that was used, and how it was chosen (None where the configuration fixed it), and what else was."""
    if history is None:
        return None
    choice = None if history.choice is None else history.choice.to_json()
    others = {"time_choice": history.time_choice, "repeat_choice": history.repeat_choice}
    more = {name: found.to_json() for name, found in others.items() if found is not None}
    weighting = {} if history.config.weighting == "stars" else {"weighting": history.config.weighting}
    return {"penalty": history.config.penalty, "choice": choice, **more, **weighting}
