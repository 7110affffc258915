"""Pictures side by side, each below its title."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from t2d_runtime.results.legend import PAPER_COLOUR

TITLE_SIZE: Final = 18
GAP: Final = 8


def side_by_side(panels: Mapping[str, Image.Image], columns: int | None = None) -> Image.Image:
    """Panels by title, in one row or in rows of `columns`. Columns are as wide as the widest panel."""
    font = ImageFont.load_default(TITLE_SIZE)
    columns = min(columns or len(panels), len(panels))
    rows = -(-len(panels) // columns)
    top = TITLE_SIZE + 2 * GAP
    width = max(max(panel.width, int(font.getlength(title))) for title, panel in panels.items()) + GAP
    height = max(panel.height for panel in panels.values()) + top
    picture = Image.new("RGB", (width * columns + GAP, height * rows + GAP), PAPER_COLOUR)
    pen = ImageDraw.Draw(picture)
    for number, (title, panel) in enumerate(panels.items()):
        left, upper = GAP + number % columns * width, number // columns * height
        pen.text((left, upper + GAP), title, fill=(0, 0, 0), font=font)
        picture.paste(panel, (left, upper + top))
    return picture
