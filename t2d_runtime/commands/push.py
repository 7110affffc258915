"""`t2d push`: put a bundle on a hub, with a model card made of its manifest."""

from __future__ import annotations

import argparse
from pathlib import Path

from t2d_runtime.commands.arguments import bundle_folder, named_path
from t2d_runtime.commands.terminal import say
from t2d_runtime.errors import OptionError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("bundle", type=bundle_folder, metavar="BUNDLE", help="a bundle's folder")
    parser.add_argument("name", metavar="hf://ORG/BUNDLE[@BRANCH]")
    parser.add_argument(
        "--bench",
        type=named_path,
        action="append",
        default=[],
        metavar="F",
        help="figures of 't2d bench --json'",
    )
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--overwrite", action="store_true", help="also into a repository that is no bundle")


def run(args: argparse.Namespace) -> int:
    """Push, and print the bundle's name at its commit."""
    from t2d_runtime.bundle.card import model_card
    from t2d_runtime.bundle.files import Bundle
    from t2d_runtime.bundle.to_hub import push
    from t2d_runtime.storage.hub_names import HubName

    name = HubName.parse(args.name)
    bundle = Bundle.open(args.bundle)
    card = model_card(bundle.manifest, name.repository, _speeds(args.bench, bundle.model_digest))
    commit = push(bundle, name, card, private=args.private, overwrite=args.overwrite)
    say(f"{HubName(name.repository, commit)}: {len(bundle.manifest.files)} files")
    return 0


def _speeds(files: list[Path], model_digest: str) -> list[str]:
    """Lines of a table of measured machines. Raises OptionError for figures of another bundle."""
    from t2d_runtime.bench.measure import BenchResult

    if not files:
        return []
    rows = ["| engine | precision | picture | stage | median |", "| --- | --- | --- | --- | --- |"]
    for file in files:
        figures = BenchResult.load(file).figures
        if figures.model_digest != model_digest:
            raise OptionError(f"--bench {file}: these figures are of another bundle; measure this one with 't2d bench'")
        size = f"{figures.image_size[0]} x {figures.image_size[1]}, {figures.classes} classes"
        for stage, time in figures.stages.items():
            rows.append(f"| {figures.engine} | {figures.precision} | {size} | {stage} | {time.p50_ms:.1f} ms |")
    return rows
