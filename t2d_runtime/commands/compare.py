"""`t2d compare`: two label maps, or two folders of them: agreement, IoU, and where they part."""

from __future__ import annotations

import argparse
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from t2d_runtime.commands.arguments import add_json, add_overwrite, named_path
from t2d_runtime.commands.running import FAILED_CHECK, SOME_FAILED
from t2d_runtime.commands.terminal import complain, say, say_json
from t2d_runtime.errors import DataError, OptionError, T2DError
from t2d_runtime.storage.kinds import is_folder

if TYPE_CHECKING:
    from t2d_runtime.evaluation.comparison import Comparison

NAMES_SHOWN = 5
"""Names of files without a partner that are printed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    files = "label map, PNG, TIFF or .npz, as 't2d segment' writes them; or a folder, of which files pair by name"
    parser.add_argument("first", type=named_path, metavar="A", help=files)
    parser.add_argument("second", type=named_path, metavar="B", help="the same, to compare A with")
    parser.add_argument(
        "--min-agreement", type=float, default=1.0, metavar="X", help="least share of equal pixels; default: 1"
    )
    output = "picture of the difference to write: a PNG file, or a folder where A and B are folders"
    parser.add_argument("--output", type=named_path, metavar="F", help=output)
    add_json(parser, "the figures")
    add_overwrite(parser)


def run(args: argparse.Namespace) -> int:
    """Compare; the status is 1 below --min-agreement, or where files of a folder have no partner or cannot be read."""
    from t2d_runtime.evaluation.comparison import together

    if not 0 <= args.min_agreement <= 1:
        raise OptionError(f"--min-agreement is {args.min_agreement}, expected a number from 0 to 1")
    if args.overwrite and args.output is None:
        raise OptionError("--overwrite has no effect without --output; leave it out")
    if is_folder(args.first) != is_folder(args.second):
        raise OptionError("one of A and B is a folder; expected two folders, or two files")
    pairs, unpaired = _pairs(args.first, args.second)
    _check_outputs(args, pairs)
    compared: dict[str, Comparison] = {}
    failed: dict[str, str] = {}
    for name, (first, second) in pairs.items():
        try:
            compared[str(name)] = _compare(args, name, first, second)
        except T2DError as error:
            if not is_folder(args.first) or isinstance(error, OSError):
                raise
            failed[str(name)] = str(error)
            complain(f"{name} failed: {error}")
    if not compared:
        raise DataError(f"none of the {len(pairs)} pairs could be compared")
    total = together(compared.values())
    if args.json:
        say_json(_content(total, compared, unpaired, failed))
    else:
        for line in lines_of(total, len(compared)):
            say(line)
    if args.output is not None and not args.json:
        say(f"    {args.output}")
    for side, names in zip((args.first, args.second), unpaired, strict=True):
        if names:
            more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
            complain(f"only in {side}: {', '.join(names[:NAMES_SHOWN])}{more}")
    if total.agreement < args.min_agreement:
        return FAILED_CHECK
    return SOME_FAILED if failed or any(unpaired) else 0


def _pairs(first: Path, second: Path) -> tuple[dict[PurePath, tuple[Path, Path]], tuple[list[str], list[str]]]:
    """Name -> both files, and the names without a partner on each side. Raises DataError where nothing pairs."""
    from t2d_runtime.commands.label_pairs import find_label_files

    if not is_folder(first):
        return {PurePath(first.name): (first, second)}, ([], [])
    ours, theirs = find_label_files(first), find_label_files(second)
    pairs = {name: (path, theirs[name]) for name, path in ours.items() if name in theirs}
    if not pairs:
        raise DataError(
            f"{first} and {second} have no label maps of the same name ({len(ours)} and {len(theirs)} label maps); "
            "expected PNG, TIFF or .npz files"
        )
    alone = ([str(name) for name in ours if name not in theirs], [str(name) for name in theirs if name not in ours])
    return pairs, alone


def _check_outputs(args: argparse.Namespace, pairs: dict[PurePath, tuple[Path, Path]]) -> None:
    """Raises OutputError where a picture must not be written."""
    from t2d_runtime.commands.protection import Inputs
    from t2d_runtime.storage.own_files import refuse_foreign

    if args.output is None:
        return
    inputs = Inputs([path for pair in pairs.values() for path in pair])
    for name in pairs:
        inputs.refuse(_picture_path(args, name))
        refuse_foreign(_picture_path(args, name), overwrite=args.overwrite)


def _picture_path(args: argparse.Namespace, name: PurePath) -> Path:
    output: Path = args.output
    return output / name.parent / f"{name.name}.diff.png" if is_folder(args.first) else output


def _compare(args: argparse.Namespace, name: PurePath, first: Path, second: Path) -> Comparison:
    from PIL import Image

    from t2d_runtime.evaluation.comparison import compare, difference_picture
    from t2d_runtime.evaluation.label_files import read_labels
    from t2d_runtime.results.formats.own_png import save_png
    from t2d_runtime.storage.own_files import own_file

    files = read_labels(first), read_labels(second)
    comparison = compare(*files, name=str(name))
    if args.output is not None:
        with own_file(_picture_path(args, name), overwrite=args.overwrite) as file:
            save_png(Image.fromarray(difference_picture(*files)), file)
    return comparison


def lines_of(total: Comparison, num_pairs: int) -> list[str]:
    """A comparison as text."""
    maps = f"{num_pairs} pairs of label maps, " if num_pairs > 1 else ""
    lines = [f"agreement {total.agreement:.6f}: {maps}{total.different} of {total.pixels} pixels differ"]
    width = max(5, *(len(label.name) for label in total.figures))
    lines.append(f"{'label':{width}}     IoU  pixels in A  pixels in B")
    lines += [
        f"{label.name:{width}}  {label.iou:6.4f}  {label.pixels[0]:11}  {label.pixels[1]:11}" for label in total.figures
    ]
    lines.append(f"mIoU {total.mean_iou:.4f}")
    for area in total.areas:
        left, top, right, bottom = area.box
        where = f"{area.file}: " if num_pairs > 1 else ""
        lines.append(
            f"{where}{area.pixels} pixels differ in columns {left} to {right - 1}, rows {top} to {bottom - 1}: "
            f"{area.first} in A, {area.second} in B"
        )
    return lines


def _content(
    total: Comparison, compared: dict[str, Comparison], unpaired: tuple[list[str], list[str]], failed: dict[str, str]
) -> dict[str, Any]:
    return {
        "agreement": total.agreement,
        "mean_iou": total.mean_iou,
        "pixels": total.pixels,
        "different": total.different,
        "labels": [{"name": label.name, "iou": label.iou, "pixels": label.pixels} for label in total.figures],
        "areas": [
            {"file": area.file, "box": area.box, "pixels": area.pixels, "labels": (area.first, area.second)}
            for area in total.areas
        ],
        "files": {name: {"agreement": one.agreement, "mean_iou": one.mean_iou} for name, one in compared.items()},
        "only_in": {"A": unpaired[0], "B": unpaired[1]},
        "failed": failed,
    }
