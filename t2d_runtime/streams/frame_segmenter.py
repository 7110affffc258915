"""Interface of segmenters for streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from t2d_runtime.image.encoding import ImageEncoding
    from t2d_runtime.masks.postprocess import ScoreFilter
    from t2d_runtime.results.options import SegmentOptions
    from t2d_runtime.results.segmentation import Segmentation
    from t2d_runtime.words.class_list import ClassNames
    from t2d_runtime.words.vocabulary import ClassEmbeddings

EncodedT = TypeVar("EncodedT", "ImageEncoding", "Segmentation")


class FrameSegmenter(Protocol[EncodedT]):
    """A segmenter of frames in two stages, which work on two frames at the same time.

    A segmenter that cannot be divided gives its whole result in the first stage. It is immutable: other words make
    another one.
    """

    @property
    def encoding_key(self) -> object:
        """Equal for segmenters whose `encode` gives the same for the same picture."""

    def working_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) at which an image of this (height, width) is encoded."""

    def encode(self, pixels: NDArray[np.uint8]) -> EncodedT:
        """The long stage, for pixels (H,W,3)."""

    def label(self, encoded: EncodedT, score_filter: ScoreFilter | None) -> Segmentation:
        """The result of what `encode` gave, with filtered scores."""

    def with_classes(self, classes: ClassEmbeddings | ClassNames, options: SegmentOptions) -> Self:
        """The same segmenter for other words. Raises the errors of `segment` for options and classes."""
