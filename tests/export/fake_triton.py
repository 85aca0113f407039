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
    """A tensor of a current Triton, whose backend knows both NumPy 1 and 2."""

    def __init__(self, name: str, values: np.ndarray) -> None:
        self._name, self._values, self._is_memory = name, values, False
        self.sent = values

    @classmethod
    def from_memory(cls, name: str, values: np.ndarray) -> Tensor:
        """An input, or what somebody else's DLPack shows: the backend itself makes an array of it."""
        tensor = cls.__new__(cls)
        tensor._name, tensor._values, tensor._is_memory = name, values, True
        tensor.sent = values
        return tensor

    @classmethod
    def from_dlpack(cls, name: str, source: Any) -> Tensor:
        if isinstance(source, np.ndarray):
            strides = np.zeros(source.shape, source.dtype).strides
            if not source.size or not source.flags.writeable or source.strides != strides:
                raise RuntimeError("DLPack tensor is not contiguous")  # as the backend says of them
        return cls.from_memory(name, source if isinstance(source, np.ndarray) else source[0])

    def to_dlpack(self) -> tuple[np.ndarray]:
        if self._values.dtype == object:
            raise RuntimeError("DLPack does not have support for string tensors.")
        return (self._values,)

    def __dlpack__(self, **options: Any) -> Any:
        return self._values.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._values.__dlpack_device__()

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> np.ndarray:
        return self._values


class OldTensor(Tensor):
    """A tensor of Triton 2.51 beside NumPy 2, as a live server showed it: strides of 0, outputs without bytes."""

    def __init__(self, name: str, values: np.ndarray) -> None:
        super().__init__(name, values)
        self.sent = values.reshape(-1)[:0]

    def as_numpy(self) -> np.ndarray:
        if not self._is_memory or not self._values.size:
            return self._values
        assert self._values.dtype != object, "the process has ended"  # lengths that are the first byte four times over
        return np.broadcast_to(self._values.reshape(-1)[0], self._values.shape)


class OldTensorBesideNumPy1(Tensor):
    """A tensor of Triton 2.51 beside NumPy 1.26: NumPy's DLPack ends the process."""

    @classmethod
    def from_dlpack(cls, name: str, source: Any) -> Tensor:
        assert not isinstance(source, np.ndarray), "the process has ended"
        return super().from_dlpack(name, source)

    def __dlpack__(self, **options: Any) -> Any:
        raise AssertionError("the process has ended")


class BrokenTensor(OldTensor):
    """A tensor that is misread both ways."""

    def __dlpack__(self, **options: Any) -> Any:
        return np.zeros_like(self._values).__dlpack__(**options)


class TritonError(Exception):
    INVALID_ARG = 3

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class Response:
    def __init__(self, output_tensors: Any = (), error: TritonError | None = None) -> None:
        self.outputs = {tensor.name(): tensor.sent for tensor in output_tensors}
        self.error = error


Request = Mapping[str, np.ndarray]


def backend_of(kind: type[Tensor]) -> types.ModuleType:
    """Triton's module with this kind of tensors."""

    def find(request: Request, name: str) -> Tensor | None:
        return kind.from_memory(name, request[name]) if name in request else None

    module = types.ModuleType("triton_python_backend_utils")
    module.Tensor, module.TritonError = kind, TritonError  # type: ignore[attr-defined]
    module.InferenceResponse = Response  # type: ignore[attr-defined]
    module.get_input_tensor_by_name = find  # type: ignore[attr-defined]
    module.TritonModelException = RuntimeError  # type: ignore[attr-defined]
    return module


@contextmanager
def model_of(repository: Path, name: str, version: int = 1, tensors: type[Tensor] = Tensor) -> Iterator[Any]:
    """The model of a version, initialised as the server would, from the repository's own files."""
    folder = repository / name / str(version)
    before = {key: sys.modules.pop(key, None) for key in _OURS}
    sys.modules["triton_python_backend_utils"] = backend_of(tensors)
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
    types = config.DESCRIPTOR.file.enum_types_by_name["DataType"].values_by_number
    tensors = {
        side: [{"name": tensor.name, "data_type": types[tensor.data_type].name} for tensor in getattr(config, side)]
        for side in ("input", "output")
    }
    return {
        "model_repository": str(repository / name),
        "model_version": str(version),
        "model_instance_kind": "CPU",
        "model_config": json.dumps({"name": name, "parameters": parameters, **tensors}),
    }


def rows(**values: Any) -> dict[str, np.ndarray]:
    """A request of (B, 1) inputs: int64, or of text the bytes of its UTF-8, as the backend gives them."""
    return {name: sent(ids).reshape(-1, 1) for name, ids in values.items()}


def sent(ids: Any) -> np.ndarray:
    """(B,) int64, or object of bytes where the first of some ids is text or bytes."""
    listed = list(ids)
    if not listed or not isinstance(listed[0], (str, bytes)):
        return np.asarray(listed, dtype=np.int64)
    return np.fromiter((each.encode() if isinstance(each, str) else each for each in listed), object, len(listed))
