"""`python -m training tiny`: train the small model from scratch in one command."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from pathlib import Path

from t2d_runtime.errors import OptionError
from training.config import check_seed
from training.small.settings import QUICK, TinySettings

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `python -m training tiny`."""
    parser.add_argument("--output", type=Path, required=True, help="folder to write; it must not exist")
    parser.add_argument(
        "--seed", type=int, default=0, help="of weights, batches and augmentation (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, help="steps of pre-training (default: those of the committed model)")
    parser.add_argument("--quick", action="store_true", help="run a few steps on a few scenes, as a test")


def run(args: argparse.Namespace) -> int:
    """Run `python -m training tiny`."""
    check_seed(args.seed)
    settings = QUICK if args.quick else TinySettings()
    if args.steps is not None:
        if args.steps < 1:
            raise OptionError(f"--steps is {args.steps}, expected at least 1")
        settings = dataclasses.replace(settings, pretrain=dataclasses.replace(settings.pretrain, steps=args.steps))
    from training.small.chain import train_tiny

    validation = train_tiny(args.output, settings, args.seed)
    logger.info("validation: %s", validation)
    return 0
