"""The fused graph in a form that TensorRT accepts: PAMR's iterations are fixed, and the image is cast first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from t2d_export.engines.attention import fuse_attention
from t2d_runtime.bundle.engines import Profile
from t2d_runtime.bundle.manifest import Manifest

MOST_CLASSES = 171
"""Number of classes of COCO-Stuff, the longest list of the published evaluations."""

LONGEST_IMAGE_SIDE = 2048
"""Largest side of an image in pixels. The engine refuses larger images; they must be made smaller first."""


def fused_profiles(manifest: Manifest, path: Path) -> dict[str, Profile]:
    """Input name -> shapes that an engine of the fused graph in a file takes."""
    short, long, width = manifest.windows.short_side, LONGEST_IMAGE_SIDE, manifest.model.embed_dim
    scalar = Profile((), (), ())
    profiles = {
        "image": Profile((1, 1, 1, 3), (1, short, short, 3), (1, long, long, 3)),
        "text_embeds": Profile((1, width), (20, width), (MOST_CLASSES, width)),
        "thresholds": Profile((1,), (20,), (MOST_CLASSES,)),
        "threshold": scalar,  # of graphs of format version 1
        "cleaning_weight": scalar,
    }
    inputs = {value.name for value in ir.load(path).graph.inputs}
    return {name: profile for name, profile in profiles.items() if name in inputs}


def with_iterations(path: Path, iterations: int, precision: str) -> bytes:
    """The graph of a file in TensorRT's form, without the input pamr_iterations. External weights are not moved.

    TensorRT does not build a loop within a branch, and accepts uint8 inputs only where a cast follows. Its attention is
    that of `attention.fuse_attention`.
    """
    model = ir.load(path)
    graph = model.graph
    _cast_image(graph)
    fuse_attention(graph, precision)
    given = next(value for value in graph.inputs if value.name == "pamr_iterations")
    given.const_value = ir.tensor(np.array(iterations, np.int64), name=given.name)
    graph.inputs.remove(given)
    graph.register_initializer(given)
    branch = next(node for node in graph if node.op_type == "If")
    _take(graph, branch, "then_branch" if iterations else "else_branch")
    content: bytes = ir.to_proto(model).SerializeToString()
    return content


def _cast_image(graph: ir.Graph) -> None:
    image = graph.inputs[0]
    cast = ir.node("Cast", [image], {"to": ir.DataType.FLOAT}, name="image_levels")
    cast.outputs[0].name = "image_levels"
    image.replace_all_uses_with(cast.outputs[0])
    cast.replace_input_with(0, image)
    graph.insert_before(graph[0], cast)


def _take(graph: ir.Graph, node: ir.Node, name: str) -> None:
    """Replace an If by one of its branches."""
    branch = node.attributes[name].as_graph()
    result, output = branch.outputs[0], node.outputs[0]
    nodes = list(branch)
    branch.outputs.clear()
    branch.remove(nodes)
    graph.insert_before(node, nodes)
    output.replace_all_uses_with(result, replace_graph_outputs=True)
    graph.remove(node)
    result.name, result.shape = output.name, output.shape
