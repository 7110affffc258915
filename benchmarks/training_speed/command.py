"""Epoch speed of training on features of COCO's size, against the released way: a DataLoader over samples in a list.

Each contender trains in a process of its own with the same sizes and number of threads; they take turns on slices of an
epoch, and an epoch's time is scaled from them. What is compared is a whole step, loading included:

- `mapped`: the project's own `Trainer`, which reads its batches from the memory-mapped shards.
- `list_N_workers`: the released code on a CPU: a dict of tensors for each sample, torch's collation in N workers
  (released: 16), all heads normalised, softmax, gather, `loss.item()`, plain Adam. The start of its workers, which an
  epoch pays once, is left out.
- `products`: the matrix products of a step and nothing else. Both ways need them, so no exact way is faster.
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

from benchmarks.training_speed.contenders import BATCH_SIZE, Contender, Slice, mapped, products, released, serve
from t2d_runtime.errors import BenchmarkError, OptionError

COCO_IMAGES, COCO_CAPTIONS = 82_783, 414_113
"""COCO Captions 2014, train."""

MAPPED, PRODUCTS = "mapped", "products"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m benchmarks training_speed`."""
    parser.add_argument("--images", type=int, default=COCO_IMAGES, help="default: %(default)s, as COCO 2014 train")
    parser.add_argument("--batches", type=int, default=100, help="timed, of a slice (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument(
        "--list-images",
        type=int,
        default=20_000,
        help="images that the baseline keeps in its list, 37 kB each (default: %(default)s)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        nargs="+",
        default=[0, 2, 16],
        metavar="N",
        help="of the baseline's DataLoader, a contender for each (default: 0 2 16; released: 16)",
    )
    parser.add_argument("--threads", type=int, default=2, help="of each contender (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="for the features, 5 GB; default: a temporary one")
    parser.add_argument("--json", type=Path, metavar="F", help="save the figures")


def run(args: argparse.Namespace) -> int:
    """Print every contender's time for a step and the ratios."""
    from benchmarks.results_file import write_results

    if min(args.batches, args.rounds, args.threads) < 1 or not BATCH_SIZE <= args.list_images <= args.images:
        raise OptionError("expected at least one batch, round and thread, and --list-images of 128 to --images")
    if min(args.workers) < 0:
        raise OptionError(f"--workers: expected 0 or more, got {args.workers}")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        _write_features(Path(folder), args.images)
        slices = _measure(Path(folder), args)
    figures = _figures(args, slices)
    for name, value in figures.items():
        print(f"{name:<36} {value}")
    if args.json is not None:
        write_results(args.json, "training_speed", figures)
    return 0


def _measure(folder: Path, args: argparse.Namespace) -> dict[str, list[Slice]]:
    """Slices by contender; each process lives through all rounds."""
    makers: dict[str, Callable[[], Contender]] = {MAPPED: partial(mapped, folder, args.batches)}
    for workers in args.workers:
        sizes = {"images": args.list_images, "workers": workers, "slices": args.rounds + 1}
        makers[f"list_{workers}_workers"] = partial(released, folder, args.batches, **sizes)
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


def _figures(args: argparse.Namespace, slices: dict[str, list[Slice]]) -> dict[str, Any]:
    ours = slices[MAPPED]
    epoch_batches = -(-args.images * COCO_CAPTIONS // COCO_IMAGES // BATCH_SIZE)
    figures: dict[str, Any] = {
        "images": args.images,
        "threads": args.threads,
        "batch_size": BATCH_SIZE,
        "batches_per_slice": args.batches,
        "rounds": args.rounds,
        "list_images": args.list_images,
    }
    floor = slices[PRODUCTS]
    for name, found in slices.items():
        step_s = statistics.median(one.seconds for one in found) / args.batches
        figures[f"{name}_step_ms"] = round(1e3 * step_s, 3)
        figures[f"{name}_epoch_s"] = round(step_s * epoch_batches, 1)
        if name == PRODUCTS:
            continue
        figures[f"{name}_anonymous_bytes"] = max(one.anonymous_bytes for one in found)
        figures[f"{name}_over_products"] = _ratio(found, floor)
        if name != MAPPED:
            figures[f"times_faster_than_{name}"] = _ratio(found, ours)
    figures[f"{MAPPED}_wait_share"] = round(statistics.median(one.wait_seconds / one.seconds for one in ours), 4)
    return figures


def _ratio(slower: list[Slice], faster: list[Slice]) -> float:
    """Median over the rounds."""
    return round(statistics.median(a.seconds / b.seconds for a, b in zip(slower, faster, strict=True)), 3)


def _write_features(folder: Path, images: int) -> None:
    from benchmarks.training_speed.synthetic_features import write_synthetic_features

    write_synthetic_features(folder, images=images, captions_per_image=COCO_CAPTIONS / COCO_IMAGES)
