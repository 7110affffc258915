"""Speed of a training step on features of COCO's size, against the released way: a DataLoader over samples in a list.

Each contender trains in a process of its own with the same sizes and number of threads; they take turns on slices of an
epoch, and an epoch's time is scaled from them. What is compared is a whole step, loading included:

- ours: the project's own `Trainer`, which reads its batches from the memory-mapped shards.
- a list, read by N workers: the released code on a CPU: a dict of tensors for each sample, torch's collation in N
  workers (released: 16), all heads normalised, softmax, gather, `loss.item()`, plain Adam. The start of its workers,
  which an epoch pays once, is left out.
- the matrix products of a step and nothing else. Both ways need them, so no exact way is faster.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.text_table import text_table
from benchmarks.training.contenders import BATCH_SIZE, Contender, Slice, mapped, products, released, serve
from t2d_runtime.errors import BenchmarkError, OptionError

COCO_IMAGES, COCO_CAPTIONS = 82_783, 414_113
"""COCO Captions 2014, train."""

MAPPED, PRODUCTS = "memory-mapped features", "matrix products alone"


def add_arguments(parser: argparse._ActionsContainer) -> None:
    """Arguments of this part."""
    parser.add_argument("--images", type=int, default=COCO_IMAGES, help="default: %(default)s, as COCO 2014 train")
    parser.add_argument("--batches", type=int, default=100, help="timed, of a slice (default: %(default)s)")
    parser.add_argument(
        "--list-images",
        type=int,
        default=20_000,
        help="images that the released way keeps in its list, 37 kB each (default: %(default)s)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        nargs="+",
        default=[0, 2, 16],
        metavar="N",
        help="of the released way's DataLoader, a contender for each (default: 0 2 16; released: 16)",
    )
    parser.add_argument("--folder", type=Path, help="for the features, 5 GB; default: a temporary one")


def check(args: argparse.Namespace) -> None:
    """Raise OptionError for sizes that cannot be."""
    if args.batches < 1 or not BATCH_SIZE <= args.list_images <= args.images:
        raise OptionError("expected at least one batch, and --list-images of 128 to --images")
    if min(args.workers) < 0:
        raise OptionError(f"--workers: expected 0 or more, got {args.workers}")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Every contender's time for a step and an epoch, and the ratios. Raises BenchmarkError."""
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


def text(figures: dict[str, Any]) -> str:
    """A line a contender."""
    headers = (f"a step, {figures['threads']} threads", "ms", "epoch, s", "over products", "over ours", "MiB")
    rows = [
        (
            name,
            f"{row['step_ms']:.1f}",
            f"{row['epoch_s']:.0f}",
            *(f"{row[key]:.2f}x" for key in ("over_products", "over_ours")),
            f"{row['anonymous_bytes'] / 2**20:.0f}",
        )
        for name, row in figures["contenders"].items()
    ]
    return f"{text_table(headers, rows)}\n{figures['wait_share']:.1%} of our steps wait for data"


def _ratio(slower: list[Slice], faster: list[Slice]) -> float:
    """Median over the rounds."""
    return round(statistics.median(a.seconds / b.seconds for a, b in zip(slower, faster, strict=True)), 3)


def _slices(folder: Path, args: argparse.Namespace) -> dict[str, list[Slice]]:
    """Slices by contender; each process lives through all rounds."""
    makers: dict[str, Callable[[], Contender]] = {MAPPED: partial(mapped, folder, args.batches)}
    for workers in args.workers:
        sizes = {"images": args.list_images, "workers": workers, "slices": args.rounds + 1}
        makers[f"a list, {workers} workers"] = partial(released, folder, args.batches, **sizes)
    makers[PRODUCTS] = partial(products, args.batches)
    slices: dict[str, list[Slice]] = {name: [] for name in makers}
    started: dict[str, tuple[Connection, SpawnProcess]] = {}
    try:
        for name, make in makers.items():
            started[name] = _start(make, args.threads)
        with tqdm(total=len(makers) * (args.rounds + 1), unit="slice", disable=None, leave=False) as bar:
            for number, name in itertools.product(range(args.rounds + 1), makers):
                bar.set_description(name)
                found = _slice_of(name, started[name][0], number)
                if number:  # the first slice warms up
                    slices[name].append(found)
                bar.update()
    finally:
        for connection, process in started.values():
            connection.close()  # ends a contender that waits for its turn
            process.join()
    return slices


def _start(make: Callable[[], Contender], threads: int) -> tuple[Connection, SpawnProcess]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    # Not a daemon, since those may have no workers of their own.
    process = context.Process(target=serve, args=(theirs, make, threads))
    process.start()
    theirs.close()  # so that a process that dies is an end of file here, not a wait without end
    return ours, process


def _slice_of(name: str, connection: Connection, number: int) -> Slice:
    try:
        connection.send(number)
        found: Slice = connection.recv()
    except (EOFError, OSError) as error:
        raise BenchmarkError(f"{name}: its process ended in slice {number}; what it said is above") from error
    return found
