"""`t2d pull`: get a bundle from a hub, into the cache or a folder."""

from __future__ import annotations

import argparse

from t2d_runtime.commands.arguments import bundle_name, named_path
from t2d_runtime.commands.terminal import say
from t2d_runtime.errors import OptionError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("bundle", type=bundle_name, metavar="hf://ORG/BUNDLE[@REVISION]")
    parser.add_argument(
        "--precision", default="fp32", metavar="LIST", help="any of fp32,fp16,bf16,int8, or all; default: fp32"
    )
    parser.add_argument("--fused", action="store_true", help="also take the fused graph, segmenter.onnx")
    parser.add_argument(
        "--without-words", action="store_true", help="leave the text encoder off; for devices with a --vocabulary"
    )
    parser.add_argument(
        "--output", type=named_path, metavar="DIR", help="folder to make; default: the cache alone, for hf:// names"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the bundle at DIR")
    parser.add_argument(
        "--remove-old",
        action="store_true",
        help="then remove the bundle's other commits from the cache; those that a program has open stay",
    )


def run(args: argparse.Namespace) -> int:
    """Pull, and print where the bundle is."""
    from t2d_runtime.bundle.files import Bundle, check_new_bundle
    from t2d_runtime.bundle.from_hub import ALL, copy_out, pull
    from t2d_runtime.bundle.old_commits import remove_old_commits
    from t2d_runtime.proof.parity import PRECISIONS
    from t2d_runtime.storage.hub_names import FORM, HubName, is_hub_name

    if not is_hub_name(args.bundle):
        raise OptionError(f"{args.bundle} is no name on a hub: expected {FORM.removesuffix('[/FILE]')}")
    precisions = ALL if args.precision == "all" else tuple(args.precision.split(","))
    unknown = [name for name in precisions if name not in PRECISIONS]
    if unknown:
        raise OptionError(f"--precision has {unknown[0]!r}, expected any of {', '.join(PRECISIONS)}, or all")
    if args.overwrite and args.output is None:
        raise OptionError("--overwrite has no effect without --output; leave it out")
    if args.output is not None:
        check_new_bundle(args.output, overwrite=args.overwrite)
    name, words = HubName.parse(args.bundle), not args.without_words
    folder = pulled = pull(name, precisions, fused=args.fused, words=words, verify=True)
    if args.output is not None:
        copy_out(folder, args.output, precisions, fused=args.fused, words=words)
        folder = args.output
    bundle = Bundle.open(folder)
    held = [name for name in bundle.manifest.files if (folder / name).is_file()]
    size = sum(bundle.manifest.files[name].size_bytes for name in held)
    say(f"{folder}: {len(held)} files, {size / 2**20:.1f} MiB, from {bundle.pulled_from}")
    if args.remove_old:
        removed = remove_old_commits(pulled)
        stay = f"; {removed.in_use} in use stay" if removed.in_use else ""
        say(f"removed {removed.commits} other commits, {removed.size_bytes / 2**20:.1f} MiB{stay}")
    return 0
