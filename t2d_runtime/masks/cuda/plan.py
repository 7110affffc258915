"""Everything that labels pictures of one size on a device: its memory, and its launches recorded as one graph."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.bundle.manifest import PamrSettings
from t2d_runtime.device.arrays import DeviceArray
from t2d_runtime.errors import BackendError
from t2d_runtime.image.features import DeviceFeatures, FeatureSizes, ImageFeatures
from t2d_runtime.image.windows import Window
from t2d_runtime.masks.cuda.device import Argument, Device, Recording
from t2d_runtime.results.label_map import LabelMap
from t2d_runtime.results.options import Cleaning

TILE, THREADS, CLASSES = 16, 256, 8
"""Constants of `masks.cu`."""

CLASS_GROUP = 32
"""Classes whose planes exist at a time, so that memory does not grow with their number: 26 MB at 448 x 448."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Shapes:
    """Sizes and settings that the launches are made for; a picture with other ones needs another plan."""

    windows: tuple[Window, ...]
    features: FeatureSizes
    on_device: bool
    """True where the features lie in the device's memory already."""
    classes: int
    resized_size: tuple[int, int]
    size: tuple[int, int]
    """(height, width) of the picture and its labels."""
    threshold: float | None
    """None without background."""
    offsets: bool
    """True where each class's scores are compared less an offset of their own."""
    cleaning: Cleaning | None
    cleaning_weight: float
    refine: PamrSettings | None
    keep_scores: bool
    keep_confidence: bool

    @property
    def first_label(self) -> int:
        """Label of the first class: 1 with background."""
        return int(self.threshold is not None)

    @property
    def wide(self) -> bool:
        """True where a label does not fit one byte."""
        return self.classes + self.first_label > 256


@dataclass(frozen=True)
class Inputs:
    """Arrays of one call; those that the shapes do not need are not read."""

    features: ImageFeatures
    text_embeds: Floats
    picture: NDArray[np.uint8]
    """(H',W',3), the resized picture that the windows were cut from."""
    offsets: Floats | None


class Found(NamedTuple):
    """Results of one call."""

    labels: LabelMap
    """(H,W)."""
    scores: Floats | None
    """(N,H,W), where kept."""
    best: Floats | None
    """(H,W), the best of the scores that competed, where confidence is kept."""
    finite: bool
    """False where a feature is not: then nothing else means anything."""


class Plan:
    """Memory and launches for `Shapes` on a device. `close` frees both."""

    def __init__(self, device: Device, shapes: Shapes) -> None:
        self._device, self._shapes = device, shapes
        self._memory: list[int] = []
        self._staging: dict[int, NDArray[np.generic]] = {}
        self._recording: Recording | None = None
        self._host_labels: LabelMap | None = None
        self._host_wrong: NDArray[np.int32] | None = None
        try:
            self._allocate()
            self._recording = device.record(self._launch_all)
        except BackendError:
            self.close()
            raise

    def run(self, inputs: Inputs) -> Found:
        """Labels and what else is kept. Raises BackendError where the device fails."""
        if self._recording is None or self._host_labels is None or self._host_wrong is None:
            raise BackendError("the plan is closed")
        shapes, device = self._shapes, self._device
        self._take(inputs)
        self._recording.replay()
        device.to_host(self._host_labels, self._labels)
        device.to_host(self._host_wrong, self._wrong)
        scores = None
        if shapes.keep_scores:
            scores = np.empty((shapes.classes, *shapes.size), np.float32)
            device.to_host(scores, self._kept)
        best = np.empty(shapes.size, np.float32) if shapes.keep_confidence else None
        if best is not None:
            device.to_host(best, self._best)
        device.synchronize()
        return Found(self._host_labels.copy(), scores, best, not self._host_wrong.any())

    def close(self) -> None:
        """Free the memory and the recorded launches."""
        if self._recording is not None:
            self._recording.close()
            self._recording = None
        while self._memory:
            self._device.free(self._memory.pop())
        while self._staging:
            self._device.free_host_array(self._staging.popitem()[1])
        for array in (self._host_labels, self._host_wrong):
            if array is not None:
                self._device.free_host_array(array)
        self._host_labels = self._host_wrong = None

    def _take(self, inputs: Inputs) -> None:
        """Bring what the launches read to its place."""
        shapes, features = self._shapes, inputs.features
        if isinstance(features, DeviceFeatures):
            self._gather(self._tokens, features.token_parts)
            if shapes.cleaning is not None:
                self._gather(self._attention, features.attention_parts)
        else:
            self._fill(self._tokens, features.patch_tokens)
            if shapes.cleaning is not None:
                self._fill(self._attention, features.cls_attention)
        self._fill(self._texts, inputs.text_embeds)
        if shapes.refine is not None:
            self._fill(self._picture, inputs.picture)
        if inputs.offsets is not None:
            self._fill(self._offsets, inputs.offsets)
            self._fill(self._negated, -inputs.offsets)

    def _fill(self, address: int, array: NDArray[np.generic]) -> None:
        """Copy an array of the host to memory of `_input`."""
        staging = self._staging[address]
        staging[:] = array.reshape(staging.shape)
        self._device.to_device(address, staging)

    def _gather(self, address: int, parts: Sequence[DeviceArray]) -> None:
        """Copy arrays of the device to memory, one after the other."""
        for part in parts:
            nbytes = 4 * math.prod(part.shape)
            self._device.copy(address, part.address, nbytes)
            address += nbytes

    def _allocate(self) -> None:
        shapes, device = self._shapes, self._device
        W, N, P, D, M = self._counts
        height, width = shapes.size
        crop = shapes.windows[0].height * shapes.windows[0].width
        stitched = shapes.resized_size[0] * shapes.resized_size[1]
        group = min(CLASS_GROUP, N)
        self._tokens, self._texts = self._of_features((W, P, D)), self._input((N, D))
        if shapes.cleaning is not None:
            self._attention = self._of_features((W, M, P))
        if shapes.refine is not None:
            self._picture = self._input((*shapes.resized_size, 3), np.uint8)
        if shapes.offsets:
            self._offsets, self._negated = self._input((N,)), self._input((N,))
        self._scores, self._lengths = self._floats(W * N * P), self._floats(W * P)
        if shapes.cleaning is not None:
            self._maps = self._floats(W * M * P)
            self._embeds, self._relevance = self._floats(W * M * D), self._floats(W * N * M)
            self._attended = self._floats(W * N * P)
            self._range, self._attended_range = self._floats(2 * W), self._floats(2 * W * N)
        self._planes = (self._floats(group * crop), self._floats(group * crop))
        self._stitched = self._floats(group * stitched)
        self._seen = tuple(self._constant(seen) for seen in windows_seen(shapes.windows, shapes.resized_size))
        if shapes.refine is not None:
            self._weights = self._floats(8 * len(shapes.refine.dilations) * crop)
            self._dilations = self._constant(np.array(shapes.refine.dilations, np.int32))
        self._best = self._floats(height * width)
        self._labels = self._floats(-(-height * width * (1 + shapes.wide) // 4))
        if shapes.keep_scores:
            self._kept = self._floats(N * height * width)
        self._wrong = self._floats(1)
        self._host_labels = device.host_array(shapes.size, np.uint16 if shapes.wide else np.uint8)
        self._host_wrong = device.host_array((1,), np.int32)

    @property
    def _counts(self) -> tuple[int, int, int, int, int]:
        """W, N, P, D and M, as `masks.cu` names them."""
        features = self._shapes.features
        patches = features.grid[0] * features.grid[1]
        return features.windows, self._shapes.classes, patches, features.width, features.heads

    def _launch_all(self) -> None:
        self._check()
        self._score()
        height, width = self._shapes.size
        threshold = self._shapes.threshold
        self._elements("fill", height * width, self._best, after=[_float(-np.inf if threshold is None else threshold)])
        self._elements("fill", -(-height * width * (1 + self._shapes.wide) // 4), self._labels, after=[_float(0.0)])
        for first in range(0, self._shapes.classes, CLASS_GROUP):
            self._label(first, min(CLASS_GROUP, self._shapes.classes - first))

    def _check(self) -> None:
        """Look for features that are not finite: those of the device were never looked at."""
        W, _, P, D, M = self._counts
        self._elements("fill", 1, self._wrong, after=[_float(0.0)])
        self._elements("nonfinite", W * P * D, self._tokens, after=[_pointer(self._wrong)])
        if self._shapes.cleaning is not None:
            self._elements("nonfinite", W * M * P, self._attention, after=[_pointer(self._wrong)])

    def _score(self) -> None:
        """Scores (W,N,P), cleaned and shifted where the settings say so."""
        shapes = self._shapes
        W, N, P, D, _ = self._counts
        count = W * N * P
        self._product(self._texts, self._tokens, self._scores, (N, P, D), step=(D, 1), apart=(0, P * D))
        self._rows("norms", W * P, self._tokens, self._lengths, after=[_int(D)])
        self._elements("cosine", count, self._scores, self._lengths, after=[_int(N), _int(P)])
        if shapes.cleaning != "paper":
            self._elements("sigmoid", count, self._scores)
        if shapes.cleaning is not None:
            self._clean()
        if shapes.cleaning == "paper":
            self._elements("sigmoid", count, self._scores)
        if shapes.offsets:
            self._elements("shift", count, self._scores, self._offsets, after=[_int(N), _int(P)])

    def _clean(self) -> None:
        """Mix the scores with the attention, as released or as in the paper (cleaning.py)."""
        shapes = self._shapes
        W, N, P, D, M = self._counts
        paper = shapes.cleaning == "paper"
        maps = self._attention
        if paper:
            maps = self._maps
            self._rows("softmax", W * M, self._attention, maps, after=[_int(P)])
        self._product(maps, self._tokens, self._embeds, (M, D, P), step=(1, D), apart=(M * P, P * D))
        self._rows("normalise", W * M, self._embeds, after=[_int(D), _float(P)])
        self._product(self._texts, self._embeds, self._relevance, (N, M, D), step=(D, 1), apart=(0, M * D))
        self._rows("softmax", W * N, self._relevance, self._relevance, after=[_int(M)])
        self._product(self._relevance, maps, self._attended, (N, P, M), step=(1, P), apart=(N * M, M * P))
        if not paper:
            self._rows("softmax", W * N, self._attended, self._attended, after=[_int(P)])
        self._rows("extrema", W, self._scores, self._range, after=[_int(N * P)])
        rows = (W * N, P) if paper else (W, N * P)
        self._rows("extrema", rows[0], self._attended, self._attended_range, after=[_int(rows[1])])
        self._elements(
            "mix",
            W * N * P,
            self._scores,
            self._attended,
            self._range,
            self._attended_range,
            after=[_int(N), _int(P), _float(shapes.cleaning_weight), _int(paper)],
        )

    def _label(self, first: int, group: int) -> None:
        """Label pixels with some classes, where they exceed those before."""
        shapes = self._shapes
        rows, columns = shapes.resized_size
        height, width = shapes.size
        self._elements("fill", group * rows * columns, self._stitched, after=[_float(0.0)])
        for index, window in enumerate(shapes.windows):
            planes = self._window_planes(index, window, first, group)
            place = (window.height, window.width, window.top, window.left, rows, columns)
            pixels = window.height * window.width
            self._elements("stitch", group * pixels, planes, self._stitched, after=[*map(_int, place)])
        count = group * rows * columns
        self._elements("average", count, self._stitched, *self._seen, after=[_int(rows), _int(columns)])
        scales = [_float(rows / height), _float(columns / width)]
        if shapes.keep_scores:
            kept, pixels = self._kept + 4 * first * height * width, height * width
            sizes = [_int(size) for size in (rows, columns, height, width)]
            self._elements("resize", group * pixels, self._stitched, kept, after=[*sizes, *scales, _int(0)])
            if shapes.offsets:
                self._elements(
                    "shift", group * pixels, kept, self._negated + 4 * first, after=[_int(group), _int(pixels)]
                )
        numbers = (group, rows, columns, height, width)
        last = [*map(_int, numbers), *scales, _int(first + shapes.first_label), _int(shapes.wide)]
        memory = [_pointer(address) for address in (self._stitched, self._best, self._labels)]
        self._launch("label", (_blocks(height * width), 1, 1), (THREADS, 1, 1), [*memory, *last])

    def _window_planes(self, index: int, window: Window, first: int, group: int) -> int:
        """Address of the planes (group,height,width) of a window, upsampled and refined."""
        shapes = self._shapes
        (h, w), height, width = shapes.features.grid, window.height, window.width
        patches = self._scores + 4 * (index * shapes.classes + first) * h * w
        source, target = self._planes
        scales = [_float((a - 1) / (b - 1) if b > 1 else 0.0) for a, b in ((h, height), (w, width))]
        sizes = [_int(size) for size in (h, w, height, width)]
        self._elements("resize", group * height * width, patches, source, after=[*sizes, *scales, _int(1)])
        if shapes.refine is None:
            return source
        dilations = [_pointer(self._dilations), _int(len(shapes.refine.dilations))]
        place = [_int(n) for n in (shapes.resized_size[1], window.top, window.left, height, width)]
        blocks = _blocks(height * width)
        of_picture = [_pointer(self._picture), _pointer(self._weights), *place, *dilations]
        self._launch("affinity", (blocks, 1, 1), (THREADS, 1, 1), of_picture)
        for _ in range(shapes.refine.iterations):
            memory = [_pointer(address) for address in (source, self._weights, target)]
            arguments = [*memory, _int(group), _int(height), _int(width), *dilations]
            self._launch("spread", (blocks, -(-group // CLASSES), 1), (THREADS, 1, 1), arguments)
            source, target = target, source
        return source

    def _product(
        self, a: int, b: int, c: int, sizes: tuple[int, int, int], *, step: tuple[int, int], apart: tuple[int, int]
    ) -> None:
        """Products (W,rows,columns); `step` in b along columns and depth, `apart` from window to window in a and b."""
        rows, columns, _ = sizes
        grid = (-(-columns // TILE), -(-rows // TILE), len(self._shapes.windows))
        arguments = [*map(_pointer, (a, b, c)), *map(_int, sizes), *map(_long, (*step, *apart))]
        self._launch("product", grid, (TILE, TILE, 1), arguments)

    def _rows(self, kernel: str, rows: int, *memory: int, after: list[Argument]) -> None:
        self._launch(kernel, (rows, 1, 1), (THREADS, 1, 1), [*map(_pointer, memory), *after])

    def _elements(self, kernel: str, count: int, *memory: int, after: list[Argument] | None = None) -> None:
        arguments = [*map(_pointer, memory), _long(count), *(after or ())]
        self._launch(kernel, (_blocks(count), 1, 1), (THREADS, 1, 1), arguments)

    @property
    def _launch(self) -> Callable[..., None]:
        return self._device.launch

    def _floats(self, count: int) -> int:
        return self._bytes(4 * count)

    def _bytes(self, count: int) -> int:
        self._memory.append(self._device.allocate(count))
        return self._memory[-1]

    def _of_features(self, shape: tuple[int, ...]) -> int:
        """Memory of features, which are copied there on the device or come from the host."""
        return self._floats(math.prod(shape)) if self._shapes.on_device else self._input(shape)

    def _input(self, shape: tuple[int, ...], dtype: type[np.generic] = np.float32) -> int:
        """Memory that `_fill` fills from the host."""
        address = self._bytes(math.prod(shape) * np.dtype(dtype).itemsize)
        self._staging[address] = self._device.host_array(shape, dtype)
        return address

    def _constant(self, values: NDArray[np.generic]) -> int:
        address = self._bytes(values.nbytes)
        self._device.to_device(address, values)
        self._device.synchronize()  # before the values go
        return address


def windows_seen(windows: tuple[Window, ...], size: tuple[int, int]) -> tuple[Floats, Floats]:
    """Numbers of windows over each row and each column of (height, width); a pixel's is their product."""
    tops, lefts = {window.top for window in windows}, {window.left for window in windows}
    rows, columns = np.zeros(size[0], np.float32), np.zeros(size[1], np.float32)
    for top in tops:
        rows[top : top + windows[0].height] += 1
    for left in lefts:
        columns[left : left + windows[0].width] += 1
    return rows, columns


def _blocks(count: int) -> int:
    return -(-count // THREADS)


def _pointer(address: int) -> Argument:
    return ctypes.c_void_p(address)


def _int(value: int) -> Argument:
    return ctypes.c_int(int(value))


def _long(value: int) -> Argument:
    return ctypes.c_longlong(value)


def _float(value: float) -> Argument:
    return ctypes.c_float(value)
