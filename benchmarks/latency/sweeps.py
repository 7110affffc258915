"""How times grow: with the windows of a batch, threads, classes, and the image's size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.contenders.baselines import TorchPipeline, plain_pamr
from benchmarks.contenders.encoders import Contender, engine_contender, open_active, torch_contenders
from benchmarks.contenders.planted import planted_classes
from benchmarks.timing import Timing, in_turn
from t2d_export.model.reference import Reference
from t2d_export.model.reference_masks import with_background
from t2d_runtime.image.preprocess import resize
from t2d_runtime.image.windows import resized_size, window_boxes
from t2d_runtime.segmenter import Segmenter

BATCHES = (1, 2, 4)
"""Up to the runtime's own, `WINDOW_BATCH`."""

CLASSES = (1, 10, 100, 1000)
MOST_REFINED = 100
"""Classes with PAMR: plain PyTorch takes a tenth of a second for each."""

SIZES = ((448, 448), (480, 640), (1080, 1920), (3000, 4000))
"""(height, width): one window, a small photograph, a screen, a camera's picture."""

ROUNDS = 3

LONG_ROUND_MS = 5000.0
"""A round that takes longer is not repeated: a whole sweep of ViT-B ends within two minutes."""


@dataclass(frozen=True)
class Sweep:
    """Median times over one quantity."""

    quantity: str
    unit: str
    values: tuple[int | str, ...]
    rounds: tuple[int, ...]
    """Behind the median of each value."""
    series: Mapping[str, tuple[float | None, ...]]
    """Contender -> a time for each value; None where it was not measured."""


class _Columns:
    """A sweep as it is measured, value by value."""

    def __init__(self) -> None:
        self._rounds: list[int] = []
        self._series: dict[str, list[float | None]] = {}

    def measure(self, calls: Mapping[str, Callable[[], object]], per: int = 1) -> None:
        """The next value: medians of contenders in turn, divided by `per`; those that are not called have no time."""
        timings, rounds = in_turn(calls, rounds=1), 1
        if sum(timing.median_ms for timing in timings.values()) <= LONG_ROUND_MS:
            more, rounds = in_turn(calls, ROUNDS - 1, warm_up=0), ROUNDS
            timings = {name: Timing(timing.rounds_ms + more[name].rounds_ms) for name, timing in timings.items()}
        for name in timings:
            self._series.setdefault(name, [None] * len(self._rounds))
        for name, times in self._series.items():
            times.append(timings[name].median_ms / per if name in timings else None)
        self._rounds.append(rounds)

    def sweep(self, quantity: str, unit: str, values: tuple[int | str, ...]) -> Sweep:
        """All of them."""
        series = {name: tuple(times) for name, times in self._series.items()}
        return Sweep(quantity, unit, values, tuple(self._rounds), series)


@dataclass(frozen=True, eq=False)
class Setup:
    """What the sweeps share."""

    bundle: Path
    segmenter: Segmenter
    reference: Reference
    pixels: NDArray[np.uint8]
    """(H,W,3), the image."""
    words: Sequence[str]
    threads: int

    @property
    def window(self) -> NDArray[np.uint8]:
        """(h,w,3), the image as one window."""
        return resize(self.pixels, self.segmenter.manifest.windows.crop_size)

    @property
    def contenders(self) -> list[Contender]:
        """PyTorch eager and the bundle."""
        return [*torch_contenders(self.reference, ["eager"]), engine_contender(self.segmenter)]


def batch_sweep(setup: Setup) -> Sweep:
    """The image encoder with several windows at once, per window."""
    columns = _Columns()
    for batch in BATCHES:
        windows = np.repeat(setup.window[np.newaxis], batch, axis=0)
        columns.measure({contender.name: partial(contender.encode, windows) for contender in setup.contenders}, batch)
    return columns.sweep("windows of a batch", "ms a window", BATCHES)


def threads_sweep(setup: Setup) -> Sweep:
    """The image encoder with 1, 2, 4, ... threads, up to the run's own number."""
    counts = tuple(2**power for power in range(setup.threads.bit_length()))
    columns = _Columns()
    backend, precision = setup.segmenter.backend_name, setup.segmenter.precision
    before = torch.get_num_threads()
    try:
        for count in counts:
            torch.set_num_threads(count)
            opened = open_active(setup.bundle, backend, precision, count)
            pair = [*torch_contenders(setup.reference, ["eager"]), engine_contender(opened)]
            columns.measure({one.name: partial(one.encode, setup.window[np.newaxis]) for one in pair})
    finally:
        torch.set_num_threads(before)
    return columns.sweep("threads", "ms", counts)


def classes_sweep(setup: Setup) -> Sweep:
    """Everything after the encoder, for classes each of which wins somewhere: the hardest case."""
    encoding = setup.segmenter.encode_image(setup.window)
    pipeline = TorchPipeline(setup.reference, plain_pamr)
    encoded = pipeline.encode(setup.window)
    columns = _Columns()
    for count in CLASSES:
        classes = planted_classes(setup.segmenter, encoding, count)
        embeds = torch.from_numpy(classes.vectors.copy())
        calls: dict[str, Callable[[], object]] = {}
        for way, refine in (("", False), (", PAMR", True)):
            if refine and count > MOST_REFINED:
                continue
            calls[f"PyTorch{way}"] = partial(
                pipeline.labels, setup.window, encoded, embeds, background=True, refine=refine
            )
            calls[f"runtime{way}"] = partial(setup.segmenter.segment, encoding, classes, background=True, refine=refine)
        columns.measure(calls)
    return columns.sweep("classes", "ms", CLASSES)


def windows_sweep(setup: Setup) -> Sweep:
    """Whole images of growing size in sliding windows, without PAMR, with classes that win somewhere."""
    classes = planted_classes(setup.segmenter, setup.segmenter.encode_image(setup.window), len(setup.words))
    embeds = torch.from_numpy(classes.vectors.copy())
    windows = setup.segmenter.manifest.windows
    columns, labels = _Columns(), []
    for size in SIZES:
        image = resize(setup.pixels, size)
        tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        columns.measure(
            {
                "PyTorch": partial(_torch_sliding, setup.reference, tensor, embeds),
                "runtime": partial(setup.segmenter.segment, image, classes, background=True),
            }
        )
        labels.append(f"{size[1]} x {size[0]} ({len(window_boxes(resized_size(size, windows), windows))})")
    return columns.sweep("pixels (windows)", "ms", tuple(labels))


SWEEPS: Mapping[str, Callable[[Setup], Sweep]] = {
    "batch": batch_sweep,
    "threads": threads_sweep,
    "classes": classes_sweep,
    "windows": windows_sweep,
}


def _torch_sliding(reference: Reference, image: torch.Tensor, embeds: torch.Tensor) -> torch.Tensor:
    scores = reference.segment_sliding(image, embeds, cleaning="official")
    return with_background(scores, reference.threshold).argmax(dim=0)
