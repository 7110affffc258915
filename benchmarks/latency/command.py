"""Time, memory and size of a bundle against PyTorch, in one run on one image and words."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.model_arguments import add_model_arguments, export_settings
from benchmarks.results_file import provenance, write_results
from t2d_runtime.errors import OptionError

if TYPE_CHECKING:
    from benchmarks.latency.setup import Setup

PARTS = {
    "stages": ("stages.stages", "every stage of one window"),
    "encoders": ("encoders.image_encoders", "the image encoder in the baselines and engines, and the machine's floor"),
    "starts": ("processes.starts", "new processes to their first mask"),
    "words": ("encoders.text_encoders", "encoding 171 class names"),
    "windows": ("windows.windows", "pixels to labels with PAMR, as released and plain; takes minutes"),
    "memory": ("processes.memory", "peak memory: a window, 12 megapixels, 10,000 words"),
    "size": ("installed.installed", "installations on disk; downloads them"),
    "batch": ("sweeps.batch", "time over windows of a batch"),
    "threads": ("sweeps.threads", "time over threads"),
    "classes": ("sweeps.classes", "time over classes"),
    "sizes": ("sweeps.sizes", "time over image sizes"),
    "phrases": ("sweeps.phrases", "time over phrases of each of 20 classes, without PAMR"),
}
"""Part -> the function in this package that measures it, and a description."""

DEFAULT_PARTS = "stages,encoders,starts"
ALL = "all"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `python -m benchmarks latency`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "parts:\n" + "\n".join(f"  {name:<10} {text}" for name, (_, text) in PARTS.items())
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    add_model_arguments(parser, required=True)
    parser.add_argument("--image", type=Path, required=True, metavar="IMAGE")
    parser.add_argument("--classes", default="sky,grass,person,road,tree,car,house,water", metavar="WORDS")
    parser.add_argument(
        "--parts",
        default=DEFAULT_PARTS,
        metavar="LIST",
        help=f"parts from the list below, or {ALL}; default: %(default)s",
    )
    parser.add_argument("--backend", default="auto", help="default: %(default)s")
    parser.add_argument("--precision", default="fp32", help="default: %(default)s")
    parser.add_argument(
        "--engines", metavar="LIST", help="more engines: openvino:bf16,auto:fast, or all that run here; default: none"
    )
    parser.add_argument(
        "--baselines",
        default="eager",
        metavar="LIST",
        help="PyTorch's image encoders: eager,bf16,compile,compile-bf16,cuda; default: %(default)s",
    )
    parser.add_argument("--threads", type=int, help="default: all cores")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of stages and encoders; default: %(default)s")
    parser.add_argument("--starts", type=int, default=1, help="new processes on each side; default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="F", help="save the figures")


def run(args: argparse.Namespace) -> int:
    """Print the tables, and save the figures."""
    parts = _parts(args)
    setup = _setup(args)
    figures = _facts(setup)
    print("\n".join(heading(figures)))
    figures["parts"] = {}
    for number, name in enumerate(parts, start=1):
        print(f"[{number}/{len(parts)}] {name} ...", file=sys.stderr, flush=True)
        module, function = PARTS[name][0].split(".")
        found = getattr(importlib.import_module(f"benchmarks.latency.{module}"), function)(setup)
        print("", *found.blocks(), sep="\n", flush=True)
        figures["parts"][name] = asdict(found)
        if args.json is not None:  # after every part, since some take minutes and their figures must not be lost
            write_results(args.json, "latency", figures)
    return 0


def _parts(args: argparse.Namespace) -> list[str]:
    """The requested parts. Raises OptionError."""
    if min(args.rounds, args.starts) < 1:
        raise OptionError(f"--rounds is {args.rounds} and --starts {args.starts}, expected at least 1 of each")
    parts = list(PARTS) if args.parts == ALL else args.parts.split(",")
    unknown = [name for name in parts if name not in PARTS]
    if unknown:
        raise OptionError(f"unknown parts {unknown}, expected some of {','.join(PARTS)}, or {ALL}")
    return parts


def _setup(args: argparse.Namespace) -> Setup:
    import torch

    from benchmarks.contenders.encoders import engine_pairs, torch_contenders
    from benchmarks.latency.setup import Setup
    from t2d_runtime.image.reading import load_image
    from t2d_runtime.segmenter import Segmenter

    threads = args.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    wanted = [(args.backend, args.precision), *(engine_pairs(args.bundle, args.engines) if args.engines else ())]
    opened: dict[tuple[str, str], Segmenter] = {}
    for backend, precision in wanted:
        segmenter = Segmenter.open(args.bundle, backend=backend, precision=precision, num_threads=threads)
        opened.setdefault((segmenter.backend_name, segmenter.precision), segmenter)
    segmenters = list(opened.values())
    reference = export_settings(args, segmenters[0].manifest).load_reference()
    baselines = args.baselines.split(",")
    torch_contenders(reference, baselines)  # refuses baselines that cannot run here now, not after minutes
    return Setup(
        bundle=args.bundle,
        reference=reference,
        backbone=args.backbone,
        segmenters=segmenters,
        baselines=baselines,
        image=args.image,
        pixels=load_image(args.image),
        words=args.classes.split(","),
        threads=threads,
        rounds=args.rounds,
        starts=args.starts,
    )


def _facts(setup: Setup) -> dict[str, Any]:
    import torch

    from benchmarks.contenders.encoders import engine_name
    from t2d_runtime.masks.pamr.choice import loops_here

    model = setup.segmenter.manifest.model
    return {
        "backbone": model.backbone,
        "model_digest": setup.segmenter.model_digest,
        "weights": setup.reference.sources["backbone"].name,
        "input_size": model.input_size,
        "runtime": engine_name(setup.segmenter),
        "pamr": loops_here(),
        "torch": torch.__version__,
        "threads": setup.threads,
        "classes": len(setup.words),
        "rounds": setup.rounds,
    }


def heading(figures: dict[str, Any]) -> list[str]:
    """Lines that name the contenders and the machine."""
    machine = provenance()
    height, width = figures["input_size"]
    return [
        f"model:     {figures['backbone']}, weights {figures['weights']}, windows of {width} x {height} pixels",
        f"runtime:   {figures['runtime']}; PAMR: {figures['pamr']}",
        f"PyTorch:   {figures['torch']}, float32, eager, except where a row says otherwise",
        f"processor: {machine['cpu']}, {figures['threads']} threads, {' '.join(machine['cpu_features'])}",
        f"Times are medians of {figures['rounds']} rounds, in turn; more than 1x: the runtime is faster.",
    ]
