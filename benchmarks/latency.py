"""Milliseconds of a bundle against PyTorch, stage by stage, in one run on the same image and words."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from t2d_runtime.errors import OptionError

if TYPE_CHECKING:
    from benchmarks.timing import Timing
    from t2d_export.reference import Reference
    from t2d_runtime.segmenter import Segmenter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m benchmarks latency`."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--backbone", required=True, metavar="NAME|FOLDER", help="as given to 't2d-export bundle'")
    parser.add_argument("--backbone-weights", metavar="FILE|hub|random")
    parser.add_argument("--text-weights", metavar="FILE|hub|random")
    parser.add_argument("--projection", metavar="FILE|hub|random")
    parser.add_argument("--image", type=Path, required=True, metavar="IMAGE")
    parser.add_argument("--classes", default="sky,grass,person,road,tree,car,house,water", metavar="WORDS")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--threads", type=int, help="default: all cores")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, metavar="F", help="save the figures")


def run(args: argparse.Namespace) -> int:
    """Print the table of stages."""
    import os

    import torch

    from benchmarks.results_file import write_results
    from benchmarks.timing import in_turn
    from t2d_export.export import ExportSettings
    from t2d_runtime.segmenter import Segmenter

    if args.rounds < 1:
        raise OptionError(f"--rounds is {args.rounds}, expected at least 1")
    threads = args.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    segmenter = Segmenter.open(args.bundle, backend=args.backend, precision=args.precision, num_threads=threads)
    size = segmenter.manifest.model.input_size
    settings = ExportSettings(args.backbone, args.backbone_weights, args.text_weights, args.projection, size)
    stages = stages_of(segmenter, settings.load_reference(), args.image, args.classes.split(","))
    print(
        f"{segmenter.engine_description} in {segmenter.precision}, PyTorch {torch.__version__} float32 eager, ", end=""
    )
    print(f"{threads} threads, median of {args.rounds} rounds in turn, {len(args.classes.split(','))} classes")
    print(f"{'stage':<34} {'PyTorch ms':>10} {'runtime ms':>10} {'faster':>7}")
    timings = {}
    for stage, contenders in stages.items():
        timings[stage] = in_turn(contenders, args.rounds)
        print_stage(stage, timings[stage])
    if args.json is not None:
        write_results(args.json, "latency", _figures(segmenter, args, threads, timings))
    return 0


def _figures(
    segmenter: Segmenter, args: argparse.Namespace, threads: int, timings: dict[str, dict[str, Timing]]
) -> dict[str, Any]:
    from benchmarks.timing import ratio

    return {
        "backbone": segmenter.manifest.model.backbone,
        "input_size": segmenter.manifest.model.input_size,
        "backend": segmenter.engine_description,
        "precision": segmenter.precision,
        "threads": threads,
        "classes": len(args.classes.split(",")),
        "rounds": args.rounds,
        "stages": {
            stage: {
                "torch_ms": timing["torch"].median_ms,
                "runtime_ms": timing["runtime"].median_ms,
                "faster": ratio(timing["torch"], timing["runtime"]),
            }
            for stage, timing in timings.items()
        },
    }


def stages_of(
    segmenter: Segmenter, reference: Reference, image: Path, words: list[str]
) -> dict[str, dict[str, Callable[[], object]]]:
    """Stage -> the two contenders; each works on what the stage before gave."""
    import torch

    from benchmarks.baselines import TorchPipeline, plain_pamr
    from t2d_runtime.manifest import DEFAULT_PROMPTS
    from t2d_runtime.preprocess import load_image, resize
    from t2d_runtime.text import build_prompts

    torch_pipeline = TorchPipeline(reference, plain_pamr)
    window = resize(load_image(image), segmenter.manifest.windows.crop_size)
    prompts = build_prompts(words, segmenter.manifest.prompt_sets[DEFAULT_PROMPTS])
    ids = segmenter.tokenize([prompt for group in prompts for prompt in group])
    padded = np.zeros((len(ids), segmenter.manifest.model.context_length), np.int64)
    padded[:, : ids.shape[1]] = ids
    input_ids = torch.from_numpy(padded).reshape(len(words), -1, padded.shape[1])

    def torch_text() -> torch.Tensor:
        with torch.inference_mode():
            return reference.text_embeds(input_ids)

    classes, text_embeds = segmenter.encode_classes(words), torch_text()
    encoding, torch_encoding = segmenter.encode_image(window), torch_pipeline.encode(window)
    stages: dict[str, dict[str, Callable[[], object]]] = {
        "text encoder": {
            "torch": torch_text,
            "runtime": lambda: segmenter.run_text_encoder(ids.reshape(len(words), -1, ids.shape[1])),
        },
        "image encoder": {
            "torch": lambda: torch_pipeline.encode(window),
            "runtime": lambda: segmenter.encode_image(window),
        },
    }
    for name, refine in (("background, cleaning", False), ("background, cleaning, PAMR", True)):
        stages[name] = {
            "torch": partial(
                torch_pipeline.labels, window, torch_encoding, text_embeds, background=True, refine=refine
            ),
            "runtime": partial(segmenter.segment, encoding, classes, background=True, refine=refine),
        }
    return stages


def print_stage(stage: str, timings: dict[str, Timing]) -> None:
    """One line of the table."""
    from benchmarks.timing import ratio

    slow, fast = timings["torch"], timings["runtime"]
    print(f"{stage:<34} {slow.median_ms:>10.1f} {fast.median_ms:>10.1f} {ratio(slow, fast):>6.1f}x")
