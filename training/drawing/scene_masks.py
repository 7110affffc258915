"""Evaluation of masks on drawn scenes: the concepts named on each scene, and mIoU over a whole set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.drawing.concepts import CONCEPTS, INDEX
from training.drawing.scenes import Scene

BACKGROUND: Final = len(CONCEPTS)
"""Label of the concepts that are not named, where only a part of a scene is named."""


def named_half(scene: Scene, seed: int, index: int) -> tuple[str, ...]:
    """A random half, rounded up, of the concepts in scene number `index`; the rest is background."""
    names = scene.concepts
    chosen = np.random.default_rng((seed, index)).permutation(len(names))[: -(-len(names) // 2)]
    return tuple(names[i] for i in sorted(chosen))


def with_background(labels: NDArray[np.uint8], named: Sequence[str]) -> NDArray[np.uint8]:
    """Labels (H,W) uint8 with every concept that is not named as BACKGROUND."""
    keep = np.full(len(CONCEPTS), BACKGROUND, dtype=np.uint8)
    for name in named:
        keep[INDEX[name]] = INDEX[name]
    return keep[labels]


class IntersectionOverUnion:
    """IoU of every label: pixels of intersection over pixels of union, both summed over the whole set."""

    def __init__(self) -> None:
        self._confusion = np.zeros((BACKGROUND + 1, BACKGROUND + 1), dtype=np.int64)

    def add(self, predicted: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
        """Count one image; both (H,W) uint8, concept indices or BACKGROUND."""
        pairs = truth.ravel().astype(np.int64) * (BACKGROUND + 1) + predicted.ravel()
        self._confusion += np.bincount(pairs, minlength=self._confusion.size).reshape(self._confusion.shape)

    def per_class(self) -> dict[str, float]:
        """IoU by name, for labels that occur in truth or prediction."""
        hits = self._confusion.diagonal()
        union = self._confusion.sum(axis=0) + self._confusion.sum(axis=1) - hits
        names = (*CONCEPTS, "background")
        return {names[i]: float(hits[i] / union[i]) for i in np.flatnonzero(union)}

    def mean(self) -> float:
        """mIoU: the mean over those labels."""
        return float(np.mean(list(self.per_class().values())))
