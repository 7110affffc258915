"""The fused graph: one ONNX file of standard operators, from an image and word vectors to labels.

The resized image is one window. The graph contains the exported image encoder, in any precision; the rest is float32.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from onnxscript import GraphBuilder

from t2d_export.encoders.to_onnx import write_graph
from t2d_export.fused import labels as fused_labels
from t2d_export.fused import pamr as pamr_graph
from t2d_export.fused import resize as fused_resize
from t2d_export.fused import scores as fused_scores
from t2d_runtime.bundle.files import IMAGE_ENCODER, SEGMENTER, Bundle
from t2d_runtime.bundle.manifest import DEFAULT_PROMPTS, Manifest

FORMAT_VERSION = "2"
"""Version 1 had one threshold for all words, the scalar `threshold`."""


def write_fused(bundle: Bundle, precision: str) -> None:
    """Write the fused graph of a precision beside its image encoder, whose external weights it shares.

    Raises ExportError where the result is not a valid graph.
    """
    encoder = bundle.graph(IMAGE_ENCODER, precision)
    model = ir.load(encoder)
    _extend(model.graph, bundle.manifest)
    _name_apart(model.graph)
    ClearMetadataAndDocStringPass()(model)
    model.graph.name = "talk2dino_segmenter"
    model.metadata_props.update(_metadata(bundle))
    write_graph(ir.to_proto(model), encoder.with_name(SEGMENTER))


def _name_apart(graph: ir.Graph) -> None:
    """Give each node and value a unique name, also in branches and loops: the builder's and the encoder's may be equal.

    TensorRT needs unique names of nodes too, and so does code that takes nodes out of a branch.
    """
    kept = set(graph.outputs)
    for number, node in enumerate(graph.all_nodes()):
        node.name = f"{node.op_type}_{number}"
        for index, value in enumerate(node.outputs):
            if value not in kept:
                value.name = f"{node.name}_{index}"


def _metadata(bundle: Bundle) -> dict[str, str]:
    """Facts for a program that has only this file."""
    manifest, defaults = bundle.manifest, bundle.manifest.defaults
    return {
        "format_version": FORMAT_VERSION,
        "embed_dim": str(manifest.model.embed_dim),
        "vocabulary_digest": bundle.vocabulary_digest,
        "prompt_set": DEFAULT_PROMPTS,
        "threshold": repr(defaults.threshold),
        "cleaning_weight": repr(defaults.cleaning_weight),
        "pamr_iterations": str(defaults.pamr.iterations),
    }


def _extend(graph: ir.Graph, manifest: Manifest) -> None:
    """Turn the image encoder's graph into the fused one."""
    encoder_input, (patch_tokens, cls_attention, _) = graph.inputs[0], list(graph.outputs)
    graph.inputs.clear()
    graph.outputs.clear()
    builder = GraphBuilder(graph)
    op = builder.op
    image = builder.input("image", ir.DataType.UINT8, [1, "height", "width", 3])
    text_embeds = builder.input("text_embeds", ir.DataType.FLOAT, ["classes", manifest.model.embed_dim])
    thresholds = builder.input("thresholds", ir.DataType.FLOAT, ["classes"])
    weight = builder.input("cleaning_weight", ir.DataType.FLOAT, [])
    iterations = builder.input("pamr_iterations", ir.DataType.INT64, [])

    size = op.Shape(image, start=1, end=3)
    window = fused_resize.window_size(op, size, manifest.windows)
    pixels = op.Transpose(fused_resize.resized(op, image, size, window), perm=[0, 3, 1, 2])
    model = manifest.model
    values = fused_resize.pixel_values(op, pixels, window, model.input_size, manifest.preprocessing)
    encoder_input.replace_all_uses_with(values)

    raw = fused_scores.scores(op, patch_tokens, text_embeds)
    cleaned = fused_scores.cleaned(op, raw, patch_tokens, cls_attention, text_embeds, weight)
    planes = fused_scores.planes(op, cleaned, model.grid_size, window)
    refined = pamr_graph.refined(op, op.Squeeze(pixels, [0]), planes, window, iterations, manifest.defaults.pamr)
    labels = fused_labels.labels(op, refined, window, size, thresholds)
    labels.shape = ir.Shape(["height", "width"])
    builder.add_output(labels, "label_map")
    builder.add_output(refined, "scores")
    graph.sort()
