"""`python -m training train`."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import get_args

from training.config import (
    SELECTIONS,
    Loss,
    Optimizer,
    ProjectionKind,
    Schedule,
    TextInput,
    TrainConfig,
)

DEFAULTS = {field.name: field.default for field in dataclasses.fields(TrainConfig)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `python -m training train`; the defaults are the published ones."""
    parser.add_argument("--features", type=Path, required=True, metavar="DIR", help="made by 'features'")
    parser.add_argument("--validation", type=Path, metavar="DIR", help="features of other images, for the best epoch")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="one that was begun is gone on with")
    add_settings(parser)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """The settings that `train` and `ablate` share."""
    choice(parser, "--selection", SELECTIONS, "how heads (and tokens) become a score")
    choice(parser, "--projection", get_args(ProjectionKind), "which side is projected")
    choice(parser, "--text-input", get_args(TextInput), "what stands for a text")
    choice(parser, "--loss", get_args(Loss), "")
    choice(parser, "--optimizer", get_args(Optimizer), "")
    choice(parser, "--schedule", get_args(Schedule), "")
    number(parser, "--learning-rate", float)
    number(parser, "--weight-decay", float)
    number(parser, "--warmup-steps", int)
    number(parser, "--batch-size", int)
    number(parser, "--epochs", int)
    number(parser, "--seed", int)
    parser.add_argument(
        "--plain-loss",
        dest="over_batch_squared",
        action="store_false",
        help="do not divide the loss by the batch size squared, as the released code does",
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")


def choice(parser: argparse.ArgumentParser, flag: str, choices: tuple[str, ...], meaning: str) -> None:
    """A setting of a few names, its default that of `TrainConfig`."""
    default = DEFAULTS[flag.removeprefix("--").replace("-", "_")]
    parser.add_argument(flag, choices=choices, default=default, help=f"{meaning} (default: %(default)s)".strip())


def number(parser: argparse.ArgumentParser, flag: str, kind: type[int] | type[float]) -> None:
    """A numeric setting, its default that of `TrainConfig`."""
    default = DEFAULTS[flag.removeprefix("--").replace("-", "_")]
    parser.add_argument(flag, type=kind, default=default, metavar="N", help="default: %(default)s")


def run(args: argparse.Namespace) -> int:
    """Train a projection."""
    names = {field.name for field in dataclasses.fields(TrainConfig)}
    config = TrainConfig(**{name: value for name, value in vars(args).items() if name in names})
    from training.train import train

    train(config)
    return 0
