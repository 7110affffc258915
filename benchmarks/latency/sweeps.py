"""Growth of times with the windows of a batch, threads, classes, and the image's size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from benchmarks.contenders.baselines import TorchWindow, plain_pamr
from benchmarks.contenders.encoders import engine_contender, torch_contenders
from benchmarks.latency.setup import Setup
from benchmarks.latency.tables import Sweep
from benchmarks.timing import in_few_rounds
from t2d_export.model.reference import Reference
from t2d_export.model.reference_masks import with_background
from t2d_runtime.image.preprocess import resize
from t2d_runtime.image.windows import resized_size, window_boxes
from t2d_runtime.segmenter import Segmenter

BATCHES = (1, 2, 4)
"""Windows in a batch, up to the runtime's `WINDOW_BATCH`."""

CLASSES = (1, 10, 100, 1000, 10_000)
MOST_REFINED, MOST_IN_PYTORCH = 100, 1000
"""Most classes in PyTorch: with PAMR, a tenth of a second each; without it, planes of 800 MB."""

PHRASE_CLASSES, PHRASES = 20, (1, 3)
"""Classes, and phrases of each."""

SIZES = ((448, 448), (480, 640), (1080, 1920), (3000, 4000))
"""(height, width): one window, a small photograph, a screen, a camera's picture."""


class Columns:
    """A sweep in progress, measured value by value."""

    def __init__(self) -> None:
        self._rounds: list[int] = []
        self._series: dict[str, list[float | None]] = {}

    def measure(self, calls: Mapping[str, Callable[[], object]], per: int = 1) -> None:
        """Measure the next value: medians of contenders in turn, divided by `per`. Others get no time."""
        timings = in_few_rounds(calls)
        for name in timings:
            self._series.setdefault(name, [None] * len(self._rounds))
        for name, times in self._series.items():
            times.append(timings[name].median_ms / per if name in timings else None)
        self._rounds.append(len(next(iter(timings.values())).rounds_ms))

    def sweep(self, quantity: str, values: tuple[int | str, ...], unit: str = "ms") -> Sweep:
        """The finished sweep."""
        series = {name: tuple(times) for name, times in self._series.items()}
        return Sweep(quantity, unit, values, tuple(self._rounds), series)


def batch(setup: Setup) -> Sweep:
    """Time of the image encoder per window, with several windows at once."""
    columns = Columns()
    contenders = [*torch_contenders(setup.reference, ["eager"]), engine_contender(setup.segmenter)]
    for size in BATCHES:
        windows = np.repeat(setup.window[np.newaxis], size, axis=0)
        columns.measure({one.name: partial(one.encode, windows) for one in contenders}, size)
    return columns.sweep("windows of a batch", BATCHES, "ms a window")


def threads(setup: Setup) -> Sweep:
    """Time of the image encoder with 1, 2, 4, ... threads, up to the run's own number."""
    counts = tuple(2**power for power in range(setup.threads.bit_length()))
    columns = Columns()
    backend, precision = setup.segmenter.backend_name, setup.segmenter.precision
    before = torch.get_num_threads()
    try:
        for count in counts:
            torch.set_num_threads(count)
            opened = Segmenter.open(setup.bundle, backend=backend, precision=precision, num_threads=count)
            pair = [*torch_contenders(setup.reference, ["eager"]), engine_contender(opened)]
            columns.measure({one.name: partial(one.encode, setup.window[np.newaxis]) for one in pair})
    finally:
        torch.set_num_threads(before)
    return columns.sweep("threads", counts)


def classes(setup: Setup) -> Sweep:
    """Time of everything after the encoder, for classes that each win somewhere, the hardest case."""
    torch_window = TorchWindow(setup.reference, setup.window)
    features = torch_window.encode()
    columns = Columns()
    for count in CLASSES:
        planted = setup.planted(count)
        embeds = torch.from_numpy(planted.vectors.copy())
        calls: dict[str, Callable[[], object]] = {}
        for way, pamr in (("", None), (", PAMR", plain_pamr)):
            refine = pamr is not None
            if refine and count > MOST_REFINED:
                continue
            if count <= MOST_IN_PYTORCH:
                calls[f"PyTorch{way}"] = partial(
                    torch_window.labels, embeds, background=True, pamr=pamr, features=features
                )
            calls[f"runtime{way}"] = partial(
                setup.segmenter.segment, setup.encoding, planted, background=True, refine=refine
            )
        columns.measure(calls)
    return columns.sweep("classes", CLASSES)


def sizes(setup: Setup) -> Sweep:
    """Time of whole images of growing size in sliding windows, without PAMR, with classes that win somewhere."""
    planted = setup.planted(len(setup.words))
    embeds = torch.from_numpy(planted.vectors.copy())
    windows = setup.segmenter.manifest.windows
    columns, labels = Columns(), []
    for size in SIZES:
        image = resize(setup.pixels, size)
        tensor = torch.from_numpy(image).permute(2, 0, 1)
        theirs = partial(_torch_sliding, setup.reference, tensor, embeds)
        ours = partial(setup.segmenter.segment, image, planted, background=True)
        columns.measure({"PyTorch": theirs, "runtime": ours})
        labels.append(f"{size[1]} x {size[0]} ({len(window_boxes(resized_size(size, windows), windows))})")
    return columns.sweep("pixels (windows)", tuple(labels))


def phrases(setup: Setup) -> Sweep:
    """Time of everything after the encoder, without PAMR, for 20 classes of one phrase and of several.

    Every phrase wins somewhere, the hardest case. All are measured in turn, since their ratio matters.
    """
    calls: dict[str, Callable[[], object]] = {}
    for count in PHRASES:
        planted = setup.planted(PHRASE_CLASSES * count)
        grouped = replace(
            planted,
            names=planted.names[::count],
            phrases=planted.names,
            class_indices=tuple(row // count for row in range(len(planted))),
        )
        for background in (False, True):
            calls[f"{background} {count}"] = partial(
                setup.segmenter.segment, setup.encoding, grouped, background=background
            )
    timings = in_few_rounds(calls)
    series = {
        f"runtime{', background' if background else ''}": tuple(
            timings[f"{background} {count}"].median_ms for count in PHRASES
        )
        for background in (False, True)
    }
    rounds = tuple(len(timings[f"False {count}"].rounds_ms) for count in PHRASES)
    return Sweep(f"phrases of each of {PHRASE_CLASSES} classes", "ms", PHRASES, rounds, series)


def _torch_sliding(reference: Reference, image: torch.Tensor, embeds: torch.Tensor) -> torch.Tensor:
    scores = reference.segment_sliding(image, embeds, cleaning="official")
    return with_background(scores, reference.threshold).argmax(dim=0)
