"""`t2d doctor`: what is installed, what runs here, and how to repair what does not; the fastest engine for a bundle."""

from __future__ import annotations

import argparse

from t2d_runtime.commands.arguments import add_json, bundle_name
from t2d_runtime.commands.terminal import say, say_json
from t2d_runtime.errors import OptionError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--measure",
        type=bundle_name,
        metavar="BUNDLE",
        help="time every installed engine with a bundle, about 10 s for each precision, and remember the fastest for "
        "--backend auto and --precision fast",
    )
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="CPU threads to measure with; default: the variable T2D_NUM_THREADS, else the engine's choice",
    )
    add_json(parser, "the report")


def run(args: argparse.Namespace) -> int:
    """Print the report, or measure; the status is 1 where an engine fails its self-test."""
    if args.measure is not None:
        if args.json:
            raise OptionError("--json has no effect with --measure, which prints a table; leave it out")
        from t2d_runtime.commands.measuring import measure_engines

        return measure_engines(args.measure, args.threads)
    if args.threads is not None:
        raise OptionError("--threads has no effect without --measure; leave it out")
    from t2d_runtime.commands.installation import examine, facts_here

    if args.json:
        say_json(facts_here())
        return 0
    for line in examine():
        say(line)
    return 0
