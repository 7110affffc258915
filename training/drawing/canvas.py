"""A canvas that draws colour and regions together, so that labels always fit the picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from training.drawing.concepts import CONCEPT_LIST, INDEX
from training.drawing.textures import FIELD_MARGIN, fields

Colour = tuple[int, int, int]
Point = tuple[float, float]

# Shapes are drawn this much larger and averaged down: the edges become smooth (anti-aliased).
SUPERSAMPLING: Final = 3
MAX_REGIONS: Final = 255


def shade(colour: Colour, factor: float) -> Colour:
    """The colour made darker (factor below 1) or lighter (above 1), clipped to 0-255."""
    red, green, blue = (int(min(255.0, max(0.0, channel * factor))) for channel in colour)
    return red, green, blue


def blend(first: Colour, second: Colour, share: float) -> Colour:
    """The colour between `first` (share 0) and `second` (share 1)."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


class View(NamedTuple):
    """A part of a canvas, in its pixels."""

    left: int
    top: int
    width: int
    height: int


class Canvas:
    """A square picture in unit coordinates (x to the right, y down, both 0 to 1) with a region map beside it.

    Every shape is drawn into the colour image and, with its region's number, into the region map; a later
    shape covers an earlier one in both. `size` is the square's side in pixels. With a `view` only that part is drawn.
    """

    def __init__(self, size: int, view: View | None = None) -> None:
        self.size = size
        self._side = size * SUPERSAMPLING
        left, top, width, height = (number * SUPERSAMPLING for number in view or View(0, 0, size, size))
        self._left, self._top = left, top
        self._image = Image.new("RGB", (width, height))
        self._regions = Image.new("L", (width, height))
        self._colour = ImageDraw.Draw(self._image)
        self._region = ImageDraw.Draw(self._regions)
        self.concepts: list[int] = []  # the concept index of each region

    def new_region(self, name: str) -> int:
        """Start the region of one object of the concept `name`; returns its number."""
        self.concepts.append(INDEX[name])
        return len(self.concepts) - 1

    def _pixels(self, points: Sequence[Point]) -> list[Point]:
        return [(x * self._side - self._left, y * self._side - self._top) for x, y in points]

    def polygon(self, region: int, points: Sequence[Point], colour: Colour) -> None:
        """Fill a polygon."""
        corners = self._pixels(points)
        self._colour.polygon(corners, fill=colour)
        self._region.polygon(corners, fill=region)

    def ellipse(self, region: int, centre: Point, radius_x: float, radius_y: float, colour: Colour) -> None:
        """Fill an ellipse with axes along x and y."""
        x, y = centre
        box = self._pixels([(x - radius_x, y - radius_y), (x + radius_x, y + radius_y)])
        self._colour.ellipse(box, fill=colour)
        self._region.ellipse(box, fill=region)

    def rectangle(self, region: int, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """Fill an upright rectangle."""
        self.polygon(region, [(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def line(self, region: int, points: Sequence[Point], width: float, colour: Colour) -> None:
        """Draw a line of `width` (unit coordinates) with round joints."""
        pixels = max(1, round(width * self._side))
        corners = self._pixels(points)
        self._colour.line(corners, fill=colour, width=pixels, joint="curve")
        self._region.line(corners, fill=region, width=pixels, joint="curve")

    def gradient(self, region: int, top: float, bottom: float, first: Colour, second: Colour) -> None:
        """Fill the full-width band from `top` to `bottom` with a vertical gradient."""
        upper, lower = round(top * self._side) - self._top, round(bottom * self._side) - self._top
        share = np.linspace(0.0, 1.0, max(1, lower - upper), dtype=np.float32)[:, None]
        column = np.asarray(first, np.float32) * (1 - share) + np.asarray(second, np.float32) * share
        strip = Image.fromarray(np.rint(column).astype(np.uint8)[:, None, :])
        self._image.paste(strip.resize((self._image.width, strip.height)), (0, upper))
        self._region.rectangle([0, upper, self._image.width, lower - 1], fill=region)

    def finish(
        self, rng: np.random.Generator, tint: Sequence[float], saturation: float
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
        """Average down, add textures and light.

        Returns (image (H,W,3) uint8 RGB, labels (H,W) uint8, regions (H,W) uint8). `tint` multiplies the channels,
        `saturation` 0 is grey and 1 leaves colours as they are.
        """
        middle = SUPERSAMPLING // 2
        regions = np.asarray(self._regions)[middle::SUPERSAMPLING, middle::SUPERSAMPLING]
        labels = np.asarray(self.concepts, dtype=np.uint8)[regions]
        pixels = np.asarray(self._image.reduce(SUPERSAMPLING), dtype=np.float32)
        pixels *= (1.0 + self._texture(labels, regions, rng))[:, :, None]
        grey = pixels.mean(axis=2, keepdims=True)
        pixels = (grey + saturation * (pixels - grey)) * np.asarray(tint, dtype=np.float32)
        pixels += rng.standard_normal(labels.shape, dtype=np.float32)[:, :, None] * 1.5  # a camera's grain
        return np.rint(pixels.clip(0, 255)).astype(np.uint8), labels, regions.copy()

    def _texture(
        self, labels: NDArray[np.uint8], regions: NDArray[np.uint8], rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """The brightness modulation of every pixel, from its concept's texture at a random offset."""
        bank = fields(self.size)
        texture = np.zeros(labels.shape, dtype=np.float32)
        reach = (FIELD_MARGIN - 1) * self.size
        for index in np.unique(labels):
            concept = CONCEPT_LIST[index]
            row, column = rng.integers(0, reach + 1, size=2)
            crop = bank[concept.texture][row : row + self.size, column : column + self.size]
            inside = labels == index
            texture[inside] = concept.contrast * crop[inside]
        return texture
