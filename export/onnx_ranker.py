"""The ranker as ONNX, for Triton's onnxruntime backend. Written node by node: the graph is small and stays readable.

To import it raises UsageError where the package onnx is not installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdk.base.errors import UsageError, how_to_get
from sdk.models.form_files import form_arrays
from sdk.models.pair_form import PairForm

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    _message = f"backend: onnxruntime needs the package onnx; {how_to_get('onnx')}, or choose another backend"
    raise UsageError(_message) from error

OPSET = 17
IR_VERSION = 8  # what ONNX Runtime has read since 1.12


class _Graph:
    """Nodes and constants under construction."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, values: NDArray[Any]) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(self, kind: str, *inputs: str, to: str | None = None, **attributes: Any) -> str:
        output = to or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output


def write_onnx(form: PairForm, path: Path) -> None:
    """Write ``model.onnx``."""
    graph = _Graph()
    _build(graph, form)
    rows = [helper.make_tensor_value_info(n, TensorProto.INT64, ["B", 1]) for n in ("user_index", "item_index")]
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["B", 1])
    body = helper.make_graph(graph.nodes, "ranker", rows, [score], graph.constants)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="marquee")
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _build(graph: _Graph, form: PairForm) -> None:
    tables = {n: graph.constant(n, v) for n, v in form_arrays(form).items() if n.startswith(("user_", "item_"))}
    flat = graph.constant("flat", np.array([-1]))
    column = graph.constant("column", np.array([-1, 1]))
    rows = {side: graph.node("Reshape", f"{side}_index", flat) for side in ("user", "item")}

    def gather(side: str, part: str) -> str:
        return graph.node("Gather", tables[f"{side}_{part}"], rows[side])

    score = graph.node("Add", gather("user", "bias"), gather("item", "bias"))
    if form.users.dot.shape[1]:
        product = graph.node("Mul", gather("user", "dot"), gather("item", "dot"))
        last = graph.constant("last", np.array([1]))
        score = graph.node("Add", score, graph.node("ReduceSum", product, last, keepdims=0))
    if form.head.has_mlp:
        hidden = graph.node("Add", gather("user", "hidden"), gather("item", "hidden"))
        if form.head.cross.shape[1]:
            right = graph.node("Transpose", gather("item", "fields"), perm=[0, 2, 1])
            z = graph.node("MatMul", gather("user", "fields"), right)
            flat_z = graph.node("Reshape", z, graph.constant("flat_z", np.array([-1, form.head.cross.shape[1]])))
            cross = graph.node("MatMul", flat_z, graph.constant("cross", form.head.cross.T))
            hidden = graph.node("Add", hidden, cross)
        score = graph.node("Add", score, graph.node("Reshape", _tail(graph, form, hidden), flat))
    graph.node("Reshape", score, column, to="score")


def _tail(graph: _Graph, form: PairForm, hidden: str) -> str:
    for n, (weight, bias) in enumerate(form.head.tail):
        parts = graph.constant(f"tail_{n}_weight", weight), graph.constant(f"tail_{n}_bias", bias)
        hidden = graph.node("Gemm", graph.node("Relu", hidden), *parts, transB=1)
    return hidden
