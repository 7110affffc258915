"""One stage in a process of its own: `python -m benchmarks.gpu.child TASK JSON`.

Prints JSON objects, each as soon as its figures are known, so that a crash later on does not lose them.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.backends.on_device import BoundSession, device_ms, free_bytes
from t2d_runtime.backends.onnxruntime import OnnxRuntimeBackend
from t2d_runtime.backends.registry import open_backend
from t2d_runtime.bundle.files import IMAGE_ENCODER, SELFTEST, Bundle
from t2d_runtime.bundle.manifest import StageParity
from t2d_runtime.device.cuda import Cuda
from t2d_runtime.errors import BackendError, T2DError
from t2d_runtime.image.preprocess import resize
from t2d_runtime.proof.selftest import SelfTestVectors

Figures = Iterator[dict[str, Any]]

PICTURE = (480, 640)
"""(height, width) of a small camera picture."""

CLASSES = 21
"""Classes of Pascal VOC with background."""

ROUNDS = 20
LONG_S = 4.0
"""A measurement ends after this time, with the rounds that it has."""


def selftest(bundle: str, backend: str, precision: str) -> Figures:
    """Parity of every stage of the bundle's self-test."""
    from t2d_runtime.proof.selftest import run_selftest
    from t2d_runtime.segmenter import Segmenter

    start = time.perf_counter()
    segmenter = Segmenter.open_unproven(bundle, backend=backend, precision=precision)
    yield {"engine": segmenter.engine_description, "load_ms": (time.perf_counter() - start) * 1e3}
    yield judged(run_selftest(segmenter.encoders))


def judged(stages: tuple[StageParity, ...]) -> dict[str, Any]:
    """Figures of stages, with an error where one is out of tolerance."""
    failed = [stage.verdict for stage in stages if not stage.passed]
    figures: dict[str, Any] = {"stages": [asdict(stage) for stage in stages]}
    return figures | ({"error": "; ".join(failed)} if failed else {})


def latency(bundle: str, backend: str, precision: str, batches: list[int], cuda_graph: bool = False) -> Figures:
    """The image encoder by CUDA events, with inputs and outputs on the GPU, over batches; and the GPU's memory."""
    cuda = Cuda()
    cuda.call("cudaFree", 0)  # makes the context, which is not the engine's
    before = free_bytes(cuda)
    opened, engine = Bundle.open(bundle), open_backend(backend)
    if isinstance(engine, OnnxRuntimeBackend):
        bound: Any = BoundSession(engine, opened, IMAGE_ENCODER, cuda, precision=precision, cuda_graph=cuda_graph)
    else:
        bound = engine.load(opened, IMAGE_ENCODER, precision=precision, num_threads=None)
    size = opened.manifest.model.input_size

    def time_batch(batch: int) -> list[float]:
        values = np.random.default_rng(0).normal(0, 1, (batch, 3, *size)).astype(np.float32)
        call = bound.bind({"pixel_values": values})
        first = device_ms(cuda, bound.stream, call, 1, warm_up=3)[0]
        return device_ms(cuda, bound.stream, call, fitting_rounds(first), warm_up=0)

    yield from over_batches(batches, time_batch, lambda: before - free_bytes(cuda))


def fitting_rounds(first_ms: float) -> int:
    """Rounds that fit LONG_S, from 3 to ROUNDS."""
    return int(min(ROUNDS, max(3.0, LONG_S * 1e3 / max(first_ms, 1e-3))))


def over_batches(batches: list[int], time_batch: Callable[[int], list[float]], memory: Callable[[], int]) -> Figures:
    """Median times by batch, throughput and memory after each. The first batch that fails ends it, with its error."""
    times: dict[str, float] = {}
    for batch in batches:
        try:
            times[str(batch)] = statistics.median(time_batch(batch))
        except (T2DError, RuntimeError) as error:  # PyTorch's are RuntimeErrors
            yield {"error": f"batch {batch}: {str(error).splitlines()[0]}"}
            return
        rate = max(1e3 * int(size) / ms for size, ms in times.items())
        yield {"batch_ms": dict(times), "windows_per_second": rate, "memory_bytes": memory()}


def image(bundle: str, backend: str, precision: str) -> Figures:
    """Take a picture to its labels with PAMR on the GPU and then, since it takes longer, on the host.

    Features go through the host first; then they stay on the GPU, where the backend can leave them there, and are
    compared with the host's.
    """
    from benchmarks.contenders.planted import planted_classes
    from t2d_runtime.masks.cuda.postprocess import DeviceMasks
    from t2d_runtime.masks.pamr.choice import loops_here
    from t2d_runtime.proof.device_masks import feature_stages
    from t2d_runtime.segmenter import Segmenter

    segmenter = Segmenter.open_unproven(bundle, backend=backend, precision=precision)
    pixels = picture(segmenter.bundle)
    encoding = segmenter.encode_image(pixels)
    words = planted_classes(segmenter, encoding, CLASSES)
    yield {"windows": len(encoding.windows), "encode_ms": median_ms(lambda: segmenter.encode_image(pixels))}
    labels: Any = None
    try:
        device = DeviceMasks.open()
        on_device = Segmenter(segmenter.encoders, device)
        labels = on_device.segment(encoding, words, background=True, refine=True).label_map
        through_host = median_ms(
            lambda: on_device.segment(segmenter.encode_image(pixels), words, background=True, refine=True)
        )
        yield {"device_ms": through_host}
        if segmenter.encoders.has_device_outputs:
            yield {"features_through_host_ms": through_host}
            wrong = judged(tuple(feature_stages(segmenter.encoders, device))).get("error")
            yield {"error": wrong} if wrong else {}
            yield {"device_ms": median_ms(lambda: on_device.segment(pixels, words, background=True, refine=True))}
    except T2DError as error:  # the host's figures are worth having all the same
        yield {"error": str(error)}
    yield {"host_loops": loops_here()}
    on_host = segmenter.segment(encoding, words, background=True, refine=True).label_map
    if labels is not None:
        yield {"labels_equal": float((labels == on_host).mean())}
    yield {"host_ms": median_ms(lambda: segmenter.segment(pixels, words, background=True, refine=True), least=1)}


def masks(bundle: str) -> Figures:
    """The masks' self-test on the GPU, and their time with PAMR there and on the host, without any engine."""
    from t2d_runtime.masks.cuda.postprocess import DeviceMasks
    from t2d_runtime.masks.pamr.choice import loops_here
    from t2d_runtime.masks.postprocess import label_map_of
    from t2d_runtime.proof.device_masks import encoding_of, mask_stages
    from t2d_runtime.results.options import resolve_options

    opened, start = Bundle.open(bundle), time.perf_counter()
    device = DeviceMasks.open()
    yield {"device": list(device.identity), "open_ms": (time.perf_counter() - start) * 1e3}
    verdict = judged(tuple(mask_stages(opened, device)))
    yield verdict
    vectors = SelfTestVectors.load(opened.file(SELFTEST))
    encoding = encoding_of(vectors, opened)
    settings = resolve_options(
        {"background": True, "refine": True}, opened.manifest.defaults, window="slide", backend="", precision="fp32"
    )
    texts = np.resize(vectors.text_embeds, (CLASSES, vectors.text_embeds.shape[1]))
    yield {"host_loops": loops_here()}
    for place, compute in (("device", device.label_map_of), ("host", label_map_of)):
        for name, chosen in (("with_pamr", settings), ("plain", replace(settings, refine=None))):
            call = lambda compute=compute, chosen=chosen: compute(encoding, texts, chosen, keep_scores=False)  # noqa: E731
            yield {f"{place}_{name}_ms": median_ms(call)}


def fused(bundle: str, backend: str, precision: str) -> Figures:
    """A picture to its labels by the fused graph, with PAMR in the graph."""
    from t2d_runtime.fused import FusedSegmenter
    from t2d_runtime.segmenter import Segmenter

    graph = FusedSegmenter(Bundle.open(bundle), open_backend(backend), precision=precision)
    yield judged(tuple(graph.selftest()))
    words = Segmenter.open_unproven(bundle, backend=backend, precision=precision).encode_classes(
        [f"thing {number}" for number in range(CLASSES)]
    )
    pixels = picture(graph.bundle)
    yield {"device_ms": median_ms(lambda: graph.segment(pixels, words, background=True, refine=True))}


def build(bundle: str, backend: str, precision: str, capability: str, max_batch: int) -> Figures:
    """Build the engines of both encoders for this GPU, for up to `max_batch` windows at once."""
    from t2d_export.engines.to_engine import Target, build_engine

    start = time.perf_counter()
    target = Target(backend, capability if backend == "tensorrt-rtx" else None, max_batch)
    folder = build_engine(Path(bundle), target, precision)
    yield {"build_s": time.perf_counter() - start, "engine": folder.name}


def export(output: str, backbone: str, precisions: list[str]) -> Figures:
    """Export a bundle with random weights."""
    from t2d_export.export import ExportSettings, export_bundle

    weights = ("random", "random", "random")
    export_bundle(ExportSettings(backbone, *weights, precisions=tuple(precisions)), Path(output))
    yield {"backbone": backbone, "precisions": precisions}


def picture(bundle: Bundle) -> NDArray[np.uint8]:
    """The self-test's picture at the size of a small camera's; every bundle has it."""
    return resize(SelfTestVectors.load(bundle.file(SELFTEST)).image, PICTURE)


def median_ms(call: Callable[[], object], least: int = 3) -> float:
    """Median of some rounds by the wall clock, at least `least`; the call waits for the GPU itself."""
    call()
    times, end = list[float](), time.perf_counter() + LONG_S
    while len(times) < ROUNDS and (len(times) < least or time.perf_counter() < end):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


TASKS = {task.__name__: task for task in (selftest, latency, image, masks, fused, build, export)}


def main(arguments: list[str]) -> int:
    """Run one task; an error is the last line on standard error, and status 1."""
    name, given = arguments[0], json.loads(arguments[1])
    task = TASKS.get(name) or getattr(importlib.import_module("benchmarks.gpu.torch_side"), name)
    try:
        for figures in task(**given):
            print(json.dumps(figures), flush=True)
    except (T2DError, BackendError, ImportError, RuntimeError) as error:
        print(f"{type(error).__name__}: {error}".replace("\n", " "), file=sys.stderr)
        return 1
    return 0


PR_SET_PDEATHSIG = 1
"""Number of the option in Linux's sys/prctl.h."""


def end_with_parent() -> None:
    """Have Linux end this process when the one that started it is killed, so that it does not keep the GPU."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    end_with_parent()
    STATUS = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(STATUS)  # the figures are out: a library that crashes when Python ends would only spoil them
