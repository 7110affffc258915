"""`t2d info`: what a bundle holds and where it runs."""

from __future__ import annotations

import argparse

from t2d_runtime.commands.arguments import add_bundle, add_json
from t2d_runtime.commands.parity_table import print_matrix
from t2d_runtime.commands.terminal import say, say_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_bundle(parser)
    add_json(parser, "these facts")


def run(args: argparse.Namespace) -> int:
    """Print the rows, or JSON."""
    from t2d_runtime.bundle.files import Bundle
    from t2d_runtime.bundle.from_hub import local_bundle
    from t2d_runtime.commands.bundle_facts import (
        built_engines,
        bundle_facts,
        engine_line,
        quick_backends,
        slow_backends,
    )
    from t2d_runtime.commands.cpu_paths import cpu_paths
    from t2d_runtime.commands.measuring import choice_of

    bundle = Bundle.open(local_bundle(args.bundle, []))
    if args.json:
        say_json(bundle_facts(bundle, args.bundle))
        return 0
    manifest = bundle.manifest
    model, windows = manifest.model, manifest.windows
    size = sum(record.size_bytes for record in manifest.files.values())
    failed = [stage.stage for stage in manifest.parity if not stage.passed]
    here = [*quick_backends(), *(f"{name} (if 't2d doctor' says so)" for name in slow_backends())]
    rows = {
        "bundle": f"{args.bundle}, {size / 2**20:.1f} MiB, schema {manifest.schema_version}, opset {manifest.opset}",
        **({"pulled from": bundle.pulled_from} if bundle.pulled_from else {}),
        "left off": ", ".join(bundle.left_off) or "no file",
        "backbone": f"{model.backbone}: {model.embed_dim} wide, {model.num_heads} heads, patch {model.patch_size}",
        "projection": model.projection,
        "input size": f"{model.input_size[0]} x {model.input_size[1]} (height x width)",
        "windows": f"{windows.crop_size} with stride {windows.stride} on a short side of {windows.short_side}",
        "threshold": f"{manifest.defaults.threshold}, cleaning weight {manifest.defaults.cleaning_weight}",
        "prompt sets": ", ".join(f"{name} ({len(items)})" for name, items in manifest.prompt_sets.items()),
        "sources": ", ".join(f"{part}: {source.name}" for part, source in manifest.sources.items()),
        "exported by": ", ".join(f"{name} {version}" for name, version in manifest.exporter.items()),
        "parity": f"{len(manifest.parity)} stages compared with PyTorch at the export, "
        + (f"out of tolerance: {', '.join(failed)}" if failed else "all within their tolerances"),
        "backends here": ", ".join(here) or "no inference engine",
        **choice_of(bundle),
        **cpu_paths(),
    }
    for name, value in rows.items():
        say(f"{name:<15} {value}")
    for engine in built_engines(bundle):
        say(f"{'built engine':<15} {engine_line(engine)}")
    print_matrix(manifest)
    return 0
