"""`python -m benchmarks COMMAND`: each command is a module with `add_arguments(parser)` and `run(args)`.

A command's module is imported when it is asked for, and torch when it runs.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence

from t2d_runtime.cli import run_command

COMMANDS = {
    "latency": (
        "benchmarks.latency.command",
        "milliseconds of a bundle against PyTorch in one run: stages, encoders, sweeps, the machine's floor",
    ),
    "pipeline": (
        "benchmarks.pipeline",
        "the runtime against PyTorch and its bars: encoders, windows, words, memory, cold start, size",
    ),
    "parity": (
        "benchmarks.parity.command",
        "every stage of reference and bundle against golden files of the authors' code",
    ),
    "engines": (
        "benchmarks.engines.command",
        "precision x backend on this machine: size, load time, latency, parity, labels; TensorRT builds",
    ),
    "scenes": ("benchmarks.scenes", "mIoU of a bundle on held-out drawn scenes"),
    "accuracy": (
        "benchmarks.accuracy",
        "mIoU of a bundle on the published benchmarks, or on any folder; against PyTorch too",
    ),
    "figures": (
        "benchmarks.figures.command",
        "the paper's figures for any bundle and image: attention, chosen heads, cleaning, overlays, parameters",
    ),
    "extraction_speed": (
        "benchmarks.extraction_speed",
        "images a second of feature extraction against the bare encoder",
    ),
    "report": ("benchmarks.report", "all result files as one page, in HTML and Markdown, and the README's table"),
    "training_speed": (
        "benchmarks.training_speed.command",
        "an epoch of training against a DataLoader over samples in a list, as released",
    ),
}
"""Command -> its module, one line of help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 for a failed check, 2 for bad input."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (home, description) in COMMANDS.items():
        command = commands.add_parser(name, help=description, description=description)
        if given[:1] == [name]:
            importlib.import_module(home).add_arguments(command)
    args = parser.parse_args(given)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    module = importlib.import_module(COMMANDS[args.command][0])
    return run_command("benchmarks", lambda: int(module.run(args)))


if __name__ == "__main__":
    sys.exit(main())
