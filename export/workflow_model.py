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
from sdk.base.errors import UsageError, how_to_get
from sdk.base.schema import id_type
from sdk.bundles.bundle import Bundle
from sdk.features.builtin import Encoding
from sdk.features.engine import has_nvtabular
from sdk.machine.cluster import dask_for_merlin

log = logging.getLogger(__name__)
_PROTOBUF = "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"


def resolved(asked: WorkflowForm) -> WorkflowForm:
    """``nvtabular`` or ``compiled``; ``auto`` is NVTabular where it and Merlin Systems are installed, or says it.

    Raises:
        UsageError: NVTabular is asked for and not installed.
    """
    installed = has_nvtabular() and importlib.util.find_spec("merlin.systems") is not None
    if asked == "nvtabular" and not installed:
        remedy = f"Pass --workflow compiled, which does without, or get it: {how_to_get('merlin')}."
        raise UsageError(f"--workflow nvtabular: needs NVIDIA Merlin, which is not installed. {remedy}")
    if asked == "auto" and not installed:
        log.info("--workflow compiled is taken: NVIDIA Merlin is not installed")
    return ("nvtabular" if installed else "compiled") if asked == "auto" else asked


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
    ids = Encoding({name: pa.array(table.known_ids, id_type(table.known_ids)) for name, table in tables.items()}, {})
    operator = TransformWorkflowTriton(TransformWorkflow(workflow_of(ids, (), Path(work, "fitted"))))
    return operator.export(work, operator.input_schema, operator.output_schema)
