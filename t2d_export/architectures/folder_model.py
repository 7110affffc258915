"""A model in a folder with config.json and weights, for any ViT of DINOv2's architecture.

config.json             the fields of `FolderConfig`
backbone.safetensors    in DINOv2's key layout
text.safetensors        in the layout of OpenAI's CLIP, text tower only
projection.safetensors  in the layout of the released Talk2DINO projections
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from t2d_export.architectures.backbones import IMAGENET_MEAN, IMAGENET_STD, THRESHOLD, Architecture
from t2d_export.architectures.position import EXACT_SIZE, OFFSET_SCALE
from t2d_runtime.bundle.manifest import WindowSettings
from t2d_runtime.errors import WeightsError
from t2d_runtime.storage.strict_json import parse_json

CONFIG = "config.json"
BACKBONE = "backbone.safetensors"
TEXT = "text.safetensors"
PROJECTION = "projection.safetensors"


@dataclass(frozen=True)
class TextConfig:
    """A text tower of CLIP's architecture with CLIP's tokenizer; `activation` is quick_gelu or gelu."""

    width: int
    layers: int
    heads: int
    context_length: int
    embed_dim: int
    activation: str


@dataclass(frozen=True)
class WindowConfig:
    """The sliding window in pixels of the resized image; windows are square."""

    short_side: int
    crop_size: int
    stride: int
    max_long_side: int = 2048


@dataclass(frozen=True)
class FolderConfig:
    """The content of config.json. `image_size` is the square input size, in pixels, that the model was trained at."""

    architecture: str
    embed_dim: int
    depth: int
    num_heads: int
    patch_size: int
    num_register_tokens: int
    image_size: int
    text: TextConfig
    windows: WindowConfig
    mlp_ratio: float = 4.0
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    threshold: float = THRESHOLD

    def backbone(self, name: str) -> Architecture:
        """The model's vision transformer."""
        registers = self.num_register_tokens
        return Architecture(
            name=name,
            family="dinov2",
            timm_model="vit_small_patch14_dinov2",
            patch_size=self.patch_size,
            positions=EXACT_SIZE if registers else OFFSET_SCALE,
            mean=self.mean,
            std=self.std,
            threshold=self.threshold,
            timm_arguments={
                "patch_size": self.patch_size,
                "embed_dim": self.embed_dim,
                "depth": self.depth,
                "num_heads": self.num_heads,
                "mlp_ratio": self.mlp_ratio,
                "reg_tokens": registers,
                # As in timm's models with registers, where positions belong to patches alone.
                "no_embed_class": registers > 0,
            },
        )

    def window_settings(self) -> WindowSettings:
        """The model's sliding window, in the manifest's form."""
        windows = self.windows
        return WindowSettings(
            short_side=windows.short_side,
            max_long_side=windows.max_long_side,
            crop_size=(windows.crop_size, windows.crop_size),
            stride=(windows.stride, windows.stride),
        )


def read_config(folder: Path) -> FolderConfig:
    """Read a folder's config.json strictly: every key known, present and of its type.

    Raises WeightsError, which names the key.
    """
    path = folder / CONFIG
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read as JSON ({error})") from error
    config = parse_json(FolderConfig, content, str(path), WeightsError)
    if config.architecture != "dinov2":
        raise WeightsError(f"{path}: architecture is {config.architecture!r}, expected 'dinov2'")
    if config.text.activation not in ("quick_gelu", "gelu"):
        raise WeightsError(f"{path}: text.activation is {config.text.activation!r}, expected quick_gelu or gelu")
    sizes = (config.embed_dim, config.depth, config.num_heads, config.patch_size, config.image_size)
    if min(*sizes, config.text.width, config.text.layers, config.text.heads) < 1 or config.num_register_tokens < 0:
        raise WeightsError(f"{path}: widths, depths, heads and sizes must be positive")
    if config.embed_dim % config.num_heads or config.text.width % config.text.heads:
        raise WeightsError(f"{path}: embed_dim and text.width must be multiples of their numbers of heads")
    return config
