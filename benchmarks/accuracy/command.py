"""`python -m benchmarks accuracy`: its arguments and its output."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from benchmarks.accuracy import tables
from benchmarks.accuracy.dataset import DataSet, folder_data
from benchmarks.accuracy.evaluation import evaluate
from benchmarks.accuracy.labelling import BundleRecipe, Recipe
from benchmarks.accuracy.layouts import BENCHMARKS
from benchmarks.accuracy.pictures import write_pictures
from benchmarks.accuracy.records import RECORDS, RecordFile
from benchmarks.model_arguments import add_model_arguments, export_settings
from benchmarks.results_file import write_results
from t2d_runtime import Segmenter
from t2d_runtime.backends.registry import open_backend
from t2d_runtime.bundle.manifest import DEFAULT_PROMPTS
from t2d_runtime.errors import DataError, OptionError

REFERENCE = "reference"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `python -m benchmarks accuracy`."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    published = parser.add_argument_group("a published benchmark with its protocol")
    published.add_argument("--benchmark", choices=BENCHMARKS)
    published.add_argument(
        "--data", type=Path, metavar="DIR", help="folder with VOCdevkit, coco_stuff164k, cityscapes, ..."
    )
    folder = parser.add_argument_group("or any images with label maps")
    folder.add_argument("--images", type=Path, metavar="DIR")
    folder.add_argument("--labels", type=Path, metavar="DIR", help="folder of PNG files with the images' names")
    folder.add_argument(
        "--classes-file",
        "--class-file",
        type=Path,
        metavar="FILE",
        help="one class a line, or a JSON list, for the values 0, 1, 2, ... without those of the two options below",
    )
    folder.add_argument("--ignore", type=int, nargs="*", metavar="VALUE", help="values that do not count; default: 255")
    folder.add_argument("--background-label", type=int, metavar="VALUE", help="value of pixels of no class")
    parser.add_argument("--refine", action="store_true", help="refine with PAMR")
    parser.add_argument("--backend", default="auto", help="default: auto")
    parser.add_argument("--precision", default="fp32", help="default: fp32")
    parser.add_argument(
        "--threads", type=int, metavar="N", help="threads of all processes together; default: all cores"
    )
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="default: 1")
    parser.add_argument("--limit", type=int, metavar="N", help="take only the first N images")
    parser.add_argument("--resume", action="store_true", help="continue the run in --output")
    parser.add_argument("--skip-bad", action="store_true", help="leave out and count unreadable images")
    parser.add_argument(
        "--pictures", type=int, default=8, metavar="N", help="number of pictures of the worst images; default: 8"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: output/accuracy/NAME")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save the figures")
    against = parser.add_argument_group("compared with PyTorch on the same images")
    against.add_argument("--against", choices=[REFERENCE])
    add_model_arguments(against, required=False)


def run(args: argparse.Namespace) -> int:
    """Evaluate, print the table, write confusion matrix, pictures and JSON."""
    _check(args)
    data = _data(args)
    recipe, facts = _recipe(args, data)
    output = args.output or Path("output") / "accuracy" / data.name
    file, done = RecordFile.open(output / RECORDS, facts, resume=args.resume)
    evaluation = evaluate(data, recipe, file, done, processes=args.processes, skip_bad=args.skip_bad)
    if not evaluation.confusion.any():
        raise DataError(f"no pixel of {len(evaluation.records)} images counts: all are ignored, or none could be read")
    figures = tables.figures(evaluation, data.label_names)
    print(tables.table(figures))
    worst_first = tables.lowest_scoring
    if args.against:
        from benchmarks.accuracy import against_reference

        worst_first = against_reference.least_agreeing
        figures[REFERENCE] = against_reference.figures(evaluation)
        print(tables.against_text(figures[REFERENCE]))
    tables.write_confusion(output / "confusion.csv", evaluation.confusion, data.label_names)
    worst = worst_first(evaluation, args.pictures)
    if args.json is not None:
        write_results(args.json, "accuracy", facts | figures | {"worst": worst})
    if worst:
        write_pictures(output / "worst", data, worst, recipe.open())
    print(f"confusion.csv and {len(worst)} pictures of the worst images are in {output}")
    return 0


def _check(args: argparse.Namespace) -> None:
    for option, least in (("threads", 1), ("processes", 1), ("limit", 1), ("pictures", 0)):
        value = getattr(args, option)
        if value is not None and value < least:
            raise OptionError(f"--{option} is {value}, expected at least {least}")
    if args.against and args.backbone is None:
        raise OptionError("--against reference needs --backbone, as it was given to 't2d-export bundle'")


def _data(args: argparse.Namespace) -> DataSet:
    folder = {name: getattr(args, name) for name in ("images", "labels", "classes_file")}
    own = [args.ignore, args.background_label, *folder.values()]
    if args.benchmark is not None:
        if args.data is None or any(value is not None for value in own):
            raise OptionError("--benchmark needs --data, and none of the options for any images with label maps")
        return BENCHMARKS[args.benchmark].open(args.benchmark, args.data, args.limit)
    missing = [f"--{name.replace('_', '-')}" for name, value in folder.items() if value is None]
    if missing:
        raise OptionError(f"expected --benchmark and --data, or {', '.join(missing)} too")
    return folder_data(
        **folder,
        ignored=[255] if args.ignore is None else args.ignore,
        background_label=args.background_label,
        limit=args.limit,
    )


def _recipe(args: argparse.Namespace, data: DataSet) -> tuple[Recipe, dict[str, Any]]:
    """The recipe that labels images, and all settings that decide the figures."""
    threads = args.threads
    if args.processes > 1:  # each has its share
        threads = max(1, (threads or os.cpu_count() or 1) // args.processes)
    segmenter = Segmenter.open(args.bundle, backend=args.backend, precision=args.precision, num_threads=threads)
    recipe = BundleRecipe(
        bundle=args.bundle,
        backend=segmenter.backend_name,
        precision=segmenter.precision,
        num_threads=threads,
        classes=segmenter.encode_classes(data.class_names),
        background=data.background,
        cleaning=data.cleaning,
        refine=args.refine,
    )
    facts = _facts(data, recipe, segmenter)
    if not args.against:
        return recipe, facts
    from benchmarks.accuracy.against_reference import compared

    return compared(recipe, export_settings(args, segmenter.manifest), segmenter), facts | {"against": REFERENCE}


def _facts(data: DataSet, recipe: BundleRecipe, segmenter: Segmenter) -> dict[str, Any]:
    defaults = segmenter.manifest.defaults
    return {
        "benchmark": data.name,
        "data_sha256": data.digest,
        "num_images": len(data.samples),
        "background": data.background,
        "cleaning": "official" if data.cleaning else None,
        "threshold": defaults.threshold if data.background else None,
        "cleaning_weight": defaults.cleaning_weight if data.cleaning else None,
        "refine": recipe.refine,
        "window": "slide",
        "prompts": DEFAULT_PROMPTS,
        "backbone": segmenter.manifest.model.backbone,
        "input_size": segmenter.manifest.model.input_size,
        "model_digest": segmenter.model_digest,
        "graphs_sha256": open_backend(recipe.backend).digests(segmenter.bundle, recipe.precision),
        "vocabulary_sha256": segmenter.vocabulary_digest,
        "backend": segmenter.engine_description,
        "precision": recipe.precision,
    }
