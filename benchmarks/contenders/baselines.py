"""The PyTorch baselines of every speed claim: float32 eager, the same model, the same number of threads.

`plain` is the best straightforward PyTorch: PAMR as shifted multiply-adds, its affinity computed once. `released` is
the published algorithm as it was released: PAMR on tensors of 48 neighbours, 30 classes at a time, the affinity
computed again for every 30.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from t2d_export.model.reference import Reference
from t2d_export.model.reference_masks import (
    DILATIONS,
    ITERATIONS,
    STD_EPSILON,
    STD_SHARE,
    clean,
    cosine_similarity,
    pamr,
    upsample,
    with_background,
)
from t2d_runtime.bundle.manifest import Preprocessing
from t2d_runtime.image.preprocess import to_pixel_values

RELEASED_CLASSES = 30
"""Classes that the released code refines at a time."""

Pamr = Callable[[Tensor, Tensor], Tensor]

plain_pamr: Pamr = pamr
"""The reference's own: shifted multiply-adds, the affinity once."""


def released_pamr(image: Tensor, planes: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """PAMR with tensors (1,n,48,H,W), 30 classes at a time."""
    return torch.cat([_released_chunk(image, chunk, iterations) for chunk in torch.split(planes, RELEASED_CLASSES)])


def _released_chunk(image: Tensor, planes: Tensor, iterations: int) -> Tensor:
    neighbours, centre = _unfolded(image.float()), image.float()[None, :, None]
    samples = torch.cat([neighbours, centre.expand(-1, -1, len(DILATIONS), -1, -1)], dim=2)
    std = samples.std(dim=2, keepdim=True)
    distance = -(neighbours - centre).abs() / (STD_EPSILON + STD_SHARE * std)
    affinity = distance.mean(dim=1, keepdim=True).softmax(dim=2)
    for _ in range(iterations):
        planes = (_unfolded(planes) * affinity).sum(dim=2)[0]
    return planes


def _unfolded(planes: Tensor) -> Tensor:
    """(C,H,W) -> (1,C,48,H,W), by convolutions with kernels of a single one."""
    kernel = torch.zeros(8, 1, 3, 3)
    for number, position in enumerate(p for p in range(9) if p != 4):
        kernel[number, 0, position // 3, position % 3] = 1
    copies = []
    for dilation in DILATIONS:
        padded = functional.pad(planes[:, None], (dilation,) * 4, mode="replicate")
        copies.append(functional.conv2d(padded, kernel, dilation=dilation))
    return torch.cat(copies, dim=1)[None]


class TorchPipeline:
    """One window in PyTorch: from its pixels and class embeddings to labels."""

    def __init__(self, reference: Reference, pamr: Pamr) -> None:
        self.reference = reference
        self.pamr = pamr
        self._preprocessing = Preprocessing(reference.backbone.mean, reference.backbone.std)

    @torch.inference_mode()
    def encode(self, window: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """(H,W,3) -> patch tokens (P,D), CLS attention (M,P)."""
        pixels = to_pixel_values(window[None], self.reference.backbone.input_size, self._preprocessing)
        features = self.reference.image_features(torch.from_numpy(pixels))
        return features.patch_tokens[0], features.cls_attention[0]

    def labels(
        self,
        window: NDArray[np.uint8],
        encoded: tuple[Tensor, Tensor],
        text_embeds: Tensor,
        *,
        background: bool,
        refine: bool,
    ) -> NDArray[np.int64]:
        """Labels (H,W) of an encoded window; background comes with official cleaning."""
        planes = self.planes(window, encoded, text_embeds, background=background, refine=refine)
        labels: NDArray[np.int64] = planes.argmax(dim=0).numpy()
        return labels

    @torch.inference_mode()
    def planes(
        self,
        window: NDArray[np.uint8],
        encoded: tuple[Tensor, Tensor],
        text_embeds: Tensor,
        *,
        background: bool,
        refine: bool,
    ) -> Tensor:
        """Scores (N,H,W) of an encoded window; with background, (N+1,H,W) and its plane first."""
        tokens, attention = encoded
        similarity = cosine_similarity(tokens, text_embeds)
        scores = clean(similarity, tokens, attention, text_embeds, cleaning="official" if background else None)
        h, w = self.reference.backbone.grid_size
        planes = upsample(scores.reshape(-1, h, w), (window.shape[0], window.shape[1]), align_corners=True)
        if refine:
            planes = self.pamr(torch.from_numpy(np.ascontiguousarray(window.transpose(2, 0, 1))), planes)
        return with_background(planes, self.reference.threshold) if background else planes
