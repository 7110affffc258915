"""The setup that all parts share: a model in PyTorch and as a bundle, engines, image, words, threads and rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.contenders.planted import planted_classes
from t2d_export.model.reference import Reference
from t2d_runtime.image.encoding import ImageEncoding
from t2d_runtime.image.preprocess import resize
from t2d_runtime.segmenter import Segmenter
from t2d_runtime.words.vocabulary import ClassEmbeddings


@dataclass(frozen=True, eq=False)
class Setup:
    """One run's model, engines and sizes."""

    bundle: Path
    reference: Reference
    """The same model in PyTorch."""
    backbone: str
    """Backbone's name as given to `load_reference`."""
    segmenters: Sequence[Segmenter]
    """All measured engines. Parts with one engine use the first."""
    baselines: Sequence[str]
    """Names of PyTorch's image encoders, of `contenders.encoders`."""
    image: Path
    pixels: NDArray[np.uint8]
    """(H,W,3), the image."""
    words: Sequence[str]
    threads: int
    rounds: int
    starts: int

    @property
    def segmenter(self) -> Segmenter:
        """The requested engine."""
        return self.segmenters[0]

    @cached_property
    def window(self) -> NDArray[np.uint8]:
        """The image as one window (h,w,3)."""
        return resize(self.pixels, self.segmenter.manifest.windows.crop_size)

    @cached_property
    def encoding(self) -> ImageEncoding:
        """The encoded window."""
        return self.segmenter.encode_image(self.window)

    def planted(self, count: int) -> ClassEmbeddings:
        """Classes that each win somewhere in the window, so that PAMR has to refine them all."""
        return planted_classes(self.segmenter, self.encoding, count)
