"""Compares label maps: agreement, IoU of each label, and the largest areas where they part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.errors import DataError
from t2d_runtime.evaluation.label_files import LabelFile
from t2d_runtime.results.label_map import MAX_LABELS, bands_of, regions_of
from t2d_runtime.results.shapes.parts import Parts, parts_of
from t2d_runtime.results.visualize import label_colours

AREAS = 5
"""Areas that a comparison lists: the largest."""

TINT = 0.35
"""Share of a label's colour over white, where both maps have it."""

DIFFERENT = (200, 0, 0)
"""Colour of pixels that differ in a picture of the difference: a dark red, where all else is light."""


@dataclass(frozen=True)
class Area:
    """A connected area where two label maps differ."""

    file: str
    box: tuple[int, int, int, int]
    """Left, top, right, bottom in pixels; right and bottom exclusive."""
    pixels: int
    first: str
    """The label that the first map has at most of its pixels, where the second has `second`."""
    second: str


@dataclass(frozen=True)
class LabelFigures:
    """Figures of one label."""

    name: str
    iou: float
    """Intersection over union of both maps' pixels of this label, 0 to 1."""
    pixels: tuple[int, int]
    """Pixels in the first map and in the second."""


@dataclass(frozen=True)
class Comparison:
    """The comparison of two label maps, or of several pairs together."""

    counts: Counter[tuple[str, str]]
    """Label in the first map and in the second -> pixels."""
    areas: tuple[Area, ...]
    """The largest areas of different labels, the largest first."""

    @property
    def pixels(self) -> int:
        """Pixels compared."""
        return self.counts.total()

    @property
    def different(self) -> int:
        """Pixels of different labels."""
        return sum(count for (first, second), count in self.counts.items() if first != second)

    @property
    def agreement(self) -> float:
        """Share of pixels with equal labels, 0 to 1."""
        return 1 - self.different / self.pixels

    @property
    def figures(self) -> tuple[LabelFigures, ...]:
        """Figures of each label that occurs, in the order of the first map, then of the second."""
        firsts: Counter[str] = Counter()
        seconds: Counter[str] = Counter()
        for (first, second), count in self.counts.items():
            firsts[first] += count
            seconds[second] += count
        names = dict.fromkeys((*firsts, *seconds))
        return tuple(
            LabelFigures(
                name,
                self.counts[name, name] / (firsts[name] + seconds[name] - self.counts[name, name]),
                (firsts[name], seconds[name]),
            )
            for name in names
        )

    @property
    def mean_iou(self) -> float:
        """Mean IoU of the labels that occur."""
        figures = self.figures
        return sum(label.iou for label in figures) / len(figures)


def compare(first: LabelFile, second: LabelFile, name: str = "") -> Comparison:
    """Compare two label maps; labels are equal where their names are, or their values where a file has no names.

    `name` is that of the pair in `areas`. Raises DataError for maps of different sizes.
    """
    _check_sizes(first, second)
    names = _names(first, second), _names(second, first)
    counts: Counter[tuple[str, str]] = Counter()
    for region in regions_of(*first.labels.shape):
        codes = first.labels[region].astype(np.uint32) * MAX_LABELS + second.labels[region]
        for code, count in zip(*np.unique(codes, return_counts=True), strict=True):
            one, other = divmod(int(code), MAX_LABELS)
            counts[names[0](one), names[1](other)] += int(count)
    ordered = Counter(dict(sorted(counts.items(), key=lambda item: _place(item[0], first, second))))
    return Comparison(ordered, _areas(first, second, name) if any(a != b for a, b in counts) else ())


def together(comparisons: Iterable[Comparison]) -> Comparison:
    """Several comparisons as one, pixel by pixel. Raises DataError for none."""
    counts: Counter[tuple[str, str]] = Counter()
    areas: list[Area] = []
    for comparison in comparisons:
        counts += comparison.counts
        areas = _largest([*areas, *comparison.areas])
    if not counts:
        raise DataError("no label maps to compare; expected at least one pair")
    return Comparison(counts, tuple(areas))


def difference_picture(first: LabelFile, second: LabelFile) -> NDArray[np.uint8]:
    """A picture (H,W,3) of two label maps: equal labels in light colours, pixels that differ in dark red.

    Raises DataError for maps of different sizes.
    """
    _check_sizes(first, second)
    values = np.unique(first.labels)
    colours = label_colours(int(values[-1]) + 1, background=_name(first, second, 0) == "background")
    light = (255 - TINT * (255 - colours.astype(np.float32))).astype(np.uint8)
    picture = np.empty((*first.labels.shape, 3), np.uint8)
    for band in bands_of(*first.labels.shape):
        picture[band] = light[first.labels[band]]
        picture[band][_different(first, second, band)] = DIFFERENT
    return picture


def _check_sizes(first: LabelFile, second: LabelFile) -> None:
    if first.labels.shape != second.labels.shape:
        sizes = [" x ".join(map(str, reversed(file.labels.shape))) for file in (first, second)]
        raise DataError(
            f"{first.path} has {sizes[0]} pixels and {second.path} {sizes[1]}; expected maps of the same size"
        )


class _Names:
    """Value -> name for one of two files: its own names, else the other's, else the value."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def __call__(self, value: int) -> str:
        return self._names[value] if value < len(self._names) else str(value)


def _names(file: LabelFile, other: LabelFile) -> _Names:
    return _Names(file.names or other.names or ())


def _name(file: LabelFile, other: LabelFile, value: int) -> str:
    return _names(file, other)(value)


def _place(pair: tuple[str, str], first: LabelFile, second: LabelFile) -> tuple[int, ...]:
    """Sorts pairs of names by the order of the first file's labels, then of the second's; numbers by value."""
    names = (*(first.names or second.names or ()), *(second.names or ()))
    order = {name: place for place, name in reversed(list(enumerate(names)))}
    return tuple(order.get(name, len(names) + (int(name) if name.isdecimal() else 0)) for name in pair)


def _different(first: LabelFile, second: LabelFile, band: slice = slice(None)) -> NDArray[np.bool_]:
    """True where the labels differ (H,W)."""
    known = second.names is not None and first.names is not None and first.names != second.names
    if not known:
        differs: NDArray[np.bool_] = first.labels[band] != second.labels[band]
        return differs
    order = {name: place for place, name in enumerate(first.names or ())}
    table = np.array([order.get(name, MAX_LABELS) for name in second.names or ()], np.uint32)
    return np.asarray(first.labels[band] != table[second.labels[band]])


def _areas(first: LabelFile, second: LabelFile, name: str) -> tuple[Area, ...]:
    """The largest connected areas of different labels."""
    parts = parts_of(_different(first, second))
    places = np.flatnonzero(parts.labels)
    chosen = places[np.argsort(-parts.areas[places], kind="stable")[:AREAS]]
    boxes = parts.boxes(first.labels.shape[1])
    return tuple(
        Area(
            name,
            tuple(boxes[part].tolist()),
            int(parts.areas[part]),
            *_most_frequent(first, second, _pixels(parts, part)),
        )
        for part in chosen
    )


def _pixels(parts: Parts, part: np.intp) -> NDArray[np.int64]:
    """The pixels of a part as indices into the flat map."""
    runs = np.flatnonzero(parts.of_runs == part)
    starts, lengths = parts.runs.starts[runs], parts.runs.lengths[runs]
    offsets = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.asarray(np.repeat(starts, lengths) + offsets)


def _most_frequent(first: LabelFile, second: LabelFile, pixels: NDArray[np.int64]) -> tuple[str, str]:
    codes = first.labels.reshape(-1)[pixels].astype(np.uint32) * MAX_LABELS + second.labels.reshape(-1)[pixels]
    found, counts = np.unique(codes, return_counts=True)
    one, other = divmod(int(found[counts.argmax()]), MAX_LABELS)
    return _name(first, second, one), _name(second, first, other)


def _largest(areas: list[Area]) -> list[Area]:
    return sorted(areas, key=lambda area: -area.pixels)[:AREAS]
