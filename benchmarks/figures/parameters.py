"""Numbers of parameters of a bundle and of the published models (Fig. 5), all counted here.

The paper's other methods are left out, since the paper draws them as points without figures.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.blocks import Bar, Bars, Block
from t2d_runtime.bundle.files import IMAGE_ENCODER, TEXT_ENCODER, Bundle

if TYPE_CHECKING:
    import torch

PUBLISHED = {
    "Talk2DINO ViT-B": ("dinov2_vitb14_reg", (87.0, 43.5, 30.3, 40.8, 23.5)),
    "Talk2DINO ViT-L": ("dinov2_vitl14_reg", (88.7, 43.2, 30.0, 39.3, 23.4)),
}
"""Backbone -> the paper's figures on VOC20, Context59, COCO-Stuff, Cityscapes and ADE20K, with PAMR."""


class Parameters(NamedTuple):
    """Numbers of parameters. The projection belongs to the text encoder."""

    image_encoder: int
    text_encoder: int


def bundle_parameters(bundle: Bundle) -> Parameters:
    """Number of floats in the float32 graphs, with position embeddings at the bundle's input size."""
    import onnx

    def stored(graph: str) -> int:
        model = onnx.load(bundle.graph(graph), load_external_data=False)
        floats = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
        return sum(math.prod(tensor.dims) for tensor in floats)

    return Parameters(stored(IMAGE_ENCODER), stored(TEXT_ENCODER))


def published_parameters(backbone: str) -> Parameters:
    """Parameters of the published model on a backbone, counted in its architecture."""
    import torch

    from t2d_export.architectures.backbones import named_architecture
    from t2d_export.model.projection import TextProjection
    from t2d_export.model.reference import PUBLISHED_INPUT_SIZE

    text_parameters, text_width = _clip_text_tower()
    built = named_architecture(backbone).build(PUBLISHED_INPUT_SIZE)
    with torch.device("meta"):
        projection = TextProjection(text_width, built.embed_dim)
    return Parameters(_count(built), text_parameters + _count(projection))


@functools.cache
def _clip_text_tower() -> tuple[int, int]:
    """Parameters and output width of CLIP's ViT-B/16 text tower."""
    from t2d_export.model.loading import load_text_tower

    tower, _ = load_text_tower("random")
    return _count(tower), tower.output_dim


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def parameters(bundle: Bundle) -> dict[str, dict[str, int]]:
    """Model -> the parameters of its two encoders."""
    counted = {f"this bundle, {bundle.manifest.model.backbone}": bundle_parameters(bundle)}
    for name, (backbone, scores) in PUBLISHED.items():
        counted[f"{name}, mIoU {sum(scores) / len(scores):.1f}"] = published_parameters(backbone)
    return {name: found._asdict() for name, found in counted.items()}


def blocks(figures: dict[str, dict[str, dict[str, int]]]) -> list[Block]:
    """A bar for each model, with its two encoders."""
    bars = []
    for name, counts in figures["parameters"].items():
        millions = {part.replace("_", " "): count / 1e6 for part, count in counts.items()}
        bars.append(Bar(name, millions, f"{sum(millions.values()):.1f} million"))
    caption = "Parameters, millions; mIoU: the paper's, mean of five benchmarks without background (Fig. 5)"
    return [Bars(caption, tuple(bars))]
