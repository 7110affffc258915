"""`python -m benchmarks COMMAND`: each command is a folder with a `command.py`.

That module has `add_arguments(parser)` and `run(args)`. It is imported when the command is given, and torch when it
runs.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence
from typing import Any

from t2d_runtime.commands.running import run_command
from t2d_runtime.device.install import needs_extra

COMMANDS = {
    "latency": "time, memory and size of a bundle against PyTorch in one run: stages, engines, starts, windows, sweeps",
    "parity": "every stage of reference and bundle against golden files of the authors' code",
    "engines": "precision x backend on this machine: size, load time, latency, parity, labels; TensorRT builds",
    "scenes": "mIoU of a bundle on held-out drawn scenes",
    "accuracy": "mIoU of a bundle on the published benchmarks, or on any folder; against PyTorch too",
    "figures": "the paper's figures for any bundle and image: attention, chosen heads, cleaning, overlays, parameters",
    "training": "speed of training against the released way, and of the extraction of features",
    "emulated": "the runtime's tests and a picture's labels on a processor that is not at hand, under an emulator",
    "report": "all result files as one page, in HTML and Markdown, and the README's table",
}
"""Command -> one line of help; its module is `benchmarks.COMMAND.command`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 for a failed check, 2 for bad input."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return run_command("benchmarks", lambda: _run(given))


@needs_extra("bench")
def _run(given: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, description in COMMANDS.items():
        command = commands.add_parser(name, help=description, description=description)
        if given[:1] == [name]:
            _module(name).add_arguments(command)
    args = parser.parse_args(given)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    return int(_module(args.command).run(args))


def _module(command: str) -> Any:
    return importlib.import_module(f"benchmarks.{command}.command")


if __name__ == "__main__":
    sys.exit(main())
