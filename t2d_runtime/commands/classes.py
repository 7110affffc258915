"""`t2d classes`: precompute a vocabulary, so that no text is encoded later."""

from __future__ import annotations

import argparse

from t2d_runtime.commands.arguments import (
    add_bundle,
    add_engine_options,
    add_overwrite,
    add_prompts,
    add_words,
    named_path,
)
from t2d_runtime.commands.opening import open_with_words
from t2d_runtime.commands.terminal import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_bundle(parser)
    add_words(parser)
    add_prompts(parser)
    parser.add_argument(
        "--output",
        type=named_path,
        required=True,
        metavar="F",
        help="file to write: F.npz, or F.safetensors for programs in any language",
    )
    add_overwrite(parser)
    add_engine_options(parser)


def run(args: argparse.Namespace) -> int:
    """Write the vocabulary file."""
    from t2d_runtime.commands.protection import check_output, files_given
    from t2d_runtime.words.vocabulary_files import vocabulary_suffix

    vocabulary_suffix(args.output)
    check_output(args.output, files_given(args), args.bundle, overwrite=args.overwrite)
    _, classes = open_with_words(args)
    check_output(args.output, files_given(args), args.bundle, overwrite=args.overwrite)
    classes.save(args.output)
    say(f"{len(classes.names)} classes, {classes.vectors.shape[1]} wide: {args.output}")
    return 0
