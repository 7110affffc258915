"""`python -m training ablate`."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from t2d_runtime.commands.running import FAILED_CHECK
from t2d_runtime.errors import OptionError
from training.commands.settings import config_from
from training.commands.train import add_settings
from training.config import TrainConfig
from training.evaluation.tables import TABLES

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `python -m training ablate`; the settings apply to all rows."""
    parser.add_argument("--table", choices=list(TABLES), required=True)
    parser.add_argument("--features", type=Path, required=True, metavar="DIR", help="made by 'features'")
    parser.add_argument("--validation", type=Path, metavar="DIR", help="features to measure retrieval on")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="output folder; rows trained there are kept"
    )
    parser.add_argument(
        "--measure",
        metavar="COMMAND",
        help="run for each row's exported bundle, such as 'python -m benchmarks scenes {bundle} --json {json}'",
    )
    parser.add_argument(
        "--figures", default="", metavar="LIST", help="figures of that JSON to keep, separated by commas"
    )
    parser.add_argument(
        "--backbone",
        "--model",
        metavar="NAME|FOLDER",
        help="as in t2d-export bundle, for --measure",
    )
    parser.add_argument("--backbone-weights", metavar="FILE|hf://ORG/REPO|hub|random", help="as in t2d-export bundle")
    parser.add_argument("--text-weights", metavar="FILE|hf://ORG/REPO|hub|random", help="as in t2d-export bundle")
    add_settings(parser)


def run(args: argparse.Namespace) -> int:
    """Train and compare the rows of a table; the status is 1 where some rows failed."""
    base = config_from(TrainConfig, args)
    if args.measure is not None and not (args.backbone and args.figures):
        raise OptionError("--measure takes --backbone, the towers to export with, and --figures, the numbers to keep")
    idle = [name for name in ("figures", "backbone", "backbone_weights", "text_weights") if getattr(args, name)]
    if args.measure is None and idle:
        raise OptionError(f"--{idle[0].replace('_', '-')} has no effect without --measure; add that, or leave it out")
    from t2d_export.export import ExportSettings
    from training.evaluation.ablate import Measure, ablate, markdown_table

    measure = None
    if args.measure is not None:
        model = ExportSettings(args.backbone, args.backbone_weights, args.text_weights)
        measure = Measure(args.measure, tuple(args.figures.split(",")), model)
    results = ablate(args.table, base, measure)
    print(markdown_table(results), end="")  # noqa: T201
    failed = [result for result in results if result.failure is not None]
    if failed:
        logger.warning("%d of %d rows failed; the same command tries them again", len(failed), len(results))
    return FAILED_CHECK if failed else 0
