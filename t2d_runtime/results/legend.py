"""The legend below an overlay: coloured plates with the labels' names and shares, in any script."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.errors import OptionError
from t2d_runtime.results.fonts import font_for, opened_font, own_font
from t2d_runtime.results.palette import text_colour

if TYPE_CHECKING:
    from PIL import Image

    from t2d_runtime.results.fonts import Font

PAPER_COLOUR = (255, 255, 255)
INK_COLOUR = (60, 60, 60)
FONT_SIZES = (12, 64)
"""Smallest and largest height of the legend's letters in pixels."""

FONT_SHARE = 0.03
"""Height of the legend's letters as a share of the image's mean side."""

HEIGHT_SHARE, FEWEST_ROWS = 0.5, 4
"""The legend's largest share of the image's height. It may exceed it to show this many rows."""

MOST_PIXELS = 1 << 26
"""Most pixels of a picture with its legend, 200 MB, where it has more than twice the image's. An image of one row and
millions of columns has none."""

MAX_NAME_LENGTH = 40
"""Most letters of a name that the legend shows."""


class Entry(NamedTuple):
    """A label in the legend."""

    name: str
    share: float
    """0 to 1 of the image's pixels."""
    colour: NDArray[np.uint8]
    """(3,) RGB."""

    @property
    def text(self) -> str:
        """The text on the label's plate."""
        return f"{_short(self.name)}  {_percent(self.share)}"


class _Plate(NamedTuple):
    text: str
    font: Font
    width: int
    fill: tuple[int, ...]
    ink: tuple[int, ...]


def draw_legend(
    entries: Sequence[Entry], image_size: tuple[int, int], font_file: str | PathLike[str] | None
) -> Image.Image:
    """Coloured plates with the entries' text, in rows as wide as the image (width, height) allows.

    A last plate counts the entries that have no room. Raises OptionError for a font that cannot be read, and for an
    image so long and thin that a legend would be far larger.
    """
    from PIL import Image, ImageDraw

    font_size = int(np.clip(FONT_SHARE * (image_size[0] * image_size[1]) ** 0.5, *FONT_SIZES))
    gap = max(3, font_size // 3)
    plate_height, row_height = font_size + 2 * gap, font_size + 3 * gap
    rows = max(FEWEST_ROWS, int(image_size[1] * HEIGHT_SHARE) // row_height)
    given = None if font_file is None else opened_font(font_file, font_size)
    # No plate is narrower than three letters' heights, so there is no room for more plates than this.
    most = rows * (image_size[0] // (3 * font_size) + 1)
    plates = [_plate_of(entry, given or font_for(entry.text, font_size), gap) for entry in entries[:most]]
    width = max([image_size[0], *(plate.width + 2 * gap for plate in plates)])
    plates, places = _fitting(plates, len(entries), own_font(font_size), gap, width, rows)
    height = (places[-1][1] + 1) * row_height + gap
    _check_size(width * (image_size[1] + height), image_size)
    legend = Image.new("RGB", (width, height), PAPER_COLOUR)
    draw = ImageDraw.Draw(legend)
    for plate, (left, row) in zip(plates, places, strict=True):
        right, top = left + plate.width, row * row_height + gap
        draw.rounded_rectangle((left, top, right, top + plate_height), radius=gap, fill=plate.fill)
        middle = ((left + right) / 2, top + plate_height / 2)
        draw.text(middle, plate.text, fill=plate.ink, font=plate.font, anchor="mm")
    return legend


def _check_size(pixels: int, image_size: tuple[int, int]) -> None:
    """Raise OptionError for a picture with its legend that has too many pixels."""
    width, height = image_size
    if pixels > max(MOST_PIXELS, 2 * width * height):
        raise OptionError(
            f"an image of {width} x {height} pixels is too thin for a legend: the picture would have {pixels} pixels; "
            "leave the legend out with legend=False or --no-legend"
        )


def _plate_of(entry: Entry, font: Font, gap: int) -> _Plate:
    colour = tuple(map(int, entry.colour))
    return _Plate(entry.text, font, int(font.getlength(entry.text)) + 3 * gap, colour, text_colour(entry.colour))


def _fitting(
    plates: list[_Plate], count: int, font: Font, gap: int, width: int, rows: int
) -> tuple[list[_Plate], list[tuple[int, int]]]:
    """The plates that have room in `rows` rows, and their places (left, row).

    Where those are not all of the `count` entries, the last plate says how many more there are.
    """
    places = _flow(plates, gap, width)
    if len(plates) == count and places[-1][1] < rows:
        return plates, places
    kept = sum(row < rows for _, row in places)
    while True:
        text = f"and {count - kept} more"
        rest = _Plate(text, font, int(font.getlength(text)) + 3 * gap, PAPER_COLOUR, INK_COLOUR)
        shown = [*plates[:kept], rest]
        places = _flow(shown, gap, width)
        if places[-1][1] < rows or not kept:
            return shown, places
        kept -= 1


def _flow(plates: Sequence[_Plate], gap: int, width: int) -> list[tuple[int, int]]:
    """Places (left, row) of the plates, one after the other in rows of this width."""
    places, left, row = [], gap, 0
    for plate in plates:
        if left > gap and left + plate.width + gap > width:
            left, row = gap, row + 1
        places.append((left, row))
        left += plate.width + gap
    return places


def _short(name: str) -> str:
    name = " ".join(name.split())
    return name if len(name) <= MAX_NAME_LENGTH else name[: MAX_NAME_LENGTH - 1] + "…"


def _percent(share: float) -> str:
    return "<0.1 %" if share < 0.001 else f"{100 * share:.1f} %"
