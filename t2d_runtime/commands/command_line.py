"""The commands of `t2d`, a line each, and the parser of their command line."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from typing import Any, Protocol

from t2d_runtime import __version__
from t2d_runtime.commands.argument_parser import ArgumentParser
from t2d_runtime.commands.arguments import add_verbose
from t2d_runtime.commands.running import EXIT_STATUSES

COMMANDS = {
    "segment": ("t2d_runtime.commands.segment", "label the pixels of images with words"),
    "video": ("t2d_runtime.commands.video", "label the frames of videos, cameras and folders with words"),
    "classes": ("t2d_runtime.commands.classes", "precompute a vocabulary, so that no text is encoded later"),
    "words": ("t2d_runtime.commands.words", "judge words on labelled images, and find a threshold for each class"),
    "compare": ("t2d_runtime.commands.compare", "compare label maps: agreement, IoU, and where they part"),
    "serve": ("t2d_runtime.commands.serve", "answer requests over HTTP, with a page to try it"),
    "triton": ("t2d_runtime.commands.triton", "write a model repository for NVIDIA's Triton Inference Server"),
    "cluster": ("t2d_runtime.commands.cluster", "label many pictures on a Ray cluster, into a Parquet dataset"),
    "pull": ("t2d_runtime.commands.pull", "get a bundle from a hub, only the files that a precision needs"),
    "push": ("t2d_runtime.commands.push", "put a bundle on a hub, with a model card made of its manifest"),
    "info": ("t2d_runtime.commands.info", "show what a bundle holds and where it runs"),
    "selftest": ("t2d_runtime.commands.selftest", "compare a bundle's stages on this machine with the reference"),
    "bench": ("t2d_runtime.commands.bench", "measure a bundle's speed on this machine, or compare two machines"),
    "doctor": ("t2d_runtime.commands.doctor", "show what is installed, what runs here, and how to repair the rest"),
}
"""Command -> its module, as `Command` describes it, and one line of help."""


EXAMPLES = f"""\
examples:
  t2d segment bundle photo.jpg --classes "cat,grass" --background --refine
  t2d video bundle clip.mp4 --classes "road,car" --output overlay.mp4
  t2d serve bundle

't2d-export bundle' makes a bundle; hf://ORG/BUNDLE names one on a hub. 't2d COMMAND --help' lists a command's options.
{EXIT_STATUSES}"""


class Command(Protocol):
    """The module of a command. It is imported when the command is given, and imports NumPy and engines in `run`."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's arguments."""

    def run(self, args: argparse.Namespace) -> int:
        """Run the command; returns the exit status."""


class _CommandParser(ArgumentParser):
    """The parser of one command. Its arguments are declared only when they are read."""

    home: str | None = None

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        if self.home is not None:
            home, self.home = self.home, None
            importlib.import_module(home).add_arguments(self)
            add_verbose(self, default=argparse.SUPPRESS)  # keeps a -v given before the command
        return super().parse_known_args(args, namespace)


def build_parser() -> argparse.ArgumentParser:
    """The command line of `t2d`."""
    parser = ArgumentParser(
        prog="t2d",
        description="Segment images by any words you type, without PyTorch.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"t2d-runtime {__version__}")
    add_verbose(parser, default=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_CommandParser)
    for name, (home, description) in COMMANDS.items():
        commands.add_parser(name, help=description, description=description).home = home
    return parser


def command_of(name: str) -> Command:
    """The module of a command."""
    return importlib.import_module(COMMANDS[name][0])
