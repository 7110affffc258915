"""Milliseconds of a bundle against PyTorch, in one run, on one image and words: stages, encoders, starts, sweeps."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.latency import tables as latency_tables
from t2d_runtime.errors import OptionError

if TYPE_CHECKING:
    from benchmarks.contenders.encoders import Contender
    from benchmarks.contenders.roofline import Roofline
    from benchmarks.latency.sweeps import Setup
    from benchmarks.timing import Timing
    from t2d_runtime.segmenter import Segmenter

SWEEPS = ("batch", "threads", "classes", "windows")


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
    parser.add_argument("--starts", type=int, default=1, help="new processes, to their first mask; default: 1")
    parser.add_argument(
        "--baselines",
        default="eager",
        metavar="LIST",
        help="of the image encoder: eager,bf16,compile,compile-bf16,cuda; default: eager",
    )
    parser.add_argument(
        "--engines", metavar="LIST", help="more of the bundle's: openvino:bf16,onnxruntime:int8, or all; default: none"
    )
    parser.add_argument("--sweep", metavar="LIST", help=f"of {','.join(SWEEPS)}; default: none")
    parser.add_argument("--json", type=Path, metavar="F", help="save the figures")


def run(args: argparse.Namespace) -> int:
    """Print the tables, and save the figures."""
    import torch

    from benchmarks.contenders.encoders import open_active
    from benchmarks.latency.sweeps import Setup
    from t2d_export.export import ExportSettings
    from t2d_runtime.image.preprocess import load_image

    sweeps = _checked(args)
    threads = args.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    segmenter = open_active(args.bundle, args.backend, args.precision, threads)
    size = segmenter.manifest.model.input_size
    settings = ExportSettings(args.backbone, args.backbone_weights, args.text_weights, args.projection, size)
    words = args.classes.split(",")
    setup = Setup(args.bundle, segmenter, settings.load_reference(), load_image(args.image), words, threads)
    contenders = encoder_contenders(setup, args)
    figures = _facts(setup, args)
    print(", ".join(f"{name} {value}" for name, value in figures.items()))
    figures["stages"] = measure_stages(setup, args.image, args.rounds)
    latency_tables.print_stages(figures["stages"])
    figures |= measure_encoders(setup, contenders, args.rounds)
    latency_tables.print_encoders(figures["encoders"], figures["roofline"])
    if args.starts:
        figures["starts"] = measure_starts(segmenter, args)
        latency_tables.print_starts(figures["starts"])
    figures["sweeps"] = {}
    _save(args.json, figures)
    for name in sweeps:
        figures["sweeps"][name] = measure_sweep(name, setup)
        _save(args.json, figures)
    return 0


def _save(path: Path | None, figures: dict[str, Any]) -> None:
    """After every part: sweeps take minutes, and what is measured stays."""
    from benchmarks.results_file import write_results

    if path is not None:
        write_results(path, "latency", figures)


def _checked(args: argparse.Namespace) -> list[str]:
    """The sweeps that were asked for. Raises OptionError."""
    if args.rounds < 1 or args.starts < 0:
        raise OptionError(f"--rounds is {args.rounds} and --starts {args.starts}, expected at least 1 and 0")
    sweeps = args.sweep.split(",") if args.sweep else []
    unknown = [name for name in sweeps if name not in SWEEPS]
    if unknown:
        raise OptionError(f"unknown sweeps {unknown}, expected some of {','.join(SWEEPS)}")
    return sweeps


def _facts(setup: Setup, args: argparse.Namespace) -> dict[str, Any]:
    import torch

    return {
        "backbone": setup.segmenter.manifest.model.backbone,
        "model_digest": setup.segmenter.model_digest,
        "weights": setup.reference.sources["backbone"].name,
        "input_size": setup.segmenter.manifest.model.input_size,
        "backend": setup.segmenter.engine_description,
        "precision": setup.segmenter.precision,
        "torch": torch.__version__,
        "threads": setup.threads,
        "classes": len(setup.words),
        "rounds": args.rounds,
    }


def measure_stages(setup: Setup, image: Path, rounds: int) -> dict[str, dict[str, float | None]]:
    """Stage -> times of PyTorch, where it has the stage, and of the runtime in one window, with background.

    As many classes as words, planted in the image's patches: each wins somewhere, so that PAMR has to refine them all
    on both sides. Reading the image and resizing it to the window are the runtime's alone.
    """
    from functools import partial

    import torch

    from benchmarks.contenders.planted import planted_classes
    from benchmarks.contenders.torch_stages import padded_prompts, torch_stages
    from benchmarks.timing import in_turn
    from t2d_runtime.bench.stages import stages_of
    from t2d_runtime.image.preprocess import load_image, resize

    segmenter, window = setup.segmenter, setup.window
    classes = planted_classes(segmenter, segmenter.encode_image(window), len(setup.words))
    runtime = stages_of(segmenter, window, setup.words, classes=classes, num_threads=setup.threads)
    runtime["decode"] = partial(load_image, image)
    runtime["resize"] = partial(resize, setup.pixels, segmenter.manifest.windows.crop_size)
    embeds, ids = torch.from_numpy(classes.vectors.copy()), padded_prompts(segmenter, setup.words)
    theirs = torch_stages(setup.reference, window, embeds, ids, segmenter.manifest.defaults.cleaning_weight)
    found = {}
    for name, call in runtime.items():
        contenders = {"torch": theirs[name], "runtime": call} if name in theirs else {"runtime": call}
        found[name] = _stage_figures(in_turn(contenders, rounds))
    return found


def _stage_figures(timings: Mapping[str, Timing]) -> dict[str, float | None]:
    from benchmarks.timing import compare

    ours, theirs = timings["runtime"], timings.get("torch")
    ratio = compare(theirs, ours) if theirs else None
    return {
        "torch_ms": theirs.median_ms if theirs else None,
        "runtime_ms": ours.median_ms,
        "runtime_p95_ms": ours.percentile_ms(95),
        "runtime_p99_ms": ours.percentile_ms(99),
        "runtime_per_second": ours.per_second,
        "faster": ratio.median if ratio else None,
        "faster_low": ratio.low if ratio else None,
        "faster_high": ratio.high if ratio else None,
    }


def encoder_contenders(setup: Setup, args: argparse.Namespace) -> list[Contender]:
    """The image encoder in the baselines, in the bundle's own engine, and in the other engines asked for."""
    from benchmarks.contenders.encoders import engine_contender, engine_pairs, open_active, torch_contenders

    own = setup.segmenter.backend_name, setup.segmenter.precision
    pairs = engine_pairs(args.bundle, args.engines) if args.engines else ()
    others = [open_active(args.bundle, *pair, setup.threads) for pair in pairs if pair != own]
    baselines = torch_contenders(setup.reference, args.baselines.split(","))
    return baselines + [engine_contender(segmenter) for segmenter in (setup.segmenter, *others)]


def measure_encoders(setup: Setup, contenders: Sequence[Contender], rounds: int) -> dict[str, Any]:
    """The image encoder in every contender, in turn; ratios over the first; and what the machine could do."""
    from functools import partial

    import numpy as np

    from benchmarks.contenders.roofline import measure_roofline
    from benchmarks.timing import cuda_in_turn, in_turn

    window = setup.window[np.newaxis]
    on_cpu = {one.name: partial(one.encode, window) for one in contenders if not one.on_gpu}
    on_gpu = {one.name: partial(one.encode, window) for one in contenders if one.on_gpu}
    timings = in_turn(on_cpu, rounds) | cuda_in_turn(on_gpu, rounds)
    roofline = measure_roofline(setup.reference)
    return {"encoders": encoder_rows(contenders, timings, roofline), "roofline": roofline._asdict()}


def encoder_rows(
    contenders: Sequence[Contender], timings: Mapping[str, Timing], roofline: Roofline
) -> list[dict[str, Any]]:
    """Times, ratios over the first contender, and the share of the machine's matrix rate that is reached."""
    from benchmarks.timing import compare

    first, rows = timings[contenders[0].name], []
    for one in contenders:
        timing = timings[one.name]
        floor_ms = roofline.floor_ms(one.computes_in) if one.computes_in else None
        rows.append(
            {
                "name": one.name,
                "p50_ms": timing.median_ms,
                "p95_ms": timing.percentile_ms(95),
                "p99_ms": timing.percentile_ms(99),
                "per_second": timing.per_second,
                "faster": compare(first, timing)._asdict(),
                "floor_ms": floor_ms,
                "share_of_rate": floor_ms / timing.median_ms if floor_ms else None,
            }
        )
    return rows


def measure_starts(segmenter: Segmenter, args: argparse.Namespace) -> dict[str, Any]:
    """New processes to their first mask with an empty cache, and later ones."""
    from t2d_runtime.bench import measure as bench

    opening = {
        "bundle": str(args.bundle),
        "backend": segmenter.backend_name,
        "precision": segmenter.precision,
        "num_threads": args.threads,
    }
    first, later = bench.measure_starts(opening, args.image, args.classes.split(","), args.starts)
    return {"first": asdict(first), "later": asdict(later)}


def measure_sweep(name: str, setup: Setup) -> dict[str, Any]:
    """One sweep, printed when it is done."""
    from benchmarks.latency import sweeps

    sweep = sweeps.SWEEPS[name](setup)
    latency_tables.print_sweep(sweep)
    return asdict(sweep)
