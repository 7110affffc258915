"""Frames of a live source, encoded in turn with the pictures of requests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.errors import VocabularyError
from t2d_runtime.image.encoding import ImageEncoding
from t2d_runtime.image.windows import WindowMode, resized_size
from t2d_runtime.masks.postprocess import ScoreFilter
from t2d_runtime.results.options import SegmentOptions
from t2d_runtime.results.segmentation import Segmentation
from t2d_runtime.segmenter import Segmenter
from t2d_runtime.serving.queue import Queue
from t2d_runtime.words.class_list import ClassNames
from t2d_runtime.words.vocabulary import ClassEmbeddings


@dataclass(frozen=True)
class QueuedFrames:
    """A `FrameSegmenter` whose long stage waits for the encoder as one more request in work."""

    segmenter: Segmenter
    queue: Queue
    classes: ClassEmbeddings
    options: SegmentOptions

    @property
    def window(self) -> WindowMode:
        """Windows that frames are encoded in."""
        return self.options.get("window") or "slide"

    @property
    def encoding_key(self) -> object:
        """The window mode."""
        return self.window

    def working_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) at which an image of this (height, width) is encoded."""
        return resized_size(size, self.segmenter.manifest.windows)

    def encode(self, pixels: NDArray[np.uint8]) -> ImageEncoding:
        """Encode a frame (H,W,3) when its turn comes."""
        return self.queue.encoded(self.segmenter.encode_image, pixels, self.window)

    def label(self, encoded: ImageEncoding, score_filter: ScoreFilter | None) -> Segmentation:
        """Label a frame. Scores are not filtered: a live source is not smoothed."""
        options: SegmentOptions = {**self.options, "window": None}  # an encoding has its own
        return self.segmenter.segment(encoded, self.classes, **options)

    def with_classes(self, classes: ClassEmbeddings | ClassNames, options: SegmentOptions) -> QueuedFrames:
        """The same frames with other words. Raises VocabularyError for words that are not encoded."""
        if not isinstance(classes, ClassEmbeddings):
            raise VocabularyError(f"classes are {type(classes).__name__}, expected ClassEmbeddings")
        return QueuedFrames(self.segmenter, self.queue, classes, options)
