"""How times grow: with the windows of a batch, threads, classes, and the image's size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.baselines import TorchPipeline, plain_pamr
from benchmarks.contenders import Contender, engine_contender, open_active, torch_contenders
from benchmarks.pipeline.planted import planted_classes
from benchmarks.timing import in_turn
from t2d_export.reference import Reference
from t2d_export.reference_masks import with_background
from t2d_runtime.preprocess import resize
from t2d_runtime.segmenter import Segmenter

BATCHES = (1, 2, 4, 8)
CLASSES = (1, 10, 100, 1000)
MOST_REFINED = 100
"""Classes with PAMR: plain PyTorch takes a tenth of a second for each."""

SIZES = ((448, 448), (480, 640), (1080, 1920), (3000, 4000))
"""(height, width): one window, a small photograph, a screen, a camera's picture."""

ROUNDS = 3


@dataclass(frozen=True)
class Sweep:
    """Median times over one quantity."""

    quantity: str
    unit: str
    values: tuple[int | str, ...]
    series: Mapping[str, tuple[float | None, ...]]
    """Contender -> a time for each value; None where it was not measured."""


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
    series: dict[str, list[float | None]] = {contender.name: [] for contender in setup.contenders}
    for batch in BATCHES:
        windows = np.repeat(setup.window[np.newaxis], batch, axis=0)
        calls = {contender.name: partial(contender.encode, windows) for contender in setup.contenders}
        for name, time_ms in _medians(calls).items():
            series[name].append(time_ms / batch)
    return Sweep("windows of a batch", "ms a window", BATCHES, _frozen(series))


def threads_sweep(setup: Setup) -> Sweep:
    """The image encoder with 1, 2, 4, ... threads, up to the run's own number."""
    counts = tuple(2**power for power in range(setup.threads.bit_length()))
    series: dict[str, list[float | None]] = {contender.name: [] for contender in setup.contenders}
    backend, precision = setup.segmenter.backend_name, setup.segmenter.precision
    before = torch.get_num_threads()
    try:
        for count in counts:
            torch.set_num_threads(count)
            opened = open_active(setup.bundle, backend, precision, count)
            pair = [*torch_contenders(setup.reference, ["eager"]), engine_contender(opened)]
            calls = {contender.name: partial(contender.encode, setup.window[np.newaxis]) for contender in pair}
            for name, time_ms in _medians(calls).items():
                series[name].append(time_ms)
    finally:
        torch.set_num_threads(before)
    return Sweep("threads", "ms", counts, _frozen(series))


def classes_sweep(setup: Setup) -> Sweep:
    """Everything after the encoder, for classes each of which wins somewhere: the hardest case."""
    encoding = setup.segmenter.encode_image(setup.window)
    pipeline = TorchPipeline(setup.reference, plain_pamr)
    encoded = pipeline.encode(setup.window)
    series: dict[str, list[float | None]] = {
        f"{side}{way}": [] for side in ("PyTorch", "runtime") for way in ("", ", PAMR")
    }
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
        times = _medians(calls)
        for name, column in series.items():
            column.append(times.get(name))
    return Sweep("classes", "ms", CLASSES, _frozen(series))


def windows_sweep(setup: Setup) -> Sweep:
    """Whole images of growing size in sliding windows, without PAMR, with classes that win somewhere."""
    classes = planted_classes(setup.segmenter, setup.segmenter.encode_image(setup.window), len(setup.words))
    embeds = torch.from_numpy(classes.vectors.copy())
    series: dict[str, list[float | None]] = {name: [] for name in ("PyTorch", "runtime")}
    labels = []
    for size in SIZES:
        image = resize(setup.pixels, size)
        tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        calls: dict[str, Callable[[], object]] = {
            "PyTorch": partial(_torch_sliding, setup.reference, tensor, embeds),
            "runtime": partial(setup.segmenter.segment, image, classes, background=True),
        }
        for name, time_ms in _medians(calls).items():
            series[name].append(time_ms)
        labels.append(f"{size[1]} x {size[0]} ({len(setup.segmenter.encode_image(image).windows)})")
    return Sweep("pixels (windows)", "ms", tuple(labels), _frozen(series))


SWEEPS: Mapping[str, Callable[[Setup], Sweep]] = {
    "batch": batch_sweep,
    "threads": threads_sweep,
    "classes": classes_sweep,
    "windows": windows_sweep,
}


def _torch_sliding(reference: Reference, image: torch.Tensor, embeds: torch.Tensor) -> torch.Tensor:
    scores = reference.segment_sliding(image, embeds, cleaning="official")
    return with_background(scores, reference.threshold).argmax(dim=0)


def _medians(calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    return {name: timing.median_ms for name, timing in in_turn(calls, ROUNDS).items()}


def _frozen(series: Mapping[str, list[float | None]]) -> dict[str, tuple[float | None, ...]]:
    return {name: tuple(values) for name, values in series.items()}
