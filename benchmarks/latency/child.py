"""Measures PyTorch's start, and peaks of memory, in a new process: `python -m benchmarks.latency.child TASK JSON`.

A task prints one line of JSON: its figures and the process's peak memory.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

from t2d_runtime.device.machine import peak_resident_bytes

if TYPE_CHECKING:
    from t2d_export.model.reference import Reference


def torch_first_mask(model: dict[str, Any], prompts: list[list[str]], image: str, threads: int) -> dict[str, float]:
    """Label an image in PyTorch with timm and open_clip, from weights in files, like `t2d_runtime.bench.first_mask`.

    Returns the milliseconds of each step.
    """
    times = [time.perf_counter()]
    import open_clip
    import torch

    from t2d_export.model.reference_masks import with_background
    from t2d_runtime.image.reading import load_image

    times.append(time.perf_counter())
    reference = _load(model, threads)
    times.append(time.perf_counter())
    tokens = open_clip.tokenize([prompt for group in prompts for prompt in group], reference.text_tower.context_length)
    with torch.inference_mode():
        text_embeds = reference.text_embeds(tokens.reshape(len(prompts), -1, tokens.shape[1]))
    times.append(time.perf_counter())
    pixels = torch.from_numpy(load_image(image)).permute(2, 0, 1)
    scores = reference.segment_sliding(pixels, text_embeds, cleaning="official", refine=True)
    with_background(scores, reference.threshold).argmax(dim=0)
    times.append(time.perf_counter())
    steps = zip(("import_ms", "open_ms", "words_ms", "mask_ms"), times, times[1:], strict=False)
    return {name: (end - start) * 1e3 for name, start, end in steps}


def torch_memory(model: dict[str, Any], size: list[int], count: int, threads: int) -> dict[str, float]:
    """Segment one window with many classes and PAMR as released. One iteration is enough: all need the same memory."""
    from functools import partial

    import numpy as np
    import torch

    from benchmarks.contenders.baselines import TorchWindow, released_pamr
    from benchmarks.contenders.picture import photograph

    window = TorchWindow(_load(model, threads), photograph((size[0], size[1])))
    features = window.encode()
    vectors = np.random.default_rng(0).normal(0, 1, (count, features.patch_tokens.shape[1])).astype(np.float32)
    embeds = torch.from_numpy(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    window.labels(embeds, background=False, pamr=partial(released_pamr, iterations=1), features=features)
    return {}


def runtime_memory(opening: dict[str, Any], size: list[int], count: int, refine: bool) -> dict[str, float]:
    """Segment a photograph with many classes in the runtime, without keeping scores; returns the milliseconds."""
    from benchmarks.contenders.picture import photograph
    from benchmarks.contenders.planted import planted_classes
    from t2d_runtime import Segmenter

    segmenter = Segmenter.open(**opening)
    start = time.perf_counter()
    encoding = segmenter.encode_image(photograph((size[0], size[1])))
    segmenter.segment(encoding, planted_classes(segmenter, encoding, count), refine=refine)
    return {"ms": (time.perf_counter() - start) * 1e3}


def _load(model: dict[str, Any], threads: int) -> Reference:
    import torch

    from t2d_export.model.reference import load_reference

    torch.set_num_threads(threads)
    return load_reference(**model | {"input_size": tuple(model["input_size"])})


TASKS = {task.__name__: task for task in (torch_first_mask, torch_memory, runtime_memory)}


def main() -> None:
    """Run the task that the command line names."""
    figures = TASKS[sys.argv[1]](**json.loads(sys.argv[2]))
    print(json.dumps(figures | {"peak_bytes": peak_resident_bytes()}), flush=True)


if __name__ == "__main__":
    main()
