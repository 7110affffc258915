"""The PyTorch baselines of every speed claim: float32 eager, the same model, the same number of threads.

`plain` is the best straightforward PyTorch: PAMR as shifted multiply-adds, with the affinity computed once. `released`
is the algorithm of the released code: PAMR on tensors of 48 neighbours, 30 classes at a time, with the affinity
computed again for every 30.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from t2d_export.model.reference import ImageFeatures, Reference
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

RELEASED_CLASSES = 30
"""Classes that the released code refines at a time."""

Pamr = Callable[[Tensor, Tensor], Tensor]

plain_pamr: Pamr = pamr
"""The reference's PAMR: shifted multiply-adds, with one affinity."""


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
    """(C,H,W) -> (1,C,48,H,W), by convolutions with kernels that hold a single 1."""
    kernel = torch.zeros(8, 1, 3, 3)
    for number, position in enumerate(p for p in range(9) if p != 4):
        kernel[number, 0, position // 3, position % 3] = 1
    copies = []
    for dilation in DILATIONS:
        padded = functional.pad(planes[:, None], (dilation,) * 4, mode="replicate")
        copies.append(functional.conv2d(padded, kernel, dilation=dilation))
    return torch.cat(copies, dim=1)[None]


class TorchWindow:
    """One window (h,w,3) in PyTorch."""

    def __init__(self, reference: Reference, window: NDArray[np.uint8]) -> None:
        self.reference = reference
        self.pixels = torch.from_numpy(np.ascontiguousarray(window.transpose(2, 0, 1)))

    @torch.inference_mode()
    def encode(self) -> ImageFeatures:
        """Patch tokens (P,D), CLS attention (M,P), CLS token (D)."""
        features = self.reference.image_features(self.reference.pixel_values(self.pixels[None]))
        return ImageFeatures(*(value[0] for value in features))

    @torch.inference_mode()
    def labels(
        self, text_embeds: Tensor, *, background: bool, pamr: Pamr | None, features: ImageFeatures | None = None
    ) -> NDArray[np.int64]:
        """Labels (h,w) for classes (N,D), with official cleaning if `background`.

        `features` are those of `encode`; None encodes first.
        """
        tokens, attention, _ = features or self.encode()
        similarity = cosine_similarity(tokens, text_embeds)
        scores = clean(similarity, tokens, attention, text_embeds, cleaning="official" if background else None)
        patches = scores.reshape(-1, *self.reference.backbone.grid_size)
        planes = upsample(patches, (self.pixels.shape[1], self.pixels.shape[2]), align_corners=True)
        if pamr is not None:
            planes = pamr(self.pixels, planes)
        if background:
            planes = with_background(planes, self.reference.threshold)
        labels: NDArray[np.int64] = planes.argmax(dim=0).numpy()
        return labels
