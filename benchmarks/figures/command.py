"""The paper's figures for any bundle and image: parameters, attention maps, chosen heads, cleaning, overlays."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.results_file import write_results
from benchmarks.side_by_side import side_by_side
from t2d_runtime.segmenter import Segmenter
from t2d_runtime.storage.whole_file import whole_file

COLUMNS = 5
"""Panels in a row."""

CAPTION_PROMPTS = ("{}",)
"""Captions are encoded without a prompt, as in training."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `python -m benchmarks figures`."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("image", type=Path, metavar="IMAGE")
    parser.add_argument("--classes", required=True, metavar="WORDS", help="any words, separated by commas")
    parser.add_argument(
        "--caption",
        action="append",
        metavar="TEXT",
        help="text whose chosen head is shown; may be repeated; default: the words",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="F", help="save the numbers of parameters")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--precision", default="fp32")


def run(args: argparse.Namespace) -> int:
    """Write a PNG for each figure, and count parameters."""
    from benchmarks.figures import panels, parameters

    segmenter = Segmenter.open(args.bundle, backend=args.backend, precision=args.precision)
    classes = segmenter.encode_classes([word.strip() for word in args.classes.split(",")])
    texts = segmenter.encode_classes(args.caption, CAPTION_PROMPTS) if args.caption else classes
    window = segmenter.encode_image(args.image, "whole")
    encoding = segmenter.encode_image(args.image)
    figures = {
        "attention": panels.attention(window),
        "heads": panels.heads(window, texts),
        "cleaning": panels.cleaning(segmenter, encoding, classes),
        "overlays": panels.overlays(segmenter, encoding, classes),
    }
    for name, pictures in figures.items():
        with whole_file(args.output / f"{name}.png") as file:
            side_by_side(pictures, COLUMNS).save(file, "PNG")
    print(f"{', '.join(f'{name}.png' for name in figures)} are in {args.output}")
    counted = {"parameters": parameters.parameters(segmenter.bundle)}
    print(*parameters.blocks(counted), sep="\n")
    if args.json is not None:
        write_results(args.json, "figures", counted)
    return 0
