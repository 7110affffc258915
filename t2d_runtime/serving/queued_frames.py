"""Frames of a live source, encoded in turn with the pictures of requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.errors import VocabularyError
from t2d_runtime.frame_stages import FrameStages
from t2d_runtime.image.encoding import ImageEncoding
from t2d_runtime.results.options import SegmentOptions
from t2d_runtime.serving.queue import Queue
from t2d_runtime.words.class_list import ClassNames
from t2d_runtime.words.vocabulary import ClassEmbeddings


@dataclass(frozen=True)
class QueuedFrames(FrameStages):
    """Stages whose encoding waits for its turn as one more request in work, and that encode no words."""

    queue: Queue

    def encode(self, pixels: NDArray[np.uint8]) -> ImageEncoding:
        """Encode a frame (H,W,3) when its turn comes."""
        return self.queue.encoded(self.segmenter.encode_image, pixels, self.settings.window)

    def with_classes(self, classes: ClassEmbeddings | ClassNames, options: SegmentOptions) -> Self:
        """The same frames with other words. Raises VocabularyError for words that are not encoded."""
        if not isinstance(classes, ClassEmbeddings):
            raise VocabularyError(f"classes are {type(classes).__name__}, expected ClassEmbeddings")
        return super().with_classes(classes, options)
