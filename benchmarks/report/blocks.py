"""What a page is made of, whatever it is written in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Table:
    """Cells as text; the first column names the rows."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Bar:
    """A named value, and how it is written."""

    name: str
    value: float
    text: str
    mark: float | None = None
    """A limit that is drawn across the bar."""


@dataclass(frozen=True)
class Bars:
    """Horizontal bars from zero, on one scale."""

    caption: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Stack:
    """A bar of parts."""

    name: str
    parts: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Stacks:
    """Stacked horizontal bars on one scale; parts of one name share a colour."""

    caption: str
    unit: str
    stacks: tuple[Stack, ...]


@dataclass(frozen=True)
class Lines:
    """Curves over the same values, which stand at equal distances; times on a logarithmic scale."""

    caption: str
    unit: str
    values: tuple[str, ...]
    series: tuple[tuple[str, tuple[float | None, ...]], ...]


@dataclass(frozen=True)
class Picture:
    """A picture file."""

    path: Path
    caption: str


Block = Text | Table | Bars | Stacks | Lines | Picture


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: tuple[Block, ...]
