"""The frames before of one source: what still frames are given again, and what scores are smoothed with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from t2d_runtime.errors import T2DError
from t2d_runtime.image.windows import size_of
from t2d_runtime.streams.changes import Changed, Changes
from t2d_runtime.streams.frame_segmenter import FrameSegmenter
from t2d_runtime.streams.frames import SourceFrame
from t2d_runtime.streams.settings import StreamSettings
from t2d_runtime.streams.smoothing import Smoothing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from t2d_runtime.results.segmentation import Segmentation


class Memory:
    """Memory of one source's frames. Each stage uses its own part, in the order of the frames."""

    def __init__(self, settings: StreamSettings) -> None:
        self._keeps_encoding = settings.motion_threshold is not None
        self._compares = self._keeps_encoding or settings.smoothing > 0
        self._changes = Changes(settings.motion_threshold)
        self._smoothing = Smoothing(settings.smoothing) if settings.smoothing > 0 else None
        self._file: str | None = None
        self._encoded: Any = None
        self._result: Segmentation | None = None
        self._encoding_key: object = None
        self._labelled_by: FrameSegmenter[Any] | None = None

    def changes(
        self,
        pixels: NDArray[np.uint8],
        found: SourceFrame | T2DError,
        working_size: Callable[[tuple[int, int]], tuple[int, int]],
    ) -> Changed:
        """The changes up to this frame; none are looked for where no option needs them."""
        if not self._compares or not isinstance(found, SourceFrame):
            return Changed(still=False, cut=False)
        if found.file != self._file:
            self._changes.forget()
            self._file = found.file
        return self._changes.of(pixels, working_size(size_of(pixels)))

    def encoded(
        self, pixels: NDArray[np.uint8], changed: Changed, segmenter: FrameSegmenter[Any]
    ) -> tuple[Any, Changed]:
        """The encoding of a frame; of a still frame that of the frame before, with this frame's own picture.

        The changes then say that a frame is not still where there was no encoding to be used again.
        """
        if segmenter.encoding_key != self._encoding_key:
            self._encoding_key, self._encoded = segmenter.encoding_key, None
        if changed.still and self._encoded is not None and self._encoded.image.shape == pixels.shape:
            return replace(self._encoded, image=pixels), changed
        self._encoded = None  # stays so where encoding fails
        encoded = segmenter.encode(pixels)
        if self._keeps_encoding:
            self._encoded = encoded
        return encoded, changed._replace(still=False)

    def labelled(self, encoded: Any, changed: Changed, segmenter: FrameSegmenter[Any]) -> Segmentation:
        """The result of a frame; of a still frame that of the frame before, unless scores are smoothed.

        With other words than before, scores and results so far are forgotten.
        """
        other_words = segmenter is not self._labelled_by
        self._labelled_by = segmenter
        if self._smoothing is not None:
            if changed.cut or other_words:
                self._smoothing.reset()
            score_filter = partial(self._smoothing.smooth, encoded.resized, encoded.windows)
            return segmenter.label(encoded, score_filter)
        if other_words:
            self._result = None
        if changed.still and self._result is not None and self._result.image.shape == encoded.image.shape:
            return replace(self._result, image=encoded.image)
        self._result = None
        result = segmenter.label(encoded, None)
        if self._keeps_encoding:
            self._result = result
        return result
