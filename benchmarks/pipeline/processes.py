"""Rows of whole processes: cold start, peak memory, the large image, thousands of words."""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors.torch import save_file

from benchmarks.pipeline.child import LARGE, READY
from benchmarks.pipeline.masks import MANY
from benchmarks.pipeline.rows import Row, faster
from benchmarks.pipeline.setup import CPU_BACKENDS, Setup
from benchmarks.timing import Timing
from t2d_runtime.bundle.manifest import DEFAULT_PROMPTS
from t2d_runtime.errors import BenchmarkError
from t2d_runtime.words.text import build_prompts

START_ROUNDS = 3
IMPORT_ROUNDS = 7
WORDS = ("cat", "dog", "person", "grass", "sky", "road", "house", "water")
WORD_COUNTS = (10, 100, 1000, 10_000)
GIB = 2**30
MIB = 2**20


def cold_start_rows(setup: Setup) -> list[Row]:
    """A new process to its first mask: one window, eight words, no PAMR; caches on disk warm on both sides."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = folder / "photograph.png"
        Image.fromarray(setup.window).save(image)
        segmenter = setup.segmenter()
        prompts = build_prompts(WORDS, segmenter.manifest.prompt_sets[DEFAULT_PROMPTS])
        common: dict[str, Any] = {"threads": setup.threads, "image": str(image), "words": WORDS}
        tasks: dict[str, tuple[str, dict[str, Any]]] = {
            "PyTorch": ("torch_first_mask", {"model": save_model(setup, folder), "prompts": prompts}),
            "fp32": ("runtime_first_mask", {"bundle": str(setup.bundle), "precision": "fp32"}),
            "fast": ("runtime_first_mask", {"bundle": str(setup.bundle), "precision": setup.fast.precision}),
        }
        times: dict[str, list[float]] = {name: [] for name in tasks}
        for number in range(1 + START_ROUNDS):
            for name, (task, arguments) in tasks.items():
                _, ready_ms = run_child(task, arguments | common)
                if number and ready_ms is not None:
                    times[name].append(ready_ms)
    timings = {name: Timing(tuple(values)) for name, values in times.items()}
    what = "cold start, new process to first mask, over PyTorch with timm and open_clip"
    return [faster(f"{what}: {name}", timings, "PyTorch", name, bar=4) for name in ("fp32", "fast")]


def import_rows(_setup: Setup) -> list[Row]:
    """The import in new processes: of the package, and of the class that everybody wants, which brings NumPy."""
    rows = []
    for statement, bar in (("import t2d_runtime", 150.0), ("from t2d_runtime import Segmenter", None)):
        code = f"import time; start = time.perf_counter(); {statement}; print((time.perf_counter() - start) * 1e3)"
        runs = [subprocess.check_output([sys.executable, "-c", code], text=True) for _ in range(1 + IMPORT_ROUNDS)]
        value = statistics.median(float(run) for run in runs[1:])
        rows.append(Row(statement, value, "ms", bar, at_most=True, rounds=IMPORT_ROUNDS))
    return rows


def memory_rows(setup: Setup) -> list[Row]:
    """Peak memory of one window with 171 classes and PAMR, whole processes."""
    with tempfile.TemporaryDirectory() as name:
        model = save_model(setup, Path(name))
        common = {"bundle": str(setup.bundle), "threads": setup.threads, "count": MANY}
        released = run_child("torch_memory", {"model": model} | common)[0]["process_peak_bytes"]
    rows = []
    pairs = [*((backend, "fp32") for backend in CPU_BACKENDS), (setup.fast.backend_name, setup.fast.precision)]
    for backend, precision in dict.fromkeys(pairs):
        chosen = {"backend": backend, "precision": precision}
        peak = run_child("runtime_memory", chosen | common)[0]["process_peak_bytes"]
        what = f"peak memory, one window, {MANY} classes, PAMR, over released: {precision} on {backend}"
        note = f"{peak / MIB:.0f} MiB, released {released / MIB:.0f} MiB"
        rows.append(Row(what, peak / released, "x", 0.25, at_most=True, note=note))
    return rows


def large_image_rows(setup: Setup) -> list[Row]:
    """Peak memory of a 4000 x 3000 image with 171 classes."""
    rows = []
    for refine in (False, True):
        arguments = {"bundle": str(setup.bundle), "precision": "fp32", "threads": setup.threads, "count": MANY}
        figures = run_child("large_image", arguments | {"refine": refine})[0]
        what = f"{LARGE[1]} x {LARGE[0]} image, {MANY} classes" + (", PAMR" if refine else "") + ": resident"
        note = f"{figures['ms'] / 1e3:.1f} s with encoding"
        rows.append(Row(what, figures["process_peak_bytes"] / GIB, "GiB", 1.5, at_most=True, note=note))
    return rows


def words_rows(setup: Setup) -> list[Row]:
    """After the encoder without PAMR, for rising numbers of words in one process."""
    arguments = {"bundle": str(setup.bundle), "precision": "fp32", "threads": setup.threads, "counts": WORD_COUNTS}
    figures = run_child("words", arguments)[0]
    rows = [
        Row(f"after the encoder, {count} words, no PAMR", figures[str(count)]["ms"], "ms", note=_peak(figures, count))
        for count in WORD_COUNTS
    ]
    peak = figures[str(WORD_COUNTS[-1])]["peak_bytes"] / GIB
    rows.append(Row(f"resident with {WORD_COUNTS[-1]} words", peak, "GiB", 2, at_most=True))
    growth = max(
        figures[str(more)]["ms"] / figures[str(fewer)]["ms"] / (more / fewer)
        for fewer, more in itertools.pairwise(WORD_COUNTS)
    )
    rows.append(Row("growth of time over growth of words, the worst step", growth, "x", 1, at_most=True))
    return rows


def save_model(setup: Setup, folder: Path) -> dict[str, Any]:
    """The reference's weights as files, and the arguments of `load_reference` that load them."""
    reference = setup.reference
    parts = {
        "backbone_weights": reference.backbone.vit,
        "text_weights": reference.text_tower.transformer,
        "projection": reference.projection,
    }
    for name, module in parts.items():
        save_file(
            {key: value.contiguous() for key, value in module.state_dict().items()}, folder / f"{name}.safetensors"
        )
    paths = {name: str(folder / f"{name}.safetensors") for name in parts}
    return {"backbone": setup.backbone, "input_size": reference.backbone.input_size, **paths}


def run_child(task: str, arguments: dict[str, Any]) -> tuple[dict[str, Any], float | None]:
    """Figures of a task in a new process, and the milliseconds until its first mask. Raises BenchmarkError."""
    command = [sys.executable, "-m", "benchmarks.pipeline.child", task, json.dumps(arguments)]
    start, ready_ms, last = time.perf_counter(), None, ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            if line.strip() == READY:
                ready_ms = (time.perf_counter() - start) * 1e3
            last = line
    if process.returncode:
        raise BenchmarkError(f"{task} ended with status {process.returncode}; its own message is above")
    return json.loads(last), ready_ms


def _peak(figures: dict[str, Any], count: int) -> str:
    return f"{figures[str(count)]['peak_bytes'] / MIB:.0f} MiB resident"
