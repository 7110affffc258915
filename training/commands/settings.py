"""Command-line arguments for the fields of a configuration, with its defaults, and the configuration from them."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

from training.config import FeatureConfig, TrainConfig

Config = TypeVar("Config", FeatureConfig, TrainConfig)


def add_choice(
    parser: argparse.ArgumentParser, config: type[Config], flag: str, choices: Sequence[str], meaning: str = ""
) -> None:
    """Add an argument for a field with a few allowed names."""
    described = f"{meaning} (default: %(default)s)".strip()
    parser.add_argument(flag, choices=choices, default=_default(config, flag), help=described)


def add_number(parser: argparse.ArgumentParser, config: type[Config], flag: str, meaning: str = "") -> None:
    """Add an argument for a number, of the type of its default."""
    default = _default(config, flag)
    described = f"{meaning} (default: %(default)s)".strip()
    parser.add_argument(flag, type=type(default), default=default, metavar="N", help=described)


def config_from(config: type[Config], args: argparse.Namespace) -> Config:
    """The configuration with the fields in `args`. Raises OptionError."""
    names = {field.name for field in dataclasses.fields(config)}
    return config(**{name: value for name, value in vars(args).items() if name in names})


def _default(config: type[Config], flag: str) -> Any:
    return getattr(config, flag.removeprefix("--").replace("-", "_"))
