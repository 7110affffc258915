"""What is measured in a process of its own: `python -m benchmarks.pipeline.child TASK JSON`.

A task prints the line READY with its first mask. The last line is JSON: its figures and the process's peak memory.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

from t2d_runtime.device.machine import peak_resident_bytes

if TYPE_CHECKING:
    from t2d_runtime.segmenter import Segmenter

READY = "ready"
LARGE = 3000, 4000
"""Height and width of the large image."""

REPEATS = 5


def runtime_first_mask(bundle: str, precision: str, threads: int, image: str, words: list[str]) -> dict[str, Any]:
    """A photograph's mask by the runtime, as an application starts."""
    segmenter = _open(bundle, precision, threads)
    segmenter.segment(image, segmenter.encode_classes(words))
    print(READY, flush=True)
    return {}


def torch_first_mask(
    model: dict[str, Any], prompts: list[list[str]], threads: int, image: str, words: list[str]
) -> dict[str, Any]:
    """The same by PyTorch with timm and open_clip, from weights in files."""
    import open_clip
    import torch

    from benchmarks.contenders.baselines import TorchPipeline, plain_pamr
    from t2d_export.model.reference import load_reference
    from t2d_runtime.image.preprocess import load_image

    torch.set_num_threads(threads)
    reference = load_reference(**model | {"input_size": tuple(model["input_size"])})
    pipeline = TorchPipeline(reference, plain_pamr)
    tokens = open_clip.tokenize([prompt for group in prompts for prompt in group], reference.text_tower.context_length)
    with torch.inference_mode():
        text_embeds = reference.text_embeds(tokens.reshape(len(words), -1, tokens.shape[1]))
    pixels = load_image(image)
    pipeline.labels(pixels, pipeline.encode(pixels), text_embeds, background=False, refine=False)
    print(READY, flush=True)
    return {}


def runtime_memory(bundle: str, backend: str, precision: str, threads: int, count: int) -> dict[str, Any]:
    """One window with many classes and PAMR by the runtime."""
    segmenter = _open(bundle, precision, threads, backend)
    _segment_planted(segmenter, segmenter.manifest.windows.crop_size, count, refine=True)
    return {}


def torch_memory(model: dict[str, Any], bundle: str, threads: int, count: int) -> dict[str, Any]:
    """One window with many classes and PAMR as released, one iteration: each needs as much as the last."""
    from functools import partial

    import numpy as np
    import torch

    from benchmarks.contenders.baselines import TorchPipeline, released_pamr
    from benchmarks.contenders.picture import photograph
    from t2d_export.model.reference import load_reference
    from t2d_runtime.bundle.files import Bundle

    torch.set_num_threads(threads)
    reference = load_reference(**model | {"input_size": tuple(model["input_size"])})
    pipeline = TorchPipeline(reference, partial(released_pamr, iterations=1))
    window = photograph(Bundle.open(bundle).manifest.windows.crop_size)
    encoded = pipeline.encode(window)
    vectors = np.random.default_rng(0).normal(0, 1, (count, encoded[0].shape[1])).astype(np.float32)
    embeds = torch.from_numpy(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    pipeline.labels(window, encoded, embeds, background=False, refine=True)
    return {}


def large_image(bundle: str, precision: str, threads: int, count: int, refine: bool) -> dict[str, Any]:
    """A photograph of 12 megapixels with many classes, its scores not kept."""
    segmenter = _open(bundle, precision, threads)
    start = time.perf_counter()
    _segment_planted(segmenter, LARGE, count, refine=refine)
    return {"ms": (time.perf_counter() - start) * 1e3}


def words(bundle: str, precision: str, threads: int, counts: list[int]) -> dict[str, Any]:
    """Milliseconds after the encoder without PAMR, and peak memory so far, for rising numbers of words."""
    from benchmarks.contenders.picture import photograph
    from benchmarks.contenders.planted import planted_classes

    segmenter = _open(bundle, precision, threads)
    encoding = segmenter.encode_image(photograph(segmenter.manifest.windows.crop_size))
    figures: dict[str, Any] = {}
    for count in counts:
        classes = planted_classes(segmenter, encoding, count)
        segmenter.segment(encoding, classes)
        times = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            segmenter.segment(encoding, classes)
            times.append((time.perf_counter() - start) * 1e3)
        figures[str(count)] = {"ms": statistics.median(times), "peak_bytes": peak_resident_bytes()}
    return figures


def _open(bundle: str, precision: str, threads: int, backend: str = "auto") -> Segmenter:
    from t2d_runtime import Segmenter

    return Segmenter.open(bundle, backend=backend, precision=precision, num_threads=threads)


def _segment_planted(segmenter: Segmenter, size: tuple[int, int], count: int, *, refine: bool) -> None:
    from benchmarks.contenders.picture import photograph
    from benchmarks.contenders.planted import planted_classes

    encoding = segmenter.encode_image(photograph(size))
    segmenter.segment(encoding, planted_classes(segmenter, encoding, count), refine=refine)


TASKS = {
    task.__name__: task
    for task in (
        runtime_first_mask,
        torch_first_mask,
        runtime_memory,
        torch_memory,
        large_image,
        words,
    )
}


def main() -> None:
    """Run the task that the command line names."""
    figures = TASKS[sys.argv[1]](**json.loads(sys.argv[2]))
    print(json.dumps(figures | {"process_peak_bytes": peak_resident_bytes()}), flush=True)


if __name__ == "__main__":
    main()
