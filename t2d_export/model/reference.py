"""The PyTorch reference: a whole Talk2DINO model in plain code. Everything else is compared with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from t2d_export.architectures import folder_model
from t2d_export.architectures.backbones import named_architecture
from t2d_export.architectures.folder_model import read_config
from t2d_export.model.loading import load_backbone, load_projection, load_text_tower
from t2d_export.model.projection import LastBlockProjection, Projection
from t2d_export.model.reference_masks import (
    LAMBDA,
    NORM_EPSILON,
    clean,
    cosine_similarity,
    pamr,
    stitch,
    upsample,
)
from t2d_export.model.towers import Backbone, ImageFeatures, TextTower, end_positions
from t2d_export.weights.sources import HUB
from t2d_export.weights.text_facts import ACTIVATIONS, Activation
from t2d_runtime.bundle.manifest import Source, WindowSettings
from t2d_runtime.checks import checked_number
from t2d_runtime.errors import OptionError
from t2d_runtime.image.preprocess import resize
from t2d_runtime.image.windows import resized_size, window_boxes
from t2d_runtime.results.options import Cleaning

__all__ = [
    "LAMBDA",
    "NORM_EPSILON",
    "PUBLISHED_INPUT_SIZE",
    "PUBLISHED_WINDOWS",
    "Backbone",
    "ImageFeatures",
    "Reference",
    "TextTower",
    "load_reference",
    "mean_of_words",
]

PUBLISHED_WINDOWS = WindowSettings(short_side=448, max_long_side=2048, crop_size=(448, 448), stride=(224, 224))
"""The sliding window of every published evaluation, whatever the input size."""

PUBLISHED_INPUT_SIZE = (448, 448)
"""Input size of every published evaluation; the paper's text says 518."""


@dataclass(frozen=True, eq=False)
class Reference:
    """Backbone, text tower and projection, with their authors' settings."""

    backbone: Backbone
    text_tower: TextTower
    projection: Projection
    threshold: float
    """Default background threshold, 0 to 1."""
    windows: WindowSettings
    sources: Mapping[str, Source]
    """Origin of the weights of "backbone", "text" and "projection"."""
    average_tokens: bool = False
    """True takes the mean over a prompt's tokens instead of its end token (an ablation)."""

    def image_features(self, pixel_values: Tensor) -> ImageFeatures:
        """Normalised pixels (B,3,H,W) -> features; patch tokens (B,P,D) in the space shared with text."""
        features: ImageFeatures = self.backbone(pixel_values)
        return features._replace(patch_tokens=self.projection.project_visual(features.patch_tokens))

    def text_embeds(self, input_ids: Tensor) -> Tensor:
        """Token ids (N,T,L) of N classes' T prompts -> (N,D) of norm 1.

        Prompts are averaged before the projection, which is not linear (`build_text_embedding` of the released code).
        Where CLIP's last block was trained, they are averaged after it.
        """
        N, T, L = input_ids.shape
        ids = input_ids.reshape(N * T, L)
        if isinstance(self.projection, LastBlockProjection):
            hidden = self.text_tower.hidden_states(ids, without_last_block=True)
            features = self.projection.end_feature(hidden, end_positions(ids))
            embeds = self.projection.project_text(features).reshape(N, T, -1).mean(dim=1)
        else:
            embeds = self.projection.project_text(self.text_features(ids).reshape(N, T, -1).mean(dim=1))
        return functional.normalize(embeds, dim=-1, eps=NORM_EPSILON)

    def text_features(self, input_ids: Tensor) -> Tensor:
        """Raw features (n,text width) of prompts (n,L): those of the end token, or the mean over the words.

        The mean is over the tokens between start and end (`average_text_tokens` of the released code).
        """
        if not self.average_tokens:
            features: Tensor = self.text_tower(input_ids)
            return features
        tokens = self.text_tower.token_features(input_ids)
        return mean_of_words(tokens, input_ids)

    def pixel_values(self, windows: Tensor) -> Tensor:
        """RGB windows (B,3,h,w) uint8 -> normalised pixels (B,3,H,W) float32 at the input size.

        The resize is bilinear with antialiasing on float pixels and ignores the aspect ratio (`image_transforms` of the
        released code). A window at the input size is not resized.
        """
        pixels = windows.float()
        size = self.backbone.input_size
        if pixels.shape[-2:] != size:
            pixels = functional.interpolate(pixels, size=size, mode="bilinear", align_corners=False, antialias=True)
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.backbone.mean, self.backbone.std))
        return (pixels / 255 - mean) / std

    @torch.inference_mode()
    def segment_window(
        self,
        window: Tensor,
        text_embeds: Tensor,
        *,
        cleaning: Cleaning | None = None,
        cleaning_weight: float = LAMBDA,
        refine: bool = False,
    ) -> Tensor:
        """Scores (N,h,w), 0 to 1, of the pixels of an RGB window (3,h,w) uint8 (`generate_masks`)."""
        tokens, attention, _ = (value[0] for value in self.image_features(self.pixel_values(window[None])))
        scores = clean(
            cosine_similarity(tokens, text_embeds),
            tokens,
            attention,
            text_embeds,
            cleaning=cleaning,
            weight=cleaning_weight,
        )
        height, width = window.shape[-2:]
        patches = scores.reshape(-1, *self.backbone.grid_size)
        planes = upsample(patches, (height, width), align_corners=True)
        return pamr(window, planes) if refine else planes

    @torch.inference_mode()
    def segment_sliding(
        self,
        image: Tensor,
        text_embeds: Tensor,
        *,
        resized: Tensor | None = None,
        cleaning: Cleaning | None = None,
        cleaning_weight: float = LAMBDA,
        refine: bool = False,
    ) -> Tensor:
        """Scores (N,H,W) of an RGB image (3,H,W) uint8 by overlapping windows (`slide_inference`).

        Each window is cleaned and refined by itself. The scores are averaged at the working size and resized to the
        image's. `resized` (3,H',W') uint8 is the image at the working size; None resizes it here.
        """
        height, width = image.shape[-2:]
        if resized is None:
            working_size = resized_size((height, width), self.windows)
            resized = torch.from_numpy(resize(image.permute(1, 2, 0).numpy(), working_size)).permute(2, 0, 1)
        size = resized.shape[-2], resized.shape[-1]
        boxes = window_boxes(size, self.windows)
        scores = (
            self.segment_window(
                resized[(slice(None), *box.region)],
                text_embeds,
                cleaning=cleaning,
                cleaning_weight=cleaning_weight,
                refine=refine,
            )
            for box in boxes
        )
        return upsample(stitch(scores, boxes, (len(text_embeds), *size)), (height, width), align_corners=False)


def mean_of_words(token_features: Tensor, input_ids: Tensor) -> Tensor:
    """Mean (n,C) of token features (n,L,C) between the start token and the end token of (n,L) ids.

    A prompt without a word between them gives zeros. The released code masks by `text > 0`, which takes "!" (id 0) for
    padding, and then the last word for the end token. This function does not.
    """
    position = input_ids.new_ones(input_ids.shape).cumsum(dim=1) - 1
    words = (position > 0) & (position < end_positions(input_ids)[:, None])
    weights = words.to(token_features.dtype)[:, :, None]
    return (token_features * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def load_reference(
    *,
    backbone: str,
    backbone_weights: str | None = None,
    text_weights: str | None = None,
    projection: str | None = None,
    input_size: tuple[int, int] | None = None,
    average_tokens: bool = False,
    text_activation: Activation | None = None,
    threshold: float | None = None,
) -> Reference:
    """Load a model. `backbone` is a known name, or a folder with a config.json.

    Each of the three weights is a checkpoint file, "hub" or "random"; None takes the folder's own, or the hub for a
    known name. The default input size (height, width) in pixels is the folder's, or 448 x 448.
    `text_activation` is "quick_gelu", "gelu", or None for the one that the text tower's source tells (see
    `load_text_tower`). `threshold` is the default background threshold, 0 to 1; None takes the backbone's.
    Raises OptionError for an unknown name or activation, a threshold outside 0 to 1, a size off the patch grid, or
    averaged tokens where the projection reads the end token itself; WeightsError and WeightsNotFoundError.
    """
    if text_activation not in (None, *ACTIVATIONS):
        raise OptionError(f"text activation is {text_activation!r}, expected {' or '.join(ACTIVATIONS)}")
    if threshold is not None:
        checked_number("threshold", threshold, 1)
    folder = Path(backbone)
    if (folder / folder_model.CONFIG).is_file():
        config = read_config(folder)
        architecture, text_config = config.backbone(folder.resolve().name), config.text
        windows = config.window_settings()
        files = (folder_model.BACKBONE, folder_model.TEXT, folder_model.PROJECTION)
        own_weights = tuple(str(folder / name) for name in files)
        own_size = (config.image_size, config.image_size)
    else:
        architecture, text_config = named_architecture(backbone), None
        windows, own_weights, own_size = PUBLISHED_WINDOWS, (HUB, HUB, HUB), PUBLISHED_INPUT_SIZE
    vision, vision_source = load_backbone(architecture, backbone_weights or own_weights[0], input_size or own_size)
    text_tower, text_source = load_text_tower(text_weights or own_weights[1], text_config, text_activation)
    mapping, mapping_source = load_projection(projection or own_weights[2], vision, text_tower)
    if average_tokens and isinstance(mapping, LastBlockProjection):
        raise OptionError(
            f"averaged tokens: {mapping_source.name} has CLIP's last block and reads the end token behind it; "
            "leave --average-tokens out"
        )
    return Reference(
        backbone=vision,
        text_tower=text_tower,
        projection=mapping,
        threshold=architecture.threshold if threshold is None else threshold,
        windows=windows,
        sources={"backbone": vision_source, "text": text_source, "projection": mapping_source},
        average_tokens=average_tokens,
    )
