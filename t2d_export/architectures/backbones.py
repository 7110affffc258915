"""Every backbone by name: its timm model, normalisation, position rule and published defaults.

Names are those of the authors' hubs. A folder with a config.json describes any other vision transformer of
DINOv2's architecture (see `folder_model.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import timm
import torch
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer

from t2d_export.architectures.position import EXACT_SIZE, OFFSET_SCALE, PositionRule
from t2d_runtime.errors import OptionError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

CLIP_MEAN = (0.4815, 0.4578, 0.4082)
CLIP_STD = (0.2686, 0.2613, 0.2758)
"""CLIP's normalisation, with four digits as in the released Talk2DINO code."""

THRESHOLD = 0.55
LARGE_THRESHOLD = 0.54
"""Background thresholds of the published figures for ViT-B and ViT-L; other sizes have none and take ViT-B's."""

Family = Literal["dinov2", "dino", "mae", "clip", "dinov3"]


@dataclass(frozen=True)
class Architecture:
    """A backbone's facts: how to build it and how to read its checkpoints."""

    name: str
    family: Family
    timm_model: str
    patch_size: int
    positions: PositionRule = EXACT_SIZE
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    threshold: float = THRESHOLD
    timm_arguments: Mapping[str, Any] = field(default_factory=dict)

    def build(self, input_size: tuple[int, int]) -> VisionTransformer | Eva:
        """The timm model for `input_size` (height, width), with its parameters not filled yet.

        Raises OptionError where a side is not a multiple of the patch size.
        """
        if min(input_size) < 1 or any(side % self.patch_size for side in input_size):
            raise OptionError(
                f"input size {input_size[0]}x{input_size[1]}: both sides must be positive multiples of the patch "
                f"size {self.patch_size} of {self.name}"
            )
        with torch.device("meta"):
            model = timm.create_model(
                self.timm_model,
                pretrained=False,
                num_classes=0,
                global_pool="token",
                img_size=input_size,
                dynamic_img_size=False,
                **self.timm_arguments,
            )
        return cast("VisionTransformer | Eva", model)

    def grid(self, input_size: tuple[int, int]) -> tuple[int, int]:
        """Patches (h, w) of an input size."""
        return input_size[0] // self.patch_size, input_size[1] // self.patch_size


def _dinov2() -> list[Architecture]:
    found = []
    for letter, size in {"s": "small", "b": "base", "l": "large", "g": "giant"}.items():
        threshold = LARGE_THRESHOLD if letter == "l" else THRESHOLD
        for suffix, registers, rule in (("", "", OFFSET_SCALE), ("_reg", "_reg4", EXACT_SIZE)):
            timm_model = f"vit_{size}_patch14{registers}_dinov2"
            found.append(
                Architecture(
                    name=f"dinov2_vit{letter}14{suffix}",
                    family="dinov2",
                    timm_model=timm_model,
                    patch_size=14,
                    positions=rule,
                    threshold=threshold,
                )
            )
    return found


def _clip(name: str, timm_model: str, patch_size: int, threshold: float) -> Architecture:
    """An image tower of OpenAI's CLIP, with QuickGELU. timm's plain `clip` models have the same weights but GELU."""
    return Architecture(name, "clip", timm_model, patch_size, EXACT_SIZE, CLIP_MEAN, CLIP_STD, threshold)


def _large(name: str, family: Family, timm_model: str) -> Architecture:
    return Architecture(name, family, timm_model, 16, threshold=LARGE_THRESHOLD)


_ABLATIONS = (
    Architecture("dino_vits16", "dino", "vit_small_patch16_224", 16),
    Architecture("dino_vitb16", "dino", "vit_base_patch16_224", 16),
    Architecture("mae_vitb16", "mae", "vit_base_patch16_224", 16),
    _large("mae_vitl16", "mae", "vit_large_patch16_224"),
    _clip("clip_vitb16", "vit_base_patch16_clip_quickgelu_224", 16, THRESHOLD),
    _clip("clip_vitl14", "vit_large_patch14_clip_quickgelu_224", 14, LARGE_THRESHOLD),
    # With biases, so that files with biases are read exactly; the published ones are zero.
    Architecture("dinov3_vitb16", "dinov3", "vit_base_patch16_dinov3_qkvb", 16),
    _large("dinov3_vitl16", "dinov3", "vit_large_patch16_dinov3_qkvb"),
)
"""Backbones of the paper's ablation, and DINOv3, which the released code supports beside them."""

ARCHITECTURES: Mapping[str, Architecture] = {
    architecture.name: architecture for architecture in (*_dinov2(), *_ABLATIONS)
}


def named_architecture(name: str) -> Architecture:
    """The backbone of this name. Raises OptionError listing the known ones."""
    if name not in ARCHITECTURES:
        raise OptionError(
            f"backbone {name!r} is unknown: expected a folder with a config.json or one of {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[name]
