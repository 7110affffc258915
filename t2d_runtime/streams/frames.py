"""Frames of a stream: as they come from a source, and segmented."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from t2d_runtime.results.segmentation import Segmentation


@dataclass(frozen=True, eq=False)
class SourceFrame:
    """One frame of a source, not converted to pixels yet."""

    load: Callable[[], NDArray[np.uint8]]
    """Gives the pixels (H,W,3) uint8 RGB, upright. Raises ImageError."""
    index: int
    """Number of the frame in its source, from 0. Skipped and dropped frames count too."""
    time_s: float | None = None
    """Seconds since the source began; None where it has no clock."""
    file: str | None = None
    """File that the frame comes from."""
    sample_aspect_ratio: Fraction = Fraction(1)
    """Width of a pixel over its height, as players show it. Not 1 in videos from analogue television, DV and DVD."""
    live: bool = False
    """True where the source goes on whether its frames are taken or not: a newer frame replaces this one."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One segmented frame of a stream."""

    result: Segmentation
    index: int
    """Number of the frame in its source, from 0. Skipped and dropped frames count too, so indices may have gaps."""
    time_s: float | None
    """Seconds since the source began: from the file's time stamps, or a live source's; None for pictures and arrays."""
    source: str
    """The source as it was given, without a password."""
    file: str | None = None
    """File that the frame comes from, where the source is a file, a folder or a pattern."""
    dropped: int = 0
    """Frames of this source dropped so far, because newer ones came before they could be segmented."""
    reused: bool = False
    """True for a still frame, which was not encoded again: its labels are those of the frame encoded before it."""
    source_number: int = 0
    """Place of the source among several, from 0."""
    sample_aspect_ratio: Fraction = Fraction(1)
    """Width of a pixel over its height, as players show the video; 1 for pictures."""

    def __repr__(self) -> str:
        time = "" if self.time_s is None else f" at {self.time_s:.3f} s"
        return f"Frame({self.index} of {self.source!r}{time}: {self.result!r})"
