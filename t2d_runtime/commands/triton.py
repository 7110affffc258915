"""`t2d triton`: write a model repository for NVIDIA's Triton Inference Server."""

from __future__ import annotations

import argparse
from pathlib import Path

from t2d_runtime.commands.arguments import add_bundle, add_engine_options, named_path
from t2d_runtime.commands.terminal import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_bundle(parser)
    parser.add_argument(
        "--output", type=named_path, required=True, metavar="REPOSITORY", help="model repository, new or with others"
    )
    parser.add_argument(
        "--models",
        metavar="M",
        help="some of t2d,image_encoder,text_encoder,segmenter; default: all that the bundle has for the backend",
    )
    parser.add_argument(
        "--instances", type=int, default=1, metavar="N", help="instances of each model, on each GPU; default: 1"
    )
    parser.add_argument(
        "--refer", action="store_true", help="refer to the bundle where it is; default: the repository has a copy"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace models that this program wrote")
    add_engine_options(parser)


def run(args: argparse.Namespace) -> int:
    """Write the repository."""
    from t2d_runtime.bundle.files import SEGMENTER, Bundle, graph_folder
    from t2d_runtime.bundle.from_hub import local_bundle
    from t2d_runtime.serving.triton.repository import GRAPHS, RepositorySettings, write_repository

    offered = Bundle.open(local_bundle(args.bundle, []))
    fused = graph_folder(args.precision) + SEGMENTER in offered.manifest.files
    folder = local_bundle(args.bundle, [args.precision], fused=fused)
    models = None if args.models is None else tuple(name.strip() for name in args.models.split(",") if name.strip())
    settings = RepositorySettings(
        args.backend, args.precision, args.threads, args.instances, models=models, refer=args.refer
    )
    names = write_repository(Path(folder), args.output, settings, overwrite=args.overwrite)
    say(f"{', '.join(names)}: {args.output}")
    if args.backend == "openvino" and set(names) & set(GRAPHS):
        say("Triton's OpenVINO backend computes the encoders in bfloat16 on processors that have it, also in fp32")
    return 0
