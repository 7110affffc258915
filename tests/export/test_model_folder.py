"""Folders with a config.json: their own weights and settings, or an error that names the key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from t2d_export.model.projection import TextProjection
from t2d_export.model.reference import load_reference
from t2d_export.weights.random_weights import random_tensors
from t2d_runtime.errors import WeightsError
from tests.export.weight_files import saved


def test_a_folder_brings_its_own_weights_and_settings(model_folder: Path) -> None:
    reference = load_reference(backbone=str(model_folder))
    stored_tokens = load_file(model_folder / "backbone.safetensors")
    cls_token = stored_tokens["cls_token"] + stored_tokens["pos_embed"][:, :1]
    assert torch.equal(reference.backbone.vit.cls_token, cls_token)
    assert reference.backbone.input_size == (56, 56)
    assert reference.backbone.num_prefix_tokens == 5
    assert reference.backbone.std == (0.2, 0.2, 0.2)
    assert reference.threshold == 0.52
    assert reference.windows.stride == (28, 28)
    assert reference.text_tower.heads == 2
    assert reference.sources["text"].name == "text.safetensors"


def test_weights_given_win_over_the_folders(model_folder: Path) -> None:
    reference = load_reference(backbone=str(model_folder), projection="random", text_weights="random")
    assert reference.sources["projection"].sha256 is None
    assert reference.sources["backbone"].sha256 is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": "two"}, "depth is 'two', expected int"),
        ({"depth": 0}, "must be positive"),
        ({"colour": 1}, r"unknown keys \['colour'\]"),
        ({"architecture": "swin"}, "architecture is 'swin', expected 'dinov2'"),
        ({"num_heads": 5}, "must be multiples of their numbers of heads"),
        ({"mean": [0.5]}, "mean has 1 entries, expected 3"),
        ({"windows": {"short_side": 56}}, r"windows: missing keys \['crop_size', 'stride'\]"),
        ({"text": {"width": 8}}, "text: missing keys"),
    ],
)
def test_a_wrong_config_names_the_key(model_folder: Path, change: dict[str, object], message: str) -> None:
    path = model_folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(WeightsError, match=message):
        load_reference(backbone=str(model_folder))


def test_a_config_that_is_no_json_is_refused(model_folder: Path) -> None:
    (model_folder / "config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"config.json cannot be read as JSON"):
        load_reference(backbone=str(model_folder))


def test_a_projection_for_another_backbone_is_refused(model_folder: Path, tmp_path: Path) -> None:
    other = random_tensors(TextProjection(24, 64).state_dict(), name="projection")
    with pytest.raises(WeightsError, match="trained for another backbone"):
        load_reference(backbone=str(model_folder), projection=saved(other, tmp_path / "other.safetensors"))
