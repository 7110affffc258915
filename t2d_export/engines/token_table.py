"""The int8 table of token embeddings in the form that TensorRT builds.

TensorRT takes a stored int8 tensor only in front of DequantizeLinear. The bundle's graph takes rows out of the table
first (`t2d_export.encoders.token_table`). Both forms give the same numbers.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def dequantise_token_tables(model: onnx.ModelProto) -> int:
    """Dequantise every int8 table before rows are taken from it; returns the number of tables."""
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    users = {name: node for node in graph.node for name in node.input}
    makers = {name: node for node in graph.node for name in node.output}
    found = [
        node
        for node in graph.node
        if node.op_type == "Gather" and node.input[0] in stored and stored[node.input[0]].data_type == TensorProto.INT8
    ]
    for rows in found:
        widened = users[rows.output[0]]
        product = users[widened.output[0]]
        scales = makers[product.input[1]]
        column = numpy_helper.to_array(stored[scales.input[0]])[:, 0]
        named = {f"{product.name}_scales": column, f"{product.name}_zeros": np.zeros(len(column), np.int8)}
        graph.initializer.remove(stored[scales.input[0]])
        graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in named.items())
        table = f"{product.name}_table"
        others = [
            helper.make_node("DequantizeLinear", [rows.input[0], *named], [table], name=table, axis=0),
            helper.make_node("Gather", [table, rows.input[1]], [product.output[0]], name=product.name, axis=0),
        ]
        place = list(graph.node).index(product)
        for offset, node in enumerate(others):
            graph.node.insert(place + offset, node)
        for node in (rows, widened, scales, product):
            graph.node.remove(node)
    return len(found)
