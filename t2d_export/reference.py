"""The PyTorch reference: one whole Talk2DINO model, written plainly. Everything else is compared with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.nn import functional

from t2d_export import folder_model
from t2d_export.backbones import named_architecture
from t2d_export.folder_model import read_config
from t2d_export.loading import load_backbone, load_projection, load_text_tower
from t2d_export.projection import LastBlockProjection, Projection
from t2d_export.towers import Backbone, ImageFeatures, TextTower, end_positions
from t2d_export.weights import HUB
from t2d_runtime.manifest import Source, WindowSettings

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
]

NORM_EPSILON = 1e-6
"""Smallest norm that L2 normalisation divides by (`us.normalize` of the released code)."""

PUBLISHED_WINDOWS = WindowSettings(short_side=448, max_long_side=2048, crop_size=(448, 448), stride=(224, 224))
"""The sliding window of every published evaluation, whatever the input size."""

PUBLISHED_INPUT_SIZE = (448, 448)
"""Input size of every published evaluation; the paper's text says 518."""

LAMBDA = 0.2
"""Weight of the attention in background cleaning (Talk2DINO, Eq. 10)."""


@dataclass(frozen=True, eq=False)
class Reference:
    """Backbone, text tower and projection with what their authors say of their use."""

    backbone: Backbone
    text_tower: TextTower
    projection: Projection
    threshold: float
    windows: WindowSettings
    sources: Mapping[str, Source]
    """Where the weights of "backbone", "text" and "projection" came from."""
    average_tokens: bool = False
    """The ablation that takes the mean over a prompt's tokens instead of its end token."""

    def image_features(self, pixel_values: Tensor) -> ImageFeatures:
        """Normalised pixels (B,3,H,W) -> features; patch tokens (B,P,D) in the space shared with text."""
        features = self.backbone(pixel_values)
        return features._replace(patch_tokens=self.projection.project_visual(features.patch_tokens))

    def text_embeds(self, input_ids: Tensor) -> Tensor:
        """Token ids (N,T,L) of N classes' T prompts -> (N,D) of norm 1.

        The mean over prompts is taken of raw features, before the projection, which is not linear
        (`build_text_embedding` of the released code). Where CLIP's last block was trained it is taken after.
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
        """Raw features (n,text width) of prompts (n,L): at the end token, or the mean over their words.

        The mean is over the tokens between start and end (`average_text_tokens` of the released code).
        """
        if not self.average_tokens:
            features: Tensor = self.text_tower(input_ids)
            return features
        tokens = self.text_tower.token_features(input_ids)
        return mean_of_words(tokens, input_ids)


def mean_of_words(token_features: Tensor, input_ids: Tensor) -> Tensor:
    """Mean (n,C) of token features (n,L,C) between the start token and the end token of (n,L) ids.

    A prompt without a word between them gives zeros.
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
) -> Reference:
    """Load a model. `backbone` is a known name, or a folder with a config.json.

    Each of the three weights is a checkpoint file, "hub" or "random"; None takes the folder's own, or the hub for a
    known name. The input size (height, width) in pixels is the folder's, or 448 x 448, unless given.
    Raises OptionError for an unknown name or a size off the patch grid, WeightsError and WeightsNotFoundError.
    """
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
    text_tower, text_source = load_text_tower(text_weights or own_weights[1], text_config)
    mapping, mapping_source = load_projection(projection or own_weights[2], vision, text_tower)
    return Reference(
        backbone=vision,
        text_tower=text_tower,
        projection=mapping,
        threshold=architecture.threshold,
        windows=windows,
        sources={"backbone": vision_source, "text": text_source, "projection": mapping_source},
        average_tokens=average_tokens,
    )
