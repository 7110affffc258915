"""`t2d selftest`: compare a bundle's stages on this machine with the reference."""

from __future__ import annotations

import argparse

from t2d_runtime.commands.arguments import add_bundle, add_engine_options, add_no_prepack
from t2d_runtime.commands.parity_table import print_verdict
from t2d_runtime.commands.terminal import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_bundle(parser)
    add_engine_options(parser)
    add_no_prepack(parser)


def run(args: argparse.Namespace) -> int:
    """Print every stage's verdict; the status is 1 where one is out of tolerance."""
    from t2d_runtime.proof.selftest import run_selftest
    from t2d_runtime.segmenter import Segmenter

    segmenter = Segmenter.open_unproven(
        args.bundle,
        backend=args.backend,
        precision=args.precision,
        num_threads=args.threads,
        prepack_weights=args.prepack,
    )
    stages = run_selftest(segmenter.encoders)
    say(f"{args.bundle} in {segmenter.precision} on {segmenter.engine_description}")
    return print_verdict(stages)
