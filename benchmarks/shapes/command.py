"""Time of run-length codes, polygons and other shapes of a large label map, and memory of a very large picture."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.blocks import Block, Table
from benchmarks.results_file import write_results
from t2d_runtime.device.machine import peak_resident_bytes
from t2d_runtime.device.timing import in_turn
from t2d_runtime.errors import BenchmarkError
from t2d_runtime.masks.labels import labels_from_planes
from t2d_runtime.results.segmentation import Segmentation
from t2d_runtime.segmenter import Segmenter

SIZE, LABELS = (3000, 4000), 171
"""Height and width of the label map, and its labels, as many as COCO-Stuff has."""

CELLS = {"32 x 43 patches": (32, 43), "96 x 129 patches": (96, 129)}
"""Grids of random scores that are upsampled to a label map. The first is that of ViT-B at short side 448. Each patch
is drawn alone, so there are more parts than in a photograph; in the second one, many more."""

LARGE = (8000, 10000)
"""Height and width of the picture whose memory is measured."""

MIB = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `python -m benchmarks shapes`."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--rounds", type=int, default=7, help="default: 7")
    parser.add_argument("--json", type=Path, metavar="F", help="save the figures")
    parser.add_argument("--backend", default="auto")


def run(args: argparse.Namespace) -> int:
    """Measure memory first, since a process's peak never falls; then times. Print and save both."""
    segmenter = Segmenter.open(args.bundle, backend=args.backend)
    memory, result = _memory(segmenter)
    times = {}
    for name, cells in CELLS.items():
        mapped = replace(result, label_map=_label_map(cells), class_names=tuple(map(str, range(LABELS))))
        times[name] = _times(mapped, args.rounds)
    figures = {"times": times, "memory_mib": memory, "size": SIZE, "labels": LABELS, "large": LARGE}
    print(*blocks(figures), sep="\n\n")
    if args.json is not None:
        write_results(args.json, "shapes", figures)
    return 0


def blocks(figures: dict[str, Any]) -> list[Block]:
    """Tables of times and of memory."""
    height, width = figures["size"]
    names = next(iter(figures["times"].values()))["median_ms"]
    rows = [(name, *(f"{one['median_ms'][name] / 1e3:.2f} s" for one in figures["times"].values())) for name in names]
    parts = ("connected parts", *(f"{one['parts']:,}" for one in figures["times"].values()))
    large = f"{figures['large'][1]} x {figures['large'][0]}"
    memory = figures["memory_mib"]
    return [
        Table((f"{width} x {height}, {figures['labels']} labels", *figures["times"]), [parts, *rows]),
        Table(
            (f"peak memory, {large}", "MiB", "of segmenting"),
            [(name, f"{peak:.0f}", f"{peak / memory['segment']:.2f}") for name, peak in memory.items()],
        ),
    ]


def _memory(segmenter: Segmenter) -> tuple[dict[str, float], Segmentation]:
    """Peaks in MiB up to the end of each step, and the last result, cut to SIZE."""
    tile = np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8).repeat(20, axis=0).repeat(20, axis=1)
    picture = np.tile(tile, (LARGE[0] // len(tile), LARGE[1] // len(tile), 1))
    classes = segmenter.encode_classes(["sky", "grass", "tree", "flower", "ball", "road"])
    result = segmenter.segment(picture, classes, background=True)
    del picture, tile
    peaks = {"segment": _peak()}
    for name, call in (("summary", result.summary), ("overlay", result.overlay)):
        call()
        peaks[name] = _peak()
    return peaks, replace(result, image=np.ascontiguousarray(result.image[: SIZE[0], : SIZE[1]]))


def _peak() -> float:
    peak = peak_resident_bytes()
    if peak is None:
        raise BenchmarkError("this system does not count a process's peak memory; measure on Linux or macOS")
    return peak / MIB


def _times(result: Segmentation, rounds: int) -> dict[str, Any]:
    name = result.class_names[0]
    contenders: dict[str, Callable[[], object]] = {
        "rle(), all labels": result.rle,
        "polygons(), all labels": result.polygons,
        "polygons(name)": lambda: result.polygons(name),
        "instances()": result.instances,
        "summary()": result.summary,
        "overlay()": result.overlay,
    }
    timings = in_turn(contenders, rounds, 1)
    return {
        "parts": sum(map(len, result.polygons().values())),
        "median_ms": {name: timing.median_ms for name, timing in timings.items()},
    }


def _label_map(cells: tuple[int, int]) -> NDArray[np.uint8]:
    """The arg max (H,W) of LABELS random planes of this many cells, upsampled."""
    planes = np.random.default_rng(0).random((LABELS, *cells), np.float32)
    every = np.arange(LABELS)
    labels = labels_from_planes([planes], SIZE, threshold=None, classes=every, num_classes=LABELS)
    return labels.astype(np.uint8)
