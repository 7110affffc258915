"""Speed of training, compared with the released code, and of feature extraction, compared with the bare encoder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.results_file import write_results
from benchmarks.training import extraction, steps
from t2d_runtime.errors import OptionError

PARTS = {"steps": steps, "extraction": extraction}
"""Modules with `add_arguments`, `check`, `measure` and `blocks`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `python -m benchmarks training`."""
    parser.add_argument("--parts", default=",".join(PARTS), metavar="LIST", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=2, help="threads of each contender (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="F", help="save the figures")
    for name, part in PARTS.items():
        part.add_arguments(parser.add_argument_group(name))


def run(args: argparse.Namespace) -> int:
    """Print each part's figures."""
    chosen = args.parts.split(",")
    if min(args.rounds, args.threads) < 1 or not set(chosen) <= set(PARTS):
        raise OptionError(f"expected at least one round and one thread, and --parts of {','.join(PARTS)}")
    for name in chosen:
        PARTS[name].check(args)
    figures: dict[str, Any] = {}
    for name in chosen:
        figures[name] = PARTS[name].measure(args)
        print(*PARTS[name].blocks(figures[name]), sep="\n")
        if args.json is not None:
            write_results(args.json, "training", figures)
    return 0
