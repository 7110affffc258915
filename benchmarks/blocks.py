"""What a page is made of, whatever it is written in; a paragraph is a string."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

PICTURE_WIDTH = 1000
"""Pixels: the page's own width."""

PICTURE_QUALITY = 80
MOST_TICKS = 6


@dataclass(frozen=True)
class Table:
    """Cells as text; the first column names the rows."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    kind: ClassVar = "table"


@dataclass(frozen=True)
class Bar:
    """A named bar of one part or several, and what is written beside it."""

    name: str
    parts: Mapping[str, float]
    text: str
    mark: float | None = None
    """A value that is marked across the bar."""


@dataclass(frozen=True)
class Bars:
    """Horizontal bars from zero, on one scale; parts of one name share a colour."""

    caption: str
    bars: tuple[Bar, ...]
    kind: ClassVar = "bars"

    @property
    def names(self) -> list[str]:
        """Names of the parts."""
        return list(dict.fromkeys(name for bar in self.bars for name in bar.parts))

    @property
    def longest(self) -> float:
        """The value that is as wide as the page."""
        return max((max(sum(bar.parts.values()), bar.mark or 0.0) for bar in self.bars), default=0.0) or 1.0


@dataclass(frozen=True)
class Lines:
    """Curves over the same values, which stand at equal distances; times on a logarithmic scale."""

    caption: str
    values: tuple[str, ...]
    series: Mapping[str, tuple[float | None, ...]]
    kind: ClassVar = "lines"

    @property
    def ticks(self) -> list[float]:
        """Round numbers around all times."""
        times = [time for series in self.series.values() for time in series if time]
        return log_ticks(min(times), max(times)) if times else [1.0, 2.0]

    def height(self, time: float) -> float:
        """Where a time stands between the first tick, 0, and the last, 1."""
        ticks = self.ticks
        return math.log(time / ticks[0]) / math.log(ticks[-1] / ticks[0])


@dataclass(frozen=True)
class Picture:
    """A picture file."""

    path: Path
    caption: str
    kind: ClassVar = "picture"

    @property
    def data_url(self) -> str:
        """The picture, no wider than the page, to stand inside the page."""
        from PIL import Image

        with Image.open(self.path) as opened:
            picture = opened.convert("RGB")
        picture.thumbnail((PICTURE_WIDTH, PICTURE_WIDTH))
        packed = io.BytesIO()
        picture.save(packed, "WEBP", quality=PICTURE_QUALITY)
        return "data:image/webp;base64," + base64.b64encode(packed.getvalue()).decode()


Block = str | Table | Bars | Lines | Picture


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: tuple[Block, ...]

    @property
    def anchor(self) -> str:
        """The heading as an address in the page."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.title.lower())


def log_ticks(least: float, greatest: float) -> list[float]:
    """Round numbers around all times, at most MOST_TICKS of them between the first and the last."""
    powers = range(math.floor(math.log10(least)), math.ceil(math.log10(greatest)) + 2)
    steps = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    first = max(step for step in steps if step <= least)
    last = min(step for step in steps if step >= greatest and step > first)
    inside = [step for step in steps if first < step < last]
    if len(inside) > MOST_TICKS:
        inside = [10.0**power for power in powers if first < 10.0**power < last]
    return [first, *inside, last]
