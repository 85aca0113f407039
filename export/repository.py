"""A bundle becomes a Triton model repository: written aside, checked, then renamed into place."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from export.arrays import Arrays, content_arrays, list_arrays, vocabulary_arrays, write_arrays
from export.configs import config_text, configuration, native_file, read_config, sources
from export.manifest import FORMAT_VERSION, MANIFEST, MODELS, check_repository, read_manifest, write_manifest
from export.options import ExportOptions
from export.selfcheck import check_ranker, scored
from export.workflow_model import resolved, write_workflow
from sdk.base import __version__
from sdk.base.errors import OutputError, UsageError
from sdk.base.files import json_text, lock_of, locked, new_folder, put_in_place, remove, show, sync_tree
from sdk.base.ids import is_text
from sdk.base.paths import as_path
from sdk.base.rights import reason
from sdk.bundles.bundle import Bundle, load
from sdk.models.form_files import form_arrays
from sdk.models.pair_form import PairForm

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote.

    Attributes:
        repository: the folder.
        version: the new version of every model.
        model: the ranker, ``dlrm``, ``ncf`` or ``bfm``; ``history`` of a bundle without one.
        models: the models served.
    """

    repository: str
    version: int
    model: str
    models: tuple[str, ...]


def export_repository(bundle: str | Path, out: str | Path, options: ExportOptions | None = None) -> Exported:
    """Write a model repository, or a next version beside the ones that stand there.

    The bundle is only read, and not needed afterwards. A reader, a running server included, never meets half of an
    export: every version is renamed into place whole, and ``rank``, which refers to the others, comes last.

    Args:
        bundle: the bundle's folder.
        out: the repository's folder.
        options: how it is exported.

    Raises:
        BundleError: the bundle is damaged, or what was written does not score as the SDK does.
        UsageError: the bundle has no such ranker, or neither one nor the history model; NVTabular is asked for and not
            installed; or ``out`` holds models of other options.
        OutputError: ``out`` is something else, or cannot be written.
        LockedError: another export is writing to it.
    """
    target = as_path(out).absolute()
    job = _Job(load(bundle), options or ExportOptions())
    busy = f"{target}: another export is writing to it; wait for it, or choose another --out"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(lock_of(target), busy):
            return _export(job, target)
    except OSError as error:
        problem = f"cannot be written ({reason(error, target)}); choose another --out"
        raise OutputError(f"{error.filename or target}: {problem}") from error


class _Job:
    """One bundle and how it is exported."""

    def __init__(self, bundle: Bundle, options: ExportOptions) -> None:
        self.bundle, self.options = bundle, replace(options, workflow=resolved(options.workflow))
        sides = {"user_id": bundle.encoded_users, "item_id": bundle.encoded_items}
        self.texts = tuple(name for name, table in sides.items() if is_text(table.ids))
        self.models = tuple(m for m in MODELS if m != "similar_items" or "content" in bundle.info.models)
        self.name, self.form, self.scores = scored(bundle, options.model)
        self.form.check()

    def list_form(self) -> PairForm:
        form = self.bundle.list_form(self.options.model) or self.form
        form.check()
        return form

    def facts(self) -> dict[str, Any]:
        info = self.bundle.info
        return {
            "marquee": __version__, "ranker": self.name, "options": asdict(self.options), "models": list(self.models),
            "bundle": {"created": info.created, "data": dict(info.data)},
        }  # fmt: skip


def _export(job: _Job, target: Path) -> Exported:
    with new_folder(target) as staging:
        version = _next_version(target)
        _write(job, staging, version)
        check_repository(staging)
        check_ranker(job.bundle, job.scores, staging / "ranker" / str(version), job.options)
        if version == 1:
            put_in_place(staging, target)
        else:
            _require_same_configs(job, staging, target)
            sync_tree(staging)
            _add_version(job, staging, target, version)
    log.info("%s: version %d of %s (%s)", target, version, ", ".join(job.models), job.name)
    return Exported(str(target), version, job.name, job.models)


def _next_version(target: Path) -> int:
    """1 for a new repository; else one more than the highest version of any model."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return 1
    if not (target / MANIFEST).is_file():
        problem = f"there, and no model repository of ours (no {MANIFEST})"
        raise OutputError(f"{target}: {problem}. Choose another --out.")
    _drop_unfinished(target)
    return 1 + max(int(folder.name) for folder in _versions(target))


def _versions(target: Path) -> list[Path]:
    return [f for m in read_manifest(target)["models"] for f in (target / m).iterdir() if f.name.isdigit()]


def _drop_unfinished(target: Path) -> None:
    """Delete the versions that an export put there before it broke off: ``rank`` does not refer to them yet."""
    served = max(step.model_version for step in read_config(target / "rank" / "config.pbtxt").ensemble_scheduling.step)
    for folder in _versions(target):
        if int(folder.name) > served and (folder / MANIFEST).is_file():
            log.info("%s: left by an export that did not finish; deleted", folder)
            remove(folder)


def _write(job: _Job, staging: Path, version: int) -> None:
    for model in job.models:
        folder = staging / model / str(version)
        folder.mkdir(parents=True)
        _write_version(job, model, folder)
        write_manifest(folder, job.facts())
        text = config_text(configuration(model, job.options, version, job.texts))
        (staging / model / "config.pbtxt").write_text(text, "utf-8")
    facts = {"format_version": FORMAT_VERSION, "version": version, **job.facts()}
    (staging / MANIFEST).write_text(json_text(facts), "utf-8")


_ARRAYS: dict[str, Callable[[_Job], Arrays]] = {
    "nvt_workflow": lambda job: vocabulary_arrays(job.bundle),
    "ranker": lambda job: form_arrays(job.form),
    "recommend": lambda job: list_arrays(job.bundle, job.list_form(), job.options.rules),
    "similar_items": lambda job: content_arrays(job.bundle, job.options.kind),
}
"""What the models on arrays read. ``rank`` is not among them: Triton wants a folder of its version, no file in it."""


def _write_version(job: _Job, model: str, folder: Path) -> None:
    """What a model is made of, and its copy of the reviewed source where it is Python's."""
    options, source = job.options, model
    if model == "ranker" and options.backend != "python":
        _write_native(job.form, options.backend, folder)
    elif model in _ARRAYS:
        if model == "nvt_workflow" and options.workflow == "nvtabular":
            write_workflow(job.bundle, folder)
            source = "variants/nvt_workflow_nvtabular"
        else:
            write_arrays(folder, _ARRAYS[model](job))
        for path in (*(sources() / source / "1").glob("*.py"), sources() / "marquee_serving.py"):
            shutil.copyfile(path, folder / path.name)


def _write_native(form: PairForm, backend: str, folder: Path) -> None:
    if backend == "pytorch":
        from export.torch_ranker import write_torchscript as write
    else:
        from export.onnx_ranker import write_onnx as write
    write(form, folder / native_file(backend))


def _require_same_configs(job: _Job, staging: Path, target: Path) -> None:
    """A configuration holds for all versions of a model, so a next version must fit the one that is served."""
    for model in job.models:
        there = target / model / "config.pbtxt"
        if not there.is_file() or _unpinned(staging / model / "config.pbtxt") != _unpinned(there):
            raise UsageError(
                f"{there}: differs from what these options would write, and one configuration serves all versions of a "
                "model. Export with the options of the first version (manifest.json has them), or choose another --out"
                " (as for ids of another kind)."
            )


def _unpinned(path: Path) -> Any:
    config = read_config(path)
    for step in config.ensemble_scheduling.step:
        step.model_version = -1
    return config


def _add_version(job: _Job, staging: Path, target: Path, version: int) -> None:
    """Rename the new versions in; ``rank`` changes over only when what it refers to is there."""
    models = [f"{model}/{version}" for model in job.models if model != "rank"]
    try:
        for name in (*models, f"rank/{version}", "rank/config.pbtxt", MANIFEST):
            show(staging / name, target / name)
    except OSError:
        _drop_unfinished(target)
        raise
