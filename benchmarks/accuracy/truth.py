"""Reads label maps on disk: the label of each value in a file, and the values that do not count."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from benchmarks.accuracy.metric import IGNORED, Truth
from t2d_runtime.errors import DataError
from t2d_runtime.image.encoded import decoding
from t2d_runtime.image.formats import PLUGINS

UNKNOWN: Final = -2
"""Marks a value that is neither a label nor ignored."""

LARGEST_VALUE: Final = 2**16 - 1

INDEX_MODES: Final = ("L", "P", "I", "I;16", "I;16B")
"""Pillow's modes with one whole number a pixel: grey, palette, 16 and 32 bits."""


@dataclass(frozen=True)
class LabelRule:
    """The meaning of the values in label maps."""

    values: tuple[int, ...]
    """The file's value for every label, from label 0."""
    ignored: tuple[int, ...]
    """Values of pixels that do not count."""

    def __str__(self) -> str:
        ignored = " or ".join(map(str, self.ignored))
        return f"{_ranges(self.values)}" + (f", or {ignored} (ignored)" if ignored else "")


def read_truth(path: Path, rule: LabelRule, size: tuple[int, int]) -> Truth:
    """The label map (H,W) of an image of this (height, width).

    Raises DataError for another size, a colour picture, and values without a rule; ImageError for a damaged file.
    """
    with decoding(str(path)), Image.open(path, formats=tuple(PLUGINS)) as opened:
        mode, values = opened.mode, np.asarray(opened)
    if mode not in INDEX_MODES:
        raise DataError(f"{path} is a picture of mode {mode}; expected palette indices or grey levels")
    if values.shape != size:
        raise DataError(
            f"{path} has {values.shape[1]} x {values.shape[0]} pixels, its image {size[1]} x {size[0]}; "
            "expected the same size"
        )
    table = np.full(LARGEST_VALUE + 1, UNKNOWN, np.int32)
    table[list(rule.values)] = np.arange(len(rule.values))
    table[list(rule.ignored)] = IGNORED
    within = (values >= 0) & (values <= LARGEST_VALUE)
    truth = np.where(within, table[np.where(within, values, 0)], np.int32(UNKNOWN))
    unknown = np.unique(values[truth == UNKNOWN])
    if len(unknown):
        raise DataError(f"{path} holds the values {unknown[:5].tolist()}; expected {rule}")
    return truth


def _ranges(values: tuple[int, ...]) -> str:
    """Text of whole numbers: "0 to 19, 21"."""
    parts: list[list[int]] = []
    for value in sorted(values):
        if parts and value == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], value]
        else:
            parts.append([value])
    return ", ".join(" to ".join(map(str, part)) for part in parts)
