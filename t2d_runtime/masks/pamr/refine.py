"""Pixel-adaptive mask refinement (PAMR): scores spread along pixels of like colour.

Araslanov and Roth, "Single-Stage Semantic Segmentation from Image Labels", CVPR 2020, Sec. 3.4, in the form
of Talk2DINO's released code. The affinity depends on the image alone and is computed once; one iteration is then
48 shifted multiply-adds a class. Several threads work on bands of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.bundle.manifest import PamrSettings
from t2d_runtime.device.threads import available_cores
from t2d_runtime.masks.pamr.choice import fastest_kernels
from t2d_runtime.masks.pamr.kernels import Floats, Grid, Kernels

CLASS_CHUNK = 16
"""Classes refined at a time: as many as the compiled loops work on at once, 32 MB at 448 x 448."""

BAND_ROWS = 64
"""Rows that a thread works on at a time, at most."""

BANDS_A_THREAD = 4
"""Least number of bands for each thread, so that none waits long for another."""

InBands = Callable[[Callable[[int, int], None]], None]
"""A function that runs another on the rows (first, last) of each band of an image."""


def refine(
    image: NDArray[np.uint8],
    planes: Floats,
    settings: PamrSettings,
    *,
    num_threads: int | None = None,
    kernels: Callable[[Grid], Kernels] | None = None,
) -> Floats:
    """Refined planes (N,H,W) of a window's `image` (H,W,3) and its scores `planes` (N,H,W).

    Each class is refined by itself, and its values stay within the range of its plane. The number of threads does not
    change the result. `num_threads`: None takes every core that the process may use. `kernels`: None takes the fastest
    inner loops available.
    """
    refined = np.empty(planes.shape, np.float32)
    parts = [(planes[chunk], refined[chunk]) for chunk in class_chunks(len(planes))]
    for _ in _refine_into(image, parts, settings, num_threads, kernels):
        pass
    return refined


def refine_each(
    image: NDArray[np.uint8],
    chunks: Iterable[Floats],
    settings: PamrSettings,
    *,
    num_threads: int | None = None,
    kernels: Callable[[Grid], Kernels] | None = None,
) -> Iterator[Floats]:
    """Refine chunks of planes (n,H,W), at most CLASS_CHUNK each, one after the other. All share one affinity."""
    parts = ((planes, np.empty(planes.shape, np.float32)) for planes in chunks)
    return _refine_into(image, parts, settings, num_threads, kernels)


def class_chunks(count: int) -> list[slice]:
    """Slices of CLASS_CHUNK classes that cover `count` classes."""
    return [slice(start, start + CLASS_CHUNK) for start in range(0, count, CLASS_CHUNK)]


def _refine_into(
    image: NDArray[np.uint8],
    parts: Iterable[tuple[Floats, Floats]],
    settings: PamrSettings,
    num_threads: int | None,
    kernels: Callable[[Grid], Kernels] | None,
) -> Iterator[Floats]:
    """Write the refined planes of the first array of each pair to the second."""
    height, width, _ = image.shape
    loops = (kernels or fastest_kernels())(Grid(height, width, settings.dilations))
    threads = num_threads or available_cores()
    weights: Floats | None = None
    padded: tuple[Floats, Floats] | None = None
    count = 0
    with ThreadPoolExecutor(threads) as pool:
        in_bands = partial(_in_bands, pool, height, threads * BANDS_A_THREAD)
        for planes, refined in parts:
            if weights is None:
                weights = _affinity(image, loops, in_bands)
            if padded is None or len(planes) != count:
                count = len(planes)
                padded = loops.new_padded(count), loops.new_padded(count)
            _spread(np.ascontiguousarray(planes), weights, padded, refined, settings.iterations, loops, in_bands)
            yield refined


def _affinity(image: NDArray[np.uint8], loops: Kernels, in_bands: InBands) -> Floats:
    """Weights of each pixel's neighbours, adding up to one."""
    colours = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)
    padded, weights = loops.new_padded(len(colours)), loops.new_weights()
    in_bands(partial(loops.put, colours, padded))
    in_bands(partial(loops.weigh, padded, weights))
    return weights


def _spread(
    planes: Floats,
    weights: Floats,
    padded: tuple[Floats, Floats],
    refined: Floats,
    iterations: int,
    loops: Kernels,
    in_bands: InBands,
) -> None:
    """Write to `refined` the planes (N,H,W) after some iterations of `Kernels.spread`."""
    source, target = padded
    in_bands(partial(loops.put, planes, source))
    for _ in range(iterations):
        in_bands(partial(loops.spread, source, weights, target))
        source, target = target, source
    in_bands(partial(loops.take, source, refined))


def _in_bands(pool: ThreadPoolExecutor, height: int, bands: int, work: Callable[[int, int], None]) -> None:
    """Run `work(first, last)` on bands of rows that make up the height, at least `bands` of them."""
    rows = min(BAND_ROWS, -(-height // bands))
    for _ in pool.map(lambda first: work(first, min(first + rows, height)), range(0, height, rows)):
        pass
