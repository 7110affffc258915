"""`t2d segment`: label the pixels of images with words."""

from __future__ import annotations

import argparse
import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

from t2d_runtime.commands.arguments import (
    add_bundle,
    add_engine_options,
    add_overwrite,
    add_postprocess,
    add_prompts,
    add_words,
    named_path,
)
from t2d_runtime.commands.mask_options import add_background, add_mask_options, check_mask_options, mask_options
from t2d_runtime.commands.opening import open_with_words
from t2d_runtime.commands.running import NOTHING_DONE, SOME_FAILED, status_of_batch
from t2d_runtime.commands.terminal import complain, say
from t2d_runtime.errors import ITEM_ERRORS, ImageError, OptionError, OutputError, T2DError
from t2d_runtime.results.formats import DEFAULT_FORMATS, FORMATS, OutputOptions

if TYPE_CHECKING:
    from t2d_runtime.commands.segment_files import PlannedImage, SegmentedFile
    from t2d_runtime.results.options import SegmentOptions
    from t2d_runtime.results.outputs import ResultWriter
    from t2d_runtime.segmenter import Segmenter
    from t2d_runtime.words.vocabulary import ClassEmbeddings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_bundle(parser)
    images = "files, folders of them, patterns such as '*.jpg', or - for one image from standard input"
    parser.add_argument("images", nargs="+", metavar="IMAGE|DIR|-", help=images)
    parser.add_argument("--recursive", action="store_true", help="also search subfolders; the output has the same ones")
    add_words(parser, vocabulary=True)
    add_prompts(parser)
    add_background(parser)
    add_mask_options(parser)
    _add_output_options(parser)
    add_engine_options(parser)
    add_postprocess(parser)


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    formats = "; ".join(f"{name}: {found.description}" for name, found in FORMATS.items())
    default = ",".join(DEFAULT_FORMATS)
    parser.add_argument(
        "--output", type=named_path, default=Path("output"), metavar="DIR", help="output folder; default: output"
    )
    parser.add_argument(
        "--format",
        default=default,
        metavar="LIST",
        help=f"files to write, separated by commas. {formats}; default: {default}",
    )
    scored = ", ".join(name for name, found in FORMATS.items() if found.mean_scores)
    parser.add_argument(
        "--confidence", action="store_true", help=f"keep each pixel's winning score, and write mean scores: in {scored}"
    )
    parser.add_argument("--no-legend", action="store_true", help="leave the legend out of overlays")
    parser.add_argument(
        "--font",
        type=named_path,
        metavar="F",
        help="font of the legend; default: an installed one that has the letters",
    )
    add_overwrite(parser)


def run(args: argparse.Namespace) -> int:
    """Segment the images, a line or three for each; the status is 1 where some failed, 2 where all did."""
    from t2d_runtime.commands.inputs import find_images
    from t2d_runtime.commands.protection import Inputs, check_folder, files_given
    from t2d_runtime.commands.segment_files import plan_outputs
    from t2d_runtime.results.outputs import ResultWriter, formats_of

    formats = formats_of(args.format)
    _check_effects(args, {found.name for found in formats})
    drawing = OutputOptions(legend=not args.no_legend, font=args.font)
    writer = ResultWriter(args.output, formats, drawing, overwrite=args.overwrite)
    found = find_images(args.images, recursive=args.recursive)
    if found.left_out_line():
        say(found.left_out_line())
    read = [image.path for image in found.images if image.path is not None]
    inputs = Inputs([*read, *files_given(args)], args.bundle)
    planned = plan_outputs(found.images, writer, inputs, overwrite=args.overwrite)
    check_folder(args.output)
    if all(item.image.problem for item in planned):
        return _tell_problems(planned)
    segmenter, classes = open_with_words(args)
    options = mask_options(args, segmenter.manifest)
    options["keep_confidence"] = args.confidence
    segmenter.check_options(classes, **options)
    status = NOTHING_DONE
    try:
        with writer:
            status = _segment_all(segmenter, planned, classes, writer, options)
    except OutputError as error:
        if status == NOTHING_DONE:
            raise
        complain(str(error))  # about a file of the whole run; the images' own files are written
        return SOME_FAILED
    for path in writer.paths_of_run:
        say(f"    {path}")
    return status


def _tell_problems(planned: list[PlannedImage]) -> int:
    """Print why none of the images can be segmented, without opening the bundle."""
    problems = [item.image.problem for item in planned if item.image.problem is not None]
    if len(problems) == 1:
        raise problems[0]
    for number, (item, problem) in enumerate(zip(planned, problems, strict=True), start=1):
        _tell_failure(number, len(planned), item, problem)
    raise ImageError(f"none of the {len(planned)} images could be segmented")


def _tell_failure(number: int, count: int, item: PlannedImage, error: BaseException) -> None:
    reason = str(error) if isinstance(error, T2DError) else f"{type(error).__name__}: {error}"
    complain(f"[{number}/{count}] {item.image} failed: {reason}")


def _check_effects(args: argparse.Namespace, formats: set[str]) -> None:
    """Raises OptionError for options that would have no effect."""
    from t2d_runtime.commands.inputs import may_be_folders

    check_mask_options(args)
    if args.recursive and not may_be_folders(args.images):
        raise OptionError("--recursive has no effect without a folder; leave it out")
    if args.confidence and not any(FORMATS[name].mean_scores for name in formats):
        scored = ", ".join(name for name, found in FORMATS.items() if found.mean_scores)
        raise OptionError(f"--confidence has no effect without --format {scored}; add one of them, or leave it out")
    if args.no_legend and "overlay" not in formats:
        raise OptionError("--no-legend has no effect without --format overlay; add that, or leave it out")
    if args.font is not None:
        if args.no_legend or "overlay" not in formats:
            raise OptionError("--font has no effect without an overlay's legend; leave the font out")
        from t2d_runtime.results.fonts import opened_font

        opened_font(args.font, 12)


def _segment_all(
    segmenter: Segmenter,
    planned: list[PlannedImage],
    classes: ClassEmbeddings,
    writer: ResultWriter,
    options: SegmentOptions,
) -> int:
    from t2d_runtime.commands.segment_files import segment_files

    start, failed, count = time.perf_counter(), 0, len(planned)
    # Closed on an interrupt too, so that files being written are whole or gone.
    with contextlib.closing(segment_files(segmenter, planned, classes, writer, **options)) as files:
        for number, (done, wanted) in enumerate(zip(files, planned, strict=True), start=1):
            error = done.exception()
            if error is None:
                print_segmented(done.result(), f"[{number}/{count}]")
            elif count == 1 or not isinstance(error, ITEM_ERRORS):
                raise error
            else:
                failed += 1
                _tell_failure(number, count, wanted, error)
    if count > 1:
        seconds = time.perf_counter() - start
        rate = f" in {seconds:.1f} s: {(count - failed) / seconds:.2f} images a second"
        say(f"{count - failed} of {count} images segmented{rate}{f'; {failed} failed' if failed else ''}")
    if failed == count:
        raise ImageError(f"none of the {count} images could be segmented")
    return status_of_batch(count - failed, failed)


def print_segmented(file: SegmentedFile, number: str) -> None:
    """Print one image's result: its size, times, labels by area, and the files written."""
    say(
        f"{number} {file.image}: {file.summary['width']} x {file.summary['height']} pixels, "
        f"encoded in {file.encode_ms:.0f} ms, segmented in {file.segment_ms:.0f} ms"
    )
    labels = sorted(file.summary["labels"], key=lambda label: -label["pixels"])
    say("    " + ", ".join(f"{label['name']} {label['share']:.1%}" for label in labels if label["pixels"]))
    for written in file.written:
        say(f"    {written}")
