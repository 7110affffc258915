"""Pictures of a segmentation: overlays with a legend, and label maps. Nothing here shows or saves a picture."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.errors import OptionError
from t2d_runtime.results.label_map import LabelMap, bands_of, label_counts
from t2d_runtime.results.legend import Entry, draw_legend
from t2d_runtime.results.palette import palette

if TYPE_CHECKING:
    from PIL import Image

OPACITY = 0.5
"""Share of the label's colour in an overlay: both the labels and the image under them stay clear."""

BACKGROUND_COLOUR = (90, 90, 90)
"""Colour of the background's entry in the legend. In the image, the background keeps its own colours."""

LINE_SIDE = 800
"""Contours are one pixel wider for each so many pixels of the image's mean side."""

PALETTE_COLOURS = 256
"""Colours of a label picture, filled up with black. With fewer, Pillow writes a PNG of 1, 2 or 4 bits a pixel, which
several readers, torchvision among them, scale up to 255."""


def overlay(
    image: NDArray[np.uint8],
    label_map: LabelMap,
    class_names: Sequence[str],
    *,
    background: bool,
    legend: bool = True,
    font: str | PathLike[str] | None = None,
) -> Image.Image:
    """The image (H,W,3) under the colours of its labels (H,W), with contours, above a legend.

    The legend names the labels in the image, the largest first, with their share of the pixels. It is at least as wide
    as its widest entry, so that tiny images have a legend too. It is at most about half as high as the image: the
    smallest labels are only counted. Without `legend` the picture has the image's own size.
    `font`: a font file for the names; None finds one where Pillow's own font lacks a name's letters.
    Raises OptionError for a font that cannot be read, a font given without a legend, and an image too thin for one.
    """
    from PIL import Image

    height, width, _ = image.shape
    colours = label_colours(len(class_names), background=background)
    if not legend:
        if font is not None:
            raise OptionError("font has no effect without a legend; turn that on, or leave the font out")
        picture = Image.new("RGB", (width, height))
        _paint(picture, image, label_map, colours, background=background)
        return picture
    shares = label_counts(label_map, len(class_names)) / label_map.size
    entries = [
        Entry(class_names[label], shares[label], colours[label])
        for label in np.argsort(-shares, kind="stable")
        if shares[label] > 0
    ]
    below = draw_legend(entries, (width, height), font)
    picture = Image.new("RGB", (max(width, below.width), height + below.height), "white")
    _paint(picture, image, label_map, colours, background=background)
    picture.paste(below, (0, height))
    return picture


def label_image(label_map: LabelMap, num_labels: int, *, background: bool) -> Image.Image:
    """The label map as an image whose values are the labels: palette mode up to 256 labels, else 16-bit grey.

    The palette is the overlay's, with a black background.
    """
    from PIL import Image

    if num_labels > PALETTE_COLOURS:
        return Image.fromarray(label_map.astype(np.uint16))
    colours = np.zeros((PALETTE_COLOURS, 3), np.uint8)
    colours[:num_labels] = label_colours(num_labels, background=background)
    if background:
        colours[0] = 0
    picture = Image.fromarray(label_map.astype(np.uint8), mode="L")
    picture.putpalette(colours.tobytes())
    return picture


def label_colours(num_labels: int, *, background: bool) -> NDArray[np.uint8]:
    """Colour (num_labels,3) of each label. A class has the same colour with and without background."""
    if not background:
        return palette(num_labels)
    return np.concatenate([np.array([BACKGROUND_COLOUR], np.uint8), palette(num_labels - 1)])


def _paint(
    picture: Image.Image,
    image: NDArray[np.uint8],
    label_map: LabelMap,
    colours: NDArray[np.uint8],
    *,
    background: bool,
) -> None:
    """Paint the image (H,W,3) in its labels' colours into the top left corner of a picture.

    It is made in bands, so that besides the picture only small arrays exist.
    """
    from PIL import Image

    height, width = label_map.shape
    lines = int((height * width) ** 0.5) // LINE_SIDE
    for band in bands_of(height, width):
        labels, pixels = label_map[band], image[band]
        below, tint = Image.fromarray(pixels), _coloured(labels, colours)
        if background:
            tint.paste(below, mask=Image.fromarray(labels == 0))
        painted = np.array(Image.blend(below, tint, OPACITY))
        # A contour needs the row above, and reaches upwards from the rows below.
        first = max(band.start - 1, 0)
        contours = _contours(label_map[first : band.stop + lines], lines)
        painted[contours[band.start - first :][: len(labels)]] = 255
        picture.paste(Image.fromarray(painted), (0, band.start))


def _coloured(labels: LabelMap, colours: NDArray[np.uint8]) -> Image.Image:
    """Labels (H,W) in their colours. Pillow's palettes take a tenth of the time of `colours[labels]`."""
    from PIL import Image

    if labels.dtype != np.uint8:
        return Image.fromarray(colours[labels])
    picture = Image.fromarray(labels)
    picture.putpalette(colours[:PALETTE_COLOURS].tobytes())
    return picture.convert("RGB")


def _contours(label_map: LabelMap, lines: int) -> NDArray[np.bool_]:
    """Pixels on the border of two labels, in lines of 1 + `lines` pixels, to the left and upwards."""
    edges = np.zeros(label_map.shape, bool)
    edges[:, 1:] |= label_map[:, 1:] != label_map[:, :-1]
    edges[1:] |= label_map[1:] != label_map[:-1]
    for _ in range(lines):
        edges[:, :-1] |= edges[:, 1:]
        edges[:-1] |= edges[1:]
    return edges
