"""`t2d words`: judge words on labelled images, and find a threshold for each class, and one for all."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from t2d_runtime.commands.arguments import (
    add_bundle,
    add_engine_options,
    add_overwrite,
    add_prompts,
    add_words,
    named_path,
)
from t2d_runtime.commands.mask_options import add_mask_options, check_mask_options, mask_options
from t2d_runtime.commands.opening import open_with_words
from t2d_runtime.commands.terminal import complain, say
from t2d_runtime.errors import OptionError

if TYPE_CHECKING:
    from t2d_runtime.commands.label_pairs import LabelledFile
    from t2d_runtime.evaluation.score_samples import LabelledImage
    from t2d_runtime.evaluation.word_report import WordFigures, WordReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_bundle(parser)
    images = "labelled images: files, folders of them, or patterns such as '*.jpg'"
    parser.add_argument("images", nargs="+", metavar="IMAGE|DIR", help=images)
    parser.add_argument("--recursive", action="store_true", help="also search subfolders; --labels has the same ones")
    labels = "folder with a label map for each image, of its name: PNG, TIFF or .npz, as 't2d segment' writes them"
    parser.add_argument("--labels", type=named_path, required=True, metavar="DIR", help=labels)
    names = "names of the label values from 0, a line each, or JSON; default: background, then the classes in order"
    parser.add_argument("--label-names", type=named_path, metavar="F", help=names)
    add_words(parser)
    output = "class file to write, with the thresholds found: text, or JSON where it ends in .json"
    parser.add_argument("--output", type=named_path, metavar="G", help=output)
    add_prompts(parser)
    add_mask_options(parser, always_background=True)
    add_overwrite(parser)
    add_engine_options(parser)


def run(args: argparse.Namespace) -> int:
    """Print the figures of the words, and write the class file where --output says so."""
    from t2d_runtime.commands.inputs import find_images, may_be_folders
    from t2d_runtime.commands.label_pairs import check_label_files, pair_labels
    from t2d_runtime.commands.protection import check_output, files_given
    from t2d_runtime.evaluation.score_samples import pixels_per_image, sample_scores
    from t2d_runtime.evaluation.word_report import judge_words
    from t2d_runtime.words.class_file_writer import write_class_file
    from t2d_runtime.words.class_files import read_class_file

    args.background = True  # thresholds are those of classes against background
    check_mask_options(args)
    if args.recursive and not may_be_folders(args.images):
        raise OptionError("--recursive has no effect without a folder; leave it out")
    if args.overwrite and args.output is None:
        raise OptionError("--overwrite has no effect without --output; leave it out")
    found = find_images(args.images, recursive=args.recursive)
    pairs = pair_labels(found.images, args.labels)
    inputs = [*files_given(args), *(path for pair in pairs for path in pair.files)]
    if args.output is not None:
        check_output(args.output, inputs, args.bundle, overwrite=args.overwrite)
    label_names = None if args.label_names is None else read_class_file(args.label_names).names
    segmenter, classes = open_with_words(args)
    options = mask_options(args, segmenter.manifest)
    segmenter.check_options(classes, **options)
    others = check_label_files(pairs, classes.names, label_names)
    if others:
        say(f"labels that are not classes, counted as background: {', '.join(others)}")
    pixels = pixels_per_image(len(pairs), len(classes.vectors))
    examples = _with_progress(pairs, classes.names, label_names)
    report = judge_words(sample_scores(segmenter, classes, examples, pixels=pixels, **options))
    for line in lines_of(report):
        say(line)
    if report.held_out_mean_iou is not None and report.held_out_mean_iou <= report.mean_iou:
        complain("the thresholds found do not help on images that they were not found on; label more images")
    if args.output is not None:
        check_output(args.output, inputs, args.bundle, overwrite=args.overwrite)
        write_class_file(args.output, report.classes, [_summary(report)], overwrite=args.overwrite)
        say(f"{len(report.classes.names)} classes with their thresholds: {args.output}")
    return 0


def _with_progress(
    pairs: Sequence[LabelledFile], classes: Sequence[str], label_names: Sequence[str] | None
) -> Iterator[LabelledImage]:
    from tqdm import tqdm

    for pair in tqdm(pairs, desc="segmenting images", unit="image", disable=None, leave=False):
        yield pair.load(classes, label_names)


def lines_of(report: WordReport) -> list[str]:
    """The report as text: a line for each class, and one for each phrase where it has several."""
    names = [figures.name for figures in report.figures]
    phrases = [phrase for figures in report.figures for phrase in _several(figures)]
    width = max(len("class"), *map(len, names), *(len(phrase) + 2 for phrase in phrases))
    lines = [f"{'class':{width}}     IoU  threshold   found    IoU"]
    for figures in report.figures:
        found = "      -" if figures.suggested is None else f"{figures.suggested:7.3f}"
        lines.append(
            f"{figures.name:{width}}  {_figure(figures.iou)}    {figures.threshold:7.3f} {found}  "
            f"{_figure(figures.suggested_iou)}"
        )
        for phrase, iou in _several(figures).items():
            lines.append(f"  {phrase:{width - 2}}  {_figure(iou)}  alone")
    one = f"one threshold for all: {report.one_threshold:.3f}, mIoU {report.one_threshold_mean_iou:.3f}"
    return [*lines, _summary(report), one]


def _several(figures: WordFigures) -> dict[str, float]:
    return figures.phrases if len(figures.phrases) > 1 else {}


def _figure(iou: float) -> str:
    return "     -" if math.isnan(iou) else f"{iou:6.3f}"


def _summary(report: WordReport) -> str:
    held_out = "" if report.held_out_mean_iou is None else f", {report.held_out_mean_iou:.3f} on images left out"
    images = "image" if report.num_images == 1 else "images"
    return (
        f"mIoU {report.mean_iou:.3f} as given, {report.suggested_mean_iou:.3f} with the thresholds found{held_out}; "
        f"{report.num_pixels} pixels of {report.num_images} {images}, background counted"
    )
