"""DINOv3 against Meta's published formulas written plainly, and against Hugging Face's transformers.

Each with the periods that timm computes in float32, and with those that Meta's files store, rounded to bfloat16.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch.nn.functional import gelu, layer_norm, linear
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from t2d_export.model.loading import load_backbone
from t2d_export.model.towers import ImageFeatures
from tests.export.weight_files import Tensors, saved, shallow, stored

SIZE = (64, 96)
WIDTH, HEADS, DEPTH, PATCH, PREFIX = 768, 12, 2, 16, 5
PERIODS = 100.0 ** (2 * torch.arange(16, dtype=torch.float32) / 32)
ROUNDED = PERIODS.bfloat16().float()


@pytest.fixture(scope="module")
def weights() -> Tensors:
    """timm's layout without biases of queries, keys and values, as published."""
    tensors = stored(shallow("dinov3_vitb16", DEPTH), SIZE[0])
    return {key: value for key, value in tensors.items() if not key.endswith(("q_bias", "v_bias"))}


def pixels() -> torch.Tensor:
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def metas(weights: Tensors, periods: torch.Tensor) -> Tensors:
    """The same weights in Meta's layout, which stores the periods."""
    tensors = {"rope_embed.periods": periods, "mask_token": torch.zeros(1, WIDTH)}
    for key, value in weights.items():
        key = key.replace("reg_token", "storage_tokens")
        tensors[key.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")] = value
    return tensors


def plain(weights: Tensors, periods: torch.Tensor) -> ImageFeatures:
    """`vision_transformer.py` and `rope_position_encoding.py` of Meta's repository, in its order of computation; the
    logits of the last block before their rotation, as Talk2DINO takes them.
    """
    rows, columns = (side // PATCH for side in SIZE)
    tokens = torch.conv2d(pixels(), weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=PATCH)
    tokens = tokens.flatten(2).mT
    prefix = torch.cat([weights["cls_token"], weights["reg_token"]], dim=1).expand(2, -1, -1)
    tokens = torch.cat([prefix, tokens], dim=1)

    centres = torch.meshgrid((torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij")
    coordinates = 2 * torch.stack(centres, dim=-1).flatten(0, 1) - 1  # (rows * columns, 2) from -1 to 1
    angles = 2 * math.pi * coordinates[:, :, None] / periods
    angles = angles.flatten(1).tile(2)

    def rotated(heads: torch.Tensor) -> torch.Tensor:
        still, turning = heads[:, :, :PREFIX], heads[:, :, PREFIX:]
        first, second = turning.chunk(2, dim=-1)
        turned = turning * angles.cos() + torch.cat([-second, first], dim=-1) * angles.sin()
        return torch.cat([still, turned], dim=2)

    def norm(name: str, values: torch.Tensor) -> torch.Tensor:
        return layer_norm(values, (WIDTH,), weights[f"{name}.weight"], weights[f"{name}.bias"], eps=1e-5)

    for number in range(DEPTH):
        block = f"blocks.{number}"
        qkv = linear(norm(f"{block}.norm1", tokens), weights[f"{block}.attn.qkv.weight"])
        q, k, v = qkv.reshape(2, -1, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        attention = (rotated(q) @ rotated(k).mT / math.sqrt(WIDTH // HEADS)).softmax(dim=-1)
        mixed = (attention @ v).transpose(1, 2).flatten(2)
        mixed = linear(mixed, weights[f"{block}.attn.proj.weight"], weights[f"{block}.attn.proj.bias"])
        tokens = tokens + weights[f"{block}.gamma_1"] * mixed
        inner = gelu(
            linear(norm(f"{block}.norm2", tokens), weights[f"{block}.mlp.fc1.weight"], weights[f"{block}.mlp.fc1.bias"])
        )
        outer = linear(inner, weights[f"{block}.mlp.fc2.weight"], weights[f"{block}.mlp.fc2.bias"])
        tokens = tokens + weights[f"{block}.gamma_2"] * outer
    logits = (q[:, :, :1] @ k[:, :, PREFIX:].mT / math.sqrt(WIDTH // HEADS)).squeeze(2)
    tokens = norm("norm", tokens)
    return ImageFeatures(tokens[:, PREFIX:], logits, tokens[:, 0])


def ours(weights: Tensors, path: Path) -> ImageFeatures:
    backbone, _ = load_backbone(shallow("dinov3_vitb16", DEPTH), saved(weights, path), SIZE)
    with torch.inference_mode():
        features: ImageFeatures = backbone(pixels())
    return features


def distance(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("layout", ["timm", "meta"])
@torch.inference_mode()
def test_it_is_metas_formulas_with_the_periods_of_the_layout(weights: Tensors, layout: str, tmp_path: Path) -> None:
    tensors, own, foreign = (
        (weights, PERIODS, ROUNDED) if layout == "timm" else (metas(weights, ROUNDED), ROUNDED, PERIODS)
    )
    got, expected, other = ours(tensors, tmp_path / "file.safetensors"), plain(weights, own), plain(weights, foreign)
    for name in ImageFeatures._fields:
        assert distance(getattr(got, name), getattr(expected, name)) < 5e-6, name
    assert distance(got.patch_tokens, other.patch_tokens) > 1e-4


def in_transformers(weights: Tensors, periods: torch.Tensor) -> DINOv3ViTModel:
    """Its model with these weights and periods."""
    config = DINOv3ViTConfig(
        hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS, intermediate_size=4 * WIDTH,
        patch_size=PATCH, image_size=SIZE[0], num_register_tokens=4,
    )  # fmt: skip
    model = DINOv3ViTModel(config).eval()
    names = {
        "patch_embed.proj": "embeddings.patch_embeddings", "cls_token": "embeddings.cls_token",
        "reg_token": "embeddings.register_tokens", "blocks": "model.layer", "attn.proj": "attention.o_proj",
        "gamma_": "layer_scale", "mlp.fc1": "mlp.up_proj", "mlp.fc2": "mlp.down_proj",
    }  # fmt: skip
    state = {"embeddings.mask_token": torch.zeros(1, 1, WIDTH)}
    for key, value in weights.items():
        for theirs, its in names.items():
            key = key.replace(theirs, its)
        if "layer_scale" in key:
            state[f"{key}.lambda1"] = value
        elif key.endswith("attn.qkv.weight"):
            layer = key.removesuffix("attn.qkv.weight") + "attention"
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                state[f"{layer}.{letter}_proj.weight"] = part
                if letter != "k":
                    state[f"{layer}.{letter}_proj.bias"] = torch.zeros(WIDTH)
        else:
            state[key] = value
    model.load_state_dict(state)
    model.rope_embeddings.inv_freq.copy_(1 / periods)
    return model


@torch.inference_mode()
def test_it_is_transformers_with_the_same_periods(weights: Tensors, tmp_path: Path) -> None:
    files = {"timm": (weights, PERIODS), "meta": (metas(weights, ROUNDED), ROUNDED)}
    for name, (tensors, periods) in files.items():
        expected = in_transformers(weights, periods)(pixels()).last_hidden_state
        got = ours(tensors, tmp_path / f"{name}.safetensors")
        assert distance(got.patch_tokens, expected[:, PREFIX:]) < 5e-6
        assert distance(got.cls_token, expected[:, 0]) < 5e-6


@torch.inference_mode()
def test_transformers_own_file_has_its_periods_in_float32(weights: Tensors, tmp_path: Path) -> None:
    model = in_transformers(weights, PERIODS)
    expected = model(pixels()).last_hidden_state
    model.save_pretrained(tmp_path / "hf")
    for path in (tmp_path / "hf" / "model.safetensors", saved(dict(model.state_dict()), tmp_path / "m.safetensors")):
        backbone, _ = load_backbone(shallow("dinov3_vitb16", DEPTH), str(path), SIZE)
        assert distance(backbone(pixels()).patch_tokens, expected[:, PREFIX:]) < 5e-6
