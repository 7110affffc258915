"""Interface of PAMR's inner loops, and the constants that they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.errors import OptionError

Floats = NDArray[np.float32]

NEIGHBOURS = tuple((down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if (down, right) != (0, 0))
"""The eight neighbours in a 3 x 3 window, in units of the dilation."""

STD_WEIGHT = 0.1
STD_EPS = 1e-8
"""Constants of the affinity in the released code."""


MAX_DILATIONS = 32
LIMIT = 2**30
"""Limit of sizes and dilations, as in `pamr.c`: they are 32-bit numbers."""


@dataclass(frozen=True)
class Grid:
    """Size of a picture in pixels, and the dilations of its pixels' neighbourhoods."""

    height: int
    width: int
    dilations: tuple[int, ...]

    def __post_init__(self) -> None:
        """Raise OptionError for sizes and dilations that no loops take."""
        sizes = self.height, self.width, *self.dilations
        if not all(1 <= size < LIMIT for size in sizes) or not 1 <= len(self.dilations) <= MAX_DILATIONS:
            raise OptionError(
                f"PAMR's picture is {self.height} x {self.width} pixels and its dilations {self.dilations}; "
                f"expected at least one pixel, and 1 to {MAX_DILATIONS} dilations from 1"
            )

    @property
    def border(self) -> int:
        """Pixels to the farthest neighbour, down or right."""
        return max(self.dilations)

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """(down, right) of each neighbour: eight for each dilation, in the order of the dilations."""
        return [(d * down, d * right) for d in self.dilations for down, right in NEIGHBOURS]


class Kernels(Protocol):
    """Inner loops for pictures of one size.

    Each reads and writes the rows from `first` to before `last`, so that several threads may work on a picture at once.
    The layout of weights and padded planes is private to the loops.
    """

    name: ClassVar[str]

    def new_weights(self) -> Floats:
        """An array for the weights of every pixel's neighbours."""

    def new_padded(self, count: int) -> Floats:
        """An array for some planes with their borders, at most CLASS_CHUNK."""

    def weigh(self, colours: Floats, weights: Floats, first: int, last: int) -> None:
        """Compute the affinity: weights that add up to one for each pixel, from three padded planes, 0 to 255."""

    def put(self, planes: Floats, padded: Floats, first: int, last: int) -> None:
        """Copy planes (N,H,W) to padded ones."""

    def spread(self, source: Floats, weights: Floats, target: Floats, first: int, last: int) -> None:
        """Replace each value of padded planes by the weighted mean of its neighbours' values."""

    def take(self, padded: Floats, planes: Floats, first: int, last: int) -> None:
        """Copy padded planes to plain ones (N,H,W)."""
