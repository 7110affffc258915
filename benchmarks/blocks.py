"""Blocks of output that commands print and the report shows, in any format. A paragraph is a string."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

PICTURE_WIDTH = 1000
"""Width of the page in pixels."""

PICTURE_QUALITY = 80
MOST_TICKS = 6


@dataclass(frozen=True)
class Table:
    """A table with text cells; the first column names the rows."""

    headers: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    kind: ClassVar = "table"

    def __str__(self) -> str:
        """Text with columns as wide as their longest cell. The first one is aligned left, the others right."""
        lines = [self.headers, *self.rows]
        first, *others = (max(map(len, column)) for column in zip(*lines, strict=True))
        return "\n".join(
            "  ".join([line[0].ljust(first), *map(str.rjust, line[1:], others)]).rstrip() for line in lines
        )


@dataclass(frozen=True)
class Bar:
    """A named bar of one part or several, and the text beside it."""

    name: str
    parts: Mapping[str, float]
    text: str
    mark: float | None = None
    """A value marked across the bar."""


@dataclass(frozen=True)
class Bars:
    """Horizontal bars from zero on one scale. Parts with the same name have the same colour."""

    caption: str
    bars: tuple[Bar, ...]
    kind: ClassVar = "bars"

    @property
    def names(self) -> list[str]:
        """Names of the parts."""
        return list(dict.fromkeys(name for bar in self.bars for name in bar.parts))

    @property
    def table(self) -> Table:
        """The figures of the parts, where there are several, and the text beside them."""
        parts = self.names if len(self.names) > 1 else []
        rows = [(bar.name, *(f"{bar.parts.get(part, 0.0):.1f}" for part in parts), bar.text) for bar in self.bars]
        return Table(("", *parts, ""), rows)

    def __str__(self) -> str:
        return f"{self.caption}\n{self.table}"

    @property
    def longest(self) -> float:
        """The value whose bar is as wide as the page."""
        return max((max(sum(bar.parts.values()), bar.mark or 0.0) for bar in self.bars), default=0.0) or 1.0


@dataclass(frozen=True)
class Lines:
    """Curves over the same values at equal distances, with times on a logarithmic scale."""

    caption: str
    values: tuple[str, ...]
    series: Mapping[str, tuple[float | None, ...]]
    kind: ClassVar = "lines"

    @property
    def table(self) -> Table:
        """The times, with a column for each value."""
        series = self.series.items()
        return Table(("", *self.values), [(name, *map(number, times)) for name, times in series])

    def __str__(self) -> str:
        return f"{self.caption}\n{self.table}"

    def points(self, times: Sequence[float | None]) -> list[tuple[int, float]]:
        """The measured times, with the indices of their values."""
        return [(number, time) for number, time in enumerate(times) if time]

    @property
    def ticks(self) -> list[float]:
        """Round numbers around all times."""
        times = [time for series in self.series.values() for _, time in self.points(series)]
        return log_ticks(min(times), max(times)) if times else [1.0, 2.0]

    def height(self, time: float) -> float:
        """Position of a time between the first tick, 0, and the last, 1."""
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
        """The picture as a data URL, no wider than the page."""
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
    """A heading and the blocks under it."""

    title: str
    blocks: tuple[Block, ...]

    @property
    def anchor(self) -> str:
        """The heading as an anchor in the page."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.title.lower())


def number(value: float | None) -> str:
    """Three digits or more: 0.06, 1.23, 12.3, 1234."""
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


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
