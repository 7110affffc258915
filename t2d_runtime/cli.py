"""The command `t2d`: segment images, precompute vocabularies, inspect and test bundles."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from t2d_runtime.commands.command_line import build_parser, command_of
from t2d_runtime.commands.running import run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status.

    0 done, 1 a check or some items of many failed, 2 nothing could be done.
    """
    return run_command("t2d", lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    args = build_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO if args.verbose else logging.WARNING, format="%(message)s")
    return command_of(args.command).run(args)
