"""Both encoders in precisions below float32. The graph contains the precision, and every engine reads it there.

fp16, bf16   linear layers in half, the rest in float32 (`t2d_export.encoders.tracing`)
int8         linear layers between symmetric Quantize and Dequantize nodes, the scales found on calibration images;
             the table of token embeddings row by row (`t2d_export.encoders.token_table`)
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from t2d_export.encoders.graphs import ImageEncoderGraph, TextEncoderGraph, in_half
from t2d_export.encoders.to_onnx import export_image_encoder, export_text_encoder, write_graph
from t2d_export.encoders.token_table import quantise_token_tables
from t2d_runtime.bundle.files import IMAGE_ENCODER, TEXT_ENCODER

HALF_TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}

QUANTISER_OPTIONS = {
    # TensorRT accepts only 0 as zero point.
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    # A quantised output would round the residual stream, and the bias added to it, a second time.
    "OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"],
}

Feed = Mapping[str, NDArray[Any]]


def write_half(name: str, image: ImageEncoderGraph, text: TextEncoderGraph, folder: Path) -> None:
    """Write both encoders in "fp16" or "bf16" to a folder."""
    dtype = HALF_TYPES[name]
    export_image_encoder(in_half(image.eval(), dtype), folder / IMAGE_ENCODER)
    export_text_encoder(in_half(text.eval(), dtype), folder / TEXT_ENCODER)


def write_int8(
    source: Path, folder: Path, pixel_values: Iterable[NDArray[np.float32]], input_ids: NDArray[np.int64]
) -> None:
    """Write both encoders of folder `source` in int8 to another one.

    The scales come from the extreme values on normalised windows (1,3,H,W) and on the prompts (N,T,L).
    """
    quantise(source / IMAGE_ENCODER, folder / IMAGE_ENCODER, ({"pixel_values": values} for values in pixel_values))
    quantise(source / TEXT_ENCODER, folder / TEXT_ENCODER, [{"input_ids": input_ids}])


def quantise(source: Path, target: Path, feeds: Iterable[Feed]) -> None:
    """Quantise the linear layers and the token table of a float32 graph: signed and symmetric.

    Layers have a scale for each channel of their weights and one for their input; the table has one for each row.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".int8-") as temporary:
        prepared, quantised = (Path(temporary) / name for name in ("prepared.onnx", "quantised.onnx"))
        large = {"save_as_external_data": True} if source.with_name(f"{source.name}.data").exists() else {}
        quant_pre_process(str(source), str(prepared), skip_optimization=True, skip_symbolic_shape=True, **large)
        quantize_static(
            prepared,
            quantised,
            _Feeds(feeds),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=linear_layers(onnx.load(source, load_external_data=False)),
            use_external_data_format=bool(large),
            extra_options=QUANTISER_OPTIONS,
        )
        model = onnx.load(quantised)
        quantise_token_tables(model)
        write_graph(model, target)


def linear_layers(model: onnx.ModelProto) -> list[str]:
    """Names of the towers' linear layers: products with stored weights before the last LayerNorm.

    The projection follows it, and stays float32 because cosines are taken there.
    """
    nodes, weights = model.graph.node, {tensor.name for tensor in model.graph.initializer}
    last_norm = max(i for i, node in enumerate(nodes) if node.op_type == "LayerNormalization")
    return [n.name for n in nodes[:last_norm] if n.op_type in ("MatMul", "Gemm") and n.input[1] in weights]


class _Feeds(CalibrationDataReader):  # type: ignore[misc]
    """Inputs of the quantiser's calibration, one after the other."""

    def __init__(self, feeds: Iterable[Feed]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Feed | None:
        """The next inputs by name; None after the last."""
        return next(self._feeds, None)
