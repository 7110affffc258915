"""The small model's two towers for training, and the folder that describes them.

They are the modules of `t2d_export.model.towers`, so that the trained model is exactly the exported one.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Final

import torch
from open_clip.transformer import QuickGELU, TextTransformer
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from t2d_export.architectures.folder_model import BACKBONE, CONFIG, TEXT, FolderConfig, TextConfig, WindowConfig
from t2d_export.model.loading import CLIP_VOCABULARY
from t2d_export.model.towers import Backbone, ImageFeatures, TextTower

SMALL_MODEL: Final = FolderConfig(
    architecture="dinov2",
    embed_dim=192,
    depth=4,
    num_heads=6,
    patch_size=14,
    num_register_tokens=4,
    image_size=224,
    text=TextConfig(width=64, layers=3, heads=4, context_length=77, embed_dim=64, activation="quick_gelu"),
    windows=WindowConfig(short_side=224, crop_size=224, stride=112),
)
LAYER_SCALE: Final = 0.2
"""Initial LayerScale. DINOv2's 1e-5 is for deep models and long training; four blocks do not need it."""


class TrainableBackbone(Backbone):
    """A DINOv2 backbone that can be trained on a part of the patches."""

    def __init__(self, config: FolderConfig) -> None:
        vit = VisionTransformer(
            img_size=config.image_size,
            patch_size=config.patch_size,
            embed_dim=config.embed_dim,
            depth=config.depth,
            num_heads=config.num_heads,
            mlp_ratio=config.mlp_ratio,
            init_values=LAYER_SCALE,
            reg_tokens=config.num_register_tokens,
            no_embed_class=True,
            num_classes=0,
            global_pool="",
        )
        size = (config.image_size, config.image_size)
        super().__init__(vit, name="small", input_size=size, mean=config.mean, std=config.std)
        for block in vit.blocks[:-1]:
            # Seen 1.7 times faster on a CPU in bfloat16, and 4 times with half of the patches, than torch's fused
            # attention, whose backward pass is slow there.
            attention: Any = block.attn
            attention.fused_attn = False

    def forward(self, pixel_values: Tensor, keep: Tensor | None = None) -> ImageFeatures:
        """Features as in `Backbone.forward`; `keep` (B,K) int64 are the patches to encode (None: all)."""
        if keep is None:
            return super().forward(pixel_values)
        patches = self.vit.patch_embed(pixel_values) + self.vit.pos_embed
        patches = patches.gather(1, keep[:, :, None].expand(-1, -1, patches.shape[2]))
        prefix = torch.cat([self.vit.cls_token, self.vit.reg_token], dim=1).expand(len(patches), -1, -1)
        tokens = torch.cat([prefix, patches], dim=1)
        for block in self.vit.blocks[:-1]:
            tokens = block(tokens)
        return self._features(*self._last_block(tokens))


def new_text_tower(config: TextConfig) -> TextTower:
    """An untrained text tower."""
    transformer = TextTransformer(
        context_length=config.context_length,
        vocab_size=CLIP_VOCABULARY,
        width=config.width,
        heads=config.heads,
        layers=config.layers,
        output_dim=config.embed_dim,
        act_layer=QuickGELU,
        no_causal_mask=True,  # the tower makes its own mask, as long as its input
    )
    return TextTower(transformer)


def round_to_half(tower: Backbone | TextTower) -> None:
    """Round the weights to float16, so that the model equals its files from here on."""
    with torch.no_grad():
        for weight in tower.parameters():
            weight.copy_(weight.half().float())


def save_towers(folder: Path, config: FolderConfig, backbone: Backbone, text: TextTower) -> None:
    """Write config.json, backbone.safetensors (DINOv2's layout), text.safetensors (CLIP's layout), in float16."""
    write_config(folder, config)
    vit = dict(backbone.vit.state_dict())
    positions = vit.pop("pos_embed")
    vit["register_tokens"] = vit.pop("reg_token")
    vit["mask_token"] = torch.zeros(1, config.embed_dim)
    # With registers, timm has no position for CLS; DINOv2's layout has one.
    vit["pos_embed"] = torch.cat([torch.zeros_like(positions[:, :1]), positions], dim=1)
    save_file({key: value.half().contiguous() for key, value in vit.items()}, folder / BACKBONE)
    tower = text.transformer.state_dict()
    save_file({key: value.half().contiguous() for key, value in tower.items()}, folder / TEXT)


def write_config(folder: Path, config: FolderConfig) -> None:
    """Write config.json."""
    (folder / CONFIG).write_text(json.dumps(dataclasses.asdict(config), indent=2) + "\n")
