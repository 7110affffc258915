"""Epoch speed of training on features of COCO's size, against the released way: a DataLoader over samples in a list.

Either contender trains in a process of its own with the same batches, sizes and number of threads; the two take turns
on slices of an epoch. The contenders' steps are their own as well: the baseline's is that of the released code, its
normalisation, softmax, `loss.item()` and plain Adam included.
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
    parser.add_argument("--workers", type=int, default=0, help="of the baseline's DataLoader; released: 16")
    parser.add_argument("--threads", type=int, default=2, help="of either contender (default: %(default)s)")
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
        contenders = {
            "mapped shards": _start(context, _ours, Path(folder), args),
            "list and DataLoader": _start(context, _baseline, Path(folder), args),
        }
        slices: dict[str, list[Slice]] = {name: [] for name in contenders}
        for number in range(args.rounds + 1):
            for name, connection in contenders.items():
                connection.send(number)
                found = connection.recv()
                if number:  # the first slice warms up
                    slices[name].append(found)
        for connection in contenders.values():
            connection.send(None)
    figures = _figures(args, slices)
    for name, value in figures.items():
        print(f"{name:<36} {value}")
    if args.json is not None:
        write_results(args.json, "training_speed", figures)
    return 0


def _figures(args: argparse.Namespace, slices: dict[str, list[Slice]]) -> dict[str, Any]:
    ours, theirs = slices["mapped shards"], slices["list and DataLoader"]
    epoch_batches = -(-args.images * COCO_CAPTIONS // COCO_IMAGES // BATCH_SIZE)

    batches: int = args.batches

    def step_ms(found: list[Slice]) -> float:
        return 1e3 * statistics.median(one.seconds for one in found) / batches

    return {
        "images": args.images,
        "threads": args.threads,
        "batch_size": BATCH_SIZE,
        "batches_per_slice": args.batches,
        "rounds": args.rounds,
        "list_images": args.list_images,
        "list_workers": args.workers,
        "mapped_step_ms": round(step_ms(ours), 3),
        "list_step_ms": round(step_ms(theirs), 3),
        "mapped_epoch_s": round(step_ms(ours) * epoch_batches / 1e3, 1),
        "list_epoch_s": round(step_ms(theirs) * epoch_batches / 1e3, 1),
        "times_faster": round(statistics.median(b.seconds / a.seconds for a, b in zip(ours, theirs, strict=True)), 3),
        "mapped_wait_share": round(statistics.median(one.wait_seconds / one.seconds for one in ours), 4),
        "mapped_anonymous_bytes": max(one.anonymous_bytes for one in ours),
        "list_anonymous_bytes": max(one.anonymous_bytes for one in theirs),
    }


def _write_features(folder: Path, images: int) -> None:
    from benchmarks.synthetic_features import write_synthetic_features

    write_synthetic_features(folder, images=images, captions_per_image=COCO_CAPTIONS / COCO_IMAGES)


def _start(context: Any, target: Any, folder: Path, args: argparse.Namespace) -> Connection:
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, folder, args), daemon=True)
    process.start()
    theirs.close()  # so that a process that dies is an end of file here, not a wait without end
    connection: Connection = ours
    return connection


def _ours(connection: Connection, folder: Path, args: argparse.Namespace) -> None:
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


def _baseline(connection: Connection, folder: Path, args: argparse.Namespace) -> None:
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
        start = time.perf_counter()
        loader = DataLoader(samples, batch_size=BATCH_SIZE, sampler=part, num_workers=args.workers)
        losses = []
        for batch in tqdm(loader, disable=True):
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
