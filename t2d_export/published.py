"""Which file of which hub holds the published weights of a model, at which commit."""

from __future__ import annotations

from collections.abc import Mapping

from t2d_export.hub import HubFile
from t2d_runtime.errors import WeightsNotFoundError

TALK2DINO = {
    "dinov2_vitb14_reg": HubFile(
        "lorebianchi98/Talk2DINO-ViTB", "d120439255ae423ad0a3f4a13896bb74ae48792f", "model.safetensors"
    ),
}
"""The authors' repositories; one file holds backbone, text tower and projection."""

CLIP_TEXT = HubFile(
    "timm/vit_base_patch16_clip_224.openai",
    "977e3dd0ec55ab8da155f2fbeb6b5f54948b6e3d",
    "open_clip_model.safetensors",
)
"""OpenAI's CLIP ViT-B/16 where open_clip looks for it (`open_clip.pretrained`, tag "openai")."""

BACKBONES: Mapping[str, HubFile] = {}


def backbone_file(name: str) -> HubFile:
    """Published weights of a backbone. Raises WeightsNotFoundError where no commit is known."""
    return _known(BACKBONES, name, "backbone")


def projection_file(name: str) -> HubFile:
    """Published projection for a backbone. Raises WeightsNotFoundError where there is none."""
    return _known(TALK2DINO, name, "projection")


def _known(files: Mapping[str, HubFile], name: str, part: str) -> HubFile:
    if name not in files:
        raise WeightsNotFoundError(
            f"no hub file is known for the {part} of {name}, only for {', '.join(files)}; give a checkpoint file"
        )
    return files[name]
