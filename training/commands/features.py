"""`python -m training features`."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import get_args

from t2d_runtime.commands.running import FAILED_CHECK
from training.commands.settings import add_choice, add_number, config_from
from training.config import DTYPES, PRECISIONS, FeatureConfig, TokenArray


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `python -m training features`."""
    parser.add_argument(
        "--captions",
        type=Path,
        required=True,
        metavar="PATH",
        help="COCO captions .json, a .csv or .jsonl with 'image' and 'caption', or a folder with annotations/"
        "captions.json, captions.csv or captions.jsonl",
    )
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="default: images/ beside annotations/, or the captions file's folder"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="output folder; an interrupted run is continued"
    )
    weights = "as in t2d-export bundle"
    parser.add_argument("--backbone", default=FeatureConfig.backbone, help=f"{weights} (default: %(default)s)")
    parser.add_argument("--backbone-weights", metavar="FILE|hf://ORG/REPO|hub|random", help=weights)
    parser.add_argument("--text-weights", metavar="FILE|hf://ORG/REPO|hub|random", help=weights)
    parser.add_argument("--text-activation", choices=["quick_gelu", "gelu"], help=weights)
    parser.add_argument("--input-size", type=_size, metavar="PIXELS|HxW", help="default: 448, or the model folder's")
    parser.add_argument(
        "--text-arrays",
        dest="token_arrays",
        type=_token_arrays,
        default=(),
        metavar="LIST",
        help="also keep 'tokens' (selections over tokens), 'penultimate' (to train CLIP's last block), or both",
    )
    add_choice(parser, FeatureConfig, "--precision", PRECISIONS, "of the encoders")
    add_choice(parser, FeatureConfig, "--dtype", DTYPES, "of the stored features")
    add_number(parser, FeatureConfig, "--max-unreadable", "largest share of unreadable images")
    add_number(parser, FeatureConfig, "--batch-size")
    add_number(parser, FeatureConfig, "--images-per-shard", "most images that a killed run loses")
    add_number(parser, FeatureConfig, "--workers", "processes that load images")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")


def run(args: argparse.Namespace) -> int:
    """Extract features; the status is 1 where some images could not be read and were left out."""
    config = config_from(FeatureConfig, args)
    from training.features.extraction import extract

    return FAILED_CHECK if extract(config).skipped else 0


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,9})(?:x([0-9]{1,9}))?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected pixels, as 448 or 448x672 (height x width), got {text!r}")
    return int(match[1]), int(match[2] or match[1])


def _token_arrays(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if not set(names) <= set(get_args(TokenArray)) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"expected 'tokens', 'penultimate' or both with a comma, got {text!r}")
    return names
