"""The two forms of ``nvt_workflow``: exported by Merlin Systems, or compiled to sorted arrays."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

from export.arrays import vocabulary_arrays, write_arrays
from export.configs import sources
from export.errors import RepositoryError
from sdk.bundles.bundle import Bundle

_PROTOBUF = "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"
LABEL = "rating"  # the workflow's third input, which a request does not have


def write_compiled(bundle: Bundle, folder: Path) -> None:
    """The fitted vocabularies as arrays, and the model that looks ids up in them. No pickle."""
    write_arrays(folder, vocabulary_arrays(bundle))
    shutil.copyfile(sources() / "nvt_workflow" / "1" / "model.py", folder / "model.py")


def write_nvtabular(bundle: Bundle, folder: Path) -> None:
    """The fitted workflow without its label, exported by Merlin Systems, and the model that checks and runs it.

    The bundle's files were checked against their sha256 when it was opened, so its workflow may be unpickled.

    Raises:
        RepositoryError: Merlin Systems wrote something other than what the reviewed configuration describes.
    """
    with tempfile.TemporaryDirectory(prefix="marquee-export-") as work:
        exported = _export_with_merlin(bundle, Path(work))
        shutil.copytree(exported / "1" / "workflow", folder / "workflow", copy_function=shutil.copyfile)
    shutil.copyfile(sources() / "variants" / "nvt_workflow_nvtabular" / "1" / "model.py", folder / "model.py")


def _export_with_merlin(bundle: Bundle, work: Path) -> Path:
    before = os.environ.get(_PROTOBUF)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = _run_merlin(bundle, work)
    finally:  # merlin.systems sets it for good when it is imported, and every process started later would inherit it
        os.environ.pop(_PROTOBUF, None)
        if before is not None:
            os.environ[_PROTOBUF] = before
    inputs, outputs = ([tensor.name for tensor in side] for side in (config.input, config.output))
    if inputs != ["user_id", "item_id"] or outputs != ["user_id", "item_id"]:
        message = f"Merlin Systems exported a workflow from {inputs} to {outputs}; expected user_id and item_id in both"
        raise RepositoryError(message)
    return work / str(config.name)


def _run_merlin(bundle: Bundle, work: Path) -> Any:
    from merlin.systems.dag.ops.workflow import TransformWorkflow
    from merlin.systems.dag.runtimes.triton.ops.workflow import TransformWorkflowTriton

    from sdk.features.workflows import nvtabular

    workflow = nvtabular().Workflow.load(str(bundle.path / "workflow" / "interactions"))
    operator = TransformWorkflowTriton(TransformWorkflow(workflow, label_columns=[LABEL]))
    return operator.export(str(work), operator.input_schema, operator.output_schema)
