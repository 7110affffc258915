"""A small model in a folder and a small CLIP, for the tests of the export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from t2d_export.architectures.folder_model import read_config
from t2d_export.model.loading import _empty_text_transformer
from t2d_export.model.projection import TextProjection
from t2d_export.weights.random_weights import random_tensors

SMALL_CONFIG: dict[str, Any] = {
    "architecture": "dinov2",
    "embed_dim": 48,
    "depth": 2,
    "num_heads": 2,
    "patch_size": 14,
    "num_register_tokens": 4,
    "image_size": 56,
    "mlp_ratio": 4.0,
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.2, 0.2],
    "text": {
        "width": 32,
        "layers": 2,
        "heads": 2,
        "context_length": 12,
        "embed_dim": 24,
        "activation": "gelu",
    },
    "windows": {"short_side": 56, "crop_size": 56, "stride": 28},
    "threshold": 0.52,
}


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A folder with a config.json and random weights in the authors' layouts."""
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(SMALL_CONFIG))
    config = read_config(folder)
    architecture = config.backbone("small")
    timm_layout = random_tensors(architecture.build((56, 56)).state_dict(), name="backbone")
    backbone = {
        "cls_token": timm_layout.pop("cls_token"),
        "register_tokens": timm_layout.pop("reg_token"),
        "mask_token": torch.zeros(1, config.embed_dim),
    }
    positions = timm_layout.pop("pos_embed")
    backbone["pos_embed"] = torch.cat([positions[:, :1] * 0.5, positions], dim=1)
    save_file({**timm_layout, **backbone}, folder / "backbone.safetensors")
    text = _empty_text_transformer(config.text).state_dict()
    save_file(random_tensors(text, name="text"), folder / "text.safetensors")
    projection = TextProjection(config.text.embed_dim, config.embed_dim).state_dict()
    save_file(random_tensors(projection, name="projection"), folder / "projection.safetensors")
    return folder


@pytest.fixture(scope="session")
def clip() -> open_clip.model.CLIP:
    """A small CLIP of OpenAI's architecture."""
    model = open_clip.model.CLIP(
        24,
        open_clip.model.CLIPVisionCfg(layers=1, width=64, patch_size=16, image_size=32),
        open_clip.model.CLIPTextCfg(context_length=16, width=128, heads=2, layers=2),
        quick_gelu=True,
    ).eval()
    model.load_state_dict(random_tensors(model.state_dict(), name="clip"))
    return model
