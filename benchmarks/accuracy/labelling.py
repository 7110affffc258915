"""Recipes that label images. They are sent to every process and opened there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from t2d_runtime import ClassEmbeddings, Segmenter
from t2d_runtime.results.label_map import LabelMap

Pixels = NDArray[np.uint8]
"""(H,W,3) RGB."""


class Labelled(NamedTuple):
    """Labels (H,W) of an image, and those of the PyTorch reference where it is compared."""

    labels: LabelMap
    reference: LabelMap | None = None
    margin: NDArray[np.float32] | None = None
    """(H,W): difference of the reference's two best scores, background included."""


Labeller = Callable[[Pixels], Labelled]


class Recipe(Protocol):
    """Everything needed to label images. It is small, so that it can be sent to a process."""

    def open(self) -> Labeller:
        """Load the model that labels images, once in each process."""


@dataclass(frozen=True, eq=False)
class BundleRecipe:
    """A bundle with its engine, words and settings."""

    bundle: Path
    backend: str
    precision: str
    num_threads: int | None
    classes: ClassEmbeddings
    background: bool
    cleaning: bool
    refine: bool

    def open(self) -> Labeller:
        """Open the bundle. Raises as `Segmenter.open`."""
        segmenter = Segmenter.open(
            self.bundle, backend=self.backend, precision=self.precision, num_threads=self.num_threads
        )

        def label(image: Pixels) -> Labelled:
            result = segmenter.segment(
                image, self.classes, background=self.background, cleaning=self.cleaning, refine=self.refine
            )
            return Labelled(result.label_map)

        return label
