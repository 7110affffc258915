"""One backbone of every architecture, exported: the graph gives what the reference gives, at any batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from t2d_export.backbones import ARCHITECTURES
from t2d_export.graphs import ImageEncoderGraph
from t2d_export.loading import load_backbone, load_projection, load_text_tower
from t2d_export.reference import PUBLISHED_WINDOWS, Reference
from t2d_export.to_onnx import export_image_encoder
from t2d_export.towers import TextTower


@pytest.fixture(scope="module")
def text_tower() -> TextTower:
    return load_text_tower("random")[0]


@pytest.mark.parametrize("name", ["dinov2_vitg14", "clip_vitb16", "dinov3_vitb16"])
def test_the_exported_backbone_equals_the_reference(tmp_path: Path, text_tower: TextTower, name: str) -> None:
    """DINO and MAE are the architecture of DINOv2 without registers, which the golden files cover."""
    architecture = replace(ARCHITECTURES[name], timm_arguments={"depth": 1})
    size = (2 * architecture.patch_size, 3 * architecture.patch_size)
    backbone, _ = load_backbone(architecture, "random", size)
    projection, _ = load_projection("random", backbone, text_tower)
    reference = Reference(backbone, text_tower, projection, 0.55, PUBLISHED_WINDOWS, {})
    path = tmp_path / "image_encoder.onnx"
    export_image_encoder(ImageEncoderGraph(reference), path)
    pixels = torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = reference.image_features(pixels)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs = session.run(list(expected._fields), {"pixel_values": pixels.numpy()})
    for output, value in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(output, value.numpy(), rtol=0, atol=5e-5)
