"""The reference's steps from features to scores of pixels, each as in the released code.

They are written for reading and comparison, one window at a time, not for speed. `t2d_runtime` has fast ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from t2d_runtime.image.windows import Window
from t2d_runtime.results.options import Cleaning

NORM_EPSILON = 1e-6
"""Smallest norm that L2 normalisation divides by (`us.normalize` of the released code)."""

LAMBDA = 0.2
"""Weight of the attention in background cleaning (Talk2DINO, Eq. 10)."""

DILATIONS = (1, 2, 4, 8, 12, 24)
ITERATIONS = 10
"""PAMR's settings in every published evaluation (`apply_pamr` of the released code)."""

STD_SHARE, STD_EPSILON = 0.1, 1e-8
"""PAMR's affinity divides by STD_EPSILON + STD_SHARE * std (`pamr.py` of the released code)."""


def cosine_similarity(patch_tokens: Tensor, text_embeds: Tensor) -> Tensor:
    """Cosines (...,N,P), -1 to 1, of patch tokens (...,P,D) with text embeddings (N,D) of norm 1."""
    patches = functional.normalize(patch_tokens, dim=-1, eps=NORM_EPSILON)
    return text_embeds @ patches.transpose(-2, -1)


def clean(
    similarity: Tensor,
    patch_tokens: Tensor,
    cls_attention: Tensor,
    text_embeds: Tensor,
    *,
    cleaning: Cleaning | None,
    weight: float = LAMBDA,
) -> Tensor:
    """Scores (N,P), 0 to 1, of one window from its cosines (N,P), patch tokens (P,D) and CLS logits (M,P).

    Without cleaning the score is sigmoid(cosine). "official" mixes the attention into that score. "paper" mixes it into
    the cosine, and the score is its sigmoid.
    """
    if cleaning is None:
        return similarity.sigmoid()
    if cleaning == "official":
        return clean_official(similarity.sigmoid(), patch_tokens, cls_attention, text_embeds, weight)
    return clean_paper(similarity, patch_tokens, cls_attention, text_embeds, weight).sigmoid()


def clean_official(
    scores: Tensor, patch_tokens: Tensor, cls_attention: Tensor, text_embeds: Tensor, weight: float
) -> Tensor:
    """`similarity_assignment_weighted` of the released code.

    Raw logits weigh the patches, even negative ones. The range of the attention over all classes and patches is mapped
    to the range of the scores, but divided by its maximum, not its width.
    """
    relevance = _head_relevance(cls_attention, patch_tokens, text_embeds)
    attention = (relevance @ cls_attention).softmax(dim=-1)
    lowest, highest = attention.min(), attention.max()
    attention = (attention - lowest) / torch.maximum(highest, highest - lowest)
    attention = attention * (scores.max() - scores.min()) + scores.min()
    return (scores + weight * attention) / (1 + weight)


def clean_paper(
    similarity: Tensor, patch_tokens: Tensor, cls_attention: Tensor, text_embeds: Tensor, weight: float
) -> Tensor:
    """Talk2DINO, Eq. 8-10: softmaxed maps, and each class's attention mapped to the range of the cosines.

    A class with the same attention everywhere gets the lower end of that range.
    """
    maps = cls_attention.softmax(dim=-1)
    attention = _head_relevance(maps, patch_tokens, text_embeds) @ maps
    lowest = attention.amin(dim=-1, keepdim=True)
    width = attention.amax(dim=-1, keepdim=True) - lowest
    attention = torch.where(width > 0, (attention - lowest) / width, 0.0)
    attention = attention * (similarity.max() - similarity.min()) + similarity.min()
    return (similarity + weight * attention) / (1 + weight)


def _head_relevance(maps: Tensor, patch_tokens: Tensor, text_embeds: Tensor) -> Tensor:
    """Softmax over heads of the cosines of texts and head embeddings (Eq. 8): (N,M)."""
    head_embeds = (maps @ patch_tokens) / maps.shape[-1]
    head_embeds = functional.normalize(head_embeds, dim=-1, eps=NORM_EPSILON)
    return (text_embeds @ head_embeds.T).softmax(dim=-1)


def upsample(planes: Tensor, size: tuple[int, int], *, align_corners: bool) -> Tensor:
    """Bilinear (N,h,w) -> (N,H,W). Patches to a window take align_corners, the image's own size does not."""
    return functional.interpolate(planes[None], size=size, mode="bilinear", align_corners=align_corners)[0]


def pamr(image: Tensor, planes: Tensor) -> Tensor:
    """Pixel-adaptive mask refinement of planes (N,H,W) by an RGB image (3,H,W), 0 to 255, not normalised.

    Araslanov and Roth, "Single-Stage Semantic Segmentation from Image Labels", CVPR 2020, Sec. 3.4.
    """
    affinity = pamr_affinity(image)
    for _ in range(ITERATIONS):
        spread = torch.zeros_like(planes)
        for weights, ring in zip(affinity, _rings(planes), strict=True):
            part = torch.zeros_like(planes)  # sums of eight, then of six, have smaller rounding errors than one of 48
            for weight, neighbour in zip(weights, ring, strict=True):
                part.addcmul_(weight, neighbour)
            spread += part
        planes = spread
    return planes


def pamr_affinity(image: Tensor) -> Tensor:
    """Weights (6,8,H,W) of each pixel's eight neighbours at each dilation; the 48 sum to one.

    The standard deviation is unbiased, per channel, over 54 samples: the neighbours, and the pixel itself once per
    dilation.
    """
    image = image.float()
    neighbours = torch.stack([neighbour for ring in _rings(image) for neighbour in ring])
    std = torch.cat([neighbours, image.expand(len(DILATIONS), -1, -1, -1)]).std(dim=0, correction=1)
    distance = (neighbours - image).abs() / (STD_EPSILON + STD_SHARE * std)
    affinity = (-distance.mean(dim=1)).softmax(dim=0)
    return affinity.reshape(len(DILATIONS), 8, *affinity.shape[1:])


def _rings(planes: Tensor) -> Iterator[list[Tensor]]:
    """Eight shifted copies of planes (C,H,W) for each dilation, with the border repeated outwards."""
    height, width = planes.shape[-2:]
    border = max(DILATIONS)
    padded = functional.pad(planes[None], (border,) * 4, mode="replicate")[0]
    for dilation in DILATIONS:
        yield [
            padded[:, border + down : border + down + height, border + right : border + right + width]
            for down in (-dilation, 0, dilation)
            for right in (-dilation, 0, dilation)
            if (down, right) != (0, 0)
        ]


def stitch(windows: Iterable[Tensor], boxes: Iterable[Window], shape: tuple[int, int, int]) -> Tensor:
    """Mean at every pixel of the windows' planes (N,h,w), in the order of `boxes`, as planes of `shape`."""
    total, count = torch.zeros(shape), torch.zeros(shape[1:])
    for planes, box in zip(windows, boxes, strict=True):
        total[(slice(None), *box.region)] += planes
        count[box.region] += 1
    return total / count


def with_background(scores: Tensor, threshold: float) -> Tensor:
    """Scores (N,H,W) with a constant plane at the threshold as class 0: (N+1,H,W)."""
    return torch.cat([torch.full_like(scores[:1], threshold), scores])


def confidence(scores: Tensor, thresholds: Sequence[float] | None = None) -> Tensor:
    """The score (H,W) of the phrase that wins each pixel, from the scores (P,H,W) of all.

    `thresholds` as in `class_labels`. Where background wins, its score is the lowest of them.
    """
    if thresholds is None:
        return scores.amax(dim=0)
    winners = class_labels(scores, range(len(scores)), thresholds)
    return with_background(scores, min(thresholds)).gather(0, winners[None])[0]


def class_labels(scores: Tensor, class_indices: Sequence[int], thresholds: Sequence[float] | None = None) -> Tensor:
    """Labels (H,W) of classes from the scores (P,H,W) of their phrases. Phrases compete; their class gets the pixel.

    `class_indices`: the class of each phrase, or -1 for a negative, whose pixels become background. `thresholds`: one
    for each phrase, where background competes too. The phrase that exceeds its threshold by most wins; where none does,
    background wins. With background or a negative, 0 is background and classes follow from 1.
    """
    first = int(thresholds is not None or -1 in class_indices)
    labels = torch.tensor(class_indices) + first
    if thresholds is not None:
        scores = with_background(scores - torch.tensor(thresholds)[:, None, None], 0.0)
        labels = torch.cat([torch.zeros(1, dtype=labels.dtype), labels])
    return labels[scores.argmax(dim=0)]
