"""``nvt_workflow`` as NVTabular itself, exported by Merlin Systems; its compiled form is arrays alone."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa

from export.errors import RepositoryError
from export.options import WorkflowForm
from sdk.base.errors import UsageError
from sdk.bundles.bundle import Bundle
from sdk.features.builtin import Encoding
from sdk.machine.cluster import dask_for_merlin

log = logging.getLogger(__name__)
_PROTOBUF = "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"
_NEEDED = ("nvtabular", "merlin.systems")


def resolved(asked: WorkflowForm) -> WorkflowForm:
    """``nvtabular`` or ``compiled``; ``auto`` is NVTabular where it and Merlin Systems are installed, and says it.

    Raises:
        UsageError: NVTabular is asked for and not installed.
    """
    missing = [name for name in _NEEDED if not _is_installed(name)]
    if asked == "nvtabular" and missing:
        remedy = "Pass --workflow compiled, which needs none of it, or install Merlin (./setup.sh does)."
        raise UsageError(f"--workflow nvtabular: the package {missing[0]} is not installed. {remedy}")
    if asked == "auto" and missing:
        log.info("--workflow compiled is taken: the package %s is not installed", missing[0])
    return ("compiled" if missing else "nvtabular") if asked == "auto" else asked


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # what it lies in
        return False


def write_workflow(bundle: Bundle, folder: Path) -> None:
    """The workflow of both ids, made anew of the bundle's tables and exported by Merlin Systems.

    No file of the bundle is unpickled for it, and it imports nothing of ``sdk`` where it is loaded.

    Raises:
        RepositoryError: Merlin Systems wrote something other than what the reviewed configuration describes.
    """
    with tempfile.TemporaryDirectory(prefix="marquee-export-") as work:
        config = _own_environment_kept(bundle, work)
        inputs, outputs = ([tensor.name for tensor in side] for side in (config.input, config.output))
        if inputs != ["user_id", "item_id"] or outputs != ["user_id", "item_id"]:
            found = f"Merlin Systems exported a workflow from {inputs} to {outputs}"
            raise RepositoryError(f"{found}; expected user_id and item_id in both")
        exported = Path(work, config.name, "1", "workflow")
        shutil.copytree(exported, folder / "workflow", copy_function=shutil.copyfile)


def _own_environment_kept(bundle: Bundle, work: str) -> Any:
    """merlin.systems sets a variable for good when it is imported, and every process started later would inherit it."""
    before = os.environ.get(_PROTOBUF)
    try:
        with dask_for_merlin():
            return _run_merlin(bundle, work)
    finally:
        os.environ.pop(_PROTOBUF, None)
        if before is not None:
            os.environ[_PROTOBUF] = before


def _run_merlin(bundle: Bundle, work: str) -> Any:
    from merlin.systems.dag.ops.workflow import TransformWorkflow
    from merlin.systems.dag.runtimes.triton.ops.workflow import TransformWorkflowTriton

    from sdk.features.workflows import workflow_of

    tables = {"user_id": bundle.encoded_users, "item_id": bundle.encoded_items}
    ids = Encoding({name: pa.array(table.known_ids) for name, table in tables.items()}, {})
    operator = TransformWorkflowTriton(TransformWorkflow(workflow_of(ids, (), Path(work, "fitted"))))
    return operator.export(work, operator.input_schema, operator.output_schema)
