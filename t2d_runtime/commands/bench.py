"""`t2d bench`: measure a bundle's speed on this machine, or compare two machines."""

from __future__ import annotations

import argparse

from t2d_runtime.commands.arguments import (
    add_bundle,
    add_engine_options,
    add_overwrite,
    add_postprocess,
    add_words,
    named_path,
)
from t2d_runtime.commands.terminal import say
from t2d_runtime.errors import OptionError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_bundle(parser, nargs="?")
    parser.add_argument(
        "--image",
        type=named_path,
        metavar="F",
        help="image to measure on; default: the picture of the bundle's self-test",
    )
    add_words(parser, vocabulary=True, required=False, default="those of the self-test")
    parser.add_argument(
        "--window", choices=["slide", "whole"], help="sliding windows, or the image as one window; default: slide"
    )
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="rounds over all stages; default: 20")
    parser.add_argument("--starts", type=int, default=3, metavar="N", help="timed starts of a program; default: 3")
    parser.add_argument("--json", type=named_path, metavar="F", help="save the figures and facts about the machine")
    parser.add_argument(
        "--compare", type=named_path, nargs=2, metavar=("A.json", "B.json"), help="compare two saved results"
    )
    add_overwrite(parser)
    add_engine_options(parser)
    add_postprocess(parser)


def run(args: argparse.Namespace) -> int:
    """Print the tables, and write the figures where --json says so."""
    if (args.bundle is None) == (args.compare is None):
        raise OptionError("expected a BUNDLE to measure, or --compare with two files that 't2d bench --json' wrote")
    if args.overwrite and args.json is None:
        raise OptionError("--overwrite has no effect without --json; leave it out")
    return _measure(args) if args.compare is None else _compare(args)


def _measure(args: argparse.Namespace) -> int:
    from t2d_runtime.bench.bench_table import lines_of
    from t2d_runtime.bench.measure import BenchSettings, measure
    from t2d_runtime.commands.opening import listed_classes
    from t2d_runtime.commands.protection import check_output, files_given

    if args.json is not None:
        check_output(args.json, files_given(args), args.bundle, overwrite=args.overwrite)
    settings = BenchSettings(
        bundle=args.bundle,
        image=args.image,
        classes=listed_classes(args),
        vocabulary=args.vocabulary,
        window=args.window or "slide",
        postprocess=args.postprocess,
        backend=args.backend,
        precision=args.precision,
        num_threads=args.threads,
        rounds=args.rounds,
        starts=args.starts,
    )
    result = measure(settings)
    for line in lines_of(result):
        say(line)
    if args.json is not None:
        check_output(args.json, files_given(args), args.bundle, overwrite=args.overwrite)
        result.save(args.json)
    return 0


def _compare(args: argparse.Namespace) -> int:
    from t2d_runtime.bench.bench_table import comparison

    for name in ("image", "classes", "classes_file", "vocabulary", "window", "json"):
        if getattr(args, name) is not None:
            raise OptionError(
                f"--{name.replace('_', '-')} has no effect with --compare, which measures nothing; leave it out"
            )
    for line in comparison(*args.compare):
        say(line)
    return 0
