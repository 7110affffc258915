"""`t2d doctor`: what is installed, what runs here, and how to repair what does not."""

from __future__ import annotations

import argparse

from t2d_runtime.commands.terminal import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare no arguments: the command examines the machine."""


def run(args: argparse.Namespace) -> int:
    """Print the report."""
    from t2d_runtime.commands.installation import examine

    for line in examine():
        say(line)
    return 0
