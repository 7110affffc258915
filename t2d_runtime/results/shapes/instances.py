"""Connected parts of classes, as a list of objects with a box and a mask each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.checks import is_whole
from t2d_runtime.errors import OptionError
from t2d_runtime.results.label_map import LabelMap
from t2d_runtime.results.shapes.parts import parts_of


@dataclass(frozen=True, eq=False)
class Instance:
    """A connected part of a class. Two objects of one class that touch are one part."""

    label: int
    name: str
    box: tuple[int, int, int, int]
    """Left, top, right, bottom in pixels; right and bottom exclusive."""
    area: int
    """Pixels."""
    mean_score: float | None
    """Mean of the winning scores, 0 to 1; None unless `keep_confidence` was given."""
    _starts: NDArray[np.int64] = field(repr=False)
    """First pixels of the runs, as indices into the box."""
    _lengths: NDArray[np.int64] = field(repr=False)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The part (h,w) bool inside its box: `picture[top:bottom, left:right][instance.mask]` are its pixels."""
        left, top, right, bottom = self.box
        width, height = right - left, bottom - top
        steps = np.zeros(height * width + 1, np.int8)  # the last run ends one pixel beyond the box
        steps[self._starts] += 1
        steps[self._starts + self._lengths] -= 1
        return np.cumsum(steps[:-1], dtype=np.int8).astype(bool).reshape(height, width)


def checked_min_area(min_area: int) -> int:
    """The smallest area in pixels, checked: a whole number from 1. Raises OptionError."""
    if not is_whole(min_area, 1):
        raise OptionError(f"min_area is {min_area!r}, expected a whole number of pixels from 1")
    return int(min_area)


def instances_of(
    label_map: LabelMap,
    class_names: Sequence[str],
    confidence: NDArray[np.float32] | None,
    *,
    background: bool,
    min_area: int,
) -> list[Instance]:
    """Connected parts of at least `min_area` pixels, label after label, the largest first. Background has none."""
    parts = parts_of(label_map)
    width = label_map.shape[1]
    boxes = parts.boxes(width)
    means = None if confidence is None else parts.means(confidence)
    order = np.argsort(parts.of_runs, kind="stable")
    cuts = np.searchsorted(parts.of_runs[order], np.arange(len(parts.areas) + 1))
    # Of all parts at once, since there may be very many.
    left, top, right, _ = boxes[parts.of_runs[order]].T
    rows, columns = np.divmod(parts.runs.starts[order], width)
    starts, lengths = (rows - top) * (right - left) + columns - left, parts.runs.lengths[order]
    wanted = np.flatnonzero((parts.areas >= min_area) & (parts.labels >= int(background)))
    wanted = wanted[np.lexsort((-parts.areas[wanted], parts.labels[wanted]))]
    return [
        Instance(
            label=(label := int(parts.labels[part])),
            name=class_names[label],
            box=tuple(boxes[part].tolist()),
            area=int(parts.areas[part]),
            mean_score=None if means is None else float(means[part]),
            _starts=starts[cuts[part] : cuts[part + 1]],
            _lengths=lengths[cuts[part] : cuts[part + 1]],
        )
        for part in wanted.tolist()
    ]
