"""The contenders of `steps`: ways to train on a set of features. Each runs in a process of its own."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

BATCH_SIZE = 128
TEXT_DIM, EMBED_DIM = 512, 768
"""Widths of CLIP ViT-B/16's text features and of ViT-B's."""

SEED = 123
PREFETCHED = 2
"""Batches that each DataLoader worker holds ready, torch's default. They are used up before a slice is timed."""


class Slice(NamedTuple):
    """Figures of a contender on a slice of an epoch."""

    seconds: float
    wait_seconds: float
    """Seconds in which its steps waited for data, where that is known."""
    anonymous_bytes: int
    """Memory of the process without a file behind it, after the slice."""


Contender = Callable[[int], Slice]
"""A function that trains on the slice of a number."""


class _Process:
    """State of a contender's process."""

    contender: Contender


def start(make: Callable[[], Contender], threads: int) -> None:
    """Make this process a contender's."""
    import torch

    torch.set_num_threads(threads)
    _Process.contender = make()


def train_slice(number: int) -> Slice:
    """Train on a slice, in a process made by `start`."""
    return _Process.contender(number)


def mapped(folder: Path, batches: int) -> Contender:
    """The project's own passes over the mapped shards."""
    from training.config import TrainConfig
    from training.features.batches import shuffled
    from training.run.scalars import Scalars
    from training.run.trainer import Trainer

    trainer = Trainer(TrainConfig(features=folder, output=folder, batch_size=BATCH_SIZE, seed=SEED))
    order = shuffled(len(trainer.features), SEED, 1)
    scalars = Scalars(None, steps_per_epoch=1, epochs_done=0)

    def train(number: int) -> Slice:
        start, waited = time.perf_counter(), trainer.reader.wait_s
        trainer.train_pass(_part(order, number, batches), 1, scalars)
        seconds = time.perf_counter() - start
        return Slice(seconds, trainer.reader.wait_s - waited, _anonymous_bytes())

    return train


def released(folder: Path, batches: int, *, images: int, workers: int, slices: int) -> Contender:
    """The released training, on the first `images` to bound its memory. Its workers live through all `slices`.

    Source: `src/dataset.py`, `src/train_util.py`, `src/model.py` and `src/loss.py` of the released code.
    """
    from torch.utils.data import DataLoader, RandomSampler

    from training.features.feature_set import FeatureSet

    samples = _samples(FeatureSet(folder), images)
    untimed = PREFETCHED * workers
    sampler = RandomSampler(samples, num_samples=slices * (untimed + batches) * BATCH_SIZE)
    # Forked, the default on Linux. This process was spawned, and would spawn workers with a copy of all samples.
    context = "fork" if workers else None
    loader = DataLoader(samples, BATCH_SIZE, sampler=sampler, num_workers=workers, multiprocessing_context=context)
    steps = _released_steps(loader)
    return lambda number: _timed(steps, untimed, batches)


def products(batches: int) -> Contender:
    """The matrix products of a step: both layers and the scores, forward and backward, as in autograd."""
    import torch

    def steps() -> Iterator[None]:
        text, hidden, chosen = (torch.randn(BATCH_SIZE, width) for width in (TEXT_DIM, EMBED_DIM, EMBED_DIM))
        first, second = torch.randn(EMBED_DIM, TEXT_DIM), torch.randn(EMBED_DIM, EMBED_DIM)
        scores, gradient = torch.randn(BATCH_SIZE, BATCH_SIZE), torch.randn(BATCH_SIZE, EMBED_DIM)
        while True:
            _ = text @ first.t(), hidden @ second.t(), hidden @ chosen.t()
            _ = scores @ chosen, gradient.t() @ hidden, gradient @ second, gradient.t() @ text
            yield

    endless = steps()
    return lambda number: _timed(endless, 0, batches)


def _released_steps(batches: Any) -> Iterator[None]:
    """Take one step of the released training at each turn."""
    import torch
    from torch.nn import functional
    from tqdm import tqdm

    from t2d_export.model.projection import TextProjection

    torch.manual_seed(SEED)
    model = TextProjection(TEXT_DIM, EMBED_DIM)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    losses: list[float] = []
    for batch in tqdm(batches, disable=True):
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
        yield


def _timed(steps: Iterator[None], untimed: int, batches: int) -> Slice:
    for _ in itertools.islice(steps, untimed):
        pass
    start = time.perf_counter()
    for _ in itertools.islice(steps, batches):
        pass
    return Slice(time.perf_counter() - start, 0.0, _anonymous_bytes())


def _samples(features: Any, images: int) -> Any:
    """A data set with one dict for each caption and separate tensors. Captions of one image share its tensors."""
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
    """The slice of an epoch for a round. After its end the epoch begins again."""
    import numpy as np

    size = batches * BATCH_SIZE
    return np.take(order, range(number * size, (number + 1) * size), mode="wrap")


def _anonymous_bytes() -> int:
    """RssAnon of this process, on Linux."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))
