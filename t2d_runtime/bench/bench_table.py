"""`t2d bench` in words: one machine's figures, and two machines' side by side."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from t2d_runtime.bench.measure import BenchFigures, BenchResult, StartTime
from t2d_runtime.device.machine import MachineFacts

CONDITIONS = (
    "backbone",
    "model_digest",
    "input_size",
    "precision",
    "image_size",
    "window",
    "windows",
    "classes",
    "phrases",
    "refined_classes",
    "postprocess",
)
"""Figures that two results must share for their times to be comparable."""

BATCH = "segment_batch"
"""Name of the rate of many images, whose stages overlap."""


def lines_of(result: BenchResult) -> Iterator[str]:
    """A table of stages, then starts and memory."""
    figures = result.figures
    height, width = figures.image_size
    threads = "the engine's own choice of threads" if figures.threads is None else f"{figures.threads} threads"
    yield f"{figures.backbone} in {figures.precision} on {figures.engine}, {threads}"
    windows = "1 window" if figures.windows == 1 else f"{figures.windows} windows"
    phrases = "" if figures.phrases is None else f" of {figures.phrases} phrases"
    where = ", masks on the GPU" if figures.postprocess == "device" else ""
    yield (
        f"{width} x {height} pixels in {windows}, {figures.classes} classes{phrases} with background and "
        f"cleaning, {figures.refined_classes} of which PAMR refines{where}; {figures.rounds} rounds"
    )
    yield ""
    yield f"{'stage':<22}{'p50 ms':>10}{'p95 ms':>10}{'p99 ms':>10}{'a second':>10}"
    for name, stage in figures.stages.items():
        yield f"{name:<22}{stage.p50_ms:>10.2f}{stage.p95_ms:>10.2f}{stage.p99_ms:>10.2f}{stage.per_second:>10.1f}"
    if figures.batch_per_second is not None:
        yield f"{BATCH:<52}{figures.batch_per_second:>10.1f}"
    yield ""
    yield "a new process to its first mask, PAMR included:"
    yield f"{'first on a machine':<22}{start_line(figures.first_start)}"
    yield f"{'later':<22}{start_line(figures.start)}"


def start_line(start: StartTime) -> str:
    """A start's time and its parts in words."""
    peak = "" if start.peak_bytes is None else f", at most {start.peak_bytes / 2**20:.0f} MiB"
    return (
        f"{start.whole_ms:.0f} ms: import {start.import_ms:.0f}, open {start.open_ms:.0f}, words {start.words_ms:.0f}, "
        f"mask {start.mask_ms:.0f}{peak}"
    )


def comparison(first: Path, second: Path) -> Iterator[str]:
    """Two results side by side: their machines, differences in the task, and how many times faster the second is.

    Raises DataError for a file that is not a result.
    """
    a, b = BenchResult.load(first), BenchResult.load(second)
    for letter, path, result in (("A", first, a), ("B", second, b)):
        yield f"{letter}  {path}: {result.figures.engine}, {_machine(result.provenance)}"
    for name in _differences(a.figures, b.figures):
        yield f"not the same task: {name} is {getattr(a.figures, name)} in A and {getattr(b.figures, name)} in B"
    yield ""
    yield f"{'p50, ms':<22}{'A':>10}{'B':>10}{'A / B':>8}"
    for name in a.figures.stages:
        if name in b.figures.stages:
            yield _row(name, a.figures.stages[name].p50_ms, b.figures.stages[name].p50_ms)
    if a.figures.batch_per_second and b.figures.batch_per_second:
        yield _row(f"{BATCH}, an image", 1e3 / a.figures.batch_per_second, 1e3 / b.figures.batch_per_second)
    yield _row("first start", a.figures.first_start.whole_ms, b.figures.first_start.whole_ms)
    yield _row("later start", a.figures.start.whole_ms, b.figures.start.whole_ms)
    if a.figures.start.peak_bytes and b.figures.start.peak_bytes:
        yield _row("peak memory, MiB", a.figures.start.peak_bytes / 2**20, b.figures.start.peak_bytes / 2**20)


def _machine(machine: MachineFacts) -> str:
    return f"{machine.cores} cores, {machine.platform}, {machine.date}, load {machine.load_average}"


def _differences(a: BenchFigures, b: BenchFigures) -> list[str]:
    return [name for name in CONDITIONS if getattr(a, name) != getattr(b, name)]


def _row(name: str, a: float, b: float) -> str:
    return f"{name:<22}{a:>10.2f}{b:>10.2f}{a / b:>7.2f}x"
