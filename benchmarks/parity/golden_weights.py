"""Draws the golden files' random weights again, in the layouts of the published checkpoints.

Every tensor has its own generator, seeded by its name, so that any machine makes the same weights and no file needs to
store them.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

PATCH_SIZE = 14
STORED_GRID = 37
"""Patches along a side of the 518 x 518 pixels at which DINOv2's positions are stored."""

TEXT_WIDTH, TEXT_BLOCKS, CONTEXT_LENGTH, VOCABULARY = 512, 12, 77, 49408


class Size(NamedTuple):
    """Width and number of blocks of a vision transformer."""

    width: int
    blocks: int


SIZES = {
    "vits14": Size(384, 12),
    "vitb14": Size(768, 12),
    "vitl14": Size(1024, 24),
    "dinov3_vitb16": Size(768, 12),
    "dinov3_vitl16": Size(1024, 24),
}

DINOV3_PATCH_SIZE = 16
DINOV3_REGISTERS = 4


class Draw:
    """Collects tensors by key: mean + std * standard normal, float32."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.tensors: dict[str, Tensor] = {}

    def __call__(self, key: str, shape: tuple[int, ...], std: float, mean: float = 0.0) -> None:
        """Draw one tensor."""
        generator = np.random.default_rng([self.seed, zlib.crc32(key.encode())])
        values = (mean + std * generator.standard_normal(shape)).astype(np.float32)
        self.tensors[key] = torch.from_numpy(values)

    def norm(self, prefix: str, width: int) -> None:
        """A LayerNorm."""
        self(f"{prefix}.weight", (width,), 0.1, 1.0)
        self(f"{prefix}.bias", (width,), 0.05)


def dinov2_weights(arch: str, registers: int, seed: int, blocks: int | None = None) -> dict[str, Tensor]:
    """A DINOv2 checkpoint in its authors' layout; `blocks` cuts it short."""
    width = SIZES[arch].width
    draw = Draw(seed)
    draw("cls_token", (1, 1, width), 0.5)
    draw("pos_embed", (1, 1 + STORED_GRID**2, width), 0.3)
    if registers:
        draw("register_tokens", (1, registers, width), 0.5)
    draw("mask_token", (1, width), 0.02)
    draw("patch_embed.proj.weight", (width, 3, PATCH_SIZE, PATCH_SIZE), 0.04)
    draw("patch_embed.proj.bias", (width,), 0.05)
    for index in range(blocks or SIZES[arch].blocks):
        prefix = f"blocks.{index}"
        draw.norm(f"{prefix}.norm1", width)
        draw.norm(f"{prefix}.norm2", width)
        draw(f"{prefix}.attn.qkv.weight", (3 * width, width), 1.4 / width**0.5)
        draw(f"{prefix}.attn.qkv.bias", (3 * width,), 0.1)
        draw(f"{prefix}.attn.proj.weight", (width, width), 1.0 / width**0.5)
        draw(f"{prefix}.attn.proj.bias", (width,), 0.02)
        draw(f"{prefix}.ls1.gamma", (width,), 0.05, 0.35)
        draw(f"{prefix}.mlp.fc1.weight", (4 * width, width), 1.0 / width**0.5)
        draw(f"{prefix}.mlp.fc1.bias", (4 * width,), 0.05)
        draw(f"{prefix}.mlp.fc2.weight", (width, 4 * width), 1.0 / width**0.5)
        draw(f"{prefix}.mlp.fc2.bias", (width,), 0.02)
        draw(f"{prefix}.ls2.gamma", (width,), 0.05, 0.35)
    draw.norm("norm", width)
    return draw.tensors


def dinov3_weights(arch: str, seed: int, blocks: int | None = None) -> dict[str, Tensor]:
    """A DINOv3 checkpoint in timm's layout without query, key and value biases; `blocks` cuts it short."""
    width = SIZES[arch].width
    draw = Draw(seed)
    draw("cls_token", (1, 1, width), 0.5)
    draw("reg_token", (1, DINOV3_REGISTERS, width), 0.5)
    draw("patch_embed.proj.weight", (width, 3, DINOV3_PATCH_SIZE, DINOV3_PATCH_SIZE), 0.035)
    draw("patch_embed.proj.bias", (width,), 0.05)
    for index in range(blocks or SIZES[arch].blocks):
        prefix = f"blocks.{index}"
        draw(f"{prefix}.gamma_1", (width,), 0.05, 0.35)
        draw(f"{prefix}.gamma_2", (width,), 0.05, 0.35)
        draw.norm(f"{prefix}.norm1", width)
        draw.norm(f"{prefix}.norm2", width)
        draw(f"{prefix}.attn.qkv.weight", (3 * width, width), 1.4 / width**0.5)
        draw(f"{prefix}.attn.proj.weight", (width, width), 1.0 / width**0.5)
        draw(f"{prefix}.attn.proj.bias", (width,), 0.02)
        draw(f"{prefix}.mlp.fc1.weight", (4 * width, width), 1.0 / width**0.5)
        draw(f"{prefix}.mlp.fc1.bias", (4 * width,), 0.05)
        draw(f"{prefix}.mlp.fc2.weight", (width, 4 * width), 1.0 / width**0.5)
        draw(f"{prefix}.mlp.fc2.bias", (width,), 0.02)
    draw.norm("norm", width)
    return draw.tensors


def clip_text_weights(seed: int) -> dict[str, Tensor]:
    """The text tower of CLIP ViT-B/16 in OpenAI's layout."""
    width = TEXT_WIDTH
    draw = Draw(seed)
    draw("token_embedding.weight", (VOCABULARY, width), 0.5)
    draw("positional_embedding", (CONTEXT_LENGTH, width), 0.03)
    for index in range(TEXT_BLOCKS):
        prefix = f"transformer.resblocks.{index}"
        draw(f"{prefix}.attn.in_proj_weight", (3 * width, width), 1.2 / width**0.5)
        draw(f"{prefix}.attn.in_proj_bias", (3 * width,), 0.05)
        draw(f"{prefix}.attn.out_proj.weight", (width, width), 0.7 / width**0.5)
        draw(f"{prefix}.attn.out_proj.bias", (width,), 0.02)
        draw.norm(f"{prefix}.ln_1", width)
        draw.norm(f"{prefix}.ln_2", width)
        draw(f"{prefix}.mlp.c_fc.weight", (4 * width, width), 0.8 / width**0.5)
        draw(f"{prefix}.mlp.c_fc.bias", (4 * width,), 0.02)
        draw(f"{prefix}.mlp.c_proj.weight", (width, 4 * width), 0.7 / width**0.5)
        draw(f"{prefix}.mlp.c_proj.bias", (width,), 0.02)
    draw.norm("ln_final", width)
    draw("text_projection", (width, width), 1.0 / width**0.5)
    return draw.tensors


def projection_weights(arch: str, seed: int) -> dict[str, Tensor]:
    """A projection in the released layout, from CLIP's text to this backbone."""
    width = SIZES[arch].width
    draw = Draw(seed)
    draw("linear_layer.weight", (width, TEXT_WIDTH), 6.0 / TEXT_WIDTH**0.5)
    draw("linear_layer.bias", (width,), 0.02)
    draw("hidden_layers.0.weight", (width, width), 1.0 / width**0.5)
    draw("hidden_layers.0.bias", (width,), 0.02)
    return draw.tensors
