"""Head embeddings of a real backbone are those of the released code's feature extraction."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch

from benchmarks.parity.golden import WINDOW, read_golden
from benchmarks.parity.golden_weights import dinov2_weights
from t2d_export.architectures.backbones import named_architecture
from t2d_export.model.loading import load_backbone
from training.features.encoding import image_vectors

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "vits14_448_coffee.npz"
TOLERANCE = 2e-4  # of the largest magnitude, as for patch tokens: float32 through twelve blocks


def test_head_embeddings_are_the_released_codes(tmp_path):
    golden = read_golden(GOLDEN)
    weights = dinov2_weights(golden.meta["arch"], golden.meta["registers"], golden.meta["seed"])
    safetensors.torch.save_file(weights, tmp_path / "backbone.safetensors")
    architecture = named_architecture(golden.backbone)
    backbone, _ = load_backbone(architecture, str(tmp_path / "backbone.safetensors"), (WINDOW, WINDOW))
    window = torch.from_numpy(golden.window.copy()).permute(2, 0, 1)
    mean, std = (torch.tensor(values)[:, None, None] for values in (backbone.mean, backbone.std))
    with torch.inference_mode():
        vectors = image_vectors(backbone(((window / 255 - mean) / std)[None]))
    for found, key in (
        (vectors.heads[0], "head_embeds_train"),
        (vectors.average[0], "avg_attn_embed_train"),
        (vectors.cls[0], "cls_token"),
    ):
        expected = torch.from_numpy(golden.arrays[key])
        assert (found - expected).abs().max() <= TOLERANCE * expected.abs().max(), key
