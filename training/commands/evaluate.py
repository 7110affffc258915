"""`python -m training evaluate`."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.evaluation.retrieval import Ranks, Retrieval


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `python -m training evaluate`."""
    parser.add_argument("--features", type=Path, required=True, metavar="DIR", help="made by 'features'")
    parser.add_argument(
        "--projection", type=Path, required=True, metavar="FILE", help="projection file in the authors' layout"
    )
    parser.add_argument(
        "--average-text", action="store_true", help="use the mean over a caption's words, not its end token"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="save the figures")


def run(args: argparse.Namespace) -> int:
    """Measure retrieval with both similarities, in both directions."""
    from training.evaluation.retrieval import SIMILARITIES, load_projection, retrieval
    from training.features.feature_set import FeatureSet
    from training.storage import write_text

    features = FeatureSet(args.features)
    projection = load_projection(args.projection, features)
    found = [retrieval(features, projection, name, average_text=args.average_text) for name in SIMILARITIES]
    print(report(found))  # noqa: T201
    if args.json is not None:
        write_text(args.json, json.dumps([dataclasses.asdict(one) for one in found], indent=1) + "\n")
    return 0


def report(found: list[Retrieval]) -> str:
    """The rows of Table 8."""
    lines = [f"{'similarity':<12}{'direction':<16}{'R@1':>8}{'R@5':>8}{'R@10':>8}{'median':>8}{'mean':>9}"]
    for one in found:
        for direction in ("image_to_text", "text_to_image"):
            ranks: Ranks = getattr(one, direction)
            shares = "".join(f"{100 * ranks.recall[k]:>8.1f}" for k in sorted(ranks.recall))
            name = direction.replace("_", " ")
            lines.append(f"{one.similarity:<12}{name:<16}{shares}{ranks.median_rank:>8.1f}{ranks.mean_rank:>9.1f}")
    return "\n".join(lines)
