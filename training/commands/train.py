"""`python -m training train`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from training.commands.settings import add_choice, add_number, config_from
from training.config import SELECTIONS, Loss, Optimizer, ProjectionKind, Schedule, TextInput, TrainConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `python -m training train`; the defaults are the published ones."""
    parser.add_argument("--features", type=Path, required=True, metavar="DIR", help="made by 'features'")
    parser.add_argument(
        "--validation", type=Path, metavar="DIR", help="features of other images, to find the best epoch"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="output folder; an interrupted run is continued"
    )
    add_settings(parser)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Declare the settings that `train` and `ablate` share."""
    add_choice(parser, TrainConfig, "--selection", SELECTIONS, "how heads (and tokens) give a score")
    add_choice(parser, TrainConfig, "--projection", get_args(ProjectionKind), "the projected side")
    add_choice(parser, TrainConfig, "--text-input", get_args(TextInput), "the vectors of a text")
    add_choice(parser, TrainConfig, "--loss", get_args(Loss))
    add_choice(parser, TrainConfig, "--optimizer", get_args(Optimizer))
    add_choice(parser, TrainConfig, "--schedule", get_args(Schedule))
    add_number(parser, TrainConfig, "--learning-rate")
    add_number(parser, TrainConfig, "--weight-decay", "of adamw")
    add_number(parser, TrainConfig, "--warmup-steps")
    add_number(parser, TrainConfig, "--batch-size", "over all processes")
    add_number(parser, TrainConfig, "--epochs")
    add_number(parser, TrainConfig, "--seed")
    parser.add_argument(
        "--plain-loss",
        dest="over_batch_squared",
        action="store_false",
        help="do not divide the loss by the batch size squared, as the released code does",
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")


def run(args: argparse.Namespace) -> int:
    """Train a projection."""
    config = config_from(TrainConfig, args)
    from training.run.train import train

    train(config)
    return 0
