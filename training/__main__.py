"""`python -m training COMMAND`: each command is a module with `add_arguments(parser)` and `run(args)`.

A command's module is imported when the command is given, and torch when it runs.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence

from t2d_runtime.commands.argument_parser import ArgumentParser
from t2d_runtime.commands.arguments import add_verbose
from t2d_runtime.commands.running import FAILED_CHECK, NOTHING_DONE, run_command
from t2d_runtime.device.install import needs_extra
from t2d_runtime.errors import NotFiniteError, T2DError

COMMANDS = {
    "scenes": ("training.commands.scenes", "draw scenes with captions and label maps, or clips"),
    "tiny": ("training.commands.tiny", "train the small model from scratch, on drawn scenes"),
    "features": ("training.commands.features", "turn images and captions into head embeddings and text features"),
    "train": ("training.commands.train", "train a projection on features"),
    "evaluate": ("training.commands.evaluate", "measure a projection's retrieval on features"),
    "ablate": ("training.commands.ablate", "train and compare the rows of a table"),
}
"""Command -> its module, one line of help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 for a failed check or items left out, 2 for bad input."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return run_command("training", lambda: _run(given))


def _run(given: list[str]) -> int:
    try:
        with needs_extra("train"):
            args = _parse(given)
        level = logging.INFO if args.verbose else logging.WARNING
        logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
        logging.getLogger("training").setLevel(logging.INFO)
        # Cut captions are counted at the end, not logged for every shard.
        logging.getLogger("t2d_runtime.words.text").setLevel(logging.ERROR)
        with needs_extra("train"):
            return int(importlib.import_module(COMMANDS[args.command][0]).run(args))
    except NotFiniteError as error:
        # Processes that train as one all stop with the same error, so one prints it.
        return _fail(str(error), FAILED_CHECK) if os.environ.get("RANK", "0") == "0" else FAILED_CHECK
    except (T2DError, BrokenPipeError):
        raise  # run_command handles these
    except OSError as error:
        return _fail(f"{error.filename!s:.200}: {error.strerror or error}", NOTHING_DONE)


def _parse(given: list[str]) -> argparse.Namespace:
    parser = ArgumentParser(prog="python -m training", description="Train Talk2DINO projections.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (home, description) in COMMANDS.items():
        command = commands.add_parser(name, help=description, description=description)
        add_verbose(command, default=False)
        if given[:1] == [name]:
            importlib.import_module(home).add_arguments(command)
    return parser.parse_args(given)


def _fail(message: str, status: int) -> int:
    print(f"training: error: {' '.join(message.split())}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
