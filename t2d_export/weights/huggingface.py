"""Converts layouts of Hugging Face's transformers to those of the models' authors.

It reads the names in the library's files and the names that its newest version gives the same weights in memory.
Vision transformers: `Dinov2Model`, `Dinov2WithRegistersModel`, `DINOv3ViTModel`, `ViTModel` (DINO, MAE).
CLIP: `CLIPModel`, `CLIPTextModel`, `CLIPTextModelWithProjection`, `CLIPVisionModel`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

VIT_OUTSIDE = {
    "embeddings.cls_token": "cls_token",
    "embeddings.mask_token": "mask_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.register_tokens": "register_tokens",
    "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
    "embeddings.patch_embeddings.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.bias": "patch_embed.proj.bias",
    "layernorm.weight": "norm.weight",
    "layernorm.bias": "norm.bias",
}
"""Names outside the blocks."""

VIT_BLOCK = re.compile(r"(?:encoder\.|model\.)?layer\.(\d+)\.(.+)\.([^.]+)")

VIT_IN_BLOCK = {
    "attention.attention.query": "attn.q",
    "attention.attention.key": "attn.k",
    "attention.attention.value": "attn.v",
    "attention.q_proj": "attn.q",
    "attention.k_proj": "attn.k",
    "attention.v_proj": "attn.v",
    "attention.output.dense": "attn.proj",
    "attention.o_proj": "attn.proj",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "mlp.weights_in": "mlp.w12",
    "mlp.weights_out": "mlp.w3",
    "mlp.up_proj": "mlp.fc1",
    "mlp.down_proj": "mlp.fc2",
}
"""Layers of a block. Other layers have one name on both sides; LayerScale is a parameter."""

CLIP_BLOCK = re.compile(r"encoder\.layers\.(\d+)\.(.+)\.([^.]+)")

CLIP_IN_BLOCK = {
    "self_attn.q_proj": "attn.q",
    "self_attn.k_proj": "attn.k",
    "self_attn.v_proj": "attn.v",
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}

CLIP_OUTSIDE = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding.weight": "conv1.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
    "pre_layrnorm.weight": "ln_pre.weight",
    "pre_layrnorm.bias": "ln_pre.bias",
    "post_layernorm.weight": "ln_post.weight",
    "post_layernorm.bias": "ln_post.bias",
}
"""Names of either tower outside its blocks."""

POSITION_IDS = "embeddings.position_ids"
"""Key of the position numbers that older versions saved."""


def is_vit(tensors: Mapping[str, Tensor]) -> bool:
    """True where these are the keys of one of the vision transformers."""
    return any(key.startswith("embeddings.patch_embeddings.") for key in tensors)


def is_clip(tensors: Mapping[str, Tensor]) -> bool:
    """True where these are the keys of a CLIP, whole or one tower."""
    towers = ("text_model.embeddings.", "vision_model.embeddings.", "embeddings.token_embedding.")
    return any(key.startswith((*towers, "embeddings.patch_embedding.")) for key in tensors)


def from_vit(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys of a vision transformer -> those of DINOv2's authors. Unknown keys stay as they are."""
    renamed = {}
    for key, value in tensors.items():
        match = VIT_BLOCK.fullmatch(key)
        if match is None:
            renamed[VIT_OUTSIDE.get(key, key)] = value
            continue
        number, layer, leaf = match.groups()
        scale = re.fullmatch(r"layer_scale([12])\.lambda1", f"{layer}.{leaf}")
        name = f"ls{scale[1]}.gamma" if scale else f"{VIT_IN_BLOCK.get(layer, layer)}.{leaf}"
        renamed[f"blocks.{number}.{name}"] = value
    return _joined(_swiglu(renamed), "qkv.")


def from_clip(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys of a CLIP -> OpenAI's, with the image tower's under "visual."."""
    renamed = {}
    for key, value in tensors.items():
        bare = key.removeprefix("text_model.").removeprefix("vision_model.")
        if bare == POSITION_IDS:
            continue
        if bare == "text_projection.weight":
            renamed["text_projection"] = value.mT.contiguous() if value.ndim == 2 else value
            continue
        if bare == "visual_projection.weight":
            renamed["visual.proj"] = value
            continue
        match = CLIP_BLOCK.fullmatch(bare)
        if match:
            number, layer, leaf = match.groups()
            bare = f"transformer.resblocks.{number}.{CLIP_IN_BLOCK.get(layer, layer)}.{leaf}"
        else:
            bare = CLIP_OUTSIDE.get(bare, bare)
        vision = key.startswith("vision_model.") or (
            "embeddings.patch_embedding.weight" in tensors and not key.startswith("text_model.")
        )
        renamed[f"visual.{bare}" if vision else bare] = value
    return _joined(renamed, "in_proj_")


def _joined(tensors: Mapping[str, Tensor], joint: str) -> dict[str, Tensor]:
    """Join `attn.q`, `attn.k` and `attn.v` to one matrix and one bias, where all three are present."""
    joined = dict(tensors)
    for key in tensors:
        stem, mark, leaf = key.rpartition("attn.q.")
        parts = [f"{stem}attn.{letter}.{leaf}" for letter in "qkv"]
        if mark and all(part in joined for part in parts) and _alike([joined[part] for part in parts]):
            joined[f"{stem}attn.{joint}{leaf}"] = torch.cat([joined.pop(part) for part in parts])
    return joined


def _alike(parts: list[Tensor]) -> bool:
    """True where one tensor can hold these: their shapes and types are equal. Others stay apart for errors to name."""
    first, *others = parts
    return first.ndim > 0 and all(part.shape == first.shape and part.dtype == first.dtype for part in others)


def _swiglu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert a gated feed-forward: `gate_proj`, `up_proj` (fc1), `down_proj` (fc2) -> DINOv2's w12 and w3."""
    changed = dict(tensors)
    for key in tensors:
        stem, mark, leaf = key.rpartition("mlp.gate_proj.")
        up, down = f"{stem}mlp.fc1.{leaf}", f"{stem}mlp.fc2.{leaf}"
        if mark and up in changed and down in changed and _alike([changed[key], changed[up]]):
            changed[f"{stem}mlp.w12.{leaf}"] = torch.cat([changed.pop(key), changed.pop(up)])
            changed[f"{stem}mlp.w3.{leaf}"] = changed.pop(down)
    return changed
