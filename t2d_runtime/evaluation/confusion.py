"""Intersection over union (IoU) of labels, over many images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Confusion:
    """Pixels by truth and prediction, summed over images. IoU is intersection over union of these sums."""

    def __init__(self, num_labels: int) -> None:
        self.pixels = np.zeros((num_labels, num_labels))
        """(truth, prediction)."""

    def add(
        self,
        truth: NDArray[np.integer],
        predicted: NDArray[np.integer],
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        """Count pixels: labels from 0, in arrays of one shape. `weights`: the number of pixels that each stands for."""
        labels = len(self.pixels)
        pairs = truth.ravel().astype(np.intp) * labels + predicted.ravel()
        counted = np.bincount(pairs, None if weights is None else weights.ravel(), minlength=labels * labels)
        self.pixels += counted.reshape(labels, labels)

    def iou(self) -> NDArray[np.float64]:
        """IoU (num_labels,) from 0 to 1; NaN for labels that occur in neither."""
        hits = self.pixels.diagonal()
        union = self.pixels.sum(axis=0) + self.pixels.sum(axis=1) - hits
        found = np.full(len(hits), np.nan)
        np.divide(hits, union, out=found, where=union > 0)
        return found

    def mean_iou(self) -> float:
        """Mean IoU over the labels that occur; NaN where none does."""
        found = self.iou()
        found = found[~np.isnan(found)]
        return float(found.mean()) if len(found) else float("nan")

    def agreement(self) -> float:
        """Share of equal pixels; NaN without any."""
        total = float(self.pixels.sum())
        return float(self.pixels.trace()) / total if total else float("nan")
