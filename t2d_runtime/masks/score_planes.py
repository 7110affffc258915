"""Scores of all classes at the image's own size, one plane after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.image.encoding import ImageEncoding
from t2d_runtime.image.windows import size_of
from t2d_runtime.masks.postprocess import CLASS_GROUP, stitched_scores, window_scores
from t2d_runtime.masks.upsample import upsample
from t2d_runtime.results.options import SegmentationSettings
from t2d_runtime.words.vocabulary import ClassEmbeddings


@dataclass(frozen=True, eq=False)
class ScorePlanes:
    """Scores of an encoded image's classes. Planes are computed one by one, so that N of them never exist at a time."""

    encoding: ImageEncoding
    classes: ClassEmbeddings
    settings: SegmentationSettings
    num_threads: int | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(N,H,W); the N classes do not include background."""
        return len(self.classes), *size_of(self.encoding.image)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Planes (H,W) float32, 0 to 1, one for each class: the maximum over its phrases."""
        patch_scores = window_scores(self.encoding, self.classes.vectors, self.settings)
        size = size_of(self.encoding.image)
        owners = self.classes.classes_of_rows
        for first in range(0, len(self.classes), CLASS_GROUP):
            group = range(first, min(first + CLASS_GROUP, len(self.classes)))
            rows = np.flatnonzero((owners >= group.start) & (owners < group.stop))
            planes = stitched_scores(self.encoding, patch_scores[:, rows], self.settings, self.num_threads)
            for index in group:
                of_phrases = (_resized(planes[row], size) for row in np.flatnonzero(owners[rows] == index))
                # At the image's size, since the maximum before resizing differs.
                yield reduce(np.maximum, of_phrases)


def _resized(plane: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    return plane if plane.shape == size else upsample(plane[np.newaxis], size, align_corners=False)[0]
