"""The command line of `t2d`: commands, options, defaults and help, at no import beyond argparse."""

from __future__ import annotations

import argparse
from pathlib import Path

from t2d_runtime import __version__


def build_parser() -> argparse.ArgumentParser:
    """The command line of `t2d`."""
    parser = argparse.ArgumentParser(prog="t2d", description="Segment images by free words, without PyTorch.")
    parser.add_argument("--version", action="version", version=f"t2d-runtime {__version__}")
    _add_verbose(parser, default=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_segment(commands.add_parser("segment", help="label the pixels of images with words"))
    _add_classes(commands.add_parser("classes", help="precompute a vocabulary, so that no text is encoded later"))
    info = commands.add_parser("info", help="what a bundle holds and where it runs")
    info.add_argument("bundle", type=Path, metavar="BUNDLE")
    selftest = commands.add_parser("selftest", help="compare a bundle's stages on this machine with the reference")
    selftest.add_argument("bundle", type=Path, metavar="BUNDLE")
    _add_engine_options(selftest)
    _add_bench(commands.add_parser("bench", help="how fast a bundle is on this machine, or two machines compared"))
    commands.add_parser("doctor", help="what is installed, what runs here, and how to repair what does not")
    for command in commands.choices.values():
        _add_verbose(command, default=argparse.SUPPRESS)  # said in front of the command it must stay said
    return parser


def _add_verbose(parser: argparse.ArgumentParser, default: object) -> None:
    help_text = "log what is chosen and loaded"
    parser.add_argument("-v", "--verbose", action="store_true", default=default, help=help_text)


def _add_segment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE|DIR", help="files, or folders of them")
    words = parser.add_mutually_exclusive_group(required=True)
    _add_words(words)
    words.add_argument("--vocabulary", type=Path, metavar="F", help="written by 't2d classes': .npz or .safetensors")
    _add_prompts(parser)
    parser.add_argument("--background", action="store_true", help="label 0 where no class exceeds the threshold")
    parser.add_argument("--threshold", type=float, help="0 to 1; default: the bundle's")
    parser.add_argument("--cleaning", choices=["official", "paper", "off"], help="default: official with --background")
    parser.add_argument("--refine", action="store_true", help="refine edges with PAMR")
    parser.add_argument("--window", choices=["slide", "whole"], default="slide", help="default: slide, as published")
    parser.add_argument("--output", type=Path, default=Path("output"), metavar="DIR", help="default: output")
    parser.add_argument("--format", default="overlay,png,json", metavar="LIST", help="of overlay,png,npz,json")
    _add_engine_options(parser)


def _add_classes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    _add_words(parser.add_mutually_exclusive_group(required=True))
    _add_prompts(parser)
    parser.add_argument(
        "--output", type=Path, required=True, metavar="F", help="F.npz, or F.safetensors for programs in any language"
    )
    _add_engine_options(parser)


def _add_bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, nargs="?", metavar="BUNDLE")
    parser.add_argument("--image", type=Path, metavar="F", help="default: the picture of the bundle's self-test")
    parser.add_argument("--classes", metavar="WORDS", help="separated by commas; default: those of the self-test")
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="of every stage, in turn; default: 20")
    parser.add_argument("--starts", type=int, default=3, metavar="N", help="processes, to their first mask; default: 3")
    parser.add_argument("--json", type=Path, metavar="F", help="save the figures with the machine's facts")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("A.json", "B.json"), help="measure nothing")
    _add_engine_options(parser)


def _add_words(group: argparse._MutuallyExclusiveGroup) -> None:
    group.add_argument("--classes", metavar="WORDS", help='any words, separated by commas: "cat,green grass"')
    group.add_argument("--classes-file", type=Path, metavar="F", help="one class a line")


def _add_prompts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prompts",
        metavar="SET|FILE",
        help="a prompt set of the bundle, or a file of templates with {}, one a line; default: subset",
    )


def _add_engine_options(parser: argparse.ArgumentParser) -> None:
    # Written out: a help text must not import what knows them.
    backends = "auto, openvino, onnxruntime, onnxruntime-cuda, onnxruntime-tensorrt, tensorrt, tensorrt-rtx"
    precisions = "fp32, fp16, bf16, int8, or fast: the fastest that passes its self-test here"
    parser.add_argument("--backend", default="auto", metavar="B", help=f"{backends}; default: auto")
    parser.add_argument(
        "--precision", default="fp32", metavar="P", help=f"{precisions}; default: fp32, the reference's masks"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="default: the engine's choice")
