"""The two stages of a stream's frames, which work on two frames at the same time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, Self, Unpack

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.bundle.manifest import Manifest
from t2d_runtime.image.encoding import ImageEncoding
from t2d_runtime.image.reading import ImageLike
from t2d_runtime.image.windows import WindowMode, resized_size
from t2d_runtime.masks.postprocess import ScoreFilter
from t2d_runtime.results.options import SegmentationSettings, SegmentOptions
from t2d_runtime.results.segmentation import Segmentation
from t2d_runtime.words.class_list import ClassNames
from t2d_runtime.words.vocabulary import ClassEmbeddings


class StagedSegmenter(Protocol):
    """The parts of a `Segmenter` that the stages call."""

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""

    def encode_image(self, image: ImageLike, window: WindowMode = "slide") -> ImageEncoding:
        """Encode an image."""

    def label_encoding(
        self,
        encoding: ImageEncoding,
        classes: ClassEmbeddings,
        settings: SegmentationSettings,
        options: SegmentOptions,
        score_filter: ScoreFilter | None = None,
    ) -> Segmentation:
        """Label an encoded image by checked settings."""

    def embeddings_of(self, classes: ClassEmbeddings | ClassNames) -> ClassEmbeddings:
        """Embeddings as they are, or those of words."""

    def check_options(self, classes: ClassEmbeddings, **options: Unpack[SegmentOptions]) -> SegmentationSettings:
        """The settings for an image from the options."""


@dataclass(frozen=True)
class FrameStages:
    """The two stages of a stream's frames: a `FrameSegmenter`."""

    segmenter: StagedSegmenter
    classes: ClassEmbeddings
    settings: SegmentationSettings
    options: SegmentOptions
    """The options that `settings` were made of."""

    @property
    def encoding_key(self) -> object:
        """The window mode."""
        return self.settings.window

    def working_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) at which an image of this (height, width) is encoded."""
        return resized_size(size, self.segmenter.manifest.windows)

    def encode(self, pixels: NDArray[np.uint8]) -> ImageEncoding:
        """Encode a frame (H,W,3)."""
        return self.segmenter.encode_image(pixels, self.settings.window)

    def label(self, encoded: ImageEncoding, score_filter: ScoreFilter | None) -> Segmentation:
        """Label a frame by its scores, which `score_filter` may change."""
        settings = replace(self.settings, window=encoded.window_mode)  # another one since it was encoded, perhaps
        return self.segmenter.label_encoding(encoded, self.classes, settings, self.options, score_filter)

    def with_classes(self, classes: ClassEmbeddings | ClassNames, options: SegmentOptions) -> Self:
        """The same stages for other words. Raises the errors of `Segmenter.segment` for options and classes."""
        classes = self.segmenter.embeddings_of(classes)
        settings = self.segmenter.check_options(classes, **options)
        return replace(self, classes=classes, settings=settings, options=options)
