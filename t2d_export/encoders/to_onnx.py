"""Exports tensor-only modules to ONNX files, without traces of the exporting machine, and checks them."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from t2d_export.encoders.graphs import ImageEncoderGraph, TextEncoderGraph
from t2d_export.encoders.tracing import TracedOperators
from t2d_runtime.bundle.files import EXTERNAL_DATA_SUFFIX
from t2d_runtime.errors import ExportError

OPSET = 18
"""ONNX operator set. LayerNormalization is one node from 17 on; TensorRT does not build the Attention of 23."""

EXTERNAL_DATA_BYTES = 128 * 2**20
"""Larger weights are stored in a file beside the graph, which engines map where they would parse and copy the graph.

Protobuf ends at 2 GiB.
"""

EXAMPLE_BATCH = 2
"""Size of dynamic dimensions while tracing. A size of one would be taken for a constant."""


def export_image_encoder(module: ImageEncoderGraph, path: Path) -> None:
    """Write the image encoder, with a dynamic batch and a fixed input size."""
    height, width = module.input_size
    example = torch.zeros(EXAMPLE_BATCH, 3, height, width)
    dynamic = {"pixel_values": {0: torch.export.Dim("batch")}}
    _export(module, (example,), path, ["pixel_values"], module.OUTPUTS, dynamic)


def export_text_encoder(module: TextEncoderGraph, path: Path) -> None:
    """Write the text encoder, with dynamic numbers of classes, prompts and tokens."""
    example = torch.ones(EXAMPLE_BATCH, 3, 5, dtype=torch.int64)
    dims = {0: torch.export.Dim("classes"), 1: torch.export.Dim("prompts")}
    dims[2] = torch.export.Dim("tokens", min=2, max=module.context_length)
    _export(module, (example,), path, ["input_ids"], module.OUTPUTS, {"input_ids": dims})


def _export(
    module: nn.Module,
    example: tuple[Tensor, ...],
    path: Path,
    inputs: Sequence[str],
    outputs: Sequence[str],
    dynamic_shapes: Mapping[str, Mapping[int, Any]],
) -> None:
    exporter_log = logging.getLogger("torch.onnx")
    level = exporter_log.level
    exporter_log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), torch.inference_mode(), TracedOperators():
            # The exporter warns of its own deprecations; the verification finds its errors.
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module.eval(),
                example,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=dict(dynamic_shapes),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ExportError(f"{path.name} could not be traced: {error}") from error
    finally:
        exporter_log.setLevel(level)
    if program is None:
        raise ExportError(f"{path.name} could not be traced: the exporter returned nothing")
    write_graph(_without_traces(program.model_proto), path)


def write_graph(model: onnx.ModelProto, path: Path) -> None:
    """Check a graph and write it, with large weights in a file beside it."""
    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    path.parent.mkdir(parents=True, exist_ok=True)
    if size > EXTERNAL_DATA_BYTES:
        onnx.save_model(
            model,
            path,
            save_as_external_data=True,
            location=path.name + EXTERNAL_DATA_SUFFIX,
            size_threshold=1024,
        )
    else:
        onnx.save_model(model, path)
    try:
        onnx.checker.check_model(path, full_check=True)
    except onnx.checker.ValidationError as error:
        raise ExportError(f"{path.name} is not a valid ONNX graph: {error}") from error


def _without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop the exporter's stack traces and module paths, which name files of the exporting machine.

    The rest depends only on weights and settings, so that the same export gives the same bytes.
    """
    del model.metadata_props[:]
    model.doc_string = ""
    graph = model.graph
    graph.name = "talk2dino"
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    return model
