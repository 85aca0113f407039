"""``nvt_workflow`` as NVTabular itself, exported by Merlin Systems; its compiled form is arrays alone."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from export.errors import RepositoryError
from sdk.base.errors import UsageError, how_to_get
from sdk.bundles.bundle import Bundle
from sdk.features.engine import has_nvtabular
from sdk.machine.cluster import dask_for_merlin

_PROTOBUF = "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"
LABEL = "rating"  # the workflow's third input, which a request does not have


def require_nvtabular(bundle: Bundle) -> None:
    """Refuse a bundle whose features another engine has fitted: it has no workflow that NVTabular opens; and every
    bundle where NVTabular is not installed.

    Raises:
        UsageError: it is one, or NVTabular is not installed.
    """
    engine = bundle.info.config.features.engine
    if engine != "nvtabular":
        remedy = "Pass --workflow compiled, which needs none, or train the bundle again with --features nvtabular."
        raise UsageError(f"{bundle.path}: has no workflow of NVTabular's, its features are of {engine!r}. {remedy}")
    if not has_nvtabular():
        remedy = f"Pass --workflow compiled, which does without, or get it: {how_to_get('merlin')}."
        raise UsageError(f"--workflow nvtabular: needs NVIDIA Merlin, which is not installed. {remedy}")


def write_workflow(bundle: Bundle, folder: Path) -> None:
    """The fitted workflow without its label, exported by Merlin Systems.

    The bundle's files were checked against their sha256 when it was opened, so its workflow may be unpickled.

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

    from sdk.features.workflows import nvtabular

    workflow = nvtabular().Workflow.load(str(bundle.path / "workflow" / "interactions"))
    operator = TransformWorkflowTriton(TransformWorkflow(workflow, label_columns=[LABEL]))
    return operator.export(work, operator.input_schema, operator.output_schema)
