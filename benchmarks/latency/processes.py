"""Figures of whole processes: time of a start, and peak memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from benchmarks.contenders.encoders import engine_name
from benchmarks.latency.setup import Setup
from benchmarks.latency.tables import Comparison, Row
from benchmarks.latency.windows import MANY, RELEASED
from t2d_runtime.bench.measure import StartTime, measure_starts
from t2d_runtime.bundle.manifest import DEFAULT_PROMPTS
from t2d_runtime.errors import BenchmarkError
from t2d_runtime.segmenter import Segmenter
from t2d_runtime.words.text import build_prompts

MIB = 2**20

LARGE_IMAGE = 3000, 4000
"""(height, width) of a camera's picture."""

MANY_WORDS = 10_000

UNCOUNTED = 1
"""First starts of PyTorch that do not count: they fill the operating system's caches, like the runtime's first."""

STARTS = {"first": "first on a machine, empty cache", "later": "later"}


def starts(setup: Setup) -> Comparison:
    """Time of new processes to their first mask, with PAMR: every engine, and PyTorch with timm and open_clip."""
    prompts = build_prompts(setup.words, setup.segmenter.manifest.prompt_sets[DEFAULT_PROMPTS])
    with saved_model(setup) as model:
        job = {"model": model, "prompts": prompts, "image": str(setup.image), "threads": setup.threads}
        theirs = [run_child("torch_first_mask", job) for _ in range(UNCOUNTED + setup.starts)][UNCOUNTED:]
    torch_ms = sorted(figures["whole_ms"] for figures in theirs)[setup.starts // 2]
    rows = []
    for segmenter in setup.segmenters:
        opening = _opening(setup, segmenter) | {"load_text_encoder": True}
        job = {"open": opening, "image": str(setup.image), "words": {"classes": list(setup.words)}}
        found = measure_starts({**job, "window": "slide", "refine": True}, setup.starts)
        for what, start in zip(STARTS.values(), found, strict=True):
            rows.append(_start_row(what, engine_name(segmenter), start, torch_ms))
    return Comparison("a new process to its first mask, PAMR included", tuple(rows))


def _start_row(what: str, engine: str, start: StartTime, torch_ms: float) -> Row:
    steps = {step: getattr(start, f"{step}_ms") for step in ("import", "open", "words", "mask")}
    note = "" if start.peak_bytes is None else f"at most {start.peak_bytes / MIB:.0f} MiB"
    ratio = torch_ms / start.whole_ms
    return Row(what, start.whole_ms, torch_ms, engine, "PyTorch", ratio, steps=steps, note=note)


def memory(setup: Setup) -> Comparison:
    """Peak memory: of one window in every engine, then of a large image and thousands of words in the first."""
    window = setup.segmenter.manifest.windows.crop_size
    with saved_model(setup) as model:
        job = {"model": model, "size": window, "count": MANY, "threads": setup.threads}
        theirs = run_child("torch_memory", job)["peak_bytes"] / MIB
    what = f"one window, {MANY} classes, PAMR"
    rows = []
    for segmenter in setup.segmenters:
        ours = _runtime_memory(setup, segmenter, window, MANY, refine=True)["peak_bytes"] / MIB
        rows.append(Row(what, ours, theirs, engine_name(segmenter), RELEASED, theirs / ours))
    for size, count, refine in ((LARGE_IMAGE, MANY, False), (LARGE_IMAGE, MANY, True), (window, MANY_WORDS, False)):
        figures = _runtime_memory(setup, setup.segmenter, size, count, refine=refine)
        what = f"{size[1]} x {size[0]}, {count:,} classes" + ", PAMR" * refine
        note = f"{figures['ms'] / 1e3:.1f} s with encoding"
        rows.append(Row(what, figures["peak_bytes"] / MIB, our_name=engine_name(setup.segmenter), note=note))
    return Comparison("peak memory of a process", tuple(rows), unit="MiB")


def _runtime_memory(
    setup: Setup, segmenter: Segmenter, size: tuple[int, int], count: int, *, refine: bool
) -> dict[str, Any]:
    job = {"opening": _opening(setup, segmenter), "size": size, "count": count, "refine": refine}
    return run_child("runtime_memory", job)


def _opening(setup: Setup, segmenter: Segmenter) -> dict[str, Any]:
    """Arguments of `Segmenter.open` in another process."""
    engine = {"backend": segmenter.backend_name, "precision": segmenter.precision}
    return {"bundle": str(setup.bundle), "num_threads": setup.threads, **engine}


@contextmanager
def saved_model(setup: Setup) -> Iterator[dict[str, Any]]:
    """Saves the reference's weights to files, also random ones; gives the arguments of `load_reference` for them."""
    reference = setup.reference
    parts = {
        "backbone_weights": reference.backbone.vit,
        "text_weights": reference.text_tower.transformer,
        "projection": reference.projection,
    }
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.safetensors" for name in parts}
        for name, module in parts.items():
            save_file({key: value.contiguous() for key, value in module.state_dict().items()}, files[name])
        paths = {name: str(file) for name, file in files.items()}
        facts = {
            "input_size": reference.backbone.input_size,
            "average_tokens": reference.average_tokens,
            "text_activation": reference.text_tower.activation,
            "threshold": reference.threshold,
        }
        yield {"backbone": setup.backbone, **facts, **paths}


def run_child(task: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Figures of a task in a new process, and the milliseconds until they came. Raises BenchmarkError."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.latency.child", task, json.dumps(arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline() if process.stdout else ""
        whole_ms = (time.perf_counter() - start) * 1e3
    if process.returncode:
        raise BenchmarkError(f"{task} ended with status {process.returncode}; its own message is above")
    figures: dict[str, Any] = json.loads(line)
    return figures | {"whole_ms": whole_ms}
