"""Pixel-adaptive mask refinement (PAMR): scores spread along pixels of like colour.

Araslanov and Roth, "Single-Stage Semantic Segmentation from Image Labels", CVPR 2020, Sec. 3.4, in the form
of Talk2DINO's released code. The affinity depends on the image alone and is computed once; one iteration is then
48 shifted multiply-adds a class. Bands of rows are worked on by several threads.

The two inner loops are in `refine_numpy`, and compiled in `refine_numba` where numba is installed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.bundle.manifest import PamrSettings
from t2d_runtime.device.install import how_to_install
from t2d_runtime.device.threads import available_cores

logger = logging.getLogger(__name__)

NEIGHBOURS = tuple((down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if (down, right) != (0, 0))
"""The eight neighbours in a 3 x 3 window, in units of the dilation."""

STD_WEIGHT = 0.1
STD_EPS = 1e-8
"""Constants of the affinity in the released code."""

CLASS_CHUNK = 8
"""Classes refined at a time: bounds memory beside the planes themselves, 16 MB at 448 x 448."""

LANES = 16
"""Pixels that the compiled loops work on at a time: widths are rounded up to them."""

BAND_ROWS = 64
"""Rows that a thread works on at a time, at most: what is done with them finds their scores in its own cache."""

BANDS_A_THREAD = 4
"""At least, so that no thread waits long for another."""

InBands = Callable[[Callable[[int, int], None]], None]
"""Runs something on the rows from first to last, for bands that make up an image."""


class Kernels(Protocol):
    """The inner loops, for the rows `first` to `last`. `offsets` (K,2) are the neighbours, (down, right).

    Padded arrays repeat their border pixels as far as the farthest neighbour on all four sides. The width W is that of
    the image rounded up to LANES; what comes out right of the image counts for nothing.
    """

    name: str

    def write_logits(
        self,
        padded: NDArray[np.float32],
        offsets: NDArray[np.intp],
        logits: NDArray[np.float32],
        first: int,
        last: int,
    ) -> None:
        """Affinity before softmax: padded image (3,H+2b,W+2b) -> logits (H,K,W)."""

    def spread(
        self,
        source: NDArray[np.float32],
        weights: NDArray[np.float32],
        offsets: NDArray[np.intp],
        target: NDArray[np.float32],
        first: int,
        last: int,
    ) -> None:
        """Mean of the neighbours: padded source (N,H+2b,W+2b), weights (H,K,W) -> inside of padded target."""


def refine(
    image: NDArray[np.uint8],
    planes: NDArray[np.float32],
    settings: PamrSettings,
    *,
    num_threads: int | None = None,
    kernels: Kernels | None = None,
) -> NDArray[np.float32]:
    """Refined planes (N,H,W) of a window's `image` (H,W,3) and its scores `planes` (N,H,W).

    Each class is refined alone; each refined value lies between the least and the greatest of its plane.
    `num_threads`: None takes every core that the process may use. `kernels`: None takes the fastest there are.
    """
    refined = np.empty(planes.shape, np.float32)
    chunks = class_chunks(len(planes))
    parts = refine_each(image, (planes[chunk] for chunk in chunks), settings, num_threads=num_threads, kernels=kernels)
    for chunk, part in zip(chunks, parts, strict=True):
        refined[chunk] = part
    return refined


def class_chunks(count: int) -> list[slice]:
    """Slices of CLASS_CHUNK classes that make up `count`."""
    return [slice(start, start + CLASS_CHUNK) for start in range(0, count, CLASS_CHUNK)]


def refine_each(
    image: NDArray[np.uint8],
    chunks: Iterable[NDArray[np.float32]],
    settings: PamrSettings,
    *,
    num_threads: int | None = None,
    kernels: Kernels | None = None,
) -> Iterator[NDArray[np.float32]]:
    """As `refine`, for planes (n,H,W) that come and go in chunks of classes; the affinity is computed once."""
    kernels = kernels or fastest_kernels()
    offsets = np.array([(d * down, d * right) for d in settings.dilations for down, right in NEIGHBOURS])
    weights: NDArray[np.float32] | None = None
    threads = num_threads or available_cores()
    with ThreadPoolExecutor(threads) as pool:
        in_bands = partial(_in_bands, pool, image.shape[0], threads * BANDS_A_THREAD)
        for planes in chunks:
            if weights is None:
                weights = _affinity(image, offsets, kernels, in_bands)
            yield _spread(planes, weights, offsets, settings.iterations, kernels, in_bands)


def _affinity(
    image: NDArray[np.uint8], offsets: NDArray[np.intp], kernels: Kernels, in_bands: InBands
) -> NDArray[np.float32]:
    """Weights (H,K,W) of each pixel's K neighbours, adding up to one."""
    height, width, _ = image.shape
    pixels = _padded(image.transpose(2, 0, 1).astype(np.float32), int(offsets.max()))
    weights = np.empty((height, len(offsets), _rounded_up(width)), np.float32)

    def weigh(first: int, last: int) -> None:
        kernels.write_logits(pixels, offsets, weights, first, last)
        band = weights[first:last]
        # The neighbours' root mean square distance is at most 3.2 std, so one logit is above -32 and the
        # greatest need not be subtracted first.
        np.exp(band, out=band)
        band /= band.sum(axis=1, keepdims=True)

    in_bands(weigh)
    return weights


def _spread(
    planes: NDArray[np.float32],
    weights: NDArray[np.float32],
    offsets: NDArray[np.intp],
    iterations: int,
    kernels: Kernels,
    in_bands: InBands,
) -> NDArray[np.float32]:
    """Planes (N,H,W) after some iterations, in each of which a value becomes the mean of its neighbours' values."""
    border = int(offsets.max())
    _, height, width = planes.shape
    bottom, right = border + height, border + width
    source = _padded(planes, border)
    target = np.empty_like(source)

    def step(first: int, last: int) -> None:
        kernels.spread(source, weights, offsets, target, first, last)
        band = target[:, border + first : border + last]
        band[:, :, :border] = band[:, :, border : border + 1]
        band[:, :, right:] = band[:, :, right - 1 : right]

    for _ in range(iterations):
        in_bands(step)
        target[:, :border] = target[:, border : border + 1]
        target[:, bottom:] = target[:, bottom - 1 : bottom]
        source, target = target, source
    return source[:, border:bottom, border:right]


def _in_bands(pool: ThreadPoolExecutor, height: int, bands: int, work: Callable[[int, int], None]) -> None:
    """Run `work` on the rows from `first` to `last`, for so many bands or more that make up the height."""
    rows = min(BAND_ROWS, -(-height // bands))
    for _ in pool.map(lambda first: work(first, min(first + rows, height)), range(0, height, rows)):
        pass


def _padded(planes: NDArray[np.float32], border: int) -> NDArray[np.float32]:
    """Planes (N,H,W) with their border pixels repeated on all sides, on the right up to a multiple of LANES more."""
    width = planes.shape[2]
    right = border + _rounded_up(width) - width
    contiguous = np.ascontiguousarray(planes)  # np.pad keeps another order
    return np.pad(contiguous, ((0, 0), (border, border), (border, right)), mode="edge")


def _rounded_up(width: int) -> int:
    return -(-width // LANES) * LANES


def warm_up() -> None:
    """Load or compile the inner loops, so that the first `refine` need not; from any thread."""
    refine(np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1, 1), np.float32), PamrSettings((1,), 1))


@cache
def begin_warm_up() -> None:
    """`warm_up` beside other work, such as opening a bundle or encoding an image; once in a process."""
    pool = ThreadPoolExecutor(1)
    pool.submit(warm_up).add_done_callback(_log_failure)
    pool.shutdown(wait=False)


def _log_failure(warmed_up: Future[None]) -> None:
    """The caller of `refine` meets the same."""
    if (error := warmed_up.exception()) is not None:
        logger.info("PAMR could not be warmed up", exc_info=error)


@cache
def fastest_kernels() -> Kernels:
    """The compiled loops where numba is installed, else NumPy's; the first call takes part of a second."""
    try:
        from t2d_runtime.masks.pamr import numba_kernels as refine_numba
    except ImportError:
        from t2d_runtime.masks.pamr import numpy_kernels as refine_numpy

        logger.info("PAMR with NumPy; compiled loops are several times as fast: %s", how_to_install("fast"))
        return refine_numpy
    return refine_numba
