"""Epoch speed of training on features of COCO's size, against the released way: a DataLoader over samples in a list.

Each contender trains in a process of its own with the same sizes and number of threads; they take turns on slices of an
epoch. The contenders' steps are their own as well: the baseline's is that of the released code, its normalisation,
softmax, `loss.item()` and plain Adam included. Its slices are timed from the first batch on, so that the start of its
workers, which an epoch pays once, is left out.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from t2d_runtime.errors import OptionError

COCO_IMAGES, COCO_CAPTIONS = 82_783, 414_113
"""COCO Captions 2014, train."""

BATCH_SIZE = 128
SEED = 123
MAPPED = "mapped"
"""Name of the project's own way; the others are `list_N_workers`."""


class Slice(NamedTuple):
    """What a contender did with a slice of an epoch."""

    seconds: float
    wait_seconds: float
    """In which its steps waited for data."""
    anonymous_bytes: int
    """Memory of the process that no file backs, after the slice."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m benchmarks training_speed`."""
    parser.add_argument("--images", type=int, default=COCO_IMAGES, help="default: %(default)s, as COCO 2014 train")
    parser.add_argument("--batches", type=int, default=200, help="of a slice (default: %(default)s)")
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
        default=[0],
        metavar="N",
        help="of the baseline's DataLoader, a contender for each (default: 0; released: 16, which suits 16 cores)",
    )
    parser.add_argument("--threads", type=int, default=2, help="of each contender (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="for the features, 5 GB; default: a temporary one")
    parser.add_argument("--json", type=Path, metavar="F", help="save the figures")


def run(args: argparse.Namespace) -> int:
    """Print both contenders' time for a step and the ratio."""
    from benchmarks.results_file import write_results

    if min(args.batches, args.rounds, args.threads) < 1 or not BATCH_SIZE <= args.list_images <= args.images:
        raise OptionError("expected at least one batch, round and thread, and --list-images of 128 to --images")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        _write_features(Path(folder), args.images)
        context = multiprocessing.get_context("spawn")
        contenders = {MAPPED: _start(context, _ours, Path(folder), args, 0)}
        for workers in args.workers:
            contenders[f"list_{workers}_workers"] = _start(context, _baseline, Path(folder), args, workers)
        slices: dict[str, list[Slice]] = {name: [] for name in contenders}
        try:
            for number in range(args.rounds + 1):
                for name, connection in contenders.items():
                    connection.send(number)
                    found = connection.recv()
                    if number:  # the first slice warms up
                        slices[name].append(found)
            for connection in contenders.values():
                connection.send(None)
        finally:
            for connection in contenders.values():
                connection.close()  # ends a contender that still waits
    figures = _figures(args, slices)
    for name, value in figures.items():
        print(f"{name:<36} {value}")
    if args.json is not None:
        write_results(args.json, "training_speed", figures)
    return 0


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
    for name, found in slices.items():
        step_s = statistics.median(one.seconds for one in found) / args.batches
        figures[f"{name}_step_ms"] = round(1e3 * step_s, 3)
        figures[f"{name}_epoch_s"] = round(step_s * epoch_batches, 1)
        figures[f"{name}_anonymous_bytes"] = max(one.anonymous_bytes for one in found)
        if name != MAPPED:
            ratios = [theirs.seconds / mine.seconds for mine, theirs in zip(ours, found, strict=True)]
            figures[f"times_faster_than_{name}"] = round(statistics.median(ratios), 3)
    figures[f"{MAPPED}_wait_share"] = round(statistics.median(one.wait_seconds / one.seconds for one in ours), 4)
    return figures


def _write_features(folder: Path, images: int) -> None:
    from benchmarks.synthetic_features import write_synthetic_features

    write_synthetic_features(folder, images=images, captions_per_image=COCO_CAPTIONS / COCO_IMAGES)


def _start(context: Any, target: Any, folder: Path, args: argparse.Namespace, workers: int) -> Connection:
    ours, theirs = context.Pipe()
    # Not a daemon, since those may have no workers; it ends when it is told to, or when its pipe breaks.
    process = context.Process(target=target, args=(theirs, folder, args, workers))
    process.start()
    theirs.close()  # so that a process that dies is an end of file here, not a wait without end
    connection: Connection = ours
    return connection


def _ours(connection: Connection, folder: Path, args: argparse.Namespace, workers: int) -> None:
    """The project's own passes over the data."""
    import torch

    from training.batches import shuffled
    from training.config import TrainConfig
    from training.scalars import Scalars
    from training.trainer import Trainer

    torch.set_num_threads(args.threads)
    trainer = Trainer(TrainConfig(features=folder, output=folder, batch_size=BATCH_SIZE, seed=SEED))
    order = shuffled(len(trainer.features), SEED, 1)
    scalars = Scalars(None, steps_per_epoch=1, epochs_done=0)
    while (number := connection.recv()) is not None:
        start, waited = time.perf_counter(), trainer.reader.wait_s
        trainer.train_pass(_part(order, number, args.batches), 1, scalars)
        seconds = time.perf_counter() - start
        connection.send(Slice(seconds, trainer.reader.wait_s - waited, _anonymous_bytes()))


def _baseline(connection: Connection, folder: Path, args: argparse.Namespace, workers: int) -> None:
    """The released training (`src/dataset.py`, `src/train_util.py`), on a part of the images to bound its memory."""
    import torch
    from torch.nn import functional
    from torch.utils.data import DataLoader
    from tqdm import tqdm

    from t2d_export.projection import TextProjection
    from training.batches import shuffled
    from training.feature_set import FeatureSet

    torch.set_num_threads(args.threads)
    samples = _samples(FeatureSet(folder), args.list_images)
    torch.manual_seed(SEED)
    model = TextProjection(512, 768)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    order = shuffled(len(samples), SEED, 1)
    while (number := connection.recv()) is not None:
        part = _part(order, number, args.batches).tolist()
        losses: list[float] = []
        start = 0.0
        for batch in tqdm(DataLoader(samples, BATCH_SIZE, sampler=part, num_workers=workers), disable=True):
            start = start or time.perf_counter()
            text = functional.normalize(model.project_text(batch["annotation"]), p=2, dim=-1)
            heads = functional.normalize(batch["image"], p=2, dim=-1)
            similarity = torch.einsum("ik,ijk->ij", text, heads).softmax(dim=-1)
            index = similarity.argmax(dim=-1).view(-1, 1, 1).expand(-1, 1, heads.shape[-1])
            scores = text @ torch.gather(heads, 1, index).squeeze(1).t()
            logits = scores / 0.07
            labels = torch.arange(len(logits))
            loss = (functional.cross_entropy(logits, labels) + functional.cross_entropy(logits.t(), labels)) / 2
            loss = loss / len(logits) ** 2
            losses.append(loss.item())
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        connection.send(Slice(time.perf_counter() - start, 0.0, _anonymous_bytes()))


def _samples(features: Any, images: int) -> Any:
    """A data set of one dict a caption, its tensors each in memory of their own; captions of one image share its."""
    import torch

    heads: dict[int, torch.Tensor] = {}
    samples: list[dict[str, Any]] = []
    for caption, image in enumerate(features.image_numbers().tolist()):
        if image >= images:
            break
        shard = features.shards[features.caption_shard[caption]].arrays
        if image not in heads:
            heads[image] = torch.tensor(shard["heads"][features.image_row[caption]])
        text = torch.tensor(shard["text"][features.caption_row[caption]])
        metadata = {"annotation_id": int(features.caption_ids[caption]), "image_id": image}
        samples.append({"annotation": text, "image": heads[image], "metadata": metadata})
    return samples


def _part(order: Any, number: int, batches: int) -> Any:
    """The slice of an epoch for a round; the epoch is begun again where it ends."""
    import numpy as np

    size = batches * BATCH_SIZE
    return np.take(order, range(number * size, (number + 1) * size), mode="wrap")


def _anonymous_bytes() -> int:
    """RssAnon of this process, on Linux."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))
