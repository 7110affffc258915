"""`python -m training features`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `python -m training features`."""
    parser.add_argument(
        "--captions",
        type=Path,
        required=True,
        metavar="PATH",
        help="COCO captions .json, or a folder with annotations/captions.json, captions.csv or captions.jsonl",
    )
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="default: images/ beside annotations/, or the folder"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="one that was begun is gone on with")
    weights = "as in t2d-export bundle"
    parser.add_argument("--backbone", default="dinov2_vitb14_reg", help=f"{weights}; default: %(default)s")
    parser.add_argument("--backbone-weights", metavar="FILE|hub|random", help=weights)
    parser.add_argument("--text-weights", metavar="FILE|hub|random", help=weights)
    parser.add_argument("--input-size", type=_size, metavar="PIXELS|HxW", help="default: 448, or the model folder's")
    parser.add_argument(
        "--text-arrays",
        type=_token_arrays,
        default=(),
        metavar="LIST",
        help="also keep 'tokens' (selections over tokens), 'penultimate' (to train CLIP's last block), or both",
    )
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="of the encoders")
    parser.add_argument("--dtype", choices=["float32", "float16"], default="float32", help="of what is stored")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--images-per-shard", type=int, default=1024, help="what a killed run may lose")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) // 2), help="that load images")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")


def run(args: argparse.Namespace) -> int:
    """Extract features."""
    from training.features import FeatureConfig, extract

    extract(
        FeatureConfig(
            captions=args.captions,
            images=args.images,
            output=args.output,
            backbone=args.backbone,
            backbone_weights=args.backbone_weights,
            text_weights=args.text_weights,
            input_size=args.input_size,
            token_arrays=args.text_arrays,
            precision=args.precision,
            dtype=args.dtype,
            batch_size=args.batch_size,
            images_per_shard=args.images_per_shard,
            workers=args.workers,
            device=args.device,
        )
    )
    return 0


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    try:
        return int(height), int(width or height)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected pixels, as 448 or 448x672, got {text!r}") from None


def _token_arrays(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if not set(names) <= {"tokens", "penultimate"} or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"expected 'tokens', 'penultimate' or both with a comma, got {text!r}")
    return names
