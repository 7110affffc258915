"""Pictures of a segmentation: overlay with legend, and label maps. It never shows or saves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.results.palette import palette, text_colour

if TYPE_CHECKING:
    from PIL import Image, ImageFont

OPACITY = 0.5
"""Share of the label's colour in an overlay: the labels are plain to see and so is the image under them."""

BACKGROUND_COLOUR = (90, 90, 90)
"""Of the background's entry in the legend; the background itself is left as it is in the image."""

PAPER_COLOUR = (255, 255, 255)
FONT_SIZES = (12, 64)
"""Least and greatest height of the legend's letters in pixels."""

FONT_SHARE = 0.03
"""Height of the legend's letters as a share of the image's mean side."""

MAX_NAME_LENGTH = 40
"""Letters of a name that the legend shows."""

LabelMap = NDArray[np.uint8] | NDArray[np.uint16]


def overlay(
    image: NDArray[np.uint8], label_map: LabelMap, class_names: Sequence[str], *, background: bool
) -> Image.Image:
    """The image (H,W,3) under the colours of its labels (H,W), with contours, above a legend.

    The legend names the labels that are present, the largest first, with their share of the pixels. It is at least
    as wide as its widest entry, so that tiny images have one too. Names are drawn in Pillow's own font, which has
    Latin letters.
    """
    from PIL import Image

    colours = label_colours(len(class_names), background=background)
    painted = _paint(image, label_map, colours, background=background)
    shares = np.bincount(label_map.ravel(), minlength=len(class_names)) / label_map.size
    entries = [
        _Entry(_short(class_names[label]), _percent(shares[label]), colours[label])
        for label in np.argsort(-shares, kind="stable")
        if shares[label] > 0
    ]
    legend = _draw_legend(entries, painted.size)
    picture = Image.new("RGB", (max(painted.width, legend.width), painted.height + legend.height), PAPER_COLOUR)
    picture.paste(painted, (0, 0))
    picture.paste(legend, (0, painted.height))
    return picture


def label_image(label_map: LabelMap, num_labels: int, *, background: bool) -> Image.Image:
    """The label map as an image whose values are the labels: palette mode up to 256 labels, else 16-bit grey.

    The palette is the overlay's, with a black background.
    """
    from PIL import Image

    if num_labels > 256:
        return Image.fromarray(label_map.astype(np.uint16))
    colours = label_colours(num_labels, background=background)
    if background:
        colours[0] = 0
    picture = Image.fromarray(label_map.astype(np.uint8), mode="L")
    picture.putpalette(colours.tobytes())
    return picture


def label_colours(num_labels: int, *, background: bool) -> NDArray[np.uint8]:
    """Colour (num_labels,3) of each label; a class has the same one with and without a background."""
    if not background:
        return palette(num_labels)
    return np.concatenate([np.array([BACKGROUND_COLOUR], np.uint8), palette(num_labels - 1)])


def _paint(
    image: NDArray[np.uint8], label_map: LabelMap, colours: NDArray[np.uint8], *, background: bool
) -> Image.Image:
    from PIL import Image

    painted = colours[label_map]
    if background:
        untouched = label_map == 0
        painted[untouched] = image[untouched]
    blended = np.array(Image.blend(Image.fromarray(image), Image.fromarray(painted), OPACITY))
    blended[_contours(label_map)] = 255
    return Image.fromarray(blended)


def _contours(label_map: LabelMap) -> NDArray[np.bool_]:
    """Pixels on the border of two labels: lines one pixel wide for each 800 pixels of the image's mean side."""
    edges = np.zeros(label_map.shape, bool)
    edges[:, 1:] |= label_map[:, 1:] != label_map[:, :-1]
    edges[1:] |= label_map[1:] != label_map[:-1]
    height, width = label_map.shape
    for _ in range(int((height * width) ** 0.5) // 800):
        edges[:, :-1] |= edges[:, 1:]
        edges[:-1] |= edges[1:]
    return edges


class _Entry(NamedTuple):
    name: str
    share: str
    colour: NDArray[np.uint8]

    @property
    def text(self) -> str:
        return f"{self.name}  {self.share}"


def _draw_legend(entries: Sequence[_Entry], image_size: tuple[int, int]) -> Image.Image:
    """Coloured plates with the entries' text, in rows as wide as the image (width, height) allows."""
    from PIL import Image, ImageDraw, ImageFont

    font_size = int(np.clip(FONT_SHARE * (image_size[0] * image_size[1]) ** 0.5, *FONT_SIZES))
    font = ImageFont.load_default(font_size)
    gap = max(3, font_size // 3)
    places, size = _flow(entries, font, font_size, gap, image_size[0])
    legend = Image.new("RGB", size, PAPER_COLOUR)
    draw = ImageDraw.Draw(legend)
    for entry, (left, top, right, bottom) in zip(entries, places, strict=True):
        draw.rounded_rectangle((left, top, right, bottom), radius=gap, fill=tuple(map(int, entry.colour)))
        middle = ((left + right) / 2, (top + bottom) / 2)
        draw.text(middle, entry.text, fill=text_colour(entry.colour), font=font, anchor="mm")
    return legend


def _flow(
    entries: Sequence[_Entry],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    font_size: int,
    gap: int,
    width: int,
) -> tuple[list[tuple[int, int, int, int]], tuple[int, int]]:
    """Boxes (left, top, right, bottom) of the entries, and the (width, height) of the whole."""
    widths = [int(font.getlength(entry.text)) + 3 * gap for entry in entries]
    height = font_size + 2 * gap
    width = max([width, *(entry + 2 * gap for entry in widths)])
    boxes, left, top = [], gap, gap
    for entry_width in widths:
        if left + entry_width + gap > width:
            left, top = gap, top + height + gap
        boxes.append((left, top, left + entry_width, top + height))
        left += entry_width + gap
    return boxes, (width, top + height + gap)


def _short(name: str) -> str:
    name = " ".join(name.split())
    return name if len(name) <= MAX_NAME_LENGTH else name[: MAX_NAME_LENGTH - 1] + "…"


def _percent(share: float) -> str:
    return "<0.1 %" if share < 0.001 else f"{100 * share:.1f} %"
