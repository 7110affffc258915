"""Labels at the image's own size, made piece by piece, so that N planes of that size never exist.

Every step from patch scores to the image is linear and separable: upsampling in each window, the mean over windows, and
the last resize. So a tile of the image is one product: row weights, the patch scores near the tile, column weights. All
weights are at least 0 and add up to 1, so a tile's scores stay within the range of those patch scores. A class whose
highest patch score is below another's lowest cannot win in the tile.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.device.products import matmul
from t2d_runtime.image.windows import Window
from t2d_runtime.masks.axis_weights import LONG, AxisWeights
from t2d_runtime.masks.upsample import Taps, blend, linear_taps
from t2d_runtime.results.label_map import LabelMap

TILE = 64
"""Side of a tile in pixels: small, so that few classes are possible in it, but large enough to be worth a call."""

STRIP = TILE * TILE
"""Columns processed together: only their weights, and resized rows as long as that, are in memory."""

MANY_CLASSES, SMALL_TILE = 512, 16
"""A tile with more possible classes than this is split into small ones, which have fewer: they depend on 9 patches
instead of 36, in a window at 448."""

CHUNK_SCORES = 1 << 19
"""Scores of a tile compared at a time: 128 classes of a whole tile, 2 MiB, which stay in a core's cache."""


def labels_from_patch_scores(
    scores: NDArray[np.float32],
    boxes: Sequence[Window],
    resized_size: tuple[int, int],
    size: tuple[int, int],
    *,
    threshold: float | None,
    best: NDArray[np.float32] | None = None,
) -> LabelMap:
    """Label map of an image of this (height, width) from the patch scores (W,N,h,w) of its windows.

    `boxes` are the windows in the image's `resized_size`, as `window_boxes` gives them. With a `threshold`, label 0 is
    background, where no score exceeds it, and the classes follow from 1; ties go to the lowest label.
    `best` (H,W), where given, receives the winning scores: the threshold where background wins.
    The result equals upsampling, stitching, resizing and arg max, except for rounding.
    """
    tops = sorted({box.top for box in boxes})
    lefts = sorted({box.left for box in boxes})
    _, N, h, w = scores.shape
    rows = AxisWeights.of_windows(tops, boxes[0].height, h, resized_size[0], size[0])
    columns = AxisWeights.of_windows(lefts, boxes[0].width, w, resized_size[1], size[1])
    grid = scores.reshape(len(tops), len(lefts), N, h, w).transpose(0, 3, 1, 4, 2)
    first = 0 if threshold is None else 1
    labels = empty_labels(size, N + first)
    source = grid.reshape(len(tops) * h, len(lefts) * w, N)
    if best is not None:
        best.fill(_lowest_score(threshold))
    _label(labels, best, source, rows, columns, threshold, np.arange(first, N + first), TILE)
    return labels


def labels_from_planes(
    parts: Iterable[NDArray[np.float32]],
    size: tuple[int, int],
    *,
    threshold: float | None,
    classes: NDArray[np.intp],
    num_classes: int,
    best: NDArray[np.float32] | None = None,
) -> LabelMap:
    """Label map from the stitched planes of some `classes` (indices, rising) among `num_classes`.

    `parts` are planes (n,H',W') of the classes in their order: an array in a list, or a generator, so that one part
    exists at a time. They are resized to `size` as after stitching. Planes of that size already are not resized: labels
    are exactly their arg max. Labels, and `best`, are those of `labels_from_patch_scores`.
    """
    first = 0 if threshold is None else 1
    labels = empty_labels(size, num_classes + first)
    best = np.empty(size, np.float32) if best is None else best
    best.fill(_lowest_score(threshold))
    done = 0
    for planes in parts:
        _label_planes(labels, best, planes, classes[done : done + len(planes)] + first)
        done += len(planes)
        del planes  # before the next ones are made
    return labels


def _label_planes(
    labels: LabelMap, best: NDArray[np.float32], planes: NDArray[np.float32], names: NDArray[np.intp]
) -> None:
    """Write names and scores of planes (n,H',W') where they exceed the best scores (H,W) so far."""
    (H, W), source = labels.shape, planes.shape[1:]
    for across in _slices(0, H, _tile_side(H, W, TILE)):
        rows = linear_taps(source[0], H, align_corners=False, part=across)
        for along in _slices(0, W, STRIP):
            columns = linear_taps(source[1], W, align_corners=False, part=along)
            part = across, along
            for label, plane in zip(names, planes, strict=True):
                values = plane[part] if source == (H, W) else _resized_part(plane, rows, columns)
                np.copyto(labels[part], label, where=values > best[part], casting="unsafe")
                np.maximum(best[part], values, out=best[part])


def _resized_part(plane: NDArray[np.float32], rows: Taps, columns: Taps) -> NDArray[np.float32]:
    """Some rows and columns of a resized plane."""
    wide: NDArray[np.float32] = blend(blend(plane[np.newaxis], rows, axis=1), columns, axis=2)[0]
    return wide


def possible_winners(scores: NDArray[np.float32], *, threshold: float | None) -> NDArray[np.intp]:
    """Indices of the classes that can be the label of a pixel, from all windows' patch scores (W,N,h,w).

    Upsampling, PAMR and the mean over windows keep each class within its range. So a class is left out where its
    highest score is not above the threshold, or is below another class's lowest.
    """
    return _candidates(scores.min(axis=(0, 2, 3)), scores.max(axis=(0, 2, 3)), threshold)


def _lowest_score(threshold: float | None) -> float:
    """The score that a class must exceed to be a pixel's label."""
    return -np.inf if threshold is None else threshold


def _candidates(lowest: NDArray[np.float32], highest: NDArray[np.float32], threshold: float | None) -> NDArray[np.intp]:
    fitting = highest >= lowest.max(initial=-np.inf)
    if threshold is not None:
        fitting &= highest > np.float32(threshold)
    return np.flatnonzero(fitting)


def _label(
    labels: LabelMap,
    best: NDArray[np.float32] | None,
    source: NDArray[np.float32],
    rows: AxisWeights,
    columns: AxisWeights,
    threshold: float | None,
    names: NDArray[np.intp],
    side: int,
) -> None:
    """Write the labels (H,W), zero so far, and the best scores of rows @ source @ columns.T, in tiles of a `side`.

    `source` (a,b,n) are scores of n classes with their `names`; rows (H,a) and columns (W,b) are weights.
    """
    H, W = rows.pixels, columns.pixels
    height, width = _tile_side(H, W, side), _tile_side(W, H, side)
    for strip in _slices(0, W, STRIP):
        tiles = [(part, *columns.near(part)) for part in _slices(strip.start, strip.stop, width)]
        for across in _slices(0, H, height):
            row_weights, seen_rows = rows.near(across)
            band = source[seen_rows]
            for along, column_weights, seen_columns in tiles:
                tile_best = None if best is None else best[across, along]
                block = band[:, seen_columns]
                _label_tile(
                    labels[across, along], tile_best, block, row_weights, column_weights, threshold, names, side
                )


def _label_tile(
    tile: LabelMap,
    best: NDArray[np.float32] | None,
    block: NDArray[np.float32],
    rows: NDArray[np.float32],
    columns: NDArray[np.float32],
    threshold: float | None,
    names: NDArray[np.intp],
    side: int,
) -> None:
    """Write the labels of one tile (r,c), zero so far, from the patch scores near it, block (a,b,n).

    `best` (r,c), where given, holds the score that a class must exceed, and receives the winning scores.
    """
    lowest, highest = block.min(axis=(0, 1)), block.max(axis=(0, 1))
    winners = _candidates(lowest, highest, threshold)
    if len(winners) == 0:
        return
    if len(winners) == 1 and (threshold is None or lowest[winners[0]] > threshold):
        tile[:] = names[winners[0]]
        if best is not None:
            best[:] = _resize(block[:, :, winners], rows, columns)[:, :, 0]
        return
    if len(winners) > MANY_CLASSES and side > SMALL_TILE and max(tile.shape) > SMALL_TILE:
        small = AxisWeights(rows, len(rows)), AxisWeights(columns, len(columns))
        _label(tile, best, block[:, :, winners], *small, threshold, names[winners], SMALL_TILE)
        return
    best = np.full(tile.shape, _lowest_score(threshold), np.float32) if best is None else best
    classes = max(1, CHUNK_SCORES // tile.size)
    for start in range(0, len(winners), classes):
        chunk = winners[start : start + classes]
        values = _resize(block[:, :, chunk], rows, columns)
        index = values.argmax(axis=2)
        highest = np.take_along_axis(values, index[:, :, np.newaxis], axis=2)[:, :, 0]
        better = highest > best
        tile[better] = names[chunk][index[better]]
        best[better] = highest[better]


def _resize(block: NDArray[np.float32], rows: NDArray[np.float32], columns: NDArray[np.float32]) -> NDArray[np.float32]:
    """rows (r,a) @ block (a,b,n) @ columns.T (b,c) -> (r,c,n): classes innermost, where arg max is fast."""
    a, b, n = block.shape
    tall = matmul(rows, block.reshape(a, b * n)).reshape(len(rows), b, n)
    return matmul(columns, tall)


def empty_labels(size: tuple[int, int], num_labels: int) -> LabelMap:
    """Zeros (H,W) of the narrowest type that holds this many labels."""
    return np.zeros(size, np.uint8) if num_labels <= 256 else np.zeros(size, np.uint16)


def _tile_side(length: int, other: int, side: int) -> int:
    """Pixels of a tile along an axis. In a long and thin image tiles are longer, or there would be very many."""
    return side if length <= LONG else side * side // min(side, other)


def _slices(start: int, stop: int, step: int) -> list[slice]:
    """Slices of `step` that cover a range."""
    return [slice(first, min(first + step, stop)) for first in range(start, stop, step)]
