"""Precisions below float32, computed in float32 with the roundings of their graphs.

This judges a graph as it is stored, so that a bundle does not depend on the processor that exports it. Engines may
round less or more, or a processor may lack the units.
"""

from __future__ import annotations

import tempfile
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from t2d_export.encoders.to_onnx import write_graph
from t2d_runtime.backends.base import EngineIdentity
from t2d_runtime.backends.onnxruntime import OnnxRuntimeBackend
from t2d_runtime.backends.onnxruntime_session import OnnxRuntimeEngine
from t2d_runtime.bundle.files import Bundle

EMULATION = "emulation"
"""Name of the emulation among the backends of a bundle's matrix."""

HALF_TENSORS = (TensorProto.FLOAT16, TensorProto.BFLOAT16)

COPIES = (
    "Concat",
    "Constant",
    "Expand",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)
"""Operators that only move values, so that rounded values stay rounded."""

LITERAL_QUANTISATION = {"session.disable_quant_qdq": "1"}
"""Quantised layers are computed as written: float32 products of values rounded to int8. Byte products would saturate on
a processor without VNNI."""


class Emulation(OnnxRuntimeBackend):
    """Computes every product in float32, from operands rounded as in the graph."""

    def __init__(self) -> None:
        super().__init__("onnxruntime")
        self.name = EMULATION

    @cached_property
    def identity(self) -> EngineIdentity:
        """Name of the arithmetic, which is the same on every processor."""
        return EngineIdentity(EMULATION, self.version, "float32 products of rounded operands")

    def refusal(self, precision: str) -> str | None:
        """None: float32 computes every precision."""
        return None

    def load(self, bundle: Bundle, graph: str, *, precision: str, num_threads: int | None) -> OnnxRuntimeEngine:
        """Open a session on the graph as stored."""
        stored = bundle.graph(graph, precision)
        if precision in ("fp32", "int8"):
            return self.open_session(stored, num_threads, LITERAL_QUANTISATION)
        # On some systems the session still holds the file; it is then removed with the other temporary files.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            emulated = Path(folder) / graph
            write_graph(in_float32(stored), emulated)
            return self.open_session(emulated, num_threads)


def in_float32(path: Path) -> onnx.ModelProto:
    """A float16 or bfloat16 graph as a float32 one: values of the half type are float32, rounded to that type."""
    model = onnx.load(path, load_external_data=False)
    types = _value_types(model)
    external_data_helper.load_external_data_for_model(model, str(path.parent))
    graph = model.graph
    for index, tensor in enumerate(graph.initializer):
        if tensor.data_type in HALF_TENSORS:
            graph.initializer[index].CopyFrom(_widened(tensor))
    nodes = [new for node in graph.node for new in _in_float32(node, types)]
    del graph.node[:]
    del graph.value_info[:]
    graph.node.extend(nodes)
    return model


def _value_types(model: onnx.ModelProto) -> dict[str, int]:
    """Name -> type of every node's outputs."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    return {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}


def _in_float32(node: onnx.NodeProto, types: dict[str, int]) -> list[onnx.NodeProto]:
    """A node that computes in float32, and the nodes that round its results."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type in HALF_TENSORS:
            attribute.t.CopyFrom(_widened(attribute.t))
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i in HALF_TENSORS:
            attribute.i = TensorProto.FLOAT
    nodes = [node]
    if node.op_type in COPIES:
        return nodes
    for index, name in enumerate(node.output):
        if types.get(name) in HALF_TENSORS:
            exact, rounded = f"{name}/exact", f"{name}/rounded"
            node.output[index] = exact
            nodes.append(helper.make_node("Cast", [exact], [rounded], name=rounded, to=types[name]))
            nodes.append(helper.make_node("Cast", [rounded], [name], name=f"{name}/widened", to=TensorProto.FLOAT))
    return nodes


def _widened(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """The same values in float32."""
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)
