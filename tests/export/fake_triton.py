"""As much of Triton's Python backend as the served models use, to run them inside a test."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from export.configs import read_config

_OURS = ("marquee_serving", "pair_score", "stored_recommender", "triton_python_backend_utils")


class Tensor:
    def __init__(self, name: str, values: np.ndarray) -> None:
        self._name, self._values = name, values

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> np.ndarray:
        return self._values


class TritonError(Exception):
    INVALID_ARG = 3

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class Response:
    def __init__(self, output_tensors: Any = (), error: TritonError | None = None) -> None:
        self.outputs = {tensor.name(): tensor.as_numpy() for tensor in output_tensors}
        self.error = error


Request = Mapping[str, np.ndarray]


def _input(request: Request, name: str) -> Tensor | None:
    return Tensor(name, request[name]) if name in request else None


def _module() -> types.ModuleType:
    module = types.ModuleType("triton_python_backend_utils")
    module.Tensor, module.TritonError = Tensor, TritonError  # type: ignore[attr-defined]
    module.InferenceResponse = Response  # type: ignore[attr-defined]
    module.get_input_tensor_by_name = _input  # type: ignore[attr-defined]
    module.TritonModelException = RuntimeError  # type: ignore[attr-defined]
    return module


@contextmanager
def model_of(repository: Path, name: str, version: int = 1) -> Iterator[Any]:
    """The model of a version, initialised as the server would, from the repository's own files."""
    folder = repository / name / str(version)
    before = {key: sys.modules.pop(key, None) for key in _OURS}
    sys.modules["triton_python_backend_utils"] = _module()
    sys.path.insert(0, str(folder))
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # as `serve` does: a version folder stays as it is
    try:
        source = compile((folder / "model.py").read_text("utf-8"), str(folder / "model.py"), "exec")
        scope: dict[str, Any] = {"__name__": f"served_{name}"}
        exec(source, scope)
        model = scope["TritonPythonModel"]()
        model.initialize(_args(repository, name, version))
        yield model
    finally:
        sys.dont_write_bytecode = writes
        sys.path.remove(str(folder))
        for key, module in before.items():
            sys.modules.pop(key, None)
            if module is not None:
                sys.modules[key] = module


def _args(repository: Path, name: str, version: int) -> dict[str, str]:
    config = read_config(repository / name / "config.pbtxt")
    parameters = {key: {"string_value": value.string_value} for key, value in config.parameters.items()}
    return {
        "model_repository": str(repository / name),
        "model_version": str(version),
        "model_instance_kind": "CPU",
        "model_config": json.dumps({"name": name, "parameters": parameters}),
    }


def rows(**values: Any) -> dict[str, np.ndarray]:
    """A request of (B, 1) int64 inputs."""
    return {name: np.asarray(ids, dtype=np.int64).reshape(-1, 1) for name, ids in values.items()}
