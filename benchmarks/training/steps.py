"""Speed of a training step on features of COCO's size, compared with the released code's DataLoader over a list.

Each contender trains in a process of its own with the same sizes and number of threads. They take turns on slices of an
epoch, from which an epoch's time is scaled. The comparison is of a whole step, loading included:

- ours: the project's own `Trainer`, which reads its batches from the memory-mapped shards.
- a list, read by N workers: the released code on a CPU. It has a dict of tensors for each sample, torch's collation in
  N workers (released: 16), all heads normalised, softmax, gather, `loss.item()`, plain Adam. The start of its workers,
  once in an epoch, is left out.
- the matrix products of a step alone. Both contenders need them, so no exact training is faster.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.blocks import Bar, Bars, Block, Table, number
from benchmarks.training.contenders import BATCH_SIZE, Contender, Slice, mapped, products, released, start, train_slice
from t2d_runtime.errors import BenchmarkError, OptionError

COCO_IMAGES, COCO_CAPTIONS = 82_783, 414_113
"""Sizes of COCO Captions 2014, train."""

MAPPED, PRODUCTS = "memory-mapped features", "matrix products alone"


def add_arguments(parser: argparse._ActionsContainer) -> None:
    """Declare the arguments of this part."""
    parser.add_argument("--images", type=int, default=COCO_IMAGES, help="default: %(default)s, as COCO 2014 train")
    parser.add_argument("--batches", type=int, default=100, help="timed batches of a slice (default: %(default)s)")
    parser.add_argument(
        "--list-images",
        type=int,
        default=20_000,
        help="images that the released code keeps in its list, 37 kB each (default: %(default)s)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        nargs="+",
        default=[0, 2, 16],
        metavar="N",
        help="workers of the released code's DataLoader, one contender for each (default: 0 2 16; released: 16)",
    )
    parser.add_argument("--folder", type=Path, help="folder for the features, 5 GB; default: a temporary one")


def check(args: argparse.Namespace) -> None:
    """Raise OptionError for impossible sizes."""
    if args.batches < 1 or not BATCH_SIZE <= args.list_images <= args.images:
        raise OptionError("expected at least one batch, and --list-images of 128 to --images")
    if min(args.workers) < 0:
        raise OptionError(f"--workers: expected 0 or more, got {args.workers}")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure every contender's time for a step and an epoch, and the ratios. Raises BenchmarkError."""
    from benchmarks.training.synthetic_features import write_synthetic_features

    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        write_synthetic_features(folder, images=args.images, captions_per_image=COCO_CAPTIONS / COCO_IMAGES)
        slices = _slices(folder, args)
    sizes = {name: getattr(args, name) for name in ("images", "threads", "batches", "rounds", "list_images")}
    ours, floor = slices[MAPPED], slices[PRODUCTS]
    epoch_batches = -(-args.images * COCO_CAPTIONS // COCO_IMAGES // BATCH_SIZE)
    contenders = {}
    for name, found in slices.items():
        step_s = statistics.median(one.seconds for one in found) / args.batches
        contenders[name] = {
            "step_ms": round(1e3 * step_s, 3),
            "epoch_s": round(step_s * epoch_batches, 1),
            "over_products": _ratio(found, floor),
            "over_ours": _ratio(found, ours),
            "anonymous_bytes": max(one.anonymous_bytes for one in found),
        }
    wait_share = round(statistics.median(one.wait_seconds / one.seconds for one in ours), 4)
    return {**sizes, "batch_size": BATCH_SIZE, "contenders": contenders, "wait_share": wait_share}


def blocks(figures: dict[str, Any]) -> list[Block]:
    """Bars of an epoch's time, and a line for each contender."""
    contenders = figures["contenders"].items()
    bars = tuple(Bar(name, {"": row["epoch_s"]}, f"{row['epoch_s']:.0f} s") for name, row in contenders)
    rows = [
        (
            name,
            number(row["step_ms"]),
            *(f"{row[key]:.2f}x" for key in ("over_ours", "over_products")),
            "" if row["anonymous_bytes"] is None else f"{row['anonymous_bytes'] / 2**20:.0f}",
        )
        for name, row in contenders
    ]
    return [
        Bars(f"An epoch of COCO Captions on features, s, {figures['threads']} threads", bars),
        Table(("a step of training", "ms", "times ours", "times the products", "MiB of its own"), rows),
        f"{figures['wait_share']:.1%} of our step is waiting for data.",
    ]


def _ratio(slower: list[Slice], faster: list[Slice]) -> float:
    """Median of the ratios over the rounds."""
    return round(statistics.median(a.seconds / b.seconds for a, b in zip(slower, faster, strict=True)), 3)


def _slices(folder: Path, args: argparse.Namespace) -> dict[str, list[Slice]]:
    """Slices by contender. Each process lives through all rounds."""
    makers: dict[str, Callable[[], Contender]] = {MAPPED: partial(mapped, folder, args.batches)}
    for workers in args.workers:
        sizes = {"images": args.list_images, "workers": workers, "slices": args.rounds + 1}
        makers[f"a list, {workers} workers"] = partial(released, folder, args.batches, **sizes)
    makers[PRODUCTS] = partial(products, args.batches)
    slices: dict[str, list[Slice]] = {name: [] for name in makers}
    rounds = args.rounds + 1  # the first slice warms up
    with ExitStack() as stack, tqdm(total=len(makers) * rounds, unit="slice", disable=None, leave=False) as bar:
        processes = {name: stack.enter_context(_process(make, args.threads)) for name, make in makers.items()}
        for number, (name, process) in itertools.product(range(rounds), processes.items()):
            bar.set_description(name)
            try:
                slices[name].append(process.submit(train_slice, number).result())
            except BrokenProcessPool as error:
                raise BenchmarkError(f"{name}: its process ended in slice {number}; its message is above") from error
            bar.update()
    return {name: found[1:] for name, found in slices.items()}


def _process(make: Callable[[], Contender], threads: int) -> ProcessPoolExecutor:
    """A contender's own process, which lives through all rounds."""
    return ProcessPoolExecutor(1, get_context("spawn"), initializer=start, initargs=(make, threads))
