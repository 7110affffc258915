"""`python -m training COMMAND`: each command is a module with `add_arguments(parser)` and `run(args)`.

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
    "scenes": ("training.drawing.scenes", "draw scenes with captions and label maps"),
    "tiny": ("training.commands.tiny", "train the small model from scratch, on drawn scenes"),
    "features": ("training.commands.features", "images and captions to head embeddings and text features"),
    "train": ("training.commands.train", "train a projection on features"),
    "evaluate": ("training.commands.evaluate", "retrieval of a projection on features"),
    "ablate": ("training.commands.ablate", "train and compare the rows of a table"),
}
"""Command -> its module, one line of help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, or 2 for bad input."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m training", description="Train Talk2DINO projections.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (home, description) in COMMANDS.items():
        command = commands.add_parser(name, help=description, description=description)
        if given[:1] == [name]:
            importlib.import_module(home).add_arguments(command)
    args = parser.parse_args(given)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("training").setLevel(logging.INFO)
    module = importlib.import_module(COMMANDS[args.command][0])
    return run_command("training", lambda: int(module.run(args)))


if __name__ == "__main__":
    sys.exit(main())
