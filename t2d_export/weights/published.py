"""Published weights of each model: the hub repository, its commit, and the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from t2d_export.weights.hub import HubFile
from t2d_runtime.errors import OptionError, WeightsNotFoundError
from t2d_runtime.storage.hub_names import HubName

TALK2DINO_VITB = HubFile(
    "lorebianchi98/Talk2DINO-ViTB", "d120439255ae423ad0a3f4a13896bb74ae48792f", "model.safetensors"
)
"""The authors' repository: backbone, text tower and projection in one file."""

PROJECTIONS: Mapping[str, HubFile] = {"dinov2_vitb14_reg": TALK2DINO_VITB}
"""Backbone -> the hub file that holds its published projection."""

CLIP_VITB16 = HubFile(
    "timm/vit_base_patch16_clip_224.openai",
    "977e3dd0ec55ab8da155f2fbeb6b5f54948b6e3d",
    "open_clip_model.safetensors",
)
"""OpenAI's CLIP ViT-B/16, both towers, in the repository of open_clip (`open_clip.pretrained`, tag "openai")."""

CLIP_VITL14 = HubFile(
    "timm/vit_large_patch14_clip_224.openai",
    "18d0535469bb561bf468d76c1d73aa35156c922b",
    "open_clip_model.safetensors",
)


def _timm(model: str, revision: str) -> HubFile:
    """The repository from which timm takes a pretrained model (`hf_hub_id` of its configuration)."""
    return HubFile(f"timm/{model}", revision, "model.safetensors")


BACKBONES: Mapping[str, HubFile] = {
    "dinov2_vits14": _timm("vit_small_patch14_dinov2.lvd142m", "4610ca143709d58a633b6397a74412c2c3842454"),
    "dinov2_vitb14": _timm("vit_base_patch14_dinov2.lvd142m", "4685c99dabffe5affac90bd99dbffd25801ae58d"),
    "dinov2_vitb14_reg": TALK2DINO_VITB,
    "dinov2_vitl14": _timm("vit_large_patch14_dinov2.lvd142m", "47b73eefe95e8d44ec3623f8890bd894b6ea2d6c"),
    "dinov2_vitl14_reg": _timm("vit_large_patch14_reg4_dinov2.lvd142m", "f3c408e77602bb412aa65fb03dfa0d5f95cb3832"),
    "dinov2_vitg14_reg": _timm("vit_giant_patch14_reg4_dinov2.lvd142m", "a2208b21b069f6b2e45999870fcce4b7e43d1a2c"),
    "clip_vitb16": CLIP_VITB16,
    "clip_vitl14": CLIP_VITL14,
    "dinov3_vitb16": _timm("vit_base_patch16_dinov3.lvd1689m", "c6a5fb7d12bbd3cf3b0079253141c3332aaed7da"),
}
"""Backbones with a known repository and commit. Others are read from a file."""


@dataclass(frozen=True)
class PublishedModel:
    """A model of the authors: its backbone, and the repository with all three parts in one file."""

    backbone: str
    weights: HubName
    """Without a revision where no commit is known: the newest is taken, and stands in the manifest."""


def _of_authors(name: str, backbone: str) -> PublishedModel:
    return PublishedModel(backbone, HubName(f"lorebianchi98/{name}"))


MODELS: Mapping[str, PublishedModel] = {
    "Talk2DINO-ViTB": PublishedModel("dinov2_vitb14_reg", TALK2DINO_VITB.name),
    "Talk2DINO-ViTL": _of_authors("Talk2DINO-ViTL", "dinov2_vitl14_reg"),
    "Talk2DINOv3-ViTB": _of_authors("Talk2DINOv3-ViTB", "dinov3_vitb16"),
    "Talk2DINOv3-ViTL": _of_authors("Talk2DINOv3-ViTL", "dinov3_vitl16"),
}
"""The published models by name."""


def published_model(name: str) -> PublishedModel:
    """The published model of this name. Raises OptionError listing the known ones."""
    if name not in MODELS:
        raise OptionError(f"model {name!r} is unknown: expected one of {', '.join(MODELS)}")
    return MODELS[name]


def backbone_file(name: str) -> HubFile:
    """Published weights of a backbone. Raises WeightsNotFoundError where no commit is known."""
    return _known(BACKBONES, name, "backbone")


def projection_file(name: str) -> HubFile:
    """Published projection for a backbone. Raises WeightsNotFoundError where there is none."""
    return _known(PROJECTIONS, name, "projection")


def _known(files: Mapping[str, HubFile], name: str, part: str) -> HubFile:
    if name not in files:
        raise WeightsNotFoundError(
            f"no hub file is known for the {part} of {name}, only for {', '.join(files)}; give a checkpoint file"
        )
    return files[name]
