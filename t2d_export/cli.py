"""The command `t2d-export`: makes a bundle from checkpoints, and verifies it."""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Callable, Sequence

from t2d_runtime import __version__
from t2d_runtime.commands.argument_parser import ArgumentParser
from t2d_runtime.commands.arguments import add_verbose, bundle_folder, named_path
from t2d_runtime.commands.parity_table import print_matrix, print_stages, print_verdict
from t2d_runtime.commands.running import EXIT_STATUSES, FAILED_CHECK, run_command
from t2d_runtime.device.install import needs_extra
from t2d_runtime.errors import OptionError

BACKBONES = (
    *("dinov2_vits14", "dinov2_vits14_reg", "dinov2_vitb14", "dinov2_vitb14_reg", "dinov2_vitl14"),
    *("dinov2_vitl14_reg", "dinov2_vitg14", "dinov2_vitg14_reg", "dino_vits16", "dino_vitb16", "mae_vitb16"),
    *("mae_vitl16", "clip_vitb16", "clip_vitl14", "dinov3_vitb16", "dinov3_vitl16"),
)
"""Names of backbones, written out, so that the help imports no models."""

DESCRIPTIONS = {
    "bundle": "export a model to a bundle and verify it against PyTorch",
    "engine": "build engines from a bundle's graphs ahead of time, inside the bundle; needs no PyTorch",
    "verify": "compare a bundle in float32, and its fused graph in every precision, with PyTorch's outputs that the "
    "export stored, stage by stage; saved in its manifest ('t2d selftest --precision P' compares a lower precision)",
}
"""Command -> one line of help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 for a failed check, 2 for bad input."""
    args = build_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO if args.verbose else logging.WARNING, format="%(message)s")
    return run_command("t2d-export", lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    with needs_extra("engine" if args.command == "engine" else "export"):
        return COMMANDS[args.command](args)


EXAMPLES = f"""\
examples:
  t2d-export bundle --model Talk2DINO-ViTB --output bundle
  t2d-export bundle --backbone models/tiny --precision fp32,int8 --fused --output bundle
  t2d-export engine bundle --backend tensorrt-rtx --compute-capability 8.6

{EXIT_STATUSES}"""


def build_parser() -> argparse.ArgumentParser:
    """The command line of `t2d-export`."""
    parser = ArgumentParser(
        prog="t2d-export",
        description="Export Talk2DINO to a bundle for t2d-runtime.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"t2d-runtime {__version__}")
    add_verbose(parser, default=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    parsers = {name: commands.add_parser(name, help=text, description=text) for name, text in DESCRIPTIONS.items()}
    for command in parsers.values():
        add_verbose(command, default=argparse.SUPPRESS)  # keeps a -v given before the command
    _add_bundle(parsers["bundle"])
    _add_engine(parsers["engine"])
    verify = parsers["verify"]
    verify.add_argument("bundle", type=bundle_folder, metavar="BUNDLE", help="a bundle's folder")
    verify.add_argument(
        "--backend", default="onnxruntime", metavar="B", help="engine to verify on; default: onnxruntime"
    )
    return parser


def _add_bundle(parser: argparse.ArgumentParser) -> None:
    weights = (
        "the backbone's weights: a checkpoint FILE (also FILE::ENTRY, a folder or index of shards, "
        "hf://ORG/REPO[@REVISION][/FILE]), 'hub' for the published ones, or 'random'; default: those of the model or "
        "the folder, else hub"
    )
    subject = parser.add_mutually_exclusive_group(required=True)
    subject.add_argument(
        "--model",
        metavar="NAME",
        help="a published model with all its parts: Talk2DINO-ViTB, Talk2DINO-ViTL, Talk2DINOv3-ViTB, Talk2DINOv3-ViTL",
    )
    subject.add_argument(
        "--backbone",
        metavar="NAME|FOLDER",
        help=f"one of {', '.join(BACKBONES)}, or a model folder with config.json and its own weights",
    )
    parser.add_argument("--backbone-weights", metavar="W", help=weights)
    parser.add_argument("--text-weights", metavar="W", help="the text tower's weights, in the same forms")
    parser.add_argument("--projection", metavar="W", help="the projection's weights, in the same forms")
    parser.add_argument(
        "--input-size", metavar="S|HxW", help="pixels, in multiples of the patch; default: 448, or the folder's"
    )
    parser.add_argument(
        "--precision",
        default="fp32",
        metavar="LIST",
        help="fp32, and any of fp16,bf16,int8 with it: fp32,int8; default: fp32",
    )
    parser.add_argument(
        "--calibration",
        type=named_path,
        metavar="DIR",
        help="folder of some tens of photographs like those to segment, for int8's scales; default: the self-test's "
        "drawn picture",
    )
    parser.add_argument(
        "--average-tokens",
        action="store_true",
        help="use the mean of a text's words, not its end token; for projections trained with --text-input average",
    )
    parser.add_argument(
        "--text-activation",
        choices=["quick_gelu", "gelu"],  # written out, so that the help imports no models
        help="the text tower's activation; default: its source's, else quick_gelu with a warning (LAION's have gelu)",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="X",
        help="the bundle's default background threshold, 0 to 1, such as 't2d words' prints; default: the backbone's "
        "published one, or the folder's",
    )
    parser.add_argument(
        "--fused",
        action="store_true",
        help="also write segmenter.onnx, one graph from image and word vectors to labels",
    )
    parser.add_argument("--output", type=named_path, required=True, metavar="DIR", help="folder of the bundle to make")
    parser.add_argument("--overwrite", action="store_true", help="replace the bundle at DIR")


def _add_engine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=bundle_folder, metavar="BUNDLE", help="a bundle's folder")
    parser.add_argument(
        "--backend",
        required=True,
        metavar="NAME",
        help="tensorrt (for this machine's GPU), tensorrt-rtx (needs no GPU) or openvino (for this machine's CPU)",
    )
    parser.add_argument(
        "--precision", default="fp32", metavar="LIST", help="some of the bundle's precisions; default: fp32"
    )
    parser.add_argument("--fused", action="store_true", help="build the fused graph instead of the two encoders")
    parser.add_argument(
        "--compute-capability", metavar="LIST", help="GPUs to build for with tensorrt-rtx, such as 8.6,8.9"
    )
    parser.add_argument(
        "--max-batch",
        type=int,
        metavar="N",
        help="most windows in one call of a TensorRT image encoder, for callers with many at once; default: 4, as "
        "'t2d segment' passes them",
    )


def parse_input_size(text: str) -> tuple[int, int]:
    """ "448" or "448x672" (height x width) -> (height, width). Raises OptionError."""
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if match is None:
        raise OptionError(f"input size is {text!r}, expected pixels such as 448, or height x width such as 448x672")
    return int(match[1]), int(match[2] or match[1])


def _bundle(args: argparse.Namespace) -> int:
    from t2d_export.export import ExportSettings, export_bundle
    from t2d_runtime.bundle.files import check_new_bundle

    check_new_bundle(args.output, overwrite=args.overwrite)
    settings = ExportSettings(
        backbone=args.backbone or "",
        backbone_weights=args.backbone_weights,
        text_weights=args.text_weights,
        projection=args.projection,
        input_size=parse_input_size(args.input_size) if args.input_size else None,
        precisions=tuple(args.precision.split(",")),
        calibration=args.calibration,
        average_tokens=args.average_tokens,
        text_activation=args.text_activation,
        threshold=args.threshold,
        fused=args.fused,
    )
    if args.model is not None:
        settings = settings.of_model(args.model)
    manifest = export_bundle(settings, args.output, overwrite=args.overwrite)
    print_stages(manifest.parity)
    size = sum(record.size_bytes for record in manifest.files.values())
    print_matrix(manifest)
    print(f"text tower: {manifest.sources['text'].name}, activation {manifest.model.text_activation}")
    print(f"{args.output}: {len(manifest.files)} files, {size / 2**20:.1f} MiB, verified against PyTorch")
    left_out = [name for name, row in manifest.precisions.items() if "all" in row]
    if left_out:
        print(f"FAILED: {', '.join(left_out)} missed the gates and was not written")
    return FAILED_CHECK if left_out else 0


def _engine(args: argparse.Namespace) -> int:
    from t2d_export.engines.to_engine import Target, build_engine, check_target
    from t2d_runtime.bundle.engines import read_engines
    from t2d_runtime.bundle.files import Bundle

    if args.compute_capability is None:
        targets = [Target(args.backend, None, args.max_batch)]
    else:
        capabilities = dict.fromkeys(name.strip() for name in args.compute_capability.split(","))
        targets = [Target(args.backend, capability, args.max_batch) for capability in capabilities]
    for target in targets:
        check_target(target, fused=args.fused)
    for target in targets:
        for precision in args.precision.split(","):
            folder = build_engine(args.bundle, target, precision, fused=args.fused)
            manifest = read_engines(Bundle.open(args.bundle), args.backend)[folder]
            print(f"{folder}: {precision} for {manifest.identity.target}, version {manifest.identity.version}")
            for name, built in manifest.graphs.items():
                size = built.record.size_bytes / 2**20
                print(f"  {name}: {built.num_layers} layers, {size:.1f} MiB, {len(built.warnings)} warnings")
                for warning in built.warnings:
                    print(f"    {warning}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from t2d_export.bundle.verify import verify_bundle
    from t2d_export.bundle.verify_fused import verify_fused
    from t2d_runtime.bundle.files import SEGMENTER, Bundle

    stages = verify_bundle(args.bundle, backend=args.backend)
    bundle = Bundle.open(args.bundle)
    for precision in bundle.graph_precisions(SEGMENTER):
        fused = verify_fused(args.bundle, precision)
        stages += tuple(replace(stage, stage=f"fused {precision}: {stage.stage}") for stage in fused)
    return print_verdict(stages)


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {"bundle": _bundle, "engine": _engine, "verify": _verify}
