"""Arguments that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from t2d_runtime.backends.names import BACKENDS
from t2d_runtime.errors import OptionError
from t2d_runtime.storage.hub_names import HubName, is_hub_name, refuse_other_addresses


def named_path(text: str) -> Path:
    """The path that an argument names. Raises ArgumentTypeError for an empty text, as of a variable that is not set."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got an empty text")
    return Path(text)


def bundle_name(text: str) -> Path | str:
    """The bundle that an argument names: a folder's path, or hf://ORG/BUNDLE[@REVISION] as it is.

    Raises ArgumentTypeError for an empty text and for a name that is neither.
    """
    try:
        if is_hub_name(text):
            return str(HubName.parse(text))
        refuse_other_addresses(text)
    except OptionError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return named_path(text)


def bundle_folder(text: str) -> Path:
    """The folder of a bundle, for a command that needs one. Raises ArgumentTypeError for a bundle on a hub."""
    if is_hub_name(text):
        raise argparse.ArgumentTypeError(
            f"{text} is on a hub, and this command needs a folder; get one with 't2d pull {text} --output DIR'"
        )
    return named_path(text)


def add_bundle(parser: argparse.ArgumentParser, **settings: Any) -> None:
    """Add BUNDLE."""
    help_text = "a bundle's folder, or hf://ORG/BUNDLE[@REVISION] on a hub"
    parser.add_argument("bundle", type=bundle_name, metavar="BUNDLE", help=help_text, **settings)


def add_verbose(parser: argparse.ArgumentParser, default: object) -> None:
    """Add -v."""
    help_text = "log every choice and every loaded file"
    parser.add_argument("-v", "--verbose", action="store_true", default=default, help=help_text)


def add_words(
    parser: argparse.ArgumentParser, *, vocabulary: bool = False, required: bool = True, default: str = ""
) -> None:
    """Add the ways of naming classes, of which one is given; with `vocabulary` also --vocabulary.

    `default` names the words that are taken where none are required and none given.
    """
    group = parser.add_mutually_exclusive_group(required=required)
    otherwise = f"; default: {default}" if default else ""
    class_file = "file with one class a line, as 'person; man @0.57', negatives after '- '; or JSON"
    words = 'any words, separated by commas: "cat,green grass"'
    group.add_argument("--classes", metavar="WORDS", help=f"{words}{otherwise}")
    group.add_argument("--classes-file", type=named_path, metavar="F", help=class_file)
    if vocabulary:
        encoded = "words encoded by 't2d classes': .npz or .safetensors"
        group.add_argument("--vocabulary", type=named_path, metavar="F", help=encoded)


def add_prompts(parser: argparse.ArgumentParser) -> None:
    """Add --prompts."""
    parser.add_argument(
        "--prompts",
        metavar="SET|FILE",
        help="a prompt set of the bundle, or a file with one template with {} a line; default: subset",
    )


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Add --overwrite."""
    help_text = "also replace files of other programs; this program's own results are always replaced, inputs never"
    parser.add_argument("--overwrite", action="store_true", help=help_text)


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    """Add --json, which prints `what` for programs."""
    parser.add_argument("--json", action="store_true", help=f"print {what} as one JSON object")


def add_engine_options(parser: argparse.ArgumentParser, *, or_all: bool = False) -> None:
    """Add --backend, --precision and --threads. With `or_all` the precision may be all."""
    backends = ", ".join(["auto", *BACKENDS])
    # Written out, so that the help imports no engines.
    precisions = "fp32, fp16, bf16, int8, or fast: the fastest that passes its self-test here"
    precisions += ", or all that run here" if or_all else ""
    parser.add_argument("--backend", default="auto", metavar="B", help=f"inference engine: {backends}; default: auto")
    parser.add_argument(
        "--precision", default="fp32", metavar="P", help=f"{precisions}; default: fp32, the reference's masks"
    )
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="CPU threads; default: the variable T2D_NUM_THREADS, else the engine's choice",
    )


def add_postprocess(parser: argparse.ArgumentParser) -> None:
    """Add --postprocess."""
    parser.add_argument(
        "--postprocess",
        default="host",
        metavar="WHERE",
        help="host, or device: scores, PAMR and labels on GPU 0 (not run on a GPU yet); default: host",
    )
