"""Attention in a form that TensorRT computes in one kernel, so that no tokens x tokens tensor goes through memory.

TensorRT fuses the two products and the softmax between them where the products' operands are float16 or bfloat16. The
bundle's graphs widen queries and keys before the first product; here they are rounded again, to the type that they had.
The softmax stays float32. The products then have the operands that they had before; only the logits may be rounded,
where a kernel is not fused. In int8, whose attention is float32, the operands become float16.
"""

from __future__ import annotations

import onnx_ir as ir

HALF = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16, "int8": ir.DataType.FLOAT16}
"""Precision -> type of the products' operands. In float32 nothing is fused, and the graph stays as it is."""


def fuse_attention(graph: ir.Graph, precision: str) -> int:
    """Round the operands of every attention in a graph; returns the number of attentions."""
    if precision not in HALF:
        return 0
    found = [(node, *products) for node in list(graph) if (products := _products(node)) is not None]
    for softmax, first, second in found:
        for index in range(2):
            _cast_input(graph, first, index, HALF[precision])
        _widen_output(graph, first, HALF[precision])
        if second.inputs[0] is softmax.outputs[0]:  # no cast before: the product is float32, as in int8
            for index in range(2):
                _cast_input(graph, second, index, HALF[precision])
            _widen_output(graph, second, HALF[precision])
    return len(found)


def _products(softmax: ir.Node) -> tuple[ir.Node, ir.Node] | None:
    """The products before and after a softmax, with a mask added or not; None where this is no attention."""
    if softmax.op_type != "Softmax":
        return None
    before = _producers(softmax)
    before += [node for one in before if one.op_type == "Add" for node in _producers(one)]
    first = next((node for node in before if node.op_type == "MatMul"), None)
    after = [use.node for use in softmax.outputs[0].uses()]
    after += [use.node for one in after if one.op_type == "Cast" for use in one.outputs[0].uses()]
    second = next((node for node in after if node.op_type == "MatMul"), None)
    return None if first is None or second is None else (first, second)


def _producers(node: ir.Node) -> list[ir.Node]:
    return [producer for value in node.inputs if value is not None and (producer := value.producer()) is not None]


def _cast_input(graph: ir.Graph, node: ir.Node, index: int, dtype: ir.DataType) -> None:
    value = node.inputs[index]
    cast = ir.node("Cast", [value], {"to": dtype}, name=f"{node.name}_operand_{index}")
    cast.outputs[0].name = f"{node.name}_operand_{index}"
    graph.insert_before(node, cast)
    node.replace_input_with(index, cast.outputs[0])


def _widen_output(graph: ir.Graph, node: ir.Node, dtype: ir.DataType) -> None:
    output = node.outputs[0]
    uses = list(output.uses())
    cast = ir.node("Cast", [output], {"to": ir.DataType.FLOAT}, name=f"{node.name}_widened")
    cast.outputs[0].name = f"{node.name}_widened"
    output.dtype = dtype
    for use in uses:
        use.node.replace_input_with(use.idx, cast.outputs[0])
    graph.insert_after(node, cast)
