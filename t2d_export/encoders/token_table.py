"""The table of token embeddings in int8, each row with a scale of its own.

CLIP's table is 101 MB in float32, more than its linear layers are in int8. The graph reads the rows of its tokens, and
only these become float32: a table in the form of weights (DequantizeLinear) would become float32 as a whole in engines
that do not fold it, for every prompt.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

LARGEST = 127
"""Signed and symmetric, as the linear layers are."""


def quantise_token_tables(model: onnx.ModelProto) -> int:
    """Quantise every stored float32 table (V,C) that a graph takes rows of; returns their number.

    `Gather(table, ids)` becomes `Cast(Gather(rows, ids)) * Gather(scales, ids)`, with int8 rows and float32 scales
    (V,1).
    """
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if _takes_rows(node, stored)]
    for node in nodes:
        table = stored[node.input[0]]
        rows, scales = quantise_rows(numpy_helper.to_array(table))
        names = f"{table.name}_quantized", f"{table.name}_scale"
        parts = [numpy_helper.from_array(rows, names[0]), numpy_helper.from_array(scales, names[1])]
        model.graph.initializer.remove(table)
        model.graph.initializer.extend(parts)
        _replace(model.graph, node, _row_nodes(node, *names))
    return len(nodes)


def quantise_rows(table: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """int8 rows (V,C) and float32 scales (V,1), whose product is a table (V,C) within half a scale."""
    scales = np.abs(table).max(axis=1, keepdims=True) / np.float32(LARGEST)
    scales[scales == 0] = 1
    return np.rint(table / scales).astype(np.int8), scales


def _takes_rows(node: onnx.NodeProto, stored: dict[str, onnx.TensorProto]) -> bool:
    if node.op_type != "Gather" or node.input[0] not in stored:
        return False
    table = stored[node.input[0]]
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
    return axis == 0 and len(table.dims) == 2 and table.data_type == TensorProto.FLOAT


def _row_nodes(node: onnx.NodeProto, rows: str, scales: str) -> list[onnx.NodeProto]:
    """Nodes that give the output of `node` from a quantised table."""
    ids, output = node.input[1], node.output[0]
    taken, widened, scale = (f"{output}_{part}" for part in ("rows", "widened", "scale"))
    return [
        helper.make_node("Gather", [rows, ids], [taken], name=f"{node.name}_rows", axis=0),
        helper.make_node("Cast", [taken], [widened], name=f"{node.name}_widened", to=TensorProto.FLOAT),
        helper.make_node("Gather", [scales, ids], [scale], name=f"{node.name}_scale", axis=0),
        helper.make_node("Mul", [widened, scale], [output], name=node.name),
    ]


def _replace(graph: onnx.GraphProto, node: onnx.NodeProto, others: list[onnx.NodeProto]) -> None:
    place = list(graph.node).index(node)
    graph.node.remove(node)
    for offset, other in enumerate(others):
        graph.node.insert(place + offset, other)
