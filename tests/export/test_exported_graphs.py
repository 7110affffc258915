"""Every backbone of the ablations and every variant of the projection exports, and gives what PyTorch gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from t2d_export.architectures.backbones import ARCHITECTURES
from t2d_export.encoders.graphs import ImageEncoderGraph, TextEncoderGraph
from t2d_export.encoders.to_onnx import export_image_encoder, export_text_encoder
from t2d_export.model.loading import load_backbone
from t2d_export.model.projection import (
    BothProjection,
    LastBlockProjection,
    Projection,
    TextProjection,
    VisualProjection,
    state_dict_in_authors_layout,
)
from t2d_export.model.reference import PUBLISHED_WINDOWS, Reference, load_reference
from t2d_export.weights.random_weights import random_tensors
from t2d_runtime.proof.parity import TOKEN_TOLERANCE, compare_values

TEXT_DIM, EMBED_DIM = 24, 48
"""Of the small model in `conftest.py`."""


def run(path: Path, inputs: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def shallow(name: str, depth: int, size: tuple[int, int], model_folder: Path) -> Reference:
    """A backbone of a few blocks with random weights, and the small model's text side."""
    architecture = replace(ARCHITECTURES[name], timm_arguments={"depth": depth})
    backbone, source = load_backbone(architecture, "random", size)
    small = load_reference(backbone=str(model_folder))
    projection = TextProjection(TEXT_DIM, backbone.embed_dim)
    sources = {**small.sources, "backbone": source}
    return Reference(backbone, small.text_tower, projection, 0.55, PUBLISHED_WINDOWS, sources)


def assert_same_image_features(reference: Reference, path: Path) -> None:
    export_image_encoder(ImageEncoderGraph(reference), path)
    height, width = reference.backbone.input_size
    pixels = torch.randn(3, 3, height, width, generator=torch.Generator().manual_seed(1))
    got = run(path, {"pixel_values": pixels.numpy()})
    with torch.inference_mode():
        expected = reference.image_features(pixels)
    h, w = reference.backbone.grid_size
    assert got["patch_tokens"].shape[:2] == (3, h * w)
    assert got["cls_attention"].shape == (3, reference.backbone.num_heads, h * w)
    for name, tensor in expected._asdict().items():
        parity = compare_values(name, tensor.numpy(), got[name], tolerance=TOKEN_TOLERANCE, relative=True)
        assert parity.passed, parity


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("dinov2_vitg14_reg", (28, 42)),
        ("dino_vits16", (48, 32)),  # MAE's is the same architecture
        ("clip_vitb16", (32, 48)),
        ("dinov3_vitb16", (32, 48)),
    ],
)
def test_backbones(model_folder: Path, tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    assert_same_image_features(shallow(name, 1, size, model_folder), tmp_path / "image.onnx")


def test_gelu_is_one_operator_of_onnxruntime(model_folder: Path, tmp_path: Path) -> None:
    reference = shallow("dinov2_vits14_reg", 2, (28, 42), model_folder)
    export_image_encoder(ImageEncoderGraph(reference), tmp_path / "image.onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns that the file below is for this processor alone
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(tmp_path / "image.onnx", options, providers=["CPUExecutionProvider"])
    operators = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert operators["BiasGelu"] == 2
    assert operators["Erf"] == 0


VARIANTS: dict[str, tuple[Projection, bool]] = {
    "affine": (TextProjection(TEXT_DIM, EMBED_DIM, hidden_layers=0), False),
    "visual": (VisualProjection(TEXT_DIM, EMBED_DIM, 30), False),
    "both": (BothProjection(TEXT_DIM, EMBED_DIM), False),
    "averaged text tokens": (TextProjection(TEXT_DIM, EMBED_DIM), True),
    "last block": (LastBlockProjection(TEXT_DIM, EMBED_DIM, width=32, heads=2), False),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_of_the_projection(model_folder: Path, tmp_path: Path, variant: str) -> None:
    projection, average_tokens = VARIANTS[variant]
    projection.load_state_dict(random_tensors(projection.state_dict(), name=variant))
    save_file(state_dict_in_authors_layout(projection), tmp_path / "projection.safetensors")
    reference = load_reference(
        backbone=str(model_folder), projection=str(tmp_path / "projection.safetensors"), average_tokens=average_tokens
    )
    if variant in ("visual", "both"):
        assert_same_image_features(reference, tmp_path / "image.onnx")
    export_text_encoder(TextEncoderGraph(reference), tmp_path / "text.onnx")
    ids = np.random.default_rng(0).integers(1, 49000, (3, 2, 7))
    ids[:, 0, 4:] = 0
    ids[:, 0, 4], ids[:, 1, -1] = 49407, 49407
    with torch.inference_mode():
        expected = reference.text_embeds(torch.from_numpy(ids)).numpy()
    got = run(tmp_path / "text.onnx", {"input_ids": ids})["text_embeds"]
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, atol=1e-6, rtol=0)
