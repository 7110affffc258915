"""`python -m benchmarks COMMAND`: each command is a folder with a `command.py`.

That module has `add_arguments(parser)` and `run(args)`. It is imported when the command is given, and torch when it
runs.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Sequence
from typing import Any

from t2d_runtime.commands.argument_parser import ArgumentParser
from t2d_runtime.commands.arguments import add_verbose
from t2d_runtime.commands.running import run_command
from t2d_runtime.device.install import needs_extra

COMMANDS = {
    "latency": "compare a bundle's time, memory and size with PyTorch: stages, engines, starts, windows, sweeps",
    "parity": "compare every stage of reference and bundle with golden files of the authors' code",
    "engines": "measure every precision on every backend: size, load time, latency, parity, labels; TensorRT builds",
    "gpu": "prove and time everything on an NVIDIA GPU, against PyTorch there; says so where there is none",
    "scenes": "measure a bundle's mIoU on held-out drawn scenes",
    "accuracy": "measure a bundle's mIoU on the published benchmarks or any folder; also compare it with PyTorch",
    "figures": "draw the paper's figures for any bundle and image: attention, heads, cleaning, overlays, parameters",
    "pictures": "make the pictures of docs/ by the code that stands above them",
    "shapes": "measure time and memory of run-length codes, polygons, overlays and summaries of large pictures",
    "training": "measure the speed of training, against the released code, and of feature extraction",
    "emulated": "run the runtime's tests, and compare a picture's labels, on another processor under an emulator",
    "video": "measure the rate of a video to an overlay against its stages, and long runs: memory, live sources",
    "serve": "load `t2d serve` with clients, a crowd and hostile requests; compare its throughput with segment_batch",
    "report": "write all result files as one page, in HTML and Markdown, and the README's table",
}
"""Command -> one line of help; its module is `benchmarks.COMMAND.command`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 for a failed check, 2 for bad input."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return run_command("benchmarks", lambda: _run(given))


@needs_extra("bench")
def _run(given: list[str]) -> int:
    parser = ArgumentParser(prog="python -m benchmarks", description="Measure and compare t2d-runtime.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, description in COMMANDS.items():
        command = commands.add_parser(name, help=description, description=description)
        add_verbose(command, default=False)
        if given[:1] == [name]:
            _module(name).add_arguments(command)
    args = parser.parse_args(given)
    logging.basicConfig(level=logging.INFO if args.verbose else logging.WARNING, format="%(message)s")
    return int(_module(args.command).run(args))


def _module(command: str) -> Any:
    return importlib.import_module(f"benchmarks.{command}.command")


if __name__ == "__main__":
    sys.exit(main())
