"""`python -m training ablate`."""

from __future__ import annotations

import argparse
from pathlib import Path

from t2d_runtime.errors import OptionError
from training.commands.settings import config_from
from training.commands.train import add_settings
from training.config import TrainConfig
from training.evaluation.tables import TABLES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `python -m training ablate`; the settings are those that all rows share."""
    parser.add_argument("--table", choices=list(TABLES), required=True)
    parser.add_argument("--features", type=Path, required=True, metavar="DIR", help="made by 'features'")
    parser.add_argument("--validation", type=Path, metavar="DIR", help="features on which retrieval is measured")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="rows trained there are kept")
    parser.add_argument(
        "--measure",
        metavar="COMMAND",
        help="run for each row's exported bundle, such as 'python -m benchmarks scenes {bundle} --json {json}'",
    )
    parser.add_argument("--figures", default="", metavar="LIST", help="numbers of that JSON to keep, with commas")
    parser.add_argument("--model", metavar="NAME|FOLDER", help="--backbone of 't2d-export bundle', for --measure")
    parser.add_argument("--backbone-weights", metavar="FILE|hub|random", help="as in t2d-export bundle")
    parser.add_argument("--text-weights", metavar="FILE|hub|random", help="as in t2d-export bundle")
    add_settings(parser)


def run(args: argparse.Namespace) -> int:
    """Train and compare the rows of a table."""
    base = config_from(TrainConfig, args)
    if args.measure and not (args.model and args.figures):
        raise OptionError("--measure takes --model, the towers to export with, and --figures, the numbers to keep")
    from t2d_export.export import ExportSettings
    from training.evaluation.ablate import Measure, ablate, markdown_table

    measure = None
    if args.measure:
        model = ExportSettings(args.model, args.backbone_weights, args.text_weights)
        measure = Measure(args.measure, tuple(args.figures.split(",")), model)
    print(markdown_table(ablate(args.table, base, measure)), end="")  # noqa: T201
    return 0
