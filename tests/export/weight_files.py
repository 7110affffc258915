"""Weights of published layouts, random and small, for the tests that load them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from t2d_export.architectures.backbones import ARCHITECTURES, Architecture
from t2d_export.weights.random_weights import random_tensors

Tensors = dict[str, torch.Tensor]


def shallow(name: str, depth: int = 1) -> Architecture:
    """A published backbone with fewer blocks."""
    return replace(ARCHITECTURES[name], timm_arguments={"depth": depth})


def stored(architecture: Architecture, side: int) -> Tensors:
    """Random weights in timm's layout, with positions for a square of `side` pixels."""
    return random_tensors(architecture.build((side, side)).state_dict(), name=architecture.name)


def saved(tensors: Tensors, path: Path) -> str:
    save_file({key: value.clone().contiguous() for key, value in tensors.items()}, path)
    return str(path)


def dinov2_authors(timm_layout: Tensors) -> Tensors:
    """timm's layout -> the released one, whose positions are (1, 1+P, D) and whose SwiGLU is w12, w3."""
    tensors = dict(timm_layout)
    if "reg_token" in tensors:
        tensors["register_tokens"] = tensors.pop("reg_token")
        # Not one value for all channels: LayerNorm would take that off again.
        cls_position = torch.linspace(-1, 1, tensors["cls_token"].shape[-1])[None, None]
        tensors["cls_token"] = tensors["cls_token"] - cls_position
        tensors["pos_embed"] = torch.cat([cls_position, tensors["pos_embed"]], dim=1)
    tensors["mask_token"] = torch.zeros(1, tensors["cls_token"].shape[-1])
    return tensors
