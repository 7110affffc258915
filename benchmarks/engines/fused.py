"""Compares the fused graph with the Python runtime on the same picture, words and engine, with and without PAMR."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from benchmarks.contenders.picture import photograph
from benchmarks.timing import in_turn
from t2d_runtime.bundle.files import Bundle
from t2d_runtime.fused import FusedSegmenter
from t2d_runtime.segmenter import Segmenter

WORDS = 20
"""Number of classes. Their names are made up, since the time does not depend on them."""

PICTURE = (480, 640)
"""(height, width) of a small camera picture."""


@dataclass(frozen=True)
class FusedLatency:
    """Times of one backend in fp32, with the resized image as one window, background and cleaning."""

    backend: str
    refine: bool
    runtime_ms: float
    """Time of `Segmenter.segment`, with encoding the window."""
    fused_ms: float
    label_agreement: float
    """Share of the picture's labels on which both agree."""


def measure(bundle: Bundle, rounds: int, threads: int | None) -> list[FusedLatency]:
    """Measure every CPU backend, without and with PAMR; runtime and graph take turns."""
    image, rows = photograph(PICTURE), []
    for name in ("onnxruntime", "openvino"):
        runtime = Segmenter.open(bundle.folder, backend=name, num_threads=threads)
        fused = FusedSegmenter.open(bundle.folder, backend=name, num_threads=threads)
        words = runtime.encode_classes([f"thing {number}" for number in range(WORDS)])
        for refine in (False, True):
            by_runtime = partial(runtime.segment, image, words, background=True, refine=refine, window="whole")
            by_graph = partial(fused.segment, image, words, background=True, refine=refine)
            agreement = float((by_runtime().label_map == by_graph().label_map).mean())
            times = in_turn({"runtime": by_runtime, "fused": by_graph}, rounds)
            rows.append(FusedLatency(name, refine, times["runtime"].median_ms, times["fused"].median_ms, agreement))
    return rows
