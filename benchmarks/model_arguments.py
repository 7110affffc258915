"""Arguments that name the PyTorch model of a bundle, the same as in `t2d-export bundle`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from t2d_export.export import ExportSettings
    from t2d_runtime.bundle.manifest import Manifest


def add_model_arguments(parser: argparse._ActionsContainer, *, required: bool) -> None:
    """Add the backbone and its three weights."""
    given = "as for 't2d-export bundle', like the next three options"
    parser.add_argument("--backbone", required=required, metavar="NAME|FOLDER", help=given)
    for option in ("--backbone-weights", "--text-weights", "--projection"):
        parser.add_argument(option, metavar="FILE|hf://ORG/REPO|hub|random")


def export_settings(args: argparse.Namespace, manifest: Manifest) -> ExportSettings:
    """The model of those arguments, with the bundle's settings: input size, text input, activation and threshold."""
    from t2d_export.export import ExportSettings

    weights = (args.backbone_weights, args.text_weights, args.projection)
    model = manifest.model
    return ExportSettings(
        args.backbone,
        *weights,
        input_size=model.input_size,
        average_tokens=model.average_tokens,
        text_activation=model.text_activation,
        threshold=manifest.defaults.threshold,
    )
