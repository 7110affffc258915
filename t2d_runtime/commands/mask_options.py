"""Arguments of the commands that make masks, and the options of `Segmenter.segment` that they name."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from t2d_runtime.errors import OptionError

if TYPE_CHECKING:
    from t2d_runtime.bundle.manifest import Manifest, PamrSettings
    from t2d_runtime.results.options import SegmentOptions


def add_background(parser: argparse.ArgumentParser) -> None:
    """Add --background."""
    help_text = "add a background, label 0, where no class exceeds the threshold"
    parser.add_argument("--background", action="store_true", help=help_text)


def add_mask_options(parser: argparse.ArgumentParser, *, always_background: bool = False) -> None:
    """Add the options that decide the labels, besides --background, which a command without that option always has."""
    parser.add_argument(
        "--threshold", type=float, metavar="X", help="score above which a class wins, 0 to 1; default: the bundle's"
    )
    parser.add_argument(
        "--cleaning",
        choices=["official", "paper", "off"],
        help=f"background cleaning; default: official{'' if always_background else ' with --background'}",
    )
    parser.add_argument(
        "--cleaning-weight", type=float, metavar="X", help="strength of the cleaning; default: the bundle's"
    )
    parser.add_argument("--refine", action="store_true", help="refine the masks' edges with PAMR")
    parser.add_argument(
        "--pamr-iterations", type=int, metavar="N", help="iterations of --refine; default: the bundle's"
    )
    parser.add_argument(
        "--pamr-dilations",
        metavar="LIST",
        help="distances in pixels of the neighbours that --refine compares, such as 1,2,4,8; default: the bundle's",
    )
    parser.add_argument(
        "--window",
        choices=["slide", "whole"],
        default="slide",
        help="slide (the default): sliding windows, as published; whole: the image as one window",
    )


def check_mask_options(args: argparse.Namespace) -> None:
    """Raises OptionError for options that would have no effect."""
    if args.threshold is not None and not args.background:
        raise OptionError("--threshold has no effect without --background; add that, or leave the threshold out")
    cleans = args.cleaning != "off" if args.cleaning else args.background
    if args.cleaning_weight is not None and not cleans:
        raise OptionError("--cleaning-weight has no effect without --cleaning; add that, or leave the weight out")
    for name, value in (("iterations", args.pamr_iterations), ("dilations", args.pamr_dilations)):
        if value is not None and not args.refine:
            raise OptionError(f"--pamr-{name} has no effect without --refine; add that, or leave the {name} out")


def mask_options(args: argparse.Namespace, manifest: Manifest) -> SegmentOptions:
    """The options of `Segmenter.segment` that the arguments name."""
    return {
        "background": args.background,
        "cleaning": False if args.cleaning == "off" else args.cleaning,
        "threshold": args.threshold,
        "cleaning_weight": args.cleaning_weight,
        "refine": args.refine and _pamr_settings(args, manifest),
        "window": args.window,
    }


def _pamr_settings(args: argparse.Namespace, manifest: Manifest) -> PamrSettings:
    from t2d_runtime.bundle.manifest import PamrSettings

    published = manifest.defaults.pamr
    dilations = published.dilations
    if args.pamr_dilations is not None:
        try:
            dilations = tuple(int(number) for number in args.pamr_dilations.split(","))
        except ValueError as error:
            raise OptionError(
                f"--pamr-dilations is {args.pamr_dilations!r}, expected whole numbers separated by commas: 1,2,4,8"
            ) from error
    return PamrSettings(dilations, published.iterations if args.pamr_iterations is None else args.pamr_iterations)
